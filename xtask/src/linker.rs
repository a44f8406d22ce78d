//! bpf-linker, which links the BPF programs and writes their BTF.
//!
//! It always is our own: built by us, in a directory named after its version and its LLVM. A
//! bpf-linker found elsewhere does not tell which LLVM it was built against, and with another one
//! than the compiler's it fails on the compiler's bitcode; so it is neither used nor replaced.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    cargo, lookup, process,
    setup::{Need, Remedy},
    toolchain::LLVM,
};

const VERSION: &str = "0.13.0";

/// The linker as a thing to have, and what building it takes if it is not there.
pub(crate) fn needs() -> Result<Vec<Need>> {
    let linker = Need {
        name: format!("bpf-linker {VERSION}"),
        why: "links the BPF programs and writes their BTF",
        found: find().map(|path| path.display().to_string()),
        remedy: install()?,
    };
    if linker.found.is_some() {
        return Ok(vec![linker]);
    }
    let prefix = llvm_prefix();
    let llvm = Need {
        name: format!("LLVM {LLVM}"),
        why: "bpf-linker is built against it",
        found: is_llvm(&prefix).then(|| prefix.display().to_string()),
        remedy: Remedy::Packages(&["llvm-22-dev"]),
    };
    Ok(vec![llvm, linker])
}

/// Where the linker is, once it is installed.
pub(crate) fn path() -> Result<PathBuf> {
    Ok(bin_dir()?.join("bpf-linker"))
}

/// The linker, if it is there and runs: it does not without its LLVM's shared library.
fn find() -> Option<PathBuf> {
    let path = path().ok()?;
    process::output(Command::new(&path).arg("--version")).ok()?;
    Some(path)
}

fn install() -> Result<Remedy> {
    let mut command = cargo::bare();
    command
        .args(["install", "bpf-linker", "--version", VERSION, "--locked"])
        .args(["--no-default-features", "--features"])
        .arg(format!("llvm-{LLVM}"))
        .arg("--root")
        .arg(root()?)
        .env("LLVM_PREFIX", llvm_prefix())
        // Spares the user cargo's advice to put our directory into PATH.
        .env("PATH", path_with_ours()?)
        // In a directory of its own, which cargo removes: nothing else has a use for this build.
        .env_remove("CARGO_TARGET_DIR");
    let line = format!(
        "LLVM_PREFIX={} cargo {}",
        llvm_prefix().display(),
        process::arguments(&command)
    );
    Ok(Remedy::Command {
        line,
        command: Box::new(command),
    })
}

fn path_with_ours() -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain([bin_dir()?]);
    env::join_paths(dirs).context("PATH cannot be extended")
}

fn bin_dir() -> Result<PathBuf> {
    Ok(root()?.join("bin"))
}

fn root() -> Result<PathBuf> {
    let name = format!("bpf-linker-{VERSION}-llvm-{LLVM}");
    Ok(lookup::cargo_home()?.join("underpass").join(name))
}

/// Where LLVM is installed: `LLVM_PREFIX`, or where Debian has it.
fn llvm_prefix() -> PathBuf {
    env::var_os("LLVM_PREFIX").map_or_else(
        || PathBuf::from(format!("/usr/lib/llvm-{LLVM}")),
        PathBuf::from,
    )
}

/// Whether `prefix` has what a program is linked with, not just what it runs with.
fn is_llvm(prefix: &Path) -> bool {
    prefix.join("lib/libLLVM.so").exists()
}
