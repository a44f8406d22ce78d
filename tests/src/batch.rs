//! Many ip(8) commands in one process.

use std::fmt::{Display, Write as _};

use anyhow::{Context as _, Result};

use crate::NetNs;

/// `ip` commands of one namespace, run at once: a process per command is what would make labs slow.
#[derive(Debug, Default)]
pub(crate) struct IpBatch(String);

impl IpBatch {
    /// Adds a command: what follows the word `ip`.
    pub(crate) fn add(&mut self, command: impl Display) -> &mut Self {
        writeln!(self.0, "{command}").expect("write into a string");
        self
    }

    /// Runs the commands in their order, up to the first that fails.
    pub(crate) fn apply(&self, ns: &NetNs) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let ip = ns.command("ip").args(["-batch", "-"]).input(&self.0)?;
        ip.run()
            .with_context(|| format!("set up links and routes:\n{}", self.0))?;
        Ok(())
    }
}
