//! Running the tests.
//!
//! A test that takes root and BPF is marked `#[ignore = "needs root and BPF: cargo xtask test"]`,
//! so that plain `cargo test` passes it over, and says so; here it is included. So is one that takes
//! a program that has to be installed.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use nix::unistd::geteuid;

use crate::{build, cargo, image, process, setup};

/// What the names of the tests begin with that take the kernel's own IPIP device.
const NEEDS_IPIP: &str = "the_kernels_ipip_device";

/// What the names of the tests begin with that take two machines.
const NEEDS_TWO: &str = "two_machines";

/// Runs the tests that take neither privileges nor a BPF toolchain.
pub(crate) fn host(filters: &[String]) -> Result<()> {
    run(filters, || {
        let mut command = cargo::host("test")?;
        command.arg("--").args(filters);
        Ok(command)
    })
}

/// Runs all tests, after building what they test.
pub(crate) fn all(filters: &[String]) -> Result<()> {
    // First, so that without root one is told everything that is missing, root being one of it.
    setup::ensure(setup::TEST)?;
    ensure!(
        geteuid().is_root(),
        "the tests in network namespaces take root, and no test was run: run this as root, or \
         `cargo xtask test --host` for those that take no privileges"
    );
    let [own, other] = image::for_tests()?;
    println!("not run: {NEEDS_TWO}* (`cargo xtask pair` has two)");
    let mut skipped = vec!["--skip", NEEDS_TWO];
    if !has_ipip_device() {
        println!(
            "not run: {NEEDS_IPIP}* (this kernel has none; `cargo xtask kernels` has kernels with one)"
        );
        skipped.extend(["--skip", NEEDS_IPIP]);
    }
    run(filters, || {
        let mut command = cargo::host("test")?;
        own.built
            .tell(&mut command)
            .env(build::OTHER_LAYOUT_BIN, &other.built.binary)
            .env("UNDERPASS_IMAGE", &own.archive)
            .env("UNDERPASS_OTHER_LAYOUT_IMAGE", &other.archive)
            // Whoever has waited so long wants to know of all that fails.
            .args(["--no-fail-fast", "--", "--include-ignored"])
            // A lab runs several busy processes: more labs at once starve each other.
            .arg("--test-threads=2")
            .args(&skipped)
            .args(filters);
        Ok(command)
    })
}

/// Runs what `command` gives, in place of this process, unless the filters leave no test of it: to the
/// test harness that is a success.
fn run(filters: &[String], command: impl Fn() -> Result<Command>) -> Result<()> {
    if !filters.is_empty() {
        let mut listing = command()?;
        let listed = process::output(listing.arg("--list").stderr(Stdio::inherit()))?;
        ensure!(
            listed.lines().any(|line| line.ends_with(": test")),
            "no test that would be run has {} in its name, and none was run: it is the name of a \
             test that counts, not of its file",
            filters.join(" or ")
        );
    }
    process::run_instead(&mut command()?)
}

/// Whether the kernel has an IPIP device, or a module for one.
fn has_ipip_device() -> bool {
    let mut command = Command::new("unshare");
    command
        .args(["--net", "ip", "link", "add", "probe", "type", "ipip"])
        .args(["local", "192.0.2.1"]);
    process::output(&mut command).is_ok()
}
