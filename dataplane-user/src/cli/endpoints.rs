//! `underpass endpoints`.

use anyhow::Result;
use clap::Subcommand;

use super::{
    global::Global,
    verbs::{Output, Watch},
};
use crate::inspect::{self, EndpointRow};

#[derive(Debug, Subcommand)]
pub(super) enum Endpoints {
    /// All pods.
    List {
        #[command(flatten)]
        output: Output,
    },
    /// One pod.
    Get {
        /// Its address, or the host side of its veth.
        #[arg(value_name = "ADDRESS|INTERFACE")]
        name: String,
        #[command(flatten)]
        output: Output,
    },
    /// All pods, and then those that change.
    Watch(Watch),
}

impl Endpoints {
    pub(super) async fn run(&self, global: &Global) -> Result<()> {
        let read = || Ok(inspect::endpoints(&global.snapshot()?));
        match self {
            Self::List { output } => output.list(&read()?),
            Self::Get { name, output } => {
                let mut rows: Vec<EndpointRow> = read()?;
                rows.retain(|row| row.interface == *name || row.address.to_string() == *name);
                output.found(&rows, || {
                    format!(
                        "no pod of this node is {name}: see `underpass endpoints list`, and \
                         `workloads` in the configuration, which says what pods' interfaces are \
                         called"
                    )
                })
            }
            Self::Watch(watch) => watch.run(read).await,
        }
    }
}
