//! An agent that mirrors the kernel's routes: how far it is behind them.

use std::{
    fs,
    io::Write as _,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use dataplane_tests::{Agent, Lab, Node};
use dataplane_user::dataplane::{RouteMap, RouteTable as _, Table as _};
use ipnet::Ipv4Net;
use nix::sys::signal::Signal;

use crate::{agent::pins, table::Table};

const PATIENCE: Duration = Duration::from_mins(10);

/// Routes that are changed one at a time.
const SINGLE: usize = 1000;

/// What was measured.
pub(crate) struct Mirrored {
    /// What `ip -batch` takes to add all routes while no agent runs.
    pub(crate) alone: Duration,
    /// The same with an agent that mirrors them.
    pub(crate) beside: Duration,
    /// From the beginning of that until the last route is in the map.
    pub(crate) written: Duration,
    /// From an agent's start, with the routes there and no maps, until it is in sync.
    pub(crate) start: Duration,
    /// From the command to `ip` until the map has it, for one route, in order of length.
    pub(crate) single: Vec<Duration>,
    /// Bytes of the agent's own memory.
    pub(crate) agent: u64,
}

/// Runs an agent on the node of `lab` that mirrors this many routes.
pub(crate) fn measure(lab: &Lab, count: u32) -> Result<Mirrored> {
    let node = lab.node("node-0");
    let table = Table::of(count);
    let add = table.additions();

    let alone = batch(node, &add)?;
    let begun = Instant::now();
    let mut agent = spawn(node)?;
    agent.process().wait_for_line("in sync", PATIENCE)?;
    let start = begun.elapsed();
    ensure!(holds(node, count)?, "the maps do not hold {count} routes");
    let single = change_singly(node, &table)?;
    batch(node, &table.deletions())?;
    wait(|| Ok(!holds(node, 1000.min(count))?))?;

    let begun = Instant::now();
    let beside = batch(node, &add)?;
    wait(|| holds(node, count))?;
    let written = begun.elapsed();
    let memory = memory(&mut agent)?;
    agent.process().signal(Signal::SIGKILL)?;
    Ok(Mirrored {
        alone,
        beside,
        written,
        start,
        single,
        agent: memory,
    })
}

fn spawn(node: &Node) -> Result<Agent> {
    let config = format!(
        "node: {}\nsource: kernel\npins: {}\n",
        node.name(),
        node.pins().display()
    );
    Agent::spawn(node, &config, "")
}

fn batch(node: &Node, commands: &str) -> Result<Duration> {
    let command = node
        .ns()
        .command("ip")
        .args(["-batch", "-"])
        .input(commands)?;
    let begun = Instant::now();
    command.run()?;
    Ok(begun.elapsed())
}

/// Whether the map has this many routes of the table's, and so at least as many.
fn holds(node: &Node, count: u32) -> Result<bool> {
    let entries = RouteMap::read_routes(&pins(node))?.entries()?;
    let of_table = entries.iter().filter(|(prefix, _)| Table::has(*prefix));
    Ok(of_table.count() >= usize::try_from(count)?)
}

fn wait(is_so: impl Fn() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !is_so()? {
        ensure!(begun.elapsed() < PATIENCE, "nothing happens any more");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Has routes lead elsewhere, one after the other, and waits for the map each time. An `ip` that runs
/// already is told, so that its start does not count.
fn change_singly(node: &Node, table: &Table) -> Result<Vec<Duration>> {
    let mut ip = node.ns().run(|| {
        let mut ip = Command::new("ip");
        let ip = ip.args(["-batch", "-"]).stdin(Stdio::piped());
        ip.spawn().context("cannot start ip")
    })?;
    let routes = RouteMap::read_routes(&pins(node))?;
    let mut times = table
        .sample(SINGLE)
        .map(|(prefix, command)| change(&mut ip, &routes, prefix, &command))
        .collect::<Result<Vec<_>>>()?;
    drop(ip.stdin.take());
    ip.wait()?;
    times.sort_unstable();
    Ok(times)
}

fn change(ip: &mut Child, routes: &RouteMap, prefix: Ipv4Net, command: &str) -> Result<Duration> {
    let Some(stdin) = &mut ip.stdin else {
        bail!("ip has no input");
    };
    let before = routes.get(&prefix);
    let begun = Instant::now();
    stdin.write_all(command.as_bytes())?;
    while routes.get(&prefix) == before {
        ensure!(begun.elapsed() < PATIENCE, "{command}: nothing happens");
        thread::yield_now();
    }
    Ok(begun.elapsed())
}

fn memory(agent: &mut Agent) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.process().pid()))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.context("no RssAnon")?.parse::<u64>()? * 1024)
}
