//! `cargo xtask bench packet`: nanoseconds a packet, by program and path, with 10,000 routes.
//!
//! Beside each path its floor is run, the cheapest program that carries the packet over the same
//! devices, and a reference program, by which times are compared with committed ones.

mod committed;
mod measure;
mod paths;
mod world;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use dataplane_tests::{
    machine, require_root,
    statistics::{Spread, median},
};
use nix::{
    sched::{CpuSet, sched_getcpu, sched_setaffinity},
    unistd::Pid,
};
use serde_json::{Value, json};

use committed::Committed;
use measure::{Bench, Times};
use paths::Path;
use world::{ROUTES, World};

/// How much longer than committed is marked.
const SLOWER: f64 = 1.15;
/// Nanoseconds that are too few to be marked.
const FEW: f64 = 5.0;
/// How many times its floor a path may take.
const FLOORS: f64 = 1.3;

#[derive(Parser)]
struct Arguments {
    /// How often the packets of each path are timed
    #[arg(long, default_value_t = 20)]
    rounds: u32,
    /// Only of paths whose names contain this, such as `IPIP out`
    #[arg(long = "path", value_name = "TEXT", default_value = "")]
    only: String,
    /// Write the ratios to the file that later ones are compared with
    #[arg(long, conflicts_with = "only")]
    commit: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// What cargo gives every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    require_root();
    let arguments = Arguments::parse();
    stay_on_this_processor()?;
    let mut world = World::new()?;
    let mut paths = paths::all(&mut world)?;
    paths.retain(|path| path.name().contains(&arguments.only));
    ensure!(!paths.is_empty(), "no path is named so: {}", arguments.only);
    let mut bench = Bench::new(world)?;
    // The kernel's allocators take some 10,000 packets until they have what these packets need at hand.
    for path in &paths {
        let mut track = bench.track(path)?;
        bench.round(&mut track)?;
    }
    let mut times = Vec::new();
    for path in &paths {
        eprintln!("{} ...", path.name());
        let mut track = bench.track(path)?;
        let rounds = (0..arguments.rounds).map(|_| bench.round(&mut track));
        times.push(rounds.collect::<Result<Vec<_>>>()?);
    }
    let rows = paths
        .iter()
        .zip(&times)
        .map(|(path, times)| Row::of(path, times).context("there were no rounds"))
        .collect::<Result<Vec<_>>>()?;
    let references: Vec<_> = times
        .iter()
        .flatten()
        .map(|times| times.reference)
        .collect();
    let reference = median(&references).context("there are no paths")?;
    if arguments.commit {
        let ratio = |row: &Row| (row.name.clone(), rounded(row.to_reference));
        Committed {
            machine: machine()?,
            reference: rounded(reference),
            ratios: rows.iter().map(ratio).collect(),
        }
        .write()?;
    }
    let committed = Committed::read()?.ratios;
    if arguments.json {
        let programs = programs(&mut bench)?;
        let report = json!({
            "machine": machine()?,
            "routes": ROUTES,
            "rounds": arguments.rounds,
            "reference": reference,
            "paths": rows.iter().map(|row| row.json(&committed)).collect::<Vec<_>>(),
            "programs": programs,
        });
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    println!(
        "{}\ncargo xtask bench packet: {} rounds, {ROUTES} routes; the reference program takes \
         {reference:.0} ns\n",
        machine()?,
        arguments.rounds
    );
    print_paths(&rows, &committed);
    print_tunnels(&rows);
    print_programs(&mut bench)
}

/// Processors differ, and so do their caches.
fn stay_on_this_processor() -> Result<()> {
    let mut processors = CpuSet::new();
    processors.set(sched_getcpu()?)?;
    sched_setaffinity(Pid::from_raw(0), &processors).context("stay on one processor")
}

/// What was found of a path: medians of the rounds.
struct Row {
    name: String,
    /// Nanoseconds.
    ns: Spread,
    floor: Option<f64>,
    to_floor: Option<f64>,
    to_reference: f64,
}

impl Row {
    fn of(path: &Path, times: &[Times]) -> Option<Self> {
        let collect =
            |of: fn(&Times) -> Option<f64>| -> Vec<_> { times.iter().filter_map(of).collect() };
        Some(Self {
            name: path.name(),
            ns: Spread::of(&collect(|times| Some(times.ours)))?,
            floor: median(&collect(|times| times.floor)),
            to_floor: median(&collect(|times| Some(times.ours / times.floor?))),
            to_reference: median(&collect(|times| Some(times.ours / times.reference)))?,
        })
    }

