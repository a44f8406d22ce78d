//! What the kernel says of the node, asked without any tool: a container may have none.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result, bail};
use nix::sys::utsname::uname;

use super::archive::Archive;
use crate::{
    dataplane::LoadedPrograms,
    kernel::{
        Netlink,
        fib::{List, Lists},
    },
};

/// Settings, of which one or more parts may be any (`*`).
const SYSCTLS: [&str; 13] = [
    "kernel/bpf_stats_enabled",
    "kernel/unprivileged_bpf_disabled",
    "net/core/bpf_jit_*",
    "net/core/netdev_*",
    "net/ipv4/conf/*/accept_local",
    "net/ipv4/conf/*/forwarding",
    "net/ipv4/conf/*/proxy_arp",
    "net/ipv4/conf/*/rp_filter",
    "net/ipv4/conf/*/src_valid_mark",
    "net/ipv4/fib_multipath_*",
    "net/ipv4/ip_*",
    "net/ipv4/neigh/default/gc_*",
    "net/netfilter/*",
];

pub(super) async fn add(archive: &mut Archive) -> Result<()> {
    archive.add("node/kernel.txt", async || kernel()).await?;
    archive
        .add("node/sysctls.txt", async || Ok(sysctls()))
        .await?;
    for (name, list) in [
        ("links", List::Links),
        ("addresses", List::Addresses),
        ("rules", List::Rules),
        ("routes", List::Routes),
        ("nexthops", List::Objects),
        ("neighbours", List::Neighbours),
        ("forwarding", List::Fdb),
    ] {
        archive
            .add(&format!("node/{name}.txt"), async || lines(list).await)
            .await?;
    }
    archive.add("node/programs.txt", programs).await
}

fn kernel() -> Result<String> {
    let system = uname().context("cannot ask which kernel this is")?;
    let fields = [
        system.sysname(),
        system.nodename(),
        system.release(),
        system.version(),
        system.machine(),
    ];
    let fields = fields.map(|field| field.to_string_lossy());
    Ok(fields.join(" ") + "\n")
}

fn sysctls() -> String {
    let mut lines = String::new();
    for pattern in SYSCTLS {
        let parts: Vec<&str> = pattern.split('/').collect();
        settings(Path::new("/proc/sys"), &parts, &mut lines);
    }
    lines
}

/// Adds what matches `parts` below `directory`. What cannot be read is not there, as a rule: not every
/// network namespace has every setting.
fn settings(directory: &Path, parts: &[&str], lines: &mut String) {
    let Some((part, rest)) = parts.split_first() else {
        if let Ok(value) = fs::read_to_string(directory) {
            let name = directory.strip_prefix("/proc/sys").unwrap_or(directory);
            let name = name.display().to_string().replace('/', ".");
            let _ = writeln!(lines, "{name} = {}", value.trim_end());
        }
        return;
    };
    let Some(beginning) = part.strip_suffix('*') else {
        return settings(&directory.join(part), rest, lines);
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name.starts_with(beginning)).collect();
    names.sort();
    for name in names {
        settings(&directory.join(name), rest, lines);
    }
}

/// A line for each object of a list.
async fn lines(list: List) -> Result<String> {
    let mut lines = Vec::new();
    let is_steady = Lists::connect()?
        .read(list, |change| lines.push(format!("{change:?}\n")))
        .await?;
    if !is_steady {
        bail!("it changed whenever it was read");
    }
    Ok(lines.concat())
}

/// Every BPF program on an interface, whoever has put it there.
async fn programs() -> Result<String> {
    let loaded = LoadedPrograms::read()?;
    let (netlink, _events) = Netlink::connect()?;
    let mut lines = String::new();
    for link in netlink.links().await? {
        for (side, program, name) in loaded.on(&netlink, &link).await? {
            writeln!(lines, "{} {} {program} {name}", link.name, side.name())?;
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_found_by_their_patterns_in_their_order() {
        let directory = tempfile::tempdir().unwrap();
        for (name, value) in [("b/x", "1\n"), ("a/x", "2\n"), ("a/y", "3\n")] {
            let file = directory.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, value).unwrap();
        }
        let found = |parts: &[&str]| {
            let mut lines = String::new();
            settings(directory.path(), parts, &mut lines);
            let values = lines.lines().filter_map(|line| line.split_once(" = "));
            values
                .map(|(_, value)| value.to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(found(&["*", "x"]), ["2", "1"]);
        assert_eq!(found(&["a", "*"]), ["2", "3"]);
        assert_eq!(found(&["a", "y*"]), ["3"]);
        assert!(found(&["c", "*"]).is_empty());
    }
}
