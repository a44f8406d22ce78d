//! The demo: pods on two nodes talk through BPF in every mode. Each path is measured beside the
//! hosts themselves, and the packets of each path are counted.

mod counts;
mod measure;
mod path;
mod print;
mod scenario;

use std::{
    collections::BTreeSet,
    env,
    process::{self, ExitCode},
    slice, thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum as _, value_parser};
use dataplane_common::reason::Reason;

use measure::Measurement;
use path::Path;
use scenario::Scenario;

/// Shows pods on two nodes talking through BPF, in every mode.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask demo", max_term_width = 100)]
struct Arguments {
    /// Show this mode only, and how to look inside its lab while it runs.
    #[arg(long, value_enum)]
    mode: Option<Scenario>,
    /// Seconds of TCP on each path.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u16).range(1..=600))]
    seconds: u16,
}

impl Arguments {
    fn scenarios(&self) -> &[Scenario] {
        self.mode
            .as_ref()
            .map_or(Scenario::value_variants(), slice::from_ref)
    }

    /// How long everything may take, also when every path hangs.
    fn limit(&self) -> Duration {
        Duration::from_secs(85 + 30 * u64::from(self.seconds))
    }
}

fn main() -> ExitCode {
    match demo(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Shows what the arguments ask for; returns whether all of it worked.
fn demo(arguments: &Arguments) -> Result<bool> {
    check_requirements()?;
    let start = Instant::now();
    end_after(arguments.limit());
    print::introduction();
    let mut summary = Summary::default();
    for scenario in arguments.scenarios() {
        if let Err(error) = show(*scenario, arguments, &mut summary) {
            let failure = format!("{}: {error:#}", scenario.mode());
            summary.failures.push(failure);
        }
    }
    print::meaning(&summary.reasons);
    let paths = arguments.scenarios().len() * Path::OF_PODS.len();
    print::conclusion(paths, &summary.failures, start.elapsed());
    Ok(summary.failures.is_empty())
}

/// What there is to say in the end.
#[derive(Debug, Default)]
struct Summary {
    /// What failed, and how.
    failures: Vec<String>,
    /// Why packets were not carried by programs.
    reasons: BTreeSet<Reason>,
}

fn check_requirements() -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the demo makes network namespaces and loads BPF programs: run `cargo xtask demo` as root"
    );
    ensure!(
        env::var_os("UNDERPASS_BIN").is_some(),
        "UNDERPASS_BIN does not say where underpass is: run `cargo xtask demo`, which builds it"
    );
    Ok(())
}

/// Ends the process when its time is up. The kernel then removes the lab.
fn end_after(limit: Duration) {
    thread::spawn(move || {
        thread::sleep(limit);
        eprintln!("error: the demo has taken {limit:?} and is not finished: something hangs");
        process::exit(1);
    });
}

/// Shows all paths of one scenario.
fn show(scenario: Scenario, arguments: &Arguments, summary: &mut Summary) -> Result<()> {
    let start = Instant::now();
    let lab = scenario.lab()?;
    let (lab_time, start) = (start.elapsed(), Instant::now());
    let _agents = lab.start_agents(scenario.mode())?;
    print::scenario(scenario, &lab, lab_time, start.elapsed());
    if arguments.mode.is_some() {
        print::how_to_look_inside(&lab);
    }

    print::columns();
    let mut host_to_host = None;
    for path in [&Path::HOST_TO_HOST].into_iter().chain(&Path::OF_PODS) {
        let measurement = Measurement::take(&lab, path, scenario, arguments.seconds)?;
        let reference = *host_to_host.get_or_insert(measurement.bits_per_second);
        print::measurement(path, &measurement, reference);
        summary.reasons.extend(measurement.reasons_for_the_stack());
        if !measurement.faults.is_empty() {
            let faults = measurement.faults.join("; ");
            let failure = format!("{}, {path}: {faults}", scenario.mode());
            summary.failures.push(failure);
        }
    }
    print::arp_answered(counts::arp_answered(&lab)?);
    Ok(())
}
