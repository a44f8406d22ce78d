//! cargo-deny, which checks what is depended on, by `deny.toml`.
//!
//! It is built by us: Debian 12 does not have it.

use std::{env, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    cargo, lookup, process,
    setup::{self, Need, Part, Remedy},
};

const VERSION: &str = "0.20.2";

/// Checks licences, bans and sources. Of advisories there is a database, which not every machine
/// can download, and which changes without a commit here: a check that fails by itself is none of a
/// change.
pub(crate) fn deny() -> Result<()> {
    setup::ensure(&[Part::Deny])?;
    process::run(
        Command::new(path()?)
            .current_dir(lookup::workspace())
            .args(["--workspace", "check", "licenses", "bans", "sources"]),
    )
}

/// What checks, and how it is built if it is not there.
pub(crate) fn needs() -> Result<Vec<Need>> {
    Ok(vec![Need {
        name: format!("cargo-deny {VERSION}"),
        why: "checks the licences and sources of what is depended on",
        found: find().map(|path| path.display().to_string()),
        remedy: install()?,
    }])
}

fn find() -> Option<PathBuf> {
    let path = path().ok()?;
    process::output(Command::new(&path).arg("--version")).ok()?;
    Some(path)
}

/// Without optimization it is built in a third of the time, and takes a second or two to check.
fn install() -> Result<Remedy> {
    let root = root()?;
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::split_paths(&path).chain([root.join("bin")]);
    let mut command = cargo::bare();
    command
        .args(["install", "cargo-deny", "--version", VERSION, "--locked"])
        .arg("--root")
        .arg(&root)
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "256")
        // Spares the user cargo's advice to put our directory into PATH.
        .env(
            "PATH",
            env::join_paths(path).context("PATH cannot be extended")?,
        )
        // In a directory of its own, which cargo removes: nothing else has a use for this build.
        .env_remove("CARGO_TARGET_DIR");
    Ok(Remedy::Command {
        line: format!("cargo {}", process::arguments(&command)),
        command: Box::new(command),
    })
}

fn path() -> Result<PathBuf> {
    Ok(root()?.join("bin/cargo-deny"))
}

fn root() -> Result<PathBuf> {
    let name = format!("cargo-deny-{VERSION}");
    Ok(lookup::cargo_home()?.join("underpass").join(name))
}
