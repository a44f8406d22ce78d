//! Benchmarks: what is measured, not tested.

use std::process::Command;

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use nix::unistd::geteuid;

use crate::{
    build::{self, Built, Layout, Profile},
    cargo, image, kernels, process, setup,
};

/// What to measure.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Bench {
    #[command(flatten)]
    suite: Suite,
    #[command(subcommand)]
    one: Option<One>,
}

/// How to measure every mode.
#[derive(Args)]
struct Suite {
    /// How many rounds; 10 unless said otherwise, 2 of the quick ones
    #[arg(long)]
    rounds: Option<u32>,

    /// Less, in shorter rounds: in all, under 3 minutes
    #[arg(long)]
    quick: bool,

    /// Print JSON, with the values of every round
    #[arg(long)]
    json: bool,

    /// Instead, on two virtual machines (without KVM) with virtio-net: what opening tunnels takes by
    /// XDP in the driver, by traffic control and by the kernel; 5 rounds, and the newest kernel,
    /// unless said otherwise
    #[arg(
        long,
        value_name = "KERNEL",
        num_args = 0..,
        value_parser = kernels::names(),
        conflicts_with = "json"
    )]
    vms: Option<Vec<String>>,
}

impl Suite {
    /// How much is measured, in the words of the benchmarks.
    fn arguments(&self) -> Vec<String> {
        let rounds = self.rounds.map(|rounds| format!("--rounds={rounds}"));
        let quick = self.quick.then(|| "--quick".to_owned());
        rounds.into_iter().chain(quick).collect()
    }
}

/// A benchmark of its own.
#[derive(Subcommand)]
enum One {
    /// What acceleration beside netfilter costs and gains: streams, connections, a mixed load
    Established {
        /// How many rounds; 10 unless said otherwise
        rounds: Option<u32>,
    },

    /// What a flow loses while agents are restarted and replaced, as a table and as docs/outlives.svg
    Outlives,

    /// How long each program takes for a packet, by path, beside the least that it could take
    Packet {
        /// How often each path is timed; 20 unless said otherwise
        rounds: Option<u32>,
        /// Only paths whose names contain this, such as `IPIP out`
        #[arg(long, value_name = "TEXT")]
        path: Option<String>,
        /// Write the ratios to the file that later ones are compared with
        #[arg(long, conflicts_with = "path")]
        commit: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },

    /// Tables of routes: how long they take to load, what they weigh, and how fast lookups are
    Routes {
        /// How many routes; 1,000, 10,000, 100,000 and 1,000,000 unless said otherwise
        #[arg(value_name = "ROUTES")]
        sizes: Vec<String>,
    },
}

/// Builds everything optimized and runs the suite, or another benchmark.
pub(crate) fn bench(what: Bench) -> Result<()> {
    if let Some(kernels) = &what.suite.vms {
        return kernels::measure(kernels, &what.suite.arguments());
    }
    setup::ensure(setup::BENCH)?;
    ensure!(
        geteuid().is_root(),
        "the benchmarks make network namespaces and load BPF programs: run them as root"
    );
    match what.one {
        None => suite(&what.suite),
        Some(One::Established { rounds }) => established(rounds),
        Some(One::Outlives) => outlives(),
        Some(One::Packet {
            rounds,
            path,
            commit,
            json,
        }) => packet(rounds, path, commit, json),
        Some(One::Routes { sizes }) => routes(&sizes),
    }
}

/// A quick one is for CI, which has built everything for its tests: the programs are the same, and most
/// packets are other programs'.
fn suite(options: &Suite) -> Result<()> {
    let (profile, built) = if options.quick {
        (Profile::Dev, image::program(Profile::Dev, Layout::Own)?)
    } else {
        (Profile::Release, build::build(Profile::Release)?)
    };
    let mut command = benchmark(&built, "suite")?;
    command
        .args(["--profile", profile.name(), "--"])
        .args(options.arguments())
        .args(options.json.then_some("--json"));
    process::run_instead(&mut command)
}

fn established(rounds: Option<u32>) -> Result<()> {
    let built = build::build(Profile::Release)?;
    let mut command = benchmark(&built, "established")?;
    command
        .arg("--")
        .args(rounds.map(|rounds| rounds.to_string()));
    process::run_instead(&mut command)
}

fn outlives() -> Result<()> {
    let other_layout = build::build_other_layout(Profile::Release)?;
    let built = build::build(Profile::Release)?;
    let mut command = benchmark(&built, "outlives")?;
    command.env(build::OTHER_LAYOUT_BIN, other_layout);
    process::run_instead(&mut command)
}

fn packet(rounds: Option<u32>, path: Option<String>, commit: bool, json: bool) -> Result<()> {
    let built = build::build(Profile::Release)?;
    let mut command = benchmark(&built, "packet")?;
    command
        .arg("--")
        .args(rounds.map(|rounds| format!("--rounds={rounds}")))
        .args(path.map(|path| format!("--path={path}")))
        .args(commit.then_some("--commit"))
        .args(json.then_some("--json"));
    process::run_instead(&mut command)
}

fn routes(sizes: &[String]) -> Result<()> {
    let built = build::build(Profile::Release)?;
    let mut command = benchmark(&built, "routes")?;
    command
        .env("UNDERPASS_LOOKUPS_OBJECT", build::lookups()?)
        .arg("--")
        .args(sizes);
    process::run_instead(&mut command)
}

/// What runs the benchmark `name`, which is told what has been built.
fn benchmark(built: &Built, name: &str) -> Result<Command> {
    let mut command = cargo::host("bench")?;
    built.tell(&mut command).args(["--bench", name]);
    Ok(command)
}
