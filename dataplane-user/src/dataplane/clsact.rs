//! Programs as filters on the clsact qdisc, for kernels without tcx.
//!
//! A filter stays without any descriptor, and nothing in the kernel says whose it is: each is
//! recorded as an empty directory `<hook>-<ifindex>-clsact` among the pins, and a qdisc that was
//! added for it as `qdisc-<ifindex>`. Only what is recorded is ever replaced or removed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use aya::{
    programs::{
        Link, ProgramError, SchedClassifier, TcAttachType,
        tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle},
    },
    util::KernelVersion,
};
use dataplane_common::abi::Hook;

use super::{
    Attachment, Pins,
    attach::{hook_and_index, side},
    pins,
};
use crate::kernel::{Netlink, interface_name};

/// What the record of a filter ends in.
pub(super) const SUFFIX: &str = "-clsact";
/// What the record of a qdisc begins with.
const QDISC: &str = "qdisc-";

/// Priority and handle of our filters, unlikely to be anybody else's.
const PRIORITY: u16 = 1117;
const HANDLE: TcHandle = TcHandle::new(0, 0x7570);

/// Whether the kernel is new enough for tcx.
pub(super) fn kernel_has_tcx() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0))
}

/// The record of a filter.
pub(super) fn record_name(attachment: &Attachment) -> String {
    format!("{}-{}{SUFFIX}", attachment.hook.name(), attachment.ifindex)
}

/// Whether a name among the links is the record of a qdisc.
pub(super) fn is_qdisc_record(name: &str) -> bool {
    name.starts_with(QDISC)
}

/// Adds the program as a filter, or replaces ours in one step.
pub(super) fn attach(
    pins: &Pins,
    program: &mut SchedClassifier,
    attachment: &Attachment,
) -> Result<()> {
    ensure_qdisc(pins, attachment)?;
    let record = pins.links().join(record_name(attachment));
    let is_recorded = record.is_dir();
    if !is_recorded {
        create(&record)?;
    }
    let result = match add(program, attachment) {
        Err(error) if is_recorded && errno(&error) == Some(libc::EEXIST) => {
            replace(program, attachment)
        }
        result => result.map_err(Into::into),
    };
    if result.is_err() && !is_recorded {
        // Nothing of ours is there: the record must not claim what may be another's.
        let _ = fs::remove_dir(&record);
    }
    result
}

/// Whether our filter is where `attachment` says.
pub(super) async fn is_on(netlink: &Netlink, attachment: &Attachment) -> Result<bool> {
    let ingress = matches!(side(attachment.hook), TcAttachType::Ingress);
    let handle = u32::from(HANDLE);
    netlink
        .has_filter(attachment.ifindex, ingress, PRIORITY, handle)
        .await
}

/// Removes the filter recorded as `name`; one that went with its interface is no error.
pub(super) fn detach(pins: &Pins, name: &str) -> Result<()> {
    let (hook, ifindex) = hook_and_index(name)?;
    if let Some(interface) = interface_name(ifindex) {
        let link = our_filter(&interface, hook)?;
        match link.detach() {
            Ok(()) => {}
            Err(error) if errno(&error) == Some(libc::ENOENT) => {}
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("cannot remove the filter {} from {interface}", hook.name())
                });
            }
        }
    }
    remove(&pins.links().join(name))
}

/// Interfaces whose clsact qdisc was added by us. The records are gone afterwards.
pub fn take_owned_qdiscs(pins: &Pins) -> Result<Vec<u32>> {
    let mut owned = Vec::new();
    for name in pins::names(&pins.links())? {
        if let Some(index) = name.strip_prefix(QDISC) {
            owned.push(index.parse().with_context(|| {
                format!(
                    "{} is not a record of underpass",
                    pins.links().join(&name).display()
                )
            })?);
            remove(&pins.links().join(&name))?;
        }
    }
    Ok(owned)
}

fn ensure_qdisc(pins: &Pins, attachment: &Attachment) -> Result<()> {
    match tc::qdisc_add_clsact(&attachment.interface) {
        Ok(()) => {
            let record = qdisc_record(pins, attachment.ifindex);
            if record.is_dir() {
                return Ok(());
            }
            create(&record)
        }
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        Err(error) => Err(error)
            .with_context(|| format!("cannot add the clsact qdisc to {}", attachment.interface)),
    }
}

fn add(program: &mut SchedClassifier, attachment: &Attachment) -> Result<(), ProgramError> {
    let id = program.attach_with_options(
        &attachment.interface,
        side(attachment.hook),
        TcAttachOptions::Netlink(NlOptions {
            priority: PRIORITY,
            handle: HANDLE,
            classid: None,
        }),
    )?;
    keep(program.take_link(id)?);
    Ok(())
}

fn replace(program: &mut SchedClassifier, attachment: &Attachment) -> Result<()> {
    let link = our_filter(&attachment.interface, attachment.hook)?;
    let id = program.attach_to_link(link)?;
    keep(program.take_link(id)?);
    Ok(())
}

/// The filter that is ours, and no other, on the side of an interface where `hook` is.
fn our_filter(interface: &str, hook: Hook) -> Result<SchedClassifierLink> {
    SchedClassifierLink::attached(interface, side(hook), PRIORITY, HANDLE, None)
        .with_context(|| format!("cannot find the interface {interface}"))
}

/// aya takes a filter off when its link is dropped; ours outlives the agent.
fn keep(link: SchedClassifierLink) {
    std::mem::forget(link);
}

fn errno(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::TcError(TcError::NetlinkError(error)) => error.raw_os_error(),
        _ => None,
    }
}

fn qdisc_record(pins: &Pins, ifindex: u32) -> PathBuf {
    pins.links().join(format!("{QDISC}{ifindex}"))
}

fn create(record: &Path) -> Result<()> {
    if let Err(error) = fs::create_dir(record) {
        bail!("cannot make the record {}: {error}", record.display());
    }
    Ok(())
}

fn remove(record: &Path) -> Result<()> {
    fs::remove_dir(record).with_context(|| format!("cannot remove the record {}", record.display()))
}
