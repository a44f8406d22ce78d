//! Putting the node back as it was.

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
    fs,
    path::PathBuf,
};

use anyhow::{Context, Result};
use dataplane_common::abi::Hook;
use tracing::{info, warn};

use crate::{
    dataplane::{self, Changed, Pins, Removal},
    kernel::{CARRIER_NAME, Netlink, OwnRoute, interface_name},
};

/// Takes off every program, removes the carrier and the routes to it, and unpins the maps. What is
/// not there is no error; what is not ours is not touched.
///
/// # Errors
///
/// An agent is running, or something resists; what was done until then is done.
pub async fn detach(pins: &Pins) -> Result<()> {
    let _lock = pins.lock()?;
    let (netlink, _events) = Netlink::connect()?;
    for step in steps(pins, &netlink).await? {
        step.take(&netlink).await?;
        match step {
            Step::Pinned(Removal::Leave(_)) => warn!("{step}"),
            step => info!("{step}"),
        }
    }
    Ok(())
}

/// What [`detach`] would do, in its order, a line each. An agent may be running.
pub async fn dry_run(pins: &Pins) -> Result<String> {
    let (netlink, _events) = Netlink::connect()?;
    let steps = steps(pins, &netlink).await?;
    let mut lines = String::new();
    for step in steps {
        writeln!(lines, "{step}")?;
    }
    Ok(lines)
}

/// A step on the way back.
enum Step {
    /// Something that is pinned.
    Pinned(Removal),
    /// A clsact qdisc that was added for our filters, and the record of it.
    Qdisc(u32, PathBuf),
    /// Conntrack is told to spare the connections that it has not followed.
    Connections,
    /// A sysctl that was changed for the programs.
    Sysctl(Changed),
    /// A route of ours.
    Route(OwnRoute),
    /// The carrier.
    Carrier,
    /// The directory of all versions, unless others pin in it.
    Base(PathBuf),
}

async fn steps(pins: &Pins, netlink: &Netlink) -> Result<Vec<Step>> {
    let versions = pins.versions()?;
    let removals = versions
        .iter()
        .map(dataplane::removals)
        .collect::<Result<Vec<_>>>()?;
    let mut steps = Vec::new();
    for removals in &removals {
        steps.extend(removals.xdp.iter().cloned().map(Step::Pinned));
    }
    for removals in &removals {
        steps.extend(removals.tc.iter().cloned().map(Step::Pinned));
    }
    for removals in &removals {
        let qdiscs = removals.qdiscs.iter().cloned();
        steps.extend(qdiscs.map(|(ifindex, record)| Step::Qdisc(ifindex, record)));
    }
    let sysctls = removals
        .iter()
        .flat_map(|removals| removals.sysctls.clone());
    let sysctls: Vec<_> = sysctls.map(Step::Sysctl).collect();
    if !sysctls.is_empty() {
        steps.push(Step::Connections);
    }
    steps.extend(sysctls);
    steps.extend(netlink.own_routes().await?.into_iter().map(Step::Route));
    if netlink.find_carrier(CARRIER_NAME).await?.is_some() {
        steps.push(Step::Carrier);
    }
    for removals in removals {
        steps.extend(removals.rest.into_iter().map(Step::Pinned));
    }
    if !versions.is_empty() {
        steps.push(Step::Base(pins.base().to_owned()));
    }
    Ok(steps)
}

impl Step {
    async fn take(&self, netlink: &Netlink) -> Result<()> {
        match self {
            Self::Pinned(removal) => {
                removal.carry_out()?;
                if let Removal::Link {
                    hook: Hook::XdpUplink,
                    ifindex,
                    ..
                } = removal
                {
                    netlink
                        .wait_without_xdp(&BTreeSet::from([*ifindex]))
                        .await?;
                }
                Ok(())
            }
            Self::Qdisc(ifindex, record) => {
                netlink.delete_empty_clsact(*ifindex).await?;
                dataplane::forget_qdisc(record)
            }
            Self::Connections => {
                dataplane::spare_connections();
                Ok(())
            }
            Self::Sysctl(changed) => changed.restore(),
            Self::Route(route) => netlink.delete_route(route).await,
            Self::Carrier => netlink.delete_carrier(CARRIER_NAME).await.map(drop),
            Self::Base(base) => match fs::remove_dir(base) {
                Err(error) if error.kind() != std::io::ErrorKind::DirectoryNotEmpty => {
                    Err(error).with_context(|| format!("cannot remove {}", base.display()))
                }
                _ => Ok(()),
            },
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pinned(removal) => removal.fmt(f),
            Self::Qdisc(ifindex, record) => write!(
                f,
                "remove the clsact qdisc of {}, unless others have filters on it ({})",
                interface_name(*ifindex).unwrap_or_else(|| format!("interface number {ifindex}")),
                record.display()
            ),
            Self::Connections => f.write_str(
                "have conntrack take whatever comes of the TCP connections that there are, of which \
                 it has not seen all",
            ),
            Self::Sysctl(changed) => changed.fmt(f),
            Self::Route(route) => write!(f, "delete the route {route}"),
            Self::Carrier => write!(f, "delete the device {CARRIER_NAME}"),
            Self::Base(base) => write!(
                f,
                "remove the directory {}, unless others pin in it",
                base.display()
            ),
        }
    }
}
