//! An agent's work step by step, as strace(1) sees it, and agents that are killed at a step.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Agent, Build, Node, wait::within};

/// The system calls among which the steps are; not every machine has each.
const CALLS: &str = "?bpf,?rename,?renameat,?renameat2,?mkdir,?mkdirat,?rmdir,?unlink,?unlinkat";

/// The commands of bpf(2) that change something that stays without the agent.
const CHANGES: &[&str] = &[
    "BPF_OBJ_PIN",
    "BPF_MAP_UPDATE_ELEM",
    "BPF_MAP_DELETE_ELEM",
    "BPF_LINK_CREATE",
    "BPF_LINK_UPDATE",
];

/// How long a traced agent may take: it reads tens of thousands of map entries as it starts, and strace
/// stops it twice for each.
const PATIENCE: Duration = Duration::from_mins(1);

/// A system call of an agent that changes what stays without it: pins, links, maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The system call.
    call: String,
    /// The how manyeth such call of the agent it is, from 1.
    number: usize,
    /// As strace prints it.
    line: String,
}

impl Step {
    /// What it does, whatever it does it to.
    fn kind(&self) -> &str {
        let words = |c: char| c == ',' || c == '"' || c == '{';
        self.line.split(words).next().unwrap_or_default()
    }
}

/// The first and the last of every run of steps that do the same to one thing after the other, such
/// as pinning the maps.
#[must_use]
pub fn ends_of_runs(steps: &[Step]) -> Vec<Step> {
    let run = |a: &Step, b: &Step| a.kind() == b.kind();
    let ends = steps.chunk_by(run).flat_map(|run| match run {
        [only] => vec![only.clone()],
        [first, .., last] => vec![first.clone(), last.clone()],
        [] => Vec::new(),
    });
    ends.collect()
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}: {}", self.call, self.number, self.line)
    }
}

/// Starts an agent of this build on `node`, kills it when it is in sync, and returns what it did
/// until then.
pub fn steps(node: &Node, build: Build) -> Result<Vec<Step>> {
    let trace = node.dir().join("trace");
    let mut agent = Agent::traced(node, build, &strace(&trace, &[]))?;
    within(PATIENCE, "the traced agent is in sync", || {
        agent.is_in_sync()
    })?;
    kill_tracees(&mut agent)?;
    let text = fs::read_to_string(&trace).with_context(|| format!("read {}", trace.display()))?;
    let steps = changes(&text);
    ensure!(!steps.is_empty(), "strace saw no step:\n{text}");
    Ok(steps)
}

/// Starts an agent of this build on `node` that is killed (SIGKILL) as it is about to take `step`,
/// and waits for its end; returns whether it got there before it was in sync.
pub fn killed_at(node: &Node, build: Build, step: &Step) -> Result<bool> {
    let Step { call, number, .. } = step;
    let inject = format!("inject={call}:signal=KILL:when={number}");
    let strace = strace(&node.dir().join("trace"), &["-e", &inject]);
    let mut agent = Agent::traced(node, build, &strace)?;
    let mut in_sync = false;
    within(PATIENCE, "the agent is killed or in sync", || {
        in_sync = agent.is_in_sync()?;
        Ok(in_sync || agent.process().exit_status()?.is_some())
    })?;
    if in_sync {
        kill_tracees(&mut agent)?;
    }
    Ok(!in_sync)
}

fn strace(trace: &Path, more: &[&str]) -> Vec<String> {
    let filter = format!("trace={CALLS}");
    ["-f", "-qq", "-s", "200", "-e", "signal=none", "-e", &filter]
        .iter()
        .chain(more)
        .map(|word| (*word).to_owned())
        .chain(["-o".to_owned(), trace.display().to_string()])
        .collect()
}

/// Kills what strace traces, which ends strace as well: it takes no notice of signals itself.
fn kill_tracees(agent: &mut Agent) -> Result<()> {
    let strace = agent.process().pid();
    let children = fs::read_to_string(format!("/proc/{strace}/task/{strace}/children"))
        .context("find what strace traces")?;
    for child in children.split_whitespace() {
        kill(Pid::from_raw(child.parse()?), Signal::SIGKILL).context("kill what strace traces")?;
    }
    agent.process().wait(PATIENCE)?;
    Ok(())
}

/// The steps in what strace has written: a line a call, behind the thread that made it.
fn changes(trace: &str) -> Vec<Step> {
    let mut numbers = BTreeMap::new();
    let mut steps = Vec::new();
    for line in trace.lines() {
        let Some((thread, call, arguments)) = parse(line) else {
            continue;
        };
        let number = numbers.entry((thread, call)).or_insert(0);
        *number += 1;
        let is_change = call != "bpf" || CHANGES.iter().any(|change| arguments.starts_with(change));
        if is_change {
            steps.push(Step {
                call: call.to_owned(),
                number: *number,
                line: format!("{call}({arguments}"),
            });
        }
    }
    steps
}

/// Thread, call and arguments of a line; none of one that tells how a call ended.
fn parse(line: &str) -> Option<(&str, &str, &str)> {
    let (thread, rest) = line.split_once(' ')?;
    let (call, arguments) = rest.trim_start().split_once('(')?;
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    call.bytes()
        .all(is_name)
        .then_some((thread, call, arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_thread_and_those_that_change_something_are_steps() {
        let trace = "\
            7  bpf(BPF_MAP_CREATE, {map_type=BPF_MAP_TYPE_HASH}, 80) = 3\n\
            7  mkdir(\"/sys/fs/bpf/v3\", 0777) = 0\n\
            8  bpf(BPF_OBJ_PIN, {}, 24 <unfinished ...>\n\
            7  bpf(BPF_OBJ_PIN, {}, 24) = 0\n\
            8  <... bpf resumed>) = 0\n\
            7  +++ killed by SIGKILL +++\n";
        let steps: Vec<_> = changes(trace)
            .into_iter()
            .map(|step| (step.call, step.number))
            .collect();
        let kinds: Vec<_> = changes(trace)
            .iter()
            .map(|step| step.kind().to_owned())
            .collect();
        assert_eq!(kinds, ["mkdir(", "bpf(BPF_OBJ_PIN", "bpf(BPF_OBJ_PIN"]);
        assert_eq!(ends_of_runs(&vec![changes(trace).remove(2); 3]).len(), 2);
        let expected = [("mkdir", 1), ("bpf", 1), ("bpf", 2)];
        assert_eq!(
            steps,
            expected.map(|(call, number)| (call.to_owned(), number))
        );
    }
}
