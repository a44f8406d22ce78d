//! The agent under test, run on a node.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::{Background, Node, NsCommand};

/// What an agent says once its maps hold what its sources say.
const IN_SYNC: &str = "in sync";

/// How long it may take to get there.
const SYNC_TIMEOUT: Duration = Duration::from_secs(10);

/// A running `underpass agent`. It ends with this value; what it has pinned stays.
#[derive(Debug)]
pub struct Agent {
    node: String,
    process: Background,
}

impl Agent {
    /// Writes the node's configuration and cluster file, starts the agent and waits until it is in
    /// sync.
    pub fn start(node: &Node, config_yaml: &str, cluster_yaml: &str) -> Result<Self> {
        let mut agent = Self::spawn(node, config_yaml, cluster_yaml)?;
        agent.wait_in_sync()?;
        Ok(agent)
    }

    /// As [`Agent::start`], without waiting.
    pub fn spawn(node: &Node, config_yaml: &str, cluster_yaml: &str) -> Result<Self> {
        Self::spawn_with(node, config_yaml, cluster_yaml, &[])
    }

    /// As [`Agent::spawn`], with these variables in its environment.
    pub fn spawn_with(
        node: &Node,
        config_yaml: &str,
        cluster_yaml: &str,
        variables: &[(&str, &str)],
    ) -> Result<Self> {
        replace(&config_path(node), config_yaml)?;
        write_cluster(node, cluster_yaml)?;
        let command = variables
            .iter()
            .fold(command(node, &["agent"])?, |command, (name, value)| {
                command.env(name, value)
            });
        let process = node.start("agent", command)?;
        Ok(Self {
            node: node.name().to_owned(),
            process,
        })
    }

    /// Waits until the agent is in sync for the first time.
    pub fn wait_in_sync(&mut self) -> Result<()> {
        let line = self.process.wait_for_line(IN_SYNC, SYNC_TIMEOUT);
        line.with_context(|| format!("start the agent of node {}", self.node))?;
        Ok(())
    }

    /// Its process: log, signals, end.
    pub fn process(&mut self) -> &mut Background {
        &mut self.process
    }
}

/// `underpass` on a node, with the node's configuration.
pub(crate) fn command(node: &Node, arguments: &[&str]) -> Result<NsCommand> {
    let underpass = underpass()?;
    let underpass = underpass
        .to_str()
        .context("UNDERPASS_BIN is not valid UTF-8")?;
    Ok(node
        .ns()
        .command(underpass)
        .args(arguments)
        .arg("--config")
        .arg(config_path(node)))
}

/// Where the build under test is.
fn underpass() -> Result<OsString> {
    env::var_os("UNDERPASS_BIN")
        .context("UNDERPASS_BIN is not set: run the tests by `cargo xtask test`")
}

/// The configuration of a node's agent.
pub(crate) fn config(node: &Node) -> String {
    format!(
        "node: {}\n\
         uplinks: [eth0]\n\
         source:\n  \
           file: {}\n\
         pins: {}\n",
        node.name(),
        cluster_path(node).display(),
        node.pins().display(),
    )
}

/// Replaces a node's cluster file.
pub(crate) fn write_cluster(node: &Node, cluster_yaml: &str) -> Result<()> {
    replace(&cluster_path(node), cluster_yaml)
}

fn config_path(node: &Node) -> PathBuf {
    node.dir().join("config.yaml")
}

fn cluster_path(node: &Node) -> PathBuf {
    node.dir().join("cluster.yaml")
}

/// Replaces a file so that a reader finds either the old text or the new.
fn replace(path: &Path, text: &str) -> Result<()> {
    let draft = path.with_extension("new");
    fs::write(&draft, text)
        .and_then(|()| fs::rename(&draft, path))
        .with_context(|| format!("write {}", path.display()))
}
