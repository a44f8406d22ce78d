//! `underpass top`.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use anyhow::{Result, bail};
use clap::Args;

use super::{
    global::Global,
    verbs::{period, print},
};
use crate::{
    inspect::Format,
    top::{self, Options, Sort},
};

#[derive(Debug, Args)]
pub(super) struct Top {
    /// How often it is looked.
    #[arg(long, default_value = "1s", value_parser = period)]
    interval: Duration,
    /// What comes first.
    #[arg(long, value_enum, default_value_t)]
    sort: Sort,
    /// Only rows that have this text in one of their columns.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    filter: String,
    /// Print the rates of one interval, and be done.
    #[arg(long)]
    once: bool,
    /// Form of what `--once` prints.
    #[arg(short, long, value_enum, default_value_t, requires = "once")]
    output: Format,
}

impl Top {
    pub(super) async fn run(&self, global: &Global) -> Result<()> {
        let options = Options {
            interval: self.interval,
            sort: self.sort,
            filter: self.filter.clone(),
        };
        if self.once {
            let rates = top::once(&global.pinned()?, &options).await?;
            return print(&rates.render(self.output)?);
        }
        if !io::stdout().is_terminal() {
            bail!(
                "standard output is no terminal that a dashboard could be drawn on: `underpass top \
                 --once` prints a report"
            );
        }
        top::run(|| global.pinned(), &options).await
    }
}
