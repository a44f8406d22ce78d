//! The binaries of tests and benchmarks, and which of the tests the machines run.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    build::{Built, Profile},
    cargo, process,
};

/// What no kernel changes, the lab's own tests and those of the object file; what takes routers,
/// monitors, podman or what loads netfilter's rules, which the machines do not have; what takes more packets
/// a second than an emulated processor forwards; what only benchmarks run; and what takes two machines.
const NOT_FOR_ONE: &[&str] = &[
    "lab",
    "lab_cleanup",
    "object",
    "routers",
    "monitors",
    "image",
    "services",
    "policy",
    "flows",
    "outlives",
    "conntrack",
    "flows_cli",
    "floor",
    PAIR,
];

/// What takes two machines.
const PAIR: &str = "pair";

/// The benchmark that takes two machines.
const BENCH: &str = "vms";

/// The binaries of a quick run, each with the tests to run, or all.
const QUICK: &[(&str, &[&str])] = &[
    ("verifier", &[]),
    ("cases", &[]),
    ("no_carrier", &[]),
    ("multipath", &[]),
    ("established", &[]),
    (
        "modes",
        &[
            "without_encapsulation",
            "by_ipip",
            "by_vxlan",
            "cross_subnet_encapsulates_behind_a_router",
        ],
    ),
    ("interop_ipip", &[]),
    ("interop", &[]),
    (
        "mirror",
        &[
            "networks::the_kernels_ipip_device_as_felix_uses_it",
            "networks::the_kernels_ipip_device_as_kube_router_uses_it",
        ],
    ),
];

/// What to run.
#[derive(Clone, Copy)]
pub(super) enum Selection<'a> {
    /// All that a kernel has a part in, or those with one of these in their names.
    All(&'a [String]),
    /// Of each kind some, which together say whether a kernel will do: for CI.
    Quick,
    /// What the verifier makes of the programs.
    Verifier,
    /// What takes two machines, or those of it with one of these in their names.
    Pair(&'a [String]),
    /// The benchmark that takes two machines, with these arguments.
    Bench(&'a [String]),
}

impl Selection<'_> {
    /// The binaries to run, each with its arguments.
    pub(super) fn of(self, binaries: &TestBinaries) -> Result<Vec<(&str, Vec<String>)>> {
        Ok(match self {
            Self::All(filters) => binaries
                .names()
                .filter(|name| !NOT_FOR_ONE.contains(name))
                .map(|name| (name, harness(filters)))
                .collect(),
            Self::Quick => QUICK
                .iter()
                .map(|&(name, tests)| Ok((name, harness(&binaries.exactly(name, tests)?))))
                .collect::<Result<_>>()?,
            Self::Verifier => vec![("verifier", harness(&[]))],
            Self::Pair(filters) => vec![(PAIR, harness(filters))],
            Self::Bench(arguments) => vec![(BENCH, arguments.to_vec())],
        })
    }

    /// What cargo is to build.
    fn targets(self) -> [&'static str; 2] {
        match self {
            Self::Bench(_) => ["--bench", BENCH],
            _ => ["--test", "*"],
        }
    }
}

/// What a test's harness is told: to run all that these arguments choose.
fn harness(arguments: &[String]) -> Vec<String> {
    let all = ["--include-ignored", "--show-output", "--test-threads=1"];
    let all = all.into_iter().map(str::to_owned);
    all.chain(arguments.iter().cloned()).collect()
}

/// Where cargo has put tests of `tests/tests`, or a benchmark, by their names.
pub(super) struct TestBinaries(BTreeMap<String, PathBuf>);

impl TestBinaries {
    /// Builds those among which there is what is selected.
    pub(super) fn build(built: &Built, profile: Profile, selection: Selection<'_>) -> Result<Self> {
        let mut command = cargo::host("test")?;
        built
            .tell(&mut command)
            .args(["--package", "dataplane-tests", "--no-run"])
            .args(selection.targets())
            .args(["--profile", profile.name()])
            .args(["--message-format", "json-render-diagnostics"])
            .stderr(Stdio::inherit());
        let messages = process::output(&mut command)?;
        let binaries: BTreeMap<_, _> = messages.lines().filter_map(binary).collect();
        ensure!(!binaries.is_empty(), "cargo built no tests");
        Ok(Self(binaries))
    }

    /// The test or benchmark `name`.
    pub(super) fn get(&self, name: &str) -> Result<&Path> {
        let path = self.0.get(name);
        Ok(path.with_context(|| format!("cargo built no test {name}"))?)
    }

    /// The arguments that have binary `name` run these tests alone, all of which it must have.
    fn exactly(&self, name: &str, tests: &[&str]) -> Result<Vec<String>> {
        let mut list = Command::new(self.get(name)?);
        let listed = process::output(list.args(["--list", "--format", "terse"]))?;
        for test in tests {
            let line = format!("{test}: test");
            ensure!(
                listed.lines().any(|listed| listed == line),
                "{name} has no test {test}"
            );
        }
        let tests = tests.iter().copied().chain(["--exact"]);
        Ok(tests.map(str::to_owned).collect())
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// The name and place of the test or benchmark that one of cargo's messages tells of, if it does: it
/// also tells of other programs of the package, which tests may run.
fn binary(message: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    let kinds = message.pointer("/target/kind")?.as_array()?;
    if !kinds.iter().any(|kind| kind == "test" || kind == "bench") {
        return None;
    }
    let name = message.pointer("/target/name")?.as_str()?;
    let path = message.get("executable")?.as_str()?;
    Some((name.to_owned(), path.into()))
}
