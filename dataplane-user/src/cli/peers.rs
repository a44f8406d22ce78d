//! `underpass peers`.

use std::net::Ipv4Addr;

use anyhow::Result;
use clap::Subcommand;

use super::{
    global::Global,
    verbs::{Output, Watch},
};
use crate::inspect::{self, PeerRow};

#[derive(Debug, Subcommand)]
pub(super) enum Peers {
    /// All nodes but this one.
    List {
        #[command(flatten)]
        output: Output,
    },
    /// One of them.
    Get {
        /// Its address, or the one that it has inside the tunnel.
        address: Ipv4Addr,
        #[command(flatten)]
        output: Output,
    },
    /// All of them, and then those that change.
    Watch(Watch),
}

impl Peers {
    pub(super) async fn run(&self, global: &Global) -> Result<()> {
        let read = || Ok(inspect::peers(&global.snapshot()?));
        match self {
            Self::List { output } => output.list(&read()?),
            Self::Get { address, output } => {
                let mut rows: Vec<PeerRow> = read()?;
                rows.retain(|row| {
                    [Some(row.address), row.tunnel_address].contains(&Some(*address))
                });
                output.found(&rows, || {
                    format!(
                        "no peer is {address}: tunnel packets from there are not taken \
                         (`underpass peers list` has those that are)"
                    )
                })
            }
            Self::Watch(watch) => watch.run(read).await,
        }
    }
}
