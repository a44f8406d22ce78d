//! `underpass next-hops`.

use std::net::Ipv4Addr;

use anyhow::Result;
use clap::Subcommand;

use super::{
    global::Global,
    verbs::{Output, Watch},
};
use crate::inspect::{self, NextHopRow};

#[derive(Debug, Subcommand)]
pub(super) enum NextHops {
    /// All next hops.
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Those that lead to an address.
    Get {
        /// Of a node, or of the neighbour before it.
        address: Ipv4Addr,
        #[command(flatten)]
        output: Output,
    },
    /// All next hops, and then those that change.
    Watch(Watch),
}

impl NextHops {
    pub(super) async fn run(&self, global: &Global) -> Result<()> {
        let read = || inspect::next_hops(&global.pinned()?);
        match self {
            Self::List { output } => output.list(&read()?),
            Self::Get { address, output } => {
                let mut rows: Vec<NextHopRow> = read()?;
                rows.retain(|row| row.leads_to(*address));
                output.found(&rows, || {
                    format!(
                        "no next hop leads to {address}: next hops are nodes and neighbours \
                         (`underpass next-hops list`); pods have routes"
                    )
                })
            }
            Self::Watch(watch) => watch.run(read).await,
        }
    }
}
