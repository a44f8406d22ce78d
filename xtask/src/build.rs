//! Building the BPF programs, and `underpass` with them inside.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    cargo, lookup, process,
    setup::{self, Part},
    toolchain::{self, Toolchain},
};

/// How `underpass` is compiled; the BPF programs have a profile of their own.
#[derive(Clone, Copy)]
pub(crate) enum Profile {
    /// Quick to build, with debug assertions: for the tests.
    Dev,
    /// As [`Profile::Dev`], but quick to run where a processor is emulated.
    Machine,
    /// Optimized.
    Release,
}

impl Profile {
    /// What cargo calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Machine => "machine",
            Self::Release => "release",
        }
    }

    /// Where in the target directory cargo puts what it builds.
    fn directory(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Machine | Self::Release => self.name(),
        }
    }
}

/// What a build has made.
pub(crate) struct Built {
    /// The object with the BPF programs.
    pub(crate) object: PathBuf,
    /// `underpass`.
    pub(crate) binary: PathBuf,
}

impl Built {
    /// Tells `command` where both are, the way the tests and the demo expect.
    pub(crate) fn tell<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env(OBJECT, &self.object)
            .env("UNDERPASS_BIN", &self.binary)
    }
}

/// The variable by which the build script of dataplane-user finds the object to embed.
const OBJECT: &str = "UNDERPASS_BPF_OBJECT";

/// Builds the BPF programs and `underpass`, after installing what that needs.
pub(crate) fn build(profile: Profile) -> Result<Built> {
    setup::ensure(&[Part::Toolchain, Part::Linker])?;
    let object = bpf_programs()?;
    let binary = underpass(&object, profile)?;
    Ok(Built { object, binary })
}

fn bpf_programs() -> Result<PathBuf> {
    process::run(&mut Toolchain::get()?.cargo("build")?)?;
    let built = toolchain::build_dir()?
        .join(toolchain::TARGET)
        .join("bpf/underpass-ebpf");
    let object = lookup::target_dir()?.join("bpf/underpass.o");
    copy_if_changed(&built, &object)?;
    Ok(object)
}

/// Leaves `to` alone, with its time stamp, if it already equals `from`: whatever embeds it then
/// is not built again.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let contents = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).is_ok_and(|present| present == contents) {
        return Ok(());
    }
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    fs::write(to, contents).with_context(|| format!("cannot write {}", to.display()))
}

fn underpass(object: &Path, profile: Profile) -> Result<PathBuf> {
    let mut command = cargo::host("build")?;
    // Not `--package dataplane-user`: dependencies would be built with fewer features than the
    // tests and the demo then build them with, and so be built twice.
    command
        .args(["--bin", "underpass", "--profile", profile.name()])
        .env(OBJECT, object);
    process::run(&mut command)?;
    let binary = lookup::target_dir()?
        .join(profile.directory())
        .join("underpass");
    ensure!(
        binary.is_file(),
        "cargo built underpass, but not as {}: is CARGO_BUILD_TARGET, or a target in a cargo \
         configuration, set?",
        binary.display()
    );
    Ok(binary)
}
