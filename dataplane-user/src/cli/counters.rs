//! `underpass counters`, which without a verb lists them.

use anyhow::Result;
use clap::{Args, Subcommand};

use super::{
    global::Global,
    verbs::{Output, Watch},
};
use crate::inspect::{self, CounterRow};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Counters {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The counters; the same as without `list`.
    List(List),
    /// Those of a hook, or of a reason at every hook.
    Get {
        /// Such as `from_uplink`, or `no-route`.
        #[arg(value_name = "HOOK|REASON")]
        name: String,
        #[command(flatten)]
        output: Output,
    },
    /// The counters, and then those that count.
    Watch(Watch),
}

#[derive(Debug, Args)]
struct List {
    /// Also the counters that are zero.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    output: Output,
}

impl Counters {
    pub(super) async fn run(&self, global: &Global) -> Result<()> {
        let read = |all| inspect::counter_rows(&global.pinned()?, all);
        match &self.verb {
            None => self.list.output.list(&read(self.list.all)?),
            Some(Verb::List(list)) => list.output.list(&read(list.all)?),
            Some(Verb::Get { name, output }) => {
                let mut rows: Vec<CounterRow> = read(true)?;
                rows.retain(|row| row.hook == name || row.reason == name);
                output.found(&rows, || {
                    format!(
                        "no hook and no reason is called {name}: `underpass counters list --all` has \
                         the names of all"
                    )
                })
            }
            Some(Verb::Watch(watch)) => watch.run(|| read(false)).await,
        }
    }
}
