//! Running the tests.
//!
//! A test that takes root and BPF is marked `#[ignore = "needs root and BPF: cargo xtask test"]`,
//! so that plain `cargo test` passes it over, and says so; here it is included.

use anyhow::{Result, ensure};
use nix::unistd::geteuid;

use crate::{
    build::{self, Profile},
    cargo, process, setup,
};

/// Runs the tests that take neither privileges nor a BPF toolchain.
pub(crate) fn host(filters: &[String]) -> Result<()> {
    process::run_instead(cargo::host("test")?.arg("--").args(filters))
}

/// Runs all tests, after building what they test.
pub(crate) fn all(filters: &[String]) -> Result<()> {
    // First, so that without root one is told everything that is missing, root being one of it.
    setup::ensure(setup::RUN)?;
    ensure!(
        geteuid().is_root(),
        "the tests in network namespaces take root, and no test was run: run this as root, or \
         `cargo xtask test --host` for those that take no privileges"
    );
    let built = build::build(Profile::Dev)?;
    let mut command = cargo::host("test")?;
    built
        .tell(&mut command)
        .args(["--", "--include-ignored"])
        // A lab runs several busy processes: more labs at once starve each other.
        .arg("--test-threads=2")
        .args(filters);
    process::run_instead(&mut command)
}
