//! What is to be measured, and for how long.

use std::time::Duration;

use clap::Parser;

use super::{Measurement, Path};

/// What the suite is told.
#[derive(Parser)]
pub(crate) struct Arguments {
    /// How many rounds
    #[arg(long)]
    rounds: Option<usize>,
    /// Fewer and shorter rounds, of less
    #[arg(long)]
    quick: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// What cargo tells every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    /// The command that does this again.
    pub(crate) fn command(&self) -> String {
        let rounds = self.rounds.map(|rounds| format!("--rounds {rounds}"));
        let words = [
            Some("cargo xtask bench".to_owned()),
            rounds,
            self.quick.then(|| "--quick".to_owned()),
            self.json.then(|| "--json".to_owned()),
        ];
        let words: Vec<_> = words.into_iter().flatten().collect();
        words.join(" ")
    }
}

/// What is measured in each round.
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) paths: &'static [Path],
    pub(crate) measurements: &'static [Measurement],
    /// How many pings.
    pub(crate) pings: u32,
    /// How many HTTP requests, of each kind.
    pub(crate) requests: u32,
    /// For how long bytes are exchanged one by one.
    pub(crate) transactions: Duration,
    /// How long each flood is.
    pub(crate) flood: Duration,
    /// How many routes there are in the end, one number after the other.
    pub(crate) routes: &'static [u32],
}

impl Plan {
    pub(crate) fn of(arguments: &Arguments) -> Self {
        let plan = if arguments.quick { QUICK } else { WHOLE };
        Self {
            rounds: arguments.rounds.unwrap_or(plan.rounds).max(1),
            ..plan
        }
    }
}

/// Of HTTP, ten rounds are the 90,000 requests that Calico's users measure with.
const WHOLE: Plan = Plan {
    rounds: 10,
    paths: &[
        Path::HostToHost,
        Path::PodToPod,
        Path::HostToPod,
        Path::OnOneNode,
    ],
    measurements: &[
        Measurement::Ping,
        Measurement::Tcp,
        Measurement::TcpUnpinned,
        Measurement::TcpEight,
        Measurement::Udp,
        Measurement::HttpKept,
        Measurement::Http,
        Measurement::Transactions,
        Measurement::Flood,
        Measurement::Generator,
    ],
    pings: 100,
    requests: 9000,
    transactions: Duration::from_millis(500),
    flood: Duration::from_millis(400),
    routes: &[1, 1_000, 10_000, 100_000, 1_000_000],
};

const QUICK: Plan = Plan {
    rounds: 2,
    paths: &[Path::HostToHost, Path::PodToPod, Path::OnOneNode],
    measurements: &[
        Measurement::Ping,
        Measurement::Tcp,
        Measurement::Udp,
        Measurement::HttpKept,
        Measurement::Http,
        Measurement::Transactions,
        Measurement::Flood,
        Measurement::Generator,
    ],
    pings: 50,
    requests: 2000,
    transactions: Duration::from_millis(200),
    flood: Duration::from_millis(200),
    routes: &[1, 1_000, 10_000],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_run_is_another_plan_and_rounds_are_as_told() {
        let plan = |arguments: &[&str]| {
            let words = ["suite"].iter().chain(arguments);
            let arguments = Arguments::try_parse_from(words).expect("arguments");
            (arguments.command(), Plan::of(&arguments))
        };
        let (command, whole) = plan(&["--bench"]);
        assert_eq!((&*command, whole.rounds), ("cargo xtask bench", 10));
        assert_eq!(u64::from(whole.requests) * 10, 90_000);
        let (command, quick) = plan(&["--quick", "--json", "--rounds", "3", "--bench"]);
        assert_eq!(command, "cargo xtask bench --rounds 3 --quick --json");
        assert_eq!((quick.rounds, quick.requests), (3, 2000));
    }
}
