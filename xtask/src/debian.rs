//! Debian's packages.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, bail};
use nix::unistd::geteuid;

use crate::{lookup, process};

/// Where a system says what it is (os-release(5)).
const OS_RELEASE: &str = "/etc/os-release";

/// Whether packages can be installed from here; the error says why not.
pub(crate) fn can_install() -> Result<()> {
    let system = fs::read_to_string(OS_RELEASE).unwrap_or_default();
    if !is_debian_12(&system) || lookup::program("apt-get").is_none() {
        bail!("this is not Debian 12, whose packages these are");
    }
    if !geteuid().is_root() {
        bail!("installing packages takes root");
    }
    Ok(())
}

fn is_debian_12(os_release: &str) -> bool {
    let has = |line: &str| os_release.lines().any(|candidate| candidate == line);
    has("ID=debian") && (has("VERSION_ID=\"12\"") || has("VERSION_ID=12"))
}

/// Installs `packages`, and removes none.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let mut update = Command::new("apt-get");
    if let Err(error) = process::run(update.args(["-qq", "update"])) {
        // Some other, unreachable archive among the sources need not keep us from ours.
        println!("{error}; trying with the package lists that are here");
    }
    process::run(&mut install_command(packages)).context(
        "cannot install the packages. Those of the BPF toolchain are in Debian 12 with its \
         security archive, and conflict with its other Rust packages (rustc, rustup); where that \
         is in the way, any rustup toolchain on LLVM 22 with the component rust-src will do",
    )
}

/// The command that [`install`] runs, for a user to run instead.
pub(crate) fn install_line(packages: &[&str]) -> String {
    format!(
        "apt-get update && {}",
        process::line(&install_command(packages))
    )
}

fn install_command(packages: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-qq", "install", "--yes", "--no-install-recommends"])
        // Debian's toolchain conflicts with its other Rust packages (rustc, rustup). Whoever has
        // those decides which to keep.
        .arg("--no-remove")
        .args(packages);
    command
}

#[cfg(test)]
mod tests {
    use super::is_debian_12;

    #[test]
    fn debian_12_is_told_from_its_neighbours() {
        assert!(is_debian_12(
            "NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nID=debian\n"
        ));
        assert!(!is_debian_12("VERSION_ID=\"13\"\nID=debian\n"));
        assert!(!is_debian_12(
            "ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"12\"\n"
        ));
        assert!(!is_debian_12(""));
    }
}
