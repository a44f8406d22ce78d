//! The agent under test, run on a node.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::{Background, Confinement, Node, NsCommand};

/// What an agent says once its maps hold what its sources say.
const IN_SYNC: &str = "in sync";

/// How long it may take to get there.
const SYNC_TIMEOUT: Duration = Duration::from_secs(30);

/// One of the builds of `underpass` that a node may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// The one under test.
    Tested,
    /// One of another version, whose maps have another layout.
    OtherLayout,
}

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

    /// Starts an agent that mirrors the kernel's routes, and waits until it is in sync.
    pub fn mirror(node: &Node) -> Result<Self> {
        Self::start(node, &mirror_config(node), "")
    }

    /// As [`Agent::mirror`], where only flows are carried that the stack has let through.
    pub fn mirror_beside_netfilter(node: &Node) -> Result<Self> {
        Self::start(node, &beside_netfilter(&mirror_config(node)), "")
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
        write_config(node, config_yaml)?;
        write_cluster(node, cluster_yaml)?;
        let command = variables.iter().fold(
            command(node, Build::Tested, &["agent"])?,
            |command, (name, value)| command.env(name, value),
        );
        Self::run(node, command)
    }

    /// As [`Agent::spawn`], within what a container allows.
    pub fn confined(
        node: &Node,
        config_yaml: &str,
        cluster_yaml: &str,
        confinement: &Confinement,
    ) -> Result<Self> {
        write_config(node, config_yaml)?;
        write_cluster(node, cluster_yaml)?;
        Self::run(node, confined(node, confinement, &["agent"])?)
    }

    /// Starts an agent where there was one, with what that was configured with, and waits until it
    /// is in sync.
    pub fn restart(node: &Node, build: Build) -> Result<Self> {
        let mut agent = Self::respawn(node, build)?;
        agent.wait_in_sync()?;
        Ok(agent)
    }

    /// As [`Agent::restart`], without waiting.
    pub fn respawn(node: &Node, build: Build) -> Result<Self> {
        Self::run(node, command(node, build, &["agent"])?)
    }

    /// As [`Agent::respawn`], under strace(1) with these arguments.
    pub(crate) fn traced(node: &Node, build: Build, strace: &[String]) -> Result<Self> {
        let command = node.ns().command("strace").args(strace).arg("--");
        let command = command.args(build.words(&["agent"])?);
        Self::run(node, command.arg("--config").arg(config_path(node)))
    }

    fn run(node: &Node, command: NsCommand) -> Result<Self> {
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

    /// Whether the agent has been in sync.
    pub fn is_in_sync(&self) -> Result<bool> {
        Ok(self.process.log()?.contains(IN_SYNC))
    }

    /// Its process: log, signals, end.
    pub fn process(&mut self) -> &mut Background {
        &mut self.process
    }
}

impl Build {
    /// The words of a command line that runs it.
    fn words(self, arguments: &[&str]) -> Result<Vec<String>> {
        let variable = match self {
            Self::Tested => "UNDERPASS_BIN",
            Self::OtherLayout => "UNDERPASS_OTHER_LAYOUT_BIN",
        };
        let binary = env::var(variable)
            .with_context(|| format!("{variable}: run the tests by `cargo xtask test`"))?;
        let words = [&*binary].into_iter().chain(arguments.iter().copied());
        Ok(words.map(str::to_owned).collect())
    }
}

/// `underpass` on a node, with the node's configuration.
pub(crate) fn command(node: &Node, build: Build, arguments: &[&str]) -> Result<NsCommand> {
    Ok(configured(node, &build.words(arguments)?))
}

/// The same, in a session of its own, whose terminal is its standard input.
pub(crate) fn in_session(node: &Node, arguments: &[&str]) -> Result<NsCommand> {
    let words = ["setsid", "--ctty"].map(str::to_owned).into_iter();
    let words: Vec<_> = words.chain(Build::Tested.words(arguments)?).collect();
    Ok(configured(node, &words))
}

/// The same, within what a container allows.
pub(crate) fn confined(
    node: &Node,
    confinement: &Confinement,
    arguments: &[&str],
) -> Result<NsCommand> {
    let words = Build::Tested.words(arguments)?;
    Ok(configured(node, &confinement.around(words)))
}

fn configured(node: &Node, words: &[String]) -> NsCommand {
    let command = node.ns().command(&words[0]).args(&words[1..]);
    command.arg("--config").arg(config_path(node))
}

/// The configuration of a node's agent.
pub(crate) fn config(node: &Node) -> String {
    format!(
        "node: {}\n\
         acceleration: all\n\
         uplinks: [eth0]\n\
         source:\n  \
           file: {}\n\
         pins: {}\n",
        node.name(),
        cluster_path(node).display(),
        node.pins().display(),
    )
}

/// The configuration of a node's agent that mirrors the kernel's routes. It finds out by itself
/// which interfaces lead to other nodes.
pub(crate) fn mirror_config(node: &Node) -> String {
    format!(
        "node: {}\n\
         acceleration: all\n\
         source: kernel\n\
         pins: {}\n",
        node.name(),
        node.pins().display(),
    )
}

/// The same configuration, by which only flows are carried that the stack has let through.
#[must_use]
pub fn beside_netfilter(config: &str) -> String {
    config.replace("acceleration: all", "acceleration: established")
}

/// Replaces a node's configuration.
pub(crate) fn write_config(node: &Node, config_yaml: &str) -> Result<()> {
    replace(&config_path(node), config_yaml)
}

/// Replaces a node's cluster file.
pub(crate) fn write_cluster(node: &Node, cluster_yaml: &str) -> Result<()> {
    replace(&cluster_path(node), cluster_yaml)
}

/// Where the configuration of a node's agent is.
pub(crate) fn config_path(node: &Node) -> PathBuf {
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
