//! What has to be on the machine: looking for it, and installing what is missing.

use std::process::Command;

use anyhow::{Result, bail, ensure};

use crate::{clippy, debian, deny, linker, manifests, process, programs, toolchain};

/// A part of what has to be there.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    /// The programs that every lab runs.
    Lab,
    /// What else some tests and benchmarks run.
    Programs,
    /// What compiles the BPF programs.
    Toolchain,
    /// What links them.
    Linker,
    /// What lints them.
    Clippy,
    /// What checks dependencies.
    Deny,
    /// What validates the manifests for Kubernetes.
    Manifests,
    /// What the virtual machines of the kernel matrix take.
    Machines,
    /// What builds the fuzzer.
    Fuzzer,
}

/// Everything but what only the kernel matrix or the fuzzer takes.
pub(crate) const ALL: &[Part] = &[
    Part::Lab,
    Part::Programs,
    Part::Toolchain,
    Part::Linker,
    Part::Clippy,
    Part::Deny,
    Part::Manifests,
];

/// What the tests take.
pub(crate) const TEST: &[Part] = &[
    Part::Lab,
    Part::Programs,
    Part::Toolchain,
    Part::Linker,
    Part::Manifests,
];

/// What the benchmarks take.
pub(crate) const BENCH: &[Part] = &[Part::Lab, Part::Programs, Part::Toolchain, Part::Linker];

/// What building, and running a lab, take.
pub(crate) const RUN: &[Part] = &[Part::Lab, Part::Toolchain, Part::Linker];

/// Makes sure that everything in `parts` is there, and shows what is.
pub(crate) fn show_and_ensure(parts: &[Part]) -> Result<()> {
    for need in needs(parts)? {
        if let Some(found) = &need.found {
            println!("found    {:<24}{found}", need.name);
        }
    }
    ensure(parts)?;
    println!("Everything is there.");
    Ok(())
}

/// Makes sure that everything in `parts` is there, saying only what is done about what is not.
pub(crate) fn ensure(parts: &[Part]) -> Result<()> {
    let missing = missing(parts)?;
    if missing.is_empty() {
        return Ok(());
    }
    for need in &missing {
        println!("missing  {:<24}{}", need.name, need.why);
    }
    install(missing)?;

    let still_missing = self::missing(parts)?;
    let names: Vec<&str> = still_missing.iter().map(|need| &*need.name).collect();
    ensure!(
        names.is_empty(),
        "still missing after everything was installed: {}",
        names.join(", ")
    );
    Ok(())
}

/// Installs `missing`, all of it or, if that cannot be done from here, nothing.
fn install(missing: Vec<Need>) -> Result<()> {
    let packages = packages(&missing);
    if !packages.is_empty()
        && let Err(reason) = debian::can_install()
    {
        bail!("{reason}; nothing was changed.\n\n{}", by_hand(&missing));
    }
    if !packages.is_empty() {
        println!("install  Debian packages: {}", packages.join(" "));
        debian::install(&packages)?;
    }
    for need in missing {
        if let Remedy::Command { line, mut command } = need.remedy {
            println!("install  {}: {line}", need.name);
            process::run(&mut command)?;
        }
    }
    Ok(())
}

/// What a user does to install `missing`.
fn by_hand(missing: &[Need]) -> String {
    let mut text = String::from("What is missing comes with these commands, on Debian 12 as root:");
    let packages = packages(missing);
    if !packages.is_empty() {
        text += "\n\n    ";
        text += &debian::install_line(&packages);
    }
    for need in missing {
        if let Remedy::Command { line, .. } = &need.remedy {
            text += "\n\n    ";
            text += line;
        }
    }
    text += "\n\nInstead of rustc-web, cargo-web and libstd-rust-web-dev-bpf, a rustup toolchain \
             on LLVM 22\nwith the component rust-src will do. An LLVM elsewhere than Debian's is \
             named by LLVM_PREFIX.";
    text
}

/// The Debian packages that have `missing`, each once.
fn packages(missing: &[Need]) -> Vec<&'static str> {
    let mut packages = Vec::new();
    for need in missing {
        if let Remedy::Packages(of_need) = need.remedy {
            packages.extend_from_slice(of_need);
        }
    }
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn missing(parts: &[Part]) -> Result<Vec<Need>> {
    let mut needs = needs(parts)?;
    needs.retain(|need| need.found.is_none());
    Ok(needs)
}

fn needs(parts: &[Part]) -> Result<Vec<Need>> {
    let mut needs = Vec::new();
    for part in parts {
        needs.extend(match part {
            Part::Lab => programs::lab_needs(),
            Part::Programs => programs::needs(),
            Part::Toolchain => toolchain::needs(),
            Part::Linker => linker::needs()?,
            Part::Clippy => clippy::needs(),
            Part::Deny => deny::needs()?,
            Part::Manifests => manifests::needs()?,
            Part::Machines => programs::machine_needs(),
            Part::Fuzzer => programs::fuzzer_needs(),
        });
    }
    Ok(needs)
}

/// One thing that has to be there.
pub(crate) struct Need {
    /// What it is called.
    pub(crate) name: String,
    /// What it is for.
    pub(crate) why: &'static str,
    /// Where it is, if it is there.
    pub(crate) found: Option<String>,
    /// How it gets there.
    pub(crate) remedy: Remedy,
}

/// How something gets onto the machine.
pub(crate) enum Remedy {
    /// From Debian, which takes root.
    Packages(&'static [&'static str]),
    /// By a command that takes no privileges.
    Command {
        /// The command as a user types it.
        line: String,
        /// The same, to be run.
        command: Box<Command>,
    },
}
