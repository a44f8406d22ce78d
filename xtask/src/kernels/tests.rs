//! The test binaries.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{build::Built, cargo, process};

/// Where cargo has put the tests of `tests/tests`, by their names.
pub(super) struct TestBinaries(BTreeMap<String, PathBuf>);

impl TestBinaries {
    /// Builds them.
    pub(super) fn build(built: &Built) -> Result<Self> {
        let mut command = cargo::host("test")?;
        built
            .tell(&mut command)
            .args(["--package", "dataplane-tests", "--test", "*", "--no-run"])
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
}

/// The name and place of the binary that one of cargo's messages tells of, if it does.
fn binary(message: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    let name = message.pointer("/target/name")?.as_str()?;
    let path = message.get("executable")?.as_str()?;
    Some((name.to_owned(), path.into()))
}
