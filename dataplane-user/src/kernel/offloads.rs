//! What a device does for the stack, as ethtool(8) names it.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use ethtool::{EthtoolAttr, EthtoolFeatureAttr};
use futures_util::StreamExt as _;

/// The features of a device that are on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offloads(BTreeSet<String>);

impl Offloads {
    /// Those of `interface`, in the network namespace of the calling thread.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O enabled.
    pub async fn read(interface: &str) -> Result<Self> {
        let (connection, mut handle, _unsolicited) =
            ethtool::new_connection().context("cannot open a netlink socket for ethtool")?;
        let connection = tokio::spawn(connection);
        let features = async {
            let mut answers = handle.feature().get(Some(interface)).execute().await?;
            let mut active = BTreeSet::new();
            while let Some(answer) = answers.next().await {
                active.extend(answer?.payload.nlas.into_iter().flat_map(active_ones));
            }
            Ok::<_, ethtool::EthtoolError>(active)
        };
        let features = features.await;
        connection.abort();
        features
            .map(Self)
            .with_context(|| format!("cannot ask which offloads {interface} has"))
    }

    /// Whether the feature of this name is on.
    #[must_use]
    pub fn has(&self, feature: &str) -> bool {
        self.0.contains(feature)
    }
}

impl<const N: usize> From<[&str; N]> for Offloads {
    fn from(features: [&str; N]) -> Self {
        Self(features.map(str::to_owned).into())
    }
}

fn active_ones(attribute: EthtoolAttr) -> Vec<String> {
    match attribute {
        EthtoolAttr::Feature(EthtoolFeatureAttr::Active(features)) => {
            let active = features.into_iter().filter(|feature| feature.value);
            active.map(|feature| feature.name).collect()
        }
        _ => Vec::new(),
    }
}
