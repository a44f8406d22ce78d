//! Running the demo.

use anyhow::{Result, ensure};
use nix::unistd::geteuid;

use crate::{
    build::{self, Profile},
    cargo, process, setup,
};

/// Builds everything optimized and runs the demo, whose exit code becomes ours.
pub(crate) fn demo(arguments: &[String]) -> Result<()> {
    // First, so that without root one is told everything that is missing, root being one of it.
    setup::ensure(setup::RUN)?;
    ensure!(
        geteuid().is_root(),
        "the demo makes network namespaces and loads BPF programs: run it as root"
    );
    let built = build::build(Profile::Release)?;
    let mut command = cargo::host("run")?;
    built
        .tell(&mut command)
        .args(["--release", "--bin", "demo"])
        .arg("--")
        .args(arguments);
    process::run_instead(&mut command)
}
