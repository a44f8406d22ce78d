//! `underpass` as one static program.

use std::{
    env::{self, consts::ARCH},
    ffi::{OsStr, OsString},
    path::Path,
    process::Command,
};

use anyhow::{Result, ensure};

use crate::{
    build::{self, Built, Layout, Profile},
    cargo, libraries, lookup, process, remap,
};

/// What it is compiled for. Named, it keeps the flags from build scripts and procedural macros,
/// which cannot be static.
pub(super) fn target() -> String {
    format!("{ARCH}-unknown-linux-gnu")
}

/// Builds the BPF programs, and `underpass` with them inside.
pub(super) fn build(profile: Profile, layout: Layout) -> Result<Built> {
    let object = build::bpf_programs(layout)?;
    let mut command = cargo::host("build")?;
    command
        // By itself: else it would be linked with what other crates ask of its dependencies.
        .args(["--locked", "--package", "dataplane-user"])
        .args(["--bin", "underpass", "--profile", profile.name()])
        .args(["--target", &target()])
        .env(build::OBJECT, &object)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags()?)
        // What was compiled before has a part in how an incremental build is cut into units.
        .env("CARGO_INCREMENTAL", "0");
    if let Some(feature) = layout.feature() {
        command.args(["--features", feature]);
    }
    process::run(&mut command)?;
    let directory = lookup::target_dir()?
        .join(target())
        .join(profile.directory());
    let binary = build::kept(&directory, layout)?;
    ensure_static(&binary)?;
    Built::of(object, binary)
}

fn rustflags() -> Result<OsString> {
    let flags = [
        "-Ctarget-feature=+crt-static",
        // The symbols stay, for backtraces.
        "-Cstrip=debuginfo",
    ];
    let sysroot = process::output(rustc().args(["--print", "sysroot"]))?;
    let remapped = remap::flags(Path::new(sysroot.trim_end()))?;
    let flags: Vec<_> = flags
        .map(OsString::from)
        .into_iter()
        .chain(remapped)
        .collect();
    Ok(flags.join(OsStr::new("\x1f")))
}

/// The compiler that cargo runs.
pub(super) fn rustc() -> Command {
    Command::new(env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc")))
}

/// An image from scratch has no library to load.
fn ensure_static(binary: &Path) -> Result<()> {
    let libraries = libraries::of(binary)?;
    ensure!(
        libraries.is_empty(),
        "{} is linked with {} and others, which the image does not have: is there a static libc \
         (Debian: libc6-dev)?",
        binary.display(),
        libraries[0].display()
    );
    Ok(())
}
