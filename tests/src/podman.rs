//! podman(1), which runs agents from the image.
//!
//! Its storage is in the lab's directory, and what it mounts is in the lab's mount namespace. It knows
//! nothing of other containers on the machine, and leaves none: those that are forgotten end by
//! themselves.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::wait::within;
use crate::{Build, Lab, NetNs, Node, NsCommand, agent, http};

/// How long a container may live, in seconds: its monitor ends it even if nobody else does.
const LIFETIME: &str = "300";

/// How long an agent may take to be in sync: podman has copied the image just before.
const IN_SYNC: Duration = Duration::from_secs(30);

/// What of podman would otherwise be the machine's: locks in shared memory, a journal.
const CONFIGURATION: &str = "\
[engine]
lock_type = \"file\"
events_logger = \"none\"
[containers]
log_driver = \"k8s-file\"
";

/// Podman asks for more than a machine may allow or have (no pids controller, in a container), and
/// leaves parents of cgroups behind.
const LIMITS: &[&str] = &[
    "--ulimit=nofile=1024:1024",
    "--ulimit=nproc=1024:1024",
    "--pids-limit=0",
    "--cgroups=no-conmon",
    "--cgroup-parent=/",
];

/// Removes containers, which need not be there, with what runs in them killed.
const REMOVE: &[&str] = &["rm", "--force", "--ignore", "--time=0"];

/// podman with a storage of its own.
#[derive(Clone, Debug)]
pub struct Podman {
    directory: PathBuf,
}

/// A container with an agent. It is removed with this value; what the agent has pinned stays.
#[derive(Debug)]
pub struct Container<'a> {
    podman: Podman,
    name: String,
    node: &'a Node,
}

impl Podman {
    /// podman with an empty storage in the directory of `lab`.
    pub fn of(lab: &Lab) -> Result<Self> {
        let directory = lab.dir().join("podman");
        fs::create_dir(&directory)
            .and_then(|()| fs::write(directory.join("containers.conf"), CONFIGURATION))
            .with_context(|| format!("set up {} for podman", directory.display()))?;
        Ok(Self { directory })
    }

    /// Loads the image of a build, and returns its name.
    pub fn load(&self, build: Build) -> Result<String> {
        let said = self.command("load")?.arg("--input").arg(archive(build)?);
        let said = said.run()?;
        let name = said.trim_end().rsplit(": ").next().unwrap_or_default();
        Ok(name.to_owned())
    }

    /// What podman shows of an image or a container, as JSON.
    pub fn inspect(&self, name: &str) -> Result<serde_json::Value> {
        let shown = self.command("inspect")?.arg(name).run()?;
        let shown = serde_json::from_str(&shown);
        shown.with_context(|| format!("understand what podman shows of {name}"))
    }

    /// Runs a container that ends by itself, by these options, image and arguments, and returns what
    /// it prints.
    pub fn output(&self, words: &[&str]) -> Result<String> {
        let command = self.command("run")?.args(["--rm", "--network=none"]);
        command.args(LIMITS).args(words).run()
    }

    /// Starts the agent of `image` on a node, as a `DaemonSet` would: privileged, in the node's
    /// network namespace, with the node's BPF file system; and waits until it is in sync.
    pub fn start<'a>(
        &self,
        node: &'a Node,
        image: &str,
        config_yaml: &str,
        cluster_yaml: &str,
    ) -> Result<Container<'a>> {
        node.write_config(config_yaml)?;
        node.write_cluster(cluster_yaml)?;
        let container = Container {
            podman: self.clone(),
            name: format!("underpass-{}", node.name()),
            node,
        };
        let files = node.dir().display();
        self.command("run")?
            .args(["--detach", "--name", &container.name])
            .args(["--privileged", "--read-only", "--read-only-tmpfs=false"])
            .args(["--timeout", LIFETIME])
            .args(LIMITS)
            .arg("--network")
            .arg(format!("ns:{}", node.ns().path().display()))
            .args(["--volume", "/sys/fs/bpf:/sys/fs/bpf"])
            .arg(format!("--volume={files}:{files}:ro"))
            .args([image, "agent", "--config"])
            .arg(agent::config_path(node))
            .run()?;
        container.wait_in_sync()?;
        Ok(container)
    }

    /// The names of the containers, running or not.
    pub fn containers(&self) -> Result<Vec<String>> {
        let command = self.command("ps")?.args(["--all", "--format={{.Names}}"]);
        Ok(command.run()?.lines().map(str::to_owned).collect())
    }

    fn command(&self, subcommand: &str) -> Result<NsCommand> {
        let directory = |name: &str| format!("--{name}={}", self.directory.join(name).display());
        Ok(NetNs::current()?
            .command("podman")
            .env("CONTAINERS_CONF", self.directory.join("containers.conf"))
            .env("TMPDIR", &self.directory)
            .args(["root", "runroot", "tmpdir"].map(directory))
            // Left to itself, podman takes what there is: tests should not run by another elsewhere.
            .args(["--runtime=runc", "--cgroup-manager=cgroupfs"])
            .args(["--storage-driver=vfs", subcommand]))
    }
}

impl Container<'_> {
    /// Kills the agent (SIGKILL) and waits until it is gone.
    pub fn kill(&self) -> Result<()> {
        self.run(&["kill", "--signal=KILL"])?;
        self.run(&["wait"])
    }

    /// Starts an agent that was killed, and waits until it is in sync.
    pub fn start(&self) -> Result<()> {
        self.run(&["start"])?;
        self.wait_in_sync()
    }

    /// Removes the container, with the agent in it killed.
    pub fn remove(self) -> Result<()> {
        self.run(REMOVE)
    }

    fn wait_in_sync(&self) -> Result<()> {
        let in_sync = within(IN_SYNC, "the agent in the container is in sync", || {
            let answer = http::ask(self.node.ns(), "GET", http::AGENT, "/readyz")?;
            Ok(answer.is_some_and(|answer| answer.status == 200))
        });
        in_sync.with_context(|| self.logs())
    }

    /// What the agent has said, for an error.
    fn logs(&self) -> String {
        let output = (self.podman.command("logs")).and_then(|logs| logs.arg(&self.name).output());
        output.map_or_else(
            |error| format!("{error:#}"),
            |output| String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    }

    fn run(&self, words: &[&str]) -> Result<()> {
        let command = self.podman.command(words[0])?;
        command.args(&words[1..]).arg(&self.name).run()?;
        Ok(())
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.run(REMOVE) {
            eprintln!("{error:#}");
        }
    }
}

/// The archive with a build's image.
pub fn archive(build: Build) -> Result<PathBuf> {
    let variable = match build {
        Build::Tested => "UNDERPASS_IMAGE",
        Build::OtherLayout => "UNDERPASS_OTHER_LAYOUT_IMAGE",
    };
    let path = env::var_os(variable)
        .with_context(|| format!("{variable}: run the tests by `cargo xtask test`"))?;
    Ok(Path::new(&path).to_owned())
}
