//! Where things are: programs, this workspace, cargo's and rustup's directories.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use anyhow::{Context as _, Result};

/// Debian keeps `ip` and `tc` where an ordinary user's `PATH` does not lead.
const ADMIN_DIRS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// The program `name`, from `PATH` or the administrator's directories.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(ADMIN_DIRS.map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| is_executable(file))
}

/// Whether `file` is a file that may be run.
pub(crate) fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// By which cargo tells what it runs where its package is.
pub(crate) const MANIFEST_DIR: &str = "CARGO_MANIFEST_DIR";

/// The directory of the workspace: the one that this xtask was built in, unless whoever runs it says
/// another.
pub(crate) fn workspace() -> &'static Path {
    static XTASK: LazyLock<PathBuf> = LazyLock::new(|| {
        env::var_os(MANIFEST_DIR).map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
    });
    XTASK.parent().unwrap_or(&XTASK)
}

/// The directory everything is built in: `CARGO_TARGET_DIR`, or `target` in the workspace.
pub(crate) fn target_dir() -> Result<PathBuf> {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => std::path::absolute(&dir)
            .with_context(|| format!("CARGO_TARGET_DIR is {}", dir.display())),
        None => Ok(workspace().join("target")),
    }
}

/// Cargo's home: `CARGO_HOME`, or `~/.cargo`.
pub(crate) fn cargo_home() -> Result<PathBuf> {
    home_of("CARGO_HOME", ".cargo")
}

/// Rustup's home: `RUSTUP_HOME`, or `~/.rustup`.
pub(crate) fn rustup_home() -> Result<PathBuf> {
    home_of("RUSTUP_HOME", ".rustup")
}

fn home_of(variable: &str, default: &str) -> Result<PathBuf> {
    if let Some(dir) = env::var_os(variable) {
        return Ok(dir.into());
    }
    let home = env::home_dir()
        .filter(|dir| !dir.as_os_str().is_empty())
        .with_context(|| format!("there is no home directory: set HOME or {variable}"))?;
    Ok(home.join(default))
}
