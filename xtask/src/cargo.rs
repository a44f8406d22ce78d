//! The cargo of the host: the one that runs this xtask.

use std::{env, ffi::OsString, process::Command};

use anyhow::Result;

use crate::lookup;

/// A cargo command on the workspace, with the toolchain the user chose.
///
/// Without a package among its arguments it means the workspace's default members: all but the BPF
/// programs. Tests and benchmarks are built without one: dependencies have the features that all of
/// the packages ask for, and with other features they would be built once more.
pub(crate) fn host(subcommand: &str) -> Result<Command> {
    let mut command = bare();
    command
        .arg(subcommand)
        .current_dir(lookup::workspace())
        .env("CARGO_TARGET_DIR", lookup::target_dir()?);
    Ok(command)
}

/// A cargo command on nothing in particular, with the toolchain the user chose.
pub(crate) fn bare() -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    forget_package(&mut command);
    command
}

/// Takes from `command` what cargo told this xtask about the package `xtask`: build scripts could
/// see a difference between being run from here and being run by hand, and run again.
pub(crate) fn forget_package(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let name_str = name.to_string_lossy();
        if name_str.starts_with("CARGO_PKG_") || name_str.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
}