    /// How it compares with what was committed, if that was.
    fn to_committed(&self, committed: &BTreeMap<String, f64>) -> Option<f64> {
        Some(self.to_reference / committed.get(&self.name)?)
    }

    fn json(&self, committed: &BTreeMap<String, f64>) -> Value {
        json!({
            "path": self.name,
            "ns": self.ns.median,
            "quartiles": [self.ns.low, self.ns.high],
            "floor": self.floor,
            "toFloor": self.to_floor,
            "toReference": self.to_reference,
            "committed": committed.get(&self.name),
            "toCommitted": self.to_committed(committed),
        })
    }
}

fn print_paths(rows: &[Row], committed: &BTreeMap<String, f64>) {
    println!(
        "{:<44} {:>18} {:>9} {:>8} {:>11} {:>10} {:>8}",
        "PATH", "NS (QUARTILES)", "FLOOR NS", "x FLOOR", "x REFERENCE", "COMMITTED", "CHANGE"
    );
    for row in rows {
        let change = row.to_committed(committed);
        println!(
            "{:<44} {:>18} {:>9} {:>8} {:>11.2} {:>10} {:>8} {}",
            row.name,
            format!("{:.0}", row.ns),
            shown(row.floor, 0),
            shown(row.to_floor, 2),
            row.to_reference,
            shown(committed.get(&row.name).copied(), 2),
            shown(change, 2),
            marks(row, change).join(", "),
        );
    }
    println!();
}

/// What there is to look at.
fn marks(row: &Row, change: Option<f64>) -> Vec<&'static str> {
    let mut marks = Vec::new();
    let is_slower = |change| change > SLOWER && row.ns.median * (1.0 - 1.0 / change) > FEW;
    if change.is_some_and(is_slower) {
        marks.push("SLOWER");
    }
    if row.to_floor.is_some_and(|ratio| ratio > FLOORS) {
        marks.push("above 1.3 floors");
    }
    marks
}

fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
}

/// VXLAN out, beside IPIP out.
fn print_tunnels(rows: &[Row]) {
    for vxlan in rows.iter().filter(|row| row.name.contains("VXLAN out")) {
        let name = vxlan.name.replace("VXLAN", "IPIP");
        if let Some(ipip) = rows.iter().find(|row| row.name == name) {
            let ratio = vxlan.ns.median / ipip.ns.median;
            println!("{:<44} {ratio:.2} times IPIP out", vxlan.name);
        }
    }
    println!();
}

/// How large programs are, and what the verifier had to look at. How many instructions a packet takes is
/// not known: the kernel counts none, and the processor's counters are hidden from virtual machines.
fn print_programs(bench: &mut Bench) -> Result<()> {
    println!(
        "{:<16} {:>22} {:>18} {:>12}",
        "PROGRAM", "VERIFIED INSTRUCTIONS", "TRANSLATED BYTES", "JITED BYTES"
    );
    for (hook, info) in bench.programs()? {
        println!(
            "{:<16} {:>22} {:>18} {:>12}",
            hook.name(),
            info.verified_instruction_count().unwrap_or_default(),
            info.size_translated().unwrap_or_default(),
            info.size_jitted(),
        );
    }
    Ok(())
}

fn programs(bench: &mut Bench) -> Result<Vec<Value>> {
    let programs = bench.programs()?;
    let programs = programs.iter().map(|(hook, info)| {
        json!({
            "program": hook.name(),
            "verifiedInstructions": info.verified_instruction_count(),
            "translatedBytes": info.size_translated(),
            "jitedBytes": info.size_jitted(),
        })
    });
    Ok(programs.collect())
}

/// To as many digits as say anything.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
