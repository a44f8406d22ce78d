//! Running the tests.
//!
//! A test that takes root and BPF is marked `#[ignore = "needs root and BPF: cargo xtask test"]`,
//! so that plain `cargo test` passes it over, and says so; here it is included. So is one that takes
//! a program that has to be installed.

use std::process::Command;

use anyhow::{Result, ensure};
use nix::unistd::geteuid;

use crate::{
    build::{self, Profile},
    cargo, image, process, setup,
};

/// What the names of the tests begin with that take the kernel's own IPIP device.
const NEEDS_IPIP: &str = "the_kernels_ipip_device";

/// What the names of the tests begin with that take two machines.
const NEEDS_TWO: &str = "two_machines";

/// Runs the tests that take neither privileges nor a BPF toolchain.
pub(crate) fn host(filters: &[String]) -> Result<()> {
    process::run_instead(cargo::host("test")?.arg("--").args(filters))
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
    let other_layout = build::build_other_layout(Profile::Dev)?;
    let built = build::build(Profile::Dev)?;
    let [image, other_image] = image::for_tests()?;
    println!("not run: {NEEDS_TWO}* (`cargo xtask pair` has two)");
    let mut skipped = vec!["--skip", NEEDS_TWO];
    if !has_ipip_device() {
        println!(
            "not run: {NEEDS_IPIP}* (this kernel has none; `cargo xtask kernels` has kernels with one)"
        );
        skipped.extend(["--skip", NEEDS_IPIP]);
    }
    let mut command = cargo::host("test")?;
    built
        .tell(&mut command)
        .env(build::OTHER_LAYOUT_BIN, other_layout)
        .env("UNDERPASS_IMAGE", image)
        .env("UNDERPASS_OTHER_LAYOUT_IMAGE", other_image)
        .args(["--", "--include-ignored"])
        // A lab runs several busy processes: more labs at once starve each other.
        .arg("--test-threads=2")
        .args(skipped)
        .args(filters);
    process::run_instead(&mut command)
}

/// Whether the kernel has an IPIP device, or a module for one.
fn has_ipip_device() -> bool {
    let mut command = Command::new("unshare");
    command
        .args(["--net", "ip", "link", "add", "probe", "type", "ipip"])
        .args(["local", "192.0.2.1"]);
    process::output(&mut command).is_ok()
}
