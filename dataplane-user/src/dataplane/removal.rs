//! What it takes to remove what is pinned, step by step, so that it can be shown before it is done.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use dataplane_common::abi::Hook;

use super::{
    Pins, attach,
    audit::{is_our_link, is_our_xdp, shapes},
    clsact,
    pinned::{Pinned, look},
    pins,
    sysctls::{self, Changed, changed_sysctls},
    xdp,
};
use crate::kernel::interface_name;

/// A step of a removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// A link is unpinned, and its program goes off the interface with it.
    Link {
        /// What is on the interface.
        hook: Hook,
        /// The interface, by index.
        ifindex: u32,
        /// The link.
        pin: PathBuf,
    },
    /// A clsact filter is removed, and then the record of it.
    Filter {
        /// What is on the interface.
        hook: Hook,
        /// The interface, by index.
        ifindex: u32,
        /// The record.
        record: PathBuf,
    },
    /// A map, or a link that only another version knows by its name, is unpinned.
    Unpin(PathBuf),
    /// An empty directory is removed, which may be the record of something.
    Directory(PathBuf),
    /// Somebody else's stays.
    Leave(PathBuf),
}

/// The removal of what is pinned in one version's directory.
#[derive(Clone, Debug, Default)]
pub struct Removals {
    /// XDP, first: without `from_uplink` nobody looks at what comes out of a tunnel.
    pub xdp: Vec<Removal>,
    /// Traffic control.
    pub tc: Vec<Removal>,
    /// The clsact qdiscs that are ours: interface index and record, which goes when the qdisc has.
    pub qdiscs: Vec<(u32, PathBuf)>,
    /// The sysctls that were changed for the programs, to be set back when these are off.
    pub sysctls: Vec<Changed>,
    /// Maps, and what is left then.
    pub rest: Vec<Removal>,
}

/// What it takes to remove what is pinned by the version of `pins`. Of this version, what
/// [`audit`](super::audit()) would refuse is left; of another, what is of the right kind is its own.
pub fn removals(pins: &Pins) -> Result<Removals> {
    let mut removals = Removals::default();
    for (name, path, found) in pinned(&pins.xdp())? {
        let removal = match xdp::index_and_kind(&name) {
            Some((_, false)) if is_our_xdp(&name, &found)? => Removal::Directory(path),
            Some((ifindex, true)) if is_our_xdp(&name, &found)? => Removal::Link {
                hook: Hook::XdpUplink,
                ifindex,
                pin: path,
            },
            _ => unknown(pins, path, &found, matches!(found, Pinned::Link(_))),
        };
        removals.xdp.push(removal);
    }
    for (name, path, found) in pinned(&pins.links())? {
        let is_ours = is_our_link(&name, &found)?;
        if let (true, Some(ifindex)) = (is_ours, clsact::qdisc_index(&name)) {
            removals.qdiscs.push((ifindex, path));
            continue;
        }
        let removal = match attach::hook_and_index(&name) {
            Ok((hook, ifindex)) if is_ours && clsact::is_record(&name) => Removal::Filter {
                hook,
                ifindex,
                record: path,
            },
            Ok((hook, ifindex)) if is_ours => Removal::Link {
                hook,
                ifindex,
                pin: path,
            },
            _ => unknown(pins, path, &found, matches!(found, Pinned::Link(_))),
        };
        removals.tc.push(removal);
    }
    removals.sysctls = changed_sysctls(pins)?;
    for (name, path, found) in pinned(&pins.sysctls())? {
        if !sysctls::understands(&name) || found != Pinned::Directory {
            removals.rest.push(unknown(pins, path, &found, false));
        }
    }
    let shapes = shapes()?;
    for (name, path, found) in pinned(&pins.maps())? {
        let shape = shapes.get(&*name).copied().map(Pinned::Map);
        removals.rest.push(if shape.as_ref() == Some(&found) {
            Removal::Unpin(path)
        } else {
            unknown(pins, path, &found, matches!(found, Pinned::Map(_)))
        });
    }
    let stays = removals
        .xdp
        .iter()
        .chain(&removals.tc)
        .chain(&removals.rest)
        .any(|removal| matches!(removal, Removal::Leave(_)));
    removals.rest.extend(directories(pins, stays)?);
    Ok(removals)
}

