//! What the programs of a node have counted.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde::Deserialize;

use crate::{Node, items};

/// Packets and bytes by hook and reason, by the names that `underpass counters` prints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<(String, String), Count>);

/// One counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets; a segmentation-offloaded one counts once.
    pub packets: u64,
    /// Bytes from the Ethernet header on.
    pub bytes: u64,
}

#[derive(Deserialize)]
struct Row {
    hook: String,
    reason: String,
    packets: u64,
    bytes: u64,
}

impl Counters {
    /// Reads the counters of `node`, which `underpass` has run on.
    pub fn read(node: &Node) -> Result<Self> {
        let output = node.underpass(&["counters", "-o", "json"])?;
        ensure!(
            output.status.success(),
            "underpass counters on {}: {}",
            node.name(),
            String::from_utf8_lossy(&output.stderr)
        );
        let rows: Vec<Row> = items(&output.stdout)?;
        Ok(Self(
            rows.into_iter()
                .map(|row| {
                    let count = Count {
                        packets: row.packets,
                        bytes: row.bytes,
                    };
                    ((row.hook, row.reason), count)
                })
                .collect(),
        ))
    }

    /// What `hook` has counted for `reason`.
    #[must_use]
    pub fn get(&self, hook: &str, reason: &str) -> Count {
        self.0
            .get(&(hook.to_owned(), reason.to_owned()))
            .copied()
            .unwrap_or_default()
    }

    /// What `hook` has counted, for whatever reason.
    #[must_use]
    pub fn at(&self, hook: &str) -> Count {
        let counts = self.0.iter().filter(|((at, _), _)| at == hook);
        counts.fold(Count::default(), |sum, (_, count)| Count {
            packets: sum.packets + count.packets,
            bytes: sum.bytes + count.bytes,
        })
    }

    /// How many packets of pods, and for pods, have not been seen by the stack.
    #[must_use]
    pub fn carried(&self) -> u64 {
        let counts = self.0.iter().filter(|((hook, reason), _)| {
            let is_entry = ["from_workload", "from_uplink"].contains(&&**hook);
            let ways = ["delivered-", "sent-", "received-"];
            is_entry && ways.iter().any(|way| reason.starts_with(way))
        });
        counts.map(|(_, count)| count.packets).sum()
    }

    /// What has been counted since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let difference = self.0.iter().map(|((hook, reason), now)| {
            let before = earlier.get(hook, reason);
            let count = Count {
                packets: now.packets - before.packets,
                bytes: now.bytes - before.bytes,
            };
            ((hook.clone(), reason.clone()), count)
        });
        Self(difference.collect())
    }
}
