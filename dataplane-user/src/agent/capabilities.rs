//! What the agent may do (capabilities(7)), looked at before it does anything: what the kernel
//! answers later does not say which capability it has missed.

use std::fs;

use anyhow::{Context, Result, bail};

/// What the kernel says of this process.
const STATUS: &str = "/proc/self/status";

/// A capability that the agent cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Capability {
    /// Its bit, as in the kernel's `capability.h`.
    bit: u32,
    name: &'static str,
    purpose: &'static str,
}

/// All of them. `CAP_SYS_ADMIN` comprises `CAP_BPF` and `CAP_PERFMON`, which without it are not
/// enough.
const NEEDED: [Capability; 2] = [
    Capability {
        bit: 12,
        name: "CAP_NET_ADMIN",
        purpose: "to attach programs to interfaces, and to change routes and neighbours",
    },
    Capability {
        bit: 21,
        name: "CAP_SYS_ADMIN",
        purpose: "to load programs, and to open by their numbers the maps that routes are in \
                  (CAP_BPF and CAP_PERFMON do not allow that)",
    },
];

/// Refuses to go on without one of them.
pub(crate) fn check() -> Result<()> {
    let status = fs::read_to_string(STATUS).with_context(|| format!("cannot read {STATUS}"))?;
    let missing = missing(&status)?;
    if missing.is_empty() {
        return Ok(());
    }
    let missing: Vec<String> = missing
        .iter()
        .map(|capability| format!("{}, {}", capability.name, capability.purpose))
        .collect();
    bail!(
        "the agent lacks {}: run it as root; in a container, privileged or with these capabilities",
        missing.join("; and ")
    )
}

/// Which of them a process lacks, by its `/proc/<pid>/status`.
fn missing(status: &str) -> Result<Vec<Capability>> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .with_context(|| format!("{STATUS} does not say which capabilities this process has"))?;
    let is_missing = |capability: &Capability| effective & (1 << capability.bit) == 0;
    Ok(NEEDED.into_iter().filter(is_missing).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(status: &str) -> Vec<&'static str> {
        let missing = missing(status).unwrap();
        missing.iter().map(|capability| capability.name).collect()
    }

    #[test]
    fn what_is_missing_is_told_by_the_effective_set_alone() {
        let others = "CapInh:\t0000000000000000\nCapPrm:\t000001ffffffffff\n";
        for (effective, lacks) in [
            ("000001ffffffffff", &[] as &[_]),
            ("0000000000201000", &[]),
            ("0000000000200000", &["CAP_NET_ADMIN"]),
            // CAP_BPF and CAP_PERFMON beside CAP_NET_ADMIN.
            ("000000c000001000", &["CAP_SYS_ADMIN"]),
            ("0000000000000000", &["CAP_NET_ADMIN", "CAP_SYS_ADMIN"]),
        ] {
            let status = format!("Name:\tunderpass\n{others}CapEff:\t{effective}\n");
            assert_eq!(names(&status), lacks, "{effective}");
        }
        assert!(missing(others).is_err());
    }
}
