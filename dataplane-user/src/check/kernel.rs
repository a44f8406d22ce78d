//! The kernel: its release, and how it accounts for maps.

use std::path::Path;

use anyhow::{Context, Result};
use aya::util::KernelVersion;
use nix::sys::{
    resource::{RLIM_INFINITY, Resource, getrlimit},
    utsname::uname,
};

use super::Finding;

/// Where a kernel has its type information.
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// The oldest kernel that there are tests for: the first with `bpf_redirect_peer` and
/// `bpf_redirect_neigh`.
const FLOOR: KernelVersion = KernelVersion::new(5, 10, 0);
/// The first that accounts for maps by cgroup.
const BY_CGROUP: KernelVersion = KernelVersion::new(5, 11, 0);

pub(super) struct Facts {
    release: String,
    version: Result<KernelVersion>,
    has_btf: bool,
    /// The hard limit of locked memory in bytes.
    locked: Result<u64>,
}

pub(super) fn read() -> Facts {
    let system = uname().map(|system| system.release().to_string_lossy().into_owned());
    Facts {
        release: system.unwrap_or_else(|_| "?".to_owned()),
        version: KernelVersion::current().context("cannot understand the kernel's release"),
        has_btf: Path::new(BTF).exists(),
        locked: getrlimit(Resource::RLIMIT_MEMLOCK)
            .map(|(_soft, hard)| hard)
            .context("cannot read the limit of locked memory"),
    }
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let btf = if facts.has_btf { "there" } else { "none" };
    vec![
        release(facts),
        Finding::ok("BTF", btf).means("the programs do without"),
        locked(facts),
    ]
}

fn release(facts: &Facts) -> Finding {
    const SUBJECT: &str = "kernel";
    match &facts.version {
        Ok(version) if *version >= FLOOR => Finding::ok(SUBJECT, &facts.release),
        Ok(_) => Finding::fails(SUBJECT, &facts.release)
            .means("Linux 5.10 is the first with the helpers that the programs call")
            .remedy("boot Linux 5.10 or newer"),
        Err(error) => Finding::unknown(SUBJECT, error),
    }
}

fn locked(facts: &Facts) -> Finding {
    const SUBJECT: &str = "locked memory";
    if facts
        .version
        .as_ref()
        .is_ok_and(|version| *version >= BY_CGROUP)
    {
        return Finding::ok(SUBJECT, "not limited").means("maps count by cgroup since Linux 5.11");
    }
    match &facts.locked {
        Ok(RLIM_INFINITY) => Finding::ok(SUBJECT, "not limited"),
        Ok(bytes) => Finding::warning(SUBJECT, format!("{} KiB", bytes / 1024))
            .means(
                "before Linux 5.11 maps count as locked memory: the agent raises its limit, which \
                 takes CAP_SYS_RESOURCE",
            )
            .remedy("LimitMEMLOCK=infinity for the service, or that capability for the container"),
        Err(error) => Finding::unknown(SUBJECT, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Outcome::{self, Fails, Ok as Fine, Warning};

    fn results(version: KernelVersion, locked: u64) -> Vec<Outcome> {
        let facts = Facts {
            release: "as it is".to_owned(),
            version: Ok(version),
            has_btf: false,
            locked: Ok(locked),
        };
        judge(&facts).iter().map(|finding| finding.result).collect()
    }

    #[test]
    fn kernels_before_the_floor_fail() {
        let little = 64 << 10;
        let of = |major, minor, locked| results(KernelVersion::new(major, minor, 0), locked);
        assert_eq!(of(5, 9, RLIM_INFINITY), [Fails, Fine, Fine]);
        assert_eq!(of(5, 10, RLIM_INFINITY), [Fine, Fine, Fine]);
        assert_eq!(of(5, 10, little), [Fine, Fine, Warning]);
        assert_eq!(of(5, 11, little), [Fine, Fine, Fine]);
        assert_eq!(of(7, 0, little), [Fine, Fine, Fine]);
    }
}
