//! `underpass programs`.

use anyhow::Result;
use clap::Subcommand;

use super::{
    global::Global,
    verbs::{Output, Watch},
};
use crate::inspect::{self, ProgramRow};

#[derive(Debug, Subcommand)]
pub(super) enum Programs {
    /// The BPF programs that are loaded.
    List {
        #[command(flatten)]
        output: Output,
    },
    /// One of them.
    Get {
        /// Its name, such as `from_uplink`, or its number.
        #[arg(value_name = "NAME|NUMBER")]
        name: String,
        #[command(flatten)]
        output: Output,
    },
    /// All of them, and then those that change.
    Watch(Watch),
}

impl Programs {
    pub(super) async fn run(&self, global: &Global) -> Result<()> {
        let read = || inspect::programs(&global.pinned()?);
        match self {
            Self::List { output } => output.list(&read()?),
            Self::Get { name, output } => {
                let mut rows: Vec<ProgramRow> = read()?;
                rows.retain(|row| row.name == *name || row.id.to_string() == *name);
                output.found(&rows, || {
                    format!("no program of ours is {name}: see `underpass programs list`")
                })
            }
            Self::Watch(watch) => watch.run(read).await,
        }
    }
}
