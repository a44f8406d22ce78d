//! `cargo xtask bench --vms`: what opening tunnels costs a node with a real network driver, by the
//! kernel's own devices, by underpass on traffic control, and by its XDP in the driver; all in one run
//! of two machines, in rounds that take turns.
//!
//! The left machine sends, by underpass without XDP whoever receives. The right one receives, counts
//! and prints. It is here, and not with the other benchmarks, for its tests: cargo runs none of a
//! benchmark.

mod loads;
mod report;
mod results;
mod scene;

use std::time::Duration;

use anyhow::Result;
use clap::Parser;

use self::{
    loads::{Load, Received},
    results::{Quantity, Results},
    scene::{Opener, Scene},
};
use crate::{Mode, Side, machine, require_root};

/// The encapsulations whose tunnels are opened.
const MODES: [Mode; 2] = [Mode::Ipip, Mode::Vxlan];

/// What the benchmark is told.
#[derive(Parser)]
struct Arguments {
    /// How many rounds
    #[arg(long)]
    rounds: Option<usize>,
    /// Fewer and shorter rounds
    #[arg(long)]
    quick: bool,
}

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    rounds: usize,
    /// How long each load is put on.
    duration: Duration,
}

impl Plan {
    fn of(arguments: &Arguments) -> Self {
        let (rounds, seconds) = if arguments.quick { (2, 1) } else { (5, 3) };
        Self {
            rounds: arguments.rounds.unwrap_or(rounds).max(1),
            duration: Duration::from_secs(seconds),
        }
    }
}

/// Does this machine's part; the right one prints what was measured.
pub fn run() -> Result<()> {
    require_root();
    let plan = Plan::of(&Arguments::parse());
    let mut results = Results::default();
    let mut is_receiver = false;
    for round in 1..=plan.rounds {
        for mode in MODES {
            for opener in Opener::ALL {
                println!("round {round} of {}: {mode}, {opener} ...", plan.rounds);
                let scene = Scene::begin(mode, opener)?;
                is_receiver = scene.side() == Side::Right;
                for load in Load::ALL {
                    if let Some(received) = scene.measure(load, plan.duration)? {
                        results.add(mode, opener, load, &received);
                    }
                }
            }
        }
    }
    if is_receiver {
        for line in report::text(&machine()?, plan.rounds, &results).lines() {
            println!("measured: {line}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_run_is_shorter_and_rounds_are_as_told() {
        let plan = |arguments: &[&str]| {
            let words = ["vms"].iter().chain(arguments);
            Plan::of(&Arguments::try_parse_from(words).expect("arguments"))
        };
        let (whole, quick) = (plan(&[]), plan(&["--quick"]));
        assert_eq!(whole.rounds, 5);
        assert!(quick.rounds < whole.rounds && quick.duration < whole.duration);
        assert_eq!(
            plan(&["--quick", "--rounds=7"]),
            Plan { rounds: 7, ..quick }
        );
    }
}
