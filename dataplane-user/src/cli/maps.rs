//! `underpass maps`.

use anyhow::Result;
use clap::Subcommand;

use super::{
    global::Global,
    verbs::{Output, Watch},
};
use crate::inspect::{self, MapRow};

#[derive(Debug, Subcommand)]
pub(super) enum Maps {
    /// The BPF maps, and how full they are.
    List {
        #[command(flatten)]
        output: Output,
    },
    /// One of them.
    Get {
        /// Its name, such as ROUTES.
        name: String,
        #[command(flatten)]
        output: Output,
    },
    /// All of them, and then those that change.
    Watch(Watch),
}

impl Maps {
    pub(super) async fn run(&self, global: &Global) -> Result<()> {
        let read = || inspect::maps(&global.pinned()?);
        match self {
            Self::List { output } => output.list(&read()?),
            Self::Get { name, output } => {
                let mut rows: Vec<MapRow> = read()?;
                rows.retain(|row| row.name.eq_ignore_ascii_case(name));
                output.found(&rows, || {
                    format!("no map of ours is called {name}: see `underpass maps list`")
                })
            }
            Self::Watch(watch) => watch.run(read).await,
        }
    }
}
