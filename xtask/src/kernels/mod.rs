//! The kernel matrix: the tests that load programs, inside virtual machines with Debian's kernels.
//!
//! A machine has no disk: kernel, modules, programs and tests are in its initial RAM disk, and its
//! console is all that comes out. Nothing of this takes root, nor KVM.

mod fetch;
mod image;
mod libraries;
mod machine;
mod modules;
mod report;
mod tests;

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::builder::PossibleValuesParser;

use crate::{
    build::{self, Profile},
    lookup,
    setup::{self, Part},
};

use self::{image::Image, report::Report};

/// A kernel of the matrix.
pub(crate) struct Kernel {
    /// Its version, as far as the command line tells kernels apart.
    pub(crate) name: &'static str,
    /// The Debian suite that has it.
    suite: &'static str,
}

/// Every kernel, oldest first.
pub(crate) const KERNELS: &[Kernel] = &[
    Kernel {
        name: "5.10",
        suite: "bullseye",
    },
    Kernel {
        name: "6.1",
        suite: "bookworm",
    },
    Kernel {
        name: "6.12",
        suite: "bookworm-backports",
    },
    Kernel {
        name: "7",
        suite: "trixie-backports",
    },
];

/// What the machines run of the tests in `tests/tests`, with options of the test harness.
const TESTS: &[&[&str]] = &[
    &["verifier", "--show-output"],
    &["walk"],
    &["modes"],
    &["interop_ipip"],
    &["interop"],
    &["detach"],
    &["agent"],
];

/// What to run, and on what.
pub(crate) struct Options {
    /// Names of kernels; none for all.
    pub(crate) kernels: Vec<String>,
    /// Whether to ask Debian for newer packages than are here.
    pub(crate) update: bool,
    /// Run only the tests with one of these in their names.
    pub(crate) filters: Vec<String>,
}

/// Runs the tests on the kernels, and says what passed where.
pub(crate) fn kernels(options: &Options) -> Result<()> {
    setup::ensure(&[
        Part::Programs,
        Part::Toolchain,
        Part::Linker,
        Part::Machines,
    ])?;
    let built = build::build(Profile::Dev)?;
    let image = Image::build(&built, TESTS, &options.filters)?;
    let mut reports = Vec::new();
    for kernel in chosen(&options.kernels)? {
        let unpacked = fetch::unpacked(kernel, options.update)
            .with_context(|| format!("cannot get kernel {}", kernel.name))?;
        reports.push(machine::run(kernel, &unpacked, &image)?);
    }
    println!("\n{}", report::table(&reports));
    ensure!(
        reports.iter().all(Report::is_success),
        "not everything passed on every kernel; the consoles are {}",
        cache()?.join("<kernel>/console.log").display()
    );
    Ok(())
}

/// What the command line may call kernels.
pub(crate) fn names() -> PossibleValuesParser {
    KERNELS.iter().map(|kernel| kernel.name).into()
}

fn chosen(names: &[String]) -> Result<Vec<&'static Kernel>> {
    if names.is_empty() {
        return Ok(KERNELS.iter().collect());
    }
    names
        .iter()
        .map(|name| {
            KERNELS
                .iter()
                .find(|kernel| kernel.name == name)
                .with_context(|| format!("{name} is not in the matrix"))
        })
        .collect()
}

/// Where the matrix keeps its files: what it has fetched and what it boots.
fn cache() -> Result<PathBuf> {
    Ok(lookup::target_dir()?.join("kernels"))
}

/// Where the files of one kernel are.
fn cache_of(kernel: &Kernel) -> Result<PathBuf> {
    Ok(cache()?.join(kernel.name))
}
