//! What every namespace of a lab starts as.

use std::path::Path;

use anyhow::Result;

use crate::NetNs;

/// A namespace without IPv6, so that captures are quiet, and without reverse-path filters.
pub(crate) fn new() -> Result<NetNs> {
    let ns = NetNs::new()?;
    if Path::new("/proc/sys/net/ipv6").exists() {
        set_for_all_devices(&ns, "net.ipv6.conf", "disable_ipv6", "1")?;
    }
    set_for_all_devices(&ns, "net.ipv4.conf", "rp_filter", "0")?;
    Ok(ns)
}

/// As [`new`], but it forwards.
pub(crate) fn forwarding() -> Result<NetNs> {
    let ns = new()?;
    ns.set_sysctl("net.ipv4.ip_forward", "1")?;
    Ok(ns)
}

fn set_for_all_devices(ns: &NetNs, family: &str, key: &str, value: &str) -> Result<()> {
    for devices in ["all", "default"] {
        ns.set_sysctl(&format!("{family}.{devices}.{key}"), value)?;
    }
    Ok(())
}
