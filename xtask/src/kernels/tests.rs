//! The test binaries, and which of their tests the machines run.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    build::{Built, Profile},
    cargo, process,
};

/// What no kernel changes, the lab's own tests and those of the object file; and what takes two
/// machines.
const NOT_FOR_ONE: &[&str] = &["lab", "lab_cleanup", "object", PAIR];

/// What takes two machines.
const PAIR: &str = "pair";

/// The binaries of a quick run, each with the tests to run, or all.
const QUICK: &[(&str, &[&str])] = &[
    ("verifier", &[]),
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
];

/// Which tests to run.
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
}

impl Selection<'_> {
    /// The binaries to run, each with the arguments that choose among its tests.
    pub(super) fn of(self, binaries: &TestBinaries) -> Vec<(&str, Vec<String>)> {
        let quick = |(name, tests): &(&'static str, &[&str])| {
            let tests = tests.iter().map(|&test| test.to_owned());
            (*name, tests.chain(["--exact".to_owned()]).collect())
        };
        match self {
            Self::All(filters) => binaries
                .names()
                .filter(|name| !NOT_FOR_ONE.contains(name))
                .map(|name| (name, filters.to_vec()))
                .collect(),
            Self::Quick => QUICK.iter().map(quick).collect(),
            Self::Verifier => vec![("verifier", Vec::new())],
            Self::Pair(filters) => vec![(PAIR, filters.to_vec())],
        }
    }
}

/// Where cargo has put the tests of `tests/tests`, by their names.
pub(super) struct TestBinaries(BTreeMap<String, PathBuf>);

impl TestBinaries {
    /// Builds them.
    pub(super) fn build(built: &Built, profile: Profile) -> Result<Self> {
        let mut command = cargo::host("test")?;
        built
            .tell(&mut command)
            .args(["--package", "dataplane-tests", "--test", "*", "--no-run"])
            .args(["--profile", profile.name()])
            .args(["--message-format", "json-render-diagnostics"])
            .stderr(Stdio::inherit());
        let messages = process::output(&mut command)?;
        let binaries: BTreeMap<_, _> = messages.lines().filter_map(binary).collect();
        ensure!(!binaries.is_empty(), "cargo built no tests");
        Ok(Self(binaries))
    }

    /// The test `name`.
    pub(super) fn get(&self, name: &str) -> Result<&Path> {
        let path = self.0.get(name);
        Ok(path.with_context(|| format!("cargo built no test {name}"))?)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// The name and place of the binary that one of cargo's messages tells of, if it does.
fn binary(message: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    let name = message.pointer("/target/name")?.as_str()?;
    let path = message.get("executable")?.as_str()?;
    Some((name.to_owned(), path.into()))
}
