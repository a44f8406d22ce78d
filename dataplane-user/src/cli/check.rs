//! `underpass check`.

use anyhow::Result;
use clap::Args;

use super::{
    exit::Exit,
    global::Global,
    verbs::{Output, print},
};
use crate::{
    check::{self, Outcome},
    inspect,
};

#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    output: Output,
}

impl Check {
    /// Whether underpass works here is the exit status, too.
    pub(super) async fn run(&self, global: &Global) -> Result<Exit> {
        let findings = check::check(&global.configuration()).await;
        print(&inspect::render_findings(&findings, self.output.output)?)?;
        let fails = findings
            .iter()
            .any(|finding| finding.result == Outcome::Fails);
        Ok(if fails { Exit::Unfit } else { Exit::Done })
    }
}
