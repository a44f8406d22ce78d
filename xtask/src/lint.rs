//! Checking format and lints.

use anyhow::Result;

use crate::{
    cargo, process,
    setup::{self, Part},
    toolchain::Toolchain,
};

/// Warnings are for working on the code; what is checked in has none.
const DENY_WARNINGS: [&str; 3] = ["--", "--deny", "warnings"];

/// Checks the formatting of all crates, and their lints: the host's by the host's clippy, the BPF
/// programs by [the BPF toolchain's](crate::clippy), both compiled for where they run.
pub(crate) fn lint() -> Result<()> {
    process::run(cargo::host("fmt")?.args(["--all", "--check"]))?;
    process::run(
        cargo::host("clippy")?
            // The fuzzer's binaries are targets only with it.
            .args(["--all-targets", "--features", "dataplane-fuzz/libfuzzer"])
            .args(DENY_WARNINGS),
    )?;
    setup::ensure(&[Part::Toolchain, Part::Clippy])?;
    process::run(Toolchain::get()?.cargo("clippy")?.args(DENY_WARNINGS))
}
