//! `underpass links`.

use anyhow::Result;
use clap::Subcommand;

use super::{
    global::Global,
    verbs::{Output, Watch},
};
use crate::inspect::{self, LinkRow};

#[derive(Debug, Subcommand)]
pub(super) enum Links {
    /// What holds programs on interfaces: links and filters.
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Those of an interface.
    Get {
        /// Its name.
        interface: String,
        #[command(flatten)]
        output: Output,
    },
    /// All of them, and then those that change.
    Watch(Watch),
}

impl Links {
    pub(super) async fn run(&self, global: &Global) -> Result<()> {
        let read = || inspect::links(&global.pinned()?);
        match self {
            Self::List { output } => output.list(&read()?),
            Self::Get { interface, output } => {
                let mut rows: Vec<LinkRow> = read()?;
                rows.retain(|row| row.hook.interface == *interface);
                output.found(&rows, || {
                    format!(
                        "no program of ours is on {interface}: `uplinks` and `workloads` in the \
                         configuration say where the agent puts them (`underpass links list`)"
                    )
                })
            }
            Self::Watch(watch) => watch.run(read).await,
        }
    }
}
