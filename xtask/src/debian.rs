//! Debian's packages.

use std::{
    env, fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use nix::unistd::geteuid;

use crate::{lookup, process};

/// Where a system says what it is (os-release(5)).
const OS_RELEASE: &str = "/etc/os-release";

/// The packages that bring daemons, and what these are called: they are for the lab's namespaces.
const DAEMONS: &[(&str, &str)] = &[
    ("bird2", "bird"),
    ("frr", "frr"),
    ("nginx", "nginx"),
    ("prometheus", "prometheus"),
];

/// The packages that have systemd start what has no init script, and when.
const UNITS: &[(&str, &[&str])] = &[(
    "podman",
    &[
        "podman.socket",
        "podman.service",
        "podman-restart.service",
        "podman-auto-update.service",
        "podman-auto-update.timer",
    ],
)];

/// Packages that conflict with a sibling which came from another archive, such as backports.
const SIBLINGS: &[(&str, &str)] = &[("qemu-system-x86", "qemu-utils")];

/// What packages start their daemons with.
const STARTERS: &[&str] = &["invoke-rc.d", "deb-systemd-invoke"];

/// Where dpkg looks for programs unless told otherwise (apt.conf(5), `DPkg::Path`).
const DPKG_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

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

/// Installs `packages`, and removes none. No daemon is started, then or with the machine.
///
/// In CI, whose machines nobody else uses, a newer sibling of one of them gives way to Debian 12's.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let mut update = Command::new("apt-get");
    if let Err(error) = process::run(update.args(["-qq", "update"])) {
        // Some other, unreachable archive among the sources need not keep us from ours.
        println!("{error}; trying with the package lists that are here");
    }
    // A policy-rc.d(8) would do as well, but might be there, and would stay if we were killed.
    let path = format!("DPkg::Path={}:{DPKG_PATH}", idle_starters()?.display());
    let mut command = install_command(packages);
    command.args(["-o", &path]);
    let siblings: Vec<_> = siblings(packages).collect();
    if env::var_os("CI").is_some() && !siblings.is_empty() {
        command.arg("--allow-downgrades").args(&siblings);
    }
    process::run(&mut command).with_context(|| match &*siblings {
        [] => "cannot install the packages. Those of the BPF toolchain are in Debian 12 with its \
               security archive, and conflict with its other Rust packages (rustc, rustup); where \
               that is in the way, any rustup toolchain on LLVM 22 with the component rust-src \
               will do"
            .to_owned(),
        siblings => format!(
            "cannot install the packages. What is here from another archive than Debian 12's own \
             can be in the way: `apt-get install --allow-downgrades {}` makes room",
            siblings.join(" ")
        ),
    })?;
    daemons(packages).try_for_each(|daemon| process::run(&mut disable_command(daemon)))?;
    match lookup::program("systemctl") {
        Some(_) => units(packages).try_for_each(|units| process::run(&mut units_command(units))),
        None => Ok(()),
    }
}

/// A directory with namesakes of [`STARTERS`] that do nothing.
fn idle_starters() -> Result<PathBuf> {
    let directory = lookup::target_dir()?.join("idle-starters");
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    for name in STARTERS {
        let link = directory.join(name);
        match symlink(Path::new("/bin/true"), &link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("cannot link {}", link.display()));
            }
            _ => {}
        }
    }
    Ok(directory)
}

/// The command that does what [`install`] does, for a user to run instead.
pub(crate) fn install_line(packages: &[&str]) -> String {
    let mut commands = vec![
        "apt-get update".to_owned(),
        process::line(&install_command(packages)),
    ];
    for daemon in daemons(packages) {
        commands.push(format!("invoke-rc.d {daemon} stop"));
        commands.push(process::line(&disable_command(daemon)));
    }
    commands.extend(units(packages).map(|units| process::line(units_command(units).arg("--now"))));
    commands.join(" && ")
}

/// Debian 12's own version of what is installed and may be in the way of `packages`.
fn siblings(packages: &[&str]) -> impl Iterator<Item = String> {
    let siblings = SIBLINGS.iter().filter(|(of, _)| packages.contains(of));
    let installed = siblings.filter(|(_, sibling)| is_installed(sibling));
    installed.map(|(_, sibling)| format!("{sibling}/bookworm"))
}

fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status}", package]);
    process::output(&mut query).is_ok_and(|status| status == "installed")
}

/// The daemons that `packages` bring.
fn daemons(packages: &[&str]) -> impl Iterator<Item = &'static str> {
    let brought = DAEMONS.iter().filter(|(of, _)| packages.contains(of));
    brought.map(|(_, daemon)| *daemon)
}

/// Has a daemon not start with the machine.
fn disable_command(daemon: &str) -> Command {
    let mut command = Command::new("update-rc.d");
    command.args([daemon, "disable"]);
    command
}

/// The units that `packages` bring.
fn units(packages: &[&str]) -> impl Iterator<Item = &'static [&'static str]> {
    let brought = UNITS.iter().filter(|(of, _)| packages.contains(of));
    brought.map(|(_, units)| *units)
}

/// Has systemd not start units, with the machine or when they are asked for.
fn units_command(units: &[&str]) -> Command {
    let mut command = Command::new("systemctl");
    command.args(["--quiet", "disable"]).args(units);
    command
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
    use super::{install_line, is_debian_12};

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

    #[test]
    fn whoever_installs_by_hand_is_told_how_to_keep_daemons_off() {
        let line = install_line(&["frr", "iperf3"]);
        assert!(line.contains("install --yes"), "{line}");
        assert!(line.contains("&& invoke-rc.d frr stop && update-rc.d frr disable"));
        assert!(!line.contains("bird"), "{line}");
        assert!(!install_line(&["iperf3"]).contains("-rc.d"));
        let line = install_line(&["podman"]);
        assert!(line.contains("&& systemctl --quiet disable podman.socket"));
        assert!(line.ends_with("--now"), "{line}");
    }
}
