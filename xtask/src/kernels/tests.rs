//! The binaries of tests and benchmarks, with `underpass`, and which of the tests the machines run.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{build, cargo, lookup, process};

/// What no kernel changes, the lab's own tests and those of the object file; what holds files of the
/// workspace against what is; what takes terminals, routers, monitors, podman or what loads netfilter's
/// rules, which the machines do not have; what takes more packets a second than an emulated processor
/// forwards; what only benchmarks run; and what takes two machines.
const NOT_FOR_ONE: &[&str] = &[
    "lab",
    "lab_cleanup",
    "object",
    "documents",
    "golden",
    "top",
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

/// The binaries of a quick run, each with the tests to run, or all, and where.
///
/// What programs, cases, modes and the kernel's own IPIP device do is tried on every kernel. What is
/// built upon that runs where the kernel has least and where it has most of what underpass uses; and in
/// `cargo xtask test` where the kernel has what 6.12 has.
const QUICK: &[(&str, &[&str], On)] = &[
    ("verifier", &[], On::Every),
    ("cases", &[], On::Every),
    (
        "modes",
        &[
            "without_encapsulation",
            "by_ipip",
            "by_vxlan",
            "cross_subnet_encapsulates_behind_a_router",
        ],
        On::Every,
    ),
    ("interop_ipip", &[], On::Every),
    (
        "mirror",
        &[
            "networks::the_kernels_ipip_device_as_felix_uses_it",
            "networks::the_kernels_ipip_device_as_kube_router_uses_it",
        ],
        On::Every,
    ),
    ("no_carrier", &[], On::OldestAndNewest),
    ("multipath", &[], On::OldestAndNewest),
    ("established", &[], On::OldestAndNewest),
    ("interop", &[], On::OldestAndNewest),
    (
        "monitor",
        &[
            "what_leaves_in_ipip_and_what_comes_back_is_told",
            "a_drop_is_told_with_its_reason_and_arp_in_words",
        ],
        On::OldestAndNewest,
    ),
];

/// On which kernels a binary is run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    /// On all that are booted.
    Every,
    /// On those at the ends of the matrix.
    OldestAndNewest,
}

/// A binary to run.
pub(super) struct Chosen<'a> {
    pub(super) name: &'a str,
    pub(super) arguments: Vec<String>,
    pub(super) on: On,
}

impl<'a> Chosen<'a> {
    fn on_every(name: &'a str, arguments: Vec<String>) -> Self {
        Self {
            name,
            arguments,
            on: On::Every,
        }
    }
}

/// What cargo calls the program.
const UNDERPASS: &str = "underpass";

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
    /// The binaries to run.
    pub(super) fn of(self, binaries: &Binaries) -> Result<Vec<Chosen<'_>>> {
        Ok(match self {
            Self::All(filters) => binaries
                .names()
                .filter(|name| !NOT_FOR_ONE.contains(name))
                .map(|name| Chosen::on_every(name, harness(filters)))
                .collect(),
            Self::Quick => QUICK
                .iter()
                .map(|&(name, tests, on)| {
                    let arguments = harness(&binaries.exactly(name, tests)?);
                    Ok(Chosen {
                        name,
                        arguments,
                        on,
                    })
                })
                .collect::<Result<_>>()?,
            Self::Verifier => vec![Chosen::on_every("verifier", harness(&[]))],
            Self::Pair(filters) => vec![Chosen::on_every(PAIR, harness(filters))],
            Self::Bench(arguments) => vec![Chosen::on_every(BENCH, arguments.to_vec())],
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

/// Where cargo has put what the machines run.
pub(super) struct Binaries {
    underpass: PathBuf,
    /// Tests of `tests/tests`, or a benchmark, by their names.
    tests: BTreeMap<String, PathBuf>,
}

impl Binaries {
    /// Builds those among which there is what is selected, and `underpass`, with the BPF programs of
    /// `object` in it. At once: by itself its dependencies would have fewer features than those of the
    /// tests, and be built twice.
    pub(super) fn build(object: &Path, selection: Selection<'_>) -> Result<Self> {
        let mut command = cargo::host("build")?;
        command
            .env(build::OBJECT, object)
            .args(["--profile", "machine", "--bin", UNDERPASS])
            .args(selection.targets())
            .args(["--message-format", "json-render-diagnostics"])
            .stderr(Stdio::inherit());
        let messages = process::output(&mut command)?;
        let (mut underpass, mut tests) = (None, BTreeMap::new());
        for built in messages.lines().filter_map(BuiltBinary::read) {
            if built.is_test {
                tests.insert(built.name, built.path);
            } else if built.name == UNDERPASS {
                underpass = Some(built.path);
            }
        }
        ensure!(!tests.is_empty(), "cargo built no tests");
        Ok(Self {
            underpass: underpass.context("cargo built no underpass")?,
            tests,
        })
    }

    /// The `underpass` that is tested.
    pub(super) fn underpass(&self) -> &Path {
        &self.underpass
    }

    /// The test or benchmark `name`.
    pub(super) fn get(&self, name: &str) -> Result<&Path> {
        let path = self.tests.get(name);
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
        self.tests.keys().map(String::as_str)
    }
}

/// What one of cargo's messages tells of.
struct BuiltBinary {
    name: String,
    path: PathBuf,
    /// Whether it is a test of `tests/tests` or a benchmark.
    is_test: bool,
}

impl BuiltBinary {
    /// Reads a message, if it tells of a program or of what this package's tests are.
    fn read(message: &str) -> Option<Self> {
        let message: Value = serde_json::from_str(message).ok()?;
        let is = |kind| {
            let kinds = message.pointer("/target/kind").and_then(Value::as_array);
            kinds.is_some_and(|kinds| kinds.iter().any(|of| of == kind))
        };
        let is_test = is("test") || is("bench");
        let manifest = Path::new(message.get("manifest_path")?.as_str()?);
        // Other packages have tests, too, which may have the same names.
        if is_test && manifest != lookup::workspace().join("tests/Cargo.toml") {
            return None;
        }
        Some(Self {
            name: message.pointer("/target/name")?.as_str()?.to_owned(),
            path: message.get("executable")?.as_str()?.into(),
            is_test,
        })
    }
}
