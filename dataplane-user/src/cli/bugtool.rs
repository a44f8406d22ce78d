//! `underpass bugtool`.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Args;

use super::{global::Global, verbs::print};
use crate::bugtool::{self, Collected, Destination, Request};

/// What is in the archive, for whoever is about to hand it on.
pub(super) const CONTENTS: &str = "\
The archive has: the configuration and the cluster file; what check, status, diff and every list \
print, as JSON; the maps as the programs see them; the agent's health and metrics, where one answers; \
the kernel's release, settings, interfaces, addresses, routes, rules and neighbours; and, where these \
tools are there, what ip, bridge, tc, bpftool, nft, iptables, conntrack, ss, journalctl and dmesg say. \
There are no keys and no payload of packets in it, but addresses, names of nodes and interfaces, the \
rules of netfilter and the agent's log: look at it before you hand it on. errors.txt says what could \
not be had, manifest.json what is there.";

#[derive(Debug, Args)]
#[command(after_help = CONTENTS)]
pub(super) struct Bugtool {
    /// Where the archive is written; - for standard output
    /// [default: underpass-bugtool-NODE-TIME.tar.gz].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How long each tool, and the agent, may take to answer.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

impl Bugtool {
    pub(super) async fn run(&self, global: &Global) -> Result<()> {
        let configuration = global.configuration();
        // Where the configuration is no good, the pins are still there.
        let pins = global.pins().unwrap_or_else(|_| configuration.pins());
        let request = Request {
            configuration,
            pins,
            patience: self.timeout,
        };
        if self.output.as_deref() == Some(Path::new("-")) {
            let collected = bugtool::collect(&request).await?;
            let mut output = io::stdout();
            let written = output.write_all(&collected.bytes);
            written
                .and_then(|()| output.flush())
                .context("cannot write to standard output")?;
            say(&collected);
            return Ok(());
        }
        let destination = Destination::new(self.output.as_deref())?;
        let collected = bugtool::collect(&request).await?;
        let file = destination.write(&collected)?;
        say(&collected);
        print(&format!("{}\n", file.display()))
    }
}

fn say(collected: &Collected) {
    let Collected {
        name,
        parts,
        failures,
        ..
    } = collected;
    eprintln!(
        "underpass: {parts} parts, of which {failures} could not be had, or not whole: see \
         {name}/errors.txt"
    );
}
