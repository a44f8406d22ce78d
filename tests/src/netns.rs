//! Anonymous network namespaces.

use std::fs::{self, File};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, setns, unshare};

use crate::NsCommand;

/// A network namespace that exists as long as somebody holds it: this value, a clone of it, or a
/// process inside. It has no name on the machine, so nothing is left to clean up.
#[derive(Clone, Debug)]
pub struct NetNs(Arc<OwnedFd>);

impl NetNs {
    /// Creates a namespace, empty but for a loopback device that is down.
    pub fn new() -> Result<Self> {
        let _home = Home::remember()?;
        unshare(CloneFlags::CLONE_NEWNET).context("create a network namespace")?;
        Ok(Self(Arc::new(current()?)))
    }

    /// The namespace of the calling thread: the machine's, unless it has gone elsewhere.
    pub fn current() -> Result<Self> {
        Ok(Self(Arc::new(current()?)))
    }

    /// Runs `work` with the calling thread inside the namespace, and brings the thread back, also
    /// when `work` panics. Threads that `work` starts stay inside.
    pub fn run<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let _home = Home::remember()?;
        setns(&*self.0, CloneFlags::CLONE_NEWNET).context("enter a network namespace")?;
        work()
    }

    /// A command that will run inside the namespace.
    pub fn command(&self, program: &str) -> NsCommand {
        NsCommand::new(self.clone(), program)
    }

    /// Runs a command line inside the namespace and returns what it prints; it has to succeed.
    /// Words are separated by white space; there is no quoting.
    pub fn exec(&self, command_line: &str) -> Result<String> {
        let mut words = command_line.split_whitespace();
        let program = words.next().context("an empty command line")?;
        self.command(program).args(words).run()
    }

    /// Sets a `net.*` sysctl of the namespace, named as sysctl(8) does: `net.ipv4.ip_forward`.
    pub fn set_sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.run(|| {
            fs::write(sysctl_path(key), value).with_context(|| format!("set sysctl {key}={value}"))
        })
    }

    /// Reads a `net.*` sysctl of the namespace.
    pub fn sysctl(&self, key: &str) -> Result<String> {
        self.run(|| {
            let value = fs::read_to_string(sysctl_path(key));
            Ok(value
                .with_context(|| format!("read sysctl {key}"))?
                .trim_end()
                .to_owned())
        })
    }

    /// Reads a counter of the namespace's IPv4 stack, by the names of `/proc/net/snmp`: `Udp`,
    /// `InCsumErrors`.
    pub fn snmp_counter(&self, protocol: &str, counter: &str) -> Result<u64> {
        const PATH: &str = "/proc/thread-self/net/snmp";
        let table =
            self.run(|| fs::read_to_string(PATH).with_context(|| format!("read {PATH}")))?;
        // A line of names, then a line of values, each behind the protocol.
        let mut lines = table
            .lines()
            .filter_map(|line| line.strip_prefix(protocol)?.strip_prefix(": "));
        let (names, values) = (lines.next(), lines.next());
        let mut pairs = names
            .zip(values)
            .into_iter()
            .flat_map(|(names, values)| names.split(' ').zip(values.split(' ')));
        let value = pairs.find_map(|(name, value)| (name == counter).then_some(value));
        value
            .and_then(|value| value.parse().ok())
            .with_context(|| format!("{PATH} has no {protocol} {counter}"))
    }

    /// Where other processes find the namespace while this one lives: `nsenter --net=<path>`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }
}

/// Brings the calling thread back to the network namespace it was in.
struct Home(OwnedFd);

impl Home {
    fn remember() -> Result<Self> {
        current().map(Self)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // To go on in the wrong namespace would be to work on the wrong machine.
        setns(&self.0, CloneFlags::CLONE_NEWNET).expect("return to the thread's network namespace");
    }
}

/// The network namespace of the calling thread.
fn current() -> Result<OwnedFd> {
    const PATH: &str = "/proc/thread-self/ns/net";
    File::open(PATH)
        .map(OwnedFd::from)
        .with_context(|| format!("open {PATH}"))
}

fn sysctl_path(key: &str) -> PathBuf {
    // procfs shows the namespace of whoever looks.
    format!("/proc/sys/{}", key.replace('.', "/")).into()
}
