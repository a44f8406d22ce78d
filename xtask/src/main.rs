//! `cargo xtask`: everything that building, testing and showing underpass takes, as one command.

mod bench;
mod build;
mod cargo;
mod cases;
mod clippy;
mod debian;
mod demo;
mod deny;
mod documents;
mod fuzz;
mod image;
mod kernels;
mod libraries;
mod linker;
mod lint;
mod lookup;
mod manifests;
mod process;
mod programs;
mod remap;
mod setup;
mod test;
mod toolchain;
mod verify;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::build::Profile;

fn main() -> ExitCode {
    let Err(error) = run(Arguments::parse().command) else {
        return ExitCode::SUCCESS;
    };
    // By hand: with RUST_BACKTRACE set, anyhow's own way would bury the message.
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("cause: {cause}");
    }
    ExitCode::FAILURE
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Setup => setup::show_and_ensure(setup::ALL),
        Command::Build { release } => {
            let built = build::build(if release {
                Profile::Release
            } else {
                Profile::Dev
            })?;
            println!("BPF programs  {}", built.object.display());
            println!("underpass     {}", built.binary.display());
            Ok(())
        }
        Command::Test {
            host: true,
            filters,
        } => test::host(&filters),
        Command::Test {
            host: false,
            filters,
        } => test::all(&filters),
        Command::Demo { arguments } => demo::demo(&arguments),
        Command::Kernels {
            update,
            quick,
            filters,
            kernels,
        } => kernels::kernels(&kernels::Options {
            kernels,
            update,
            quick,
            filters,
        }),
        Command::Fuzz { minutes, target } => fuzz::fuzz(target, minutes),
        Command::Pair { filters, kernels } => kernels::pair(&kernels, &filters),
        Command::Verify { kernels } => verify::verify(&kernels),
        Command::Cases => cases::cases(),
        Command::Bench(what) => bench::bench(what),
        Command::Manifests { out: Some(to), .. } => manifests::write_all(&to),
        Command::Manifests { overlay, out: None } => manifests::print(overlay.as_deref()),
        Command::Image(options) => image::image(&options),
        Command::Lint => lint::lint(),
        Command::Deny => deny::deny(),
        Command::Documents => documents::write(),
    }
}

/// Sets up, builds, tests and demonstrates underpass.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find what build, tests and demo need, and install what is missing
    ///
    /// Installing Debian packages takes root. Without it, or elsewhere than on Debian, this says
    /// what to install and changes nothing.
    Setup,

    /// Build the BPF programs, and `underpass` with them inside
    Build {
        /// Build `underpass` optimized (the BPF programs always are)
        #[arg(long)]
        release: bool,
    },

    /// Run all tests; those that use network namespaces and BPF take root
    Test {
        /// Run only the tests that need neither privileges nor a BPF toolchain
        #[arg(long)]
        host: bool,

        /// Run only the tests with one of these in their names; options of the test harness go
        /// behind `--`
        #[arg(value_name = "FILTER")]
        filters: Vec<String>,
    },

    /// Show underpass carrying pod traffic between network namespaces (takes root)
    Demo {
        /// Handed to the demo
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },

    /// Run the tests that load programs on Debian's kernels, in virtual machines (without KVM)
    Kernels {
        /// Ask Debian for newer packages than were fetched before
        #[arg(long)]
        update: bool,

        /// Run some tests of each kind, as CI does
        #[arg(long)]
        quick: bool,

        /// Run only the tests with this in their names; may be repeated
        #[arg(long = "test", value_name = "FILTER", conflicts_with = "quick")]
        filters: Vec<String>,

        /// Which kernels; all unless said otherwise
        #[arg(value_name = "KERNEL", value_parser = kernels::names())]
        kernels: Vec<String>,
    },

    /// Fuzz the decisions, encapsulation and decapsulation on the host
    ///
    /// What the fuzzer finds out is kept in the target directory, and taken up again.
    Fuzz {
        /// For how long, all targets together
        #[arg(long, default_value_t = 5)]
        minutes: u32,

        /// Only this target, one of `tests/fuzz/targets`
        #[arg(value_name = "TARGET")]
        target: Option<String>,
    },

    /// Run the tests that take two machines, with a real network driver and a cable between them
    Pair {
        /// Run only the tests with this in their names; may be repeated
        #[arg(long = "test", value_name = "FILTER")]
        filters: Vec<String>,

        /// Which kernels; all unless said otherwise
        #[arg(value_name = "KERNEL", value_parser = kernels::names())]
        kernels: Vec<String>,
    },

    /// Print what the verifier takes for each program: instructions, stack, time; fail past budget
    Verify {
        /// Which of Debian's kernels, in virtual machines; all, and the one that runs here (which
        /// takes root), unless said otherwise
        #[arg(value_name = "KERNEL", value_parser = kernels::names())]
        kernels: Vec<String>,
    },

    /// Play the table of cases here (takes root), and print what came of it on every kernel
    ///
    /// Other kernels appear as `kernels` has last run the cases on them.
    Cases,

    /// Measure every mode beside its baselines, or what is named (takes root)
    ///
    /// The tables or the JSON go to standard output, charts to the directory `bench` of the target
    /// directory.
    Bench(bench::Bench),

    /// Print what runs underpass on Kubernetes, as plain YAML
    Manifests {
        /// Which of `deploy/overlays`; the base unless said otherwise
        #[arg(value_name = "OVERLAY")]
        overlay: Option<String>,

        /// Instead, write the base and every overlay into this directory, a file each
        #[arg(long, value_name = "DIRECTORY", conflicts_with = "overlay")]
        out: Option<PathBuf>,
    },

    /// Build an image for containers: an OCI archive with `underpass` and nothing else to run
    ///
    /// It takes neither a registry nor a container engine. The same commit makes the same bytes,
    /// wherever it is checked out.
    Image(image::Options),

    /// Check the formatting, and run clippy on the host's crates and on the BPF programs
    Lint,

    /// Check what all crates depend on: its licences, where it comes from, and what is banned
    ///
    /// Not whether there are advisories on it, whose database is downloaded: `cargo deny check
    /// advisories` does that.
    Deny,

    /// Write what of the documents is made from the code: references, schemas, tables
    Documents,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
