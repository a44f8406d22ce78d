//! Building the BPF programs, and `underpass` with them inside.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;

use crate::{
    cargo, lookup, process,
    setup::{self, Part},
    toolchain::{self, Toolchain},
};

/// How `underpass` is compiled; the BPF programs have a profile of their own.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Profile {
    /// Quick to build, with debug assertions: for the tests.
    Dev,
    /// Optimized.
    Release,
}

impl Profile {
    /// What cargo calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
        }
    }

    /// Where in the target directory cargo puts what it builds.
    pub(crate) fn directory(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => self.name(),
        }
    }
}

/// What a build has made.
pub(crate) struct Built {
    /// The object with the BPF programs.
    pub(crate) object: PathBuf,
    /// The object with the programs that benchmarks compare with; it is built with the programs.
    pub(crate) floor: PathBuf,
    /// `underpass`.
    pub(crate) binary: PathBuf,
}

impl Built {
    /// What has just been built, of programs and of `underpass`.
    pub(crate) fn of(object: PathBuf, binary: PathBuf) -> Result<Self> {
        Ok(Self {
            object,
            floor: floor()?,
            binary,
        })
    }

    /// Tells `command` where they are, the way the tests and the demo expect.
    pub(crate) fn tell<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env(OBJECT, &self.object)
            .env("UNDERPASS_FLOOR_OBJECT", &self.floor)
            .env("UNDERPASS_BIN", &self.binary)
    }
}

/// The variable by which the build script of dataplane-user finds the object to embed.
pub(crate) const OBJECT: &str = "UNDERPASS_BPF_OBJECT";

/// The variable by which tests and benchmarks find the `underpass` of another layout.
pub(crate) const OTHER_LAYOUT_BIN: &str = "UNDERPASS_OTHER_LAYOUT_BIN";

/// Builds the BPF programs and `underpass`, after installing what that needs.
pub(crate) fn build(profile: Profile) -> Result<Built> {
    build_with(profile, Layout::Own)
}

/// Builds another `underpass`, of another version and with maps of another layout, which benchmarks
/// upgrade to.
pub(crate) fn build_other_layout(profile: Profile) -> Result<PathBuf> {
    Ok(build_with(profile, Layout::Other)?.binary)
}

/// Which layout the maps have.
#[derive(Clone, Copy)]
pub(crate) enum Layout {
    /// This version's.
    Own,
    /// That of the other version, which tests upgrade to.
    Other,
}

impl Layout {
    /// The feature of the crates that makes it.
    pub(crate) fn feature(self) -> Option<&'static str> {
        match self {
            Self::Own => None,
            Self::Other => Some("other-layout"),
        }
    }

    /// What the object is called.
    fn object(self) -> &'static str {
        match self {
            Self::Own => "bpf/underpass.o",
            Self::Other => "bpf/underpass-other-layout.o",
        }
    }

    /// What `underpass` is kept as.
    fn binary(self) -> &'static str {
        match self {
            Self::Own => "underpass",
            Self::Other => "underpass-other-layout",
        }
    }
}

fn build_with(profile: Profile, layout: Layout) -> Result<Built> {
    let object = bpf_programs(layout)?;
    let binary = underpass(&object, profile, layout)?;
    Built::of(object, binary)
}

/// Builds the BPF programs, after installing what that needs.
pub(crate) fn bpf_programs(layout: Layout) -> Result<PathBuf> {
    setup::ensure(&[Part::Toolchain, Part::Linker])?;
    let mut command = Toolchain::get()?.cargo("build")?;
    if let Some(feature) = layout.feature() {
        command.args(["--features", feature]);
    }
    process::run(&mut command)?;
    let built = compiled("underpass-ebpf")?;
    let object = lookup::target_dir()?.join(layout.object());
    copy_if_changed(&built, &object)?;
    Ok(object)
}

/// The object with the ways to look up routes that a benchmark compares; it is built with the
/// programs.
pub(crate) fn lookups() -> Result<PathBuf> {
    compiled("lookups-ebpf")
}

/// The object with the floor, which benchmarks compare with and tests attach as others' programs; it
/// is built with the programs.
pub(crate) fn floor() -> Result<PathBuf> {
    compiled("floor-ebpf")
}

/// The object of one of the binaries of dataplane-ebpf.
fn compiled(name: &str) -> Result<PathBuf> {
    let profile = toolchain::build_dir()?.join(toolchain::TARGET).join("bpf");
    Ok(profile.join(name))
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

fn underpass(object: &Path, profile: Profile, layout: Layout) -> Result<PathBuf> {
    let mut command = cargo::host("build")?;
    // Not `--package dataplane-user`: dependencies would be built with fewer features than the demo
    // then builds them with, and so be built twice.
    command
        .args(["--bin", "underpass", "--profile", profile.name()])
        .env(OBJECT, object);
    if let Some(feature) = layout.feature() {
        command.args(["--features", &format!("dataplane-user/{feature}")]);
    }
    process::run(&mut command)?;
    kept(&lookup::target_dir()?.join(profile.directory()), layout)
}

/// The `underpass` of `layout` that cargo has just put into `directory`, where the next layout's does
/// not replace it.
pub(crate) fn kept(directory: &Path, layout: Layout) -> Result<PathBuf> {
    let built = directory.join("underpass");
    ensure!(
        built.is_file(),
        "cargo built underpass, but not as {}: is CARGO_BUILD_TARGET, or a target in a cargo \
         configuration, set?",
        built.display()
    );
    let kept = directory.join(layout.binary());
    copy_if_changed(&built, &kept)?;
    let mode = fs::metadata(&built)?.permissions();
    fs::set_permissions(&kept, mode)
        .with_context(|| format!("cannot make {} executable", kept.display()))?;
    Ok(kept)
}
