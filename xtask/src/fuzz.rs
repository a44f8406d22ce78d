//! Fuzzing parse, decide, encapsulation and decapsulation on the host, by libFuzzer.
//!
//! cargo-fuzz would want a nightly toolchain for its sanitizers. There is next to no `unsafe` code
//! to use them on; what libFuzzer steers by, coverage, is a pass of LLVM's that a stable rustc runs.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    cargo, lookup, process,
    setup::{self, Part},
};

/// How the code under test is compiled, so that libFuzzer sees which branches are taken and what is
/// compared. As cargo-fuzz does it.
const RUSTFLAGS: &str = "--cfg fuzzing \
    -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Longest input, in bytes; tables and packet are made of fewer.
const LONGEST: u32 = 512;

/// Fuzzes `target`, or all of them in turn, for `minutes` together, and keeps what it has found out
/// for the next time.
pub(crate) fn fuzz(target: Option<String>, minutes: u32) -> Result<()> {
    let all = targets()?;
    let targets = match target {
        None => all,
        Some(target) if all.contains(&target) => vec![target],
        Some(target) => bail!("there is no target {target}, only {}", all.join(", ")),
    };
    setup::ensure(&[Part::Fuzzer])?;
    let binaries = build()?;
    let seconds = u64::from(minutes) * 60 / targets.len() as u64;
    for target in targets {
        println!("\n== {target}: {seconds} s");
        run(&binaries.join(&target), &target, seconds)?;
    }
    Ok(())
}

/// The names of the targets, by their files.
fn targets() -> Result<Vec<String>> {
    let files = files(&lookup::workspace().join("tests/fuzz/targets"))?;
    let names = files.iter().filter_map(|file| file.file_stem()?.to_str());
    Ok(names.map(str::to_owned).collect())
}

/// Builds the targets, and returns the directory that they are in.
fn build() -> Result<PathBuf> {
    let host = host()?;
    let directory = directory()?.join("build");
    let mut command = cargo::host("build")?;
    command
        .args(["--package", "dataplane-fuzz", "--features", "link"])
        .args(["--bins", "--profile", "fuzz"])
        // Told the target, cargo compiles build scripts without the flags below.
        .args(["--target", &host])
        .env("CARGO_TARGET_DIR", &directory)
        .env("RUSTFLAGS", RUSTFLAGS)
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    process::run(&mut command)?;
    Ok(directory.join(host).join("fuzz"))
}

/// What the host's compiler calls the machine that it compiles for.
fn host() -> Result<String> {
    let about = process::output(Command::new("rustc").arg("-vV"))?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host
        .context("rustc does not say what its host is")?
        .to_owned())
}

fn run(binary: &Path, target: &str, seconds: u64) -> Result<()> {
    let corpus = directory()?.join("corpus").join(target);
    let findings = directory()?.join("findings").join(target);
    let seeds = lookup::workspace().join("tests/fuzz/corpus").join(target);
    for made in [&corpus, &findings] {
        fs::create_dir_all(made).with_context(|| format!("cannot make {}", made.display()))?;
    }
    let before = files(&findings)?;

    let mut prefix = OsStr::new("-artifact_prefix=").to_owned();
    prefix.push(findings.join(""));
    let mut command = Command::new(binary);
    // What is new goes into the first.
    command.args([&corpus, &seeds]).arg(prefix);
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={LONGEST}"))
        .args(["-timeout=10", "-print_final_stats=1"]);
    let Err(error) = process::run(&mut command) else {
        return Ok(());
    };
    for finding in files(&findings)?.difference(&before) {
        println!("repeat it with: {} {}", binary.display(), finding.display());
    }
    bail!(error)
}

/// Where the fuzzer builds and keeps things.
fn directory() -> Result<PathBuf> {
    Ok(lookup::target_dir()?.join("fuzz"))
}

fn files(directory: &Path) -> Result<BTreeSet<PathBuf>> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}