/// Removes what other versions have pinned, but for what was adopted; returns what was left because
/// it is no version's.
pub fn remove_others(pins: &Pins) -> Result<Vec<Removal>> {
    let mut left = Vec::new();
    for other in pins.others()? {
        let Removals {
            xdp,
            tc,
            sysctls,
            rest,
            ..
        } = removals(&other)?;
        // What is not adopted is recorded here already.
        sysctls.iter().try_for_each(Changed::forget)?;
        for removal in xdp.into_iter().chain(tc).chain(rest) {
            removal.carry_out()?;
            if matches!(removal, Removal::Leave(_)) {
                left.push(removal);
            }
        }
    }
    Ok(left)
}

/// What is in a directory: name, path, and what it is.
fn pinned(directory: &Path) -> Result<Vec<(String, PathBuf, Pinned)>> {
    let mut pinned = Vec::new();
    for name in pins::names(directory)? {
        let path = directory.join(&name);
        if let Some(found) = look(&path)? {
            pinned.push((name, path, found));
        }
    }
    Ok(pinned)
}

/// The directories, which stay as long as anything in them does.
fn directories(pins: &Pins, stays: bool) -> Result<Vec<Removal>> {
    let ours = [pins.links(), pins.xdp(), pins.sysctls(), pins.maps()];
    let mut removals = Vec::new();
    let mut stays = stays;
    for name in pins::names(&pins.version())? {
        let path = pins.version().join(name);
        if !ours.contains(&path) {
            stays = true;
            removals.push(Removal::Leave(path));
        }
    }
    if !stays {
        let all = ours.into_iter().chain([pins.version()]);
        removals.extend(all.filter(|path| path.is_dir()).map(Removal::Directory));
    }
    Ok(removals)
}

/// What this version does not know as its own; whether it is of a kind that versions pin there.
fn unknown(pins: &Pins, path: PathBuf, found: &Pinned, is_of_a_version: bool) -> Removal {
    match found {
        _ if pins.is_own_version() => Removal::Leave(path),
        Pinned::Directory => Removal::Directory(path),
        _ if is_of_a_version => Removal::Unpin(path),
        _ => Removal::Leave(path),
    }
}

impl Removal {
    /// Does it.
    pub fn carry_out(&self) -> Result<()> {
        match self {
            Self::Link { pin, .. } | Self::Unpin(pin) => {
                fs::remove_file(pin).with_context(|| format!("cannot unpin {}", pin.display()))
            }
            Self::Filter { record, .. } => clsact::detach(record),
            Self::Directory(path) => remove_directory(path),
            Self::Leave(_) => Ok(()),
        }
    }
}

fn remove_directory(path: &Path) -> Result<()> {
    fs::remove_dir(path).with_context(|| format!("cannot remove the directory {}", path.display()))
}

impl fmt::Display for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |ifindex: u32| {
            interface_name(ifindex).unwrap_or_else(|| format!("interface number {ifindex}"))
        };
        match self {
            Self::Link { hook, ifindex, pin } => write!(
                f,
                "take {} off {} ({})",
                hook.name(),
                name(*ifindex),
                pin.display()
            ),
            Self::Filter {
                hook,
                ifindex,
                record,
            } => write!(
                f,
                "remove the filter {} from {} ({})",
                hook.name(),
                name(*ifindex),
                record.display()
            ),
            Self::Unpin(path) => write!(f, "unpin {}", path.display()),
            Self::Directory(path) => write!(f, "remove the directory {}", path.display()),
            Self::Leave(path) => {
                write!(
                    f,
                    "leave {}, which underpass has not pinned",
                    path.display()
                )
            }
        }
    }
}
