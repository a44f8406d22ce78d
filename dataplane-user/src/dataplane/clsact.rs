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
};
use crate::kernel::{NEEDS_NET_ADMIN, Netlink, interface_name};

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

/// The interface that a name among the links, the record of a qdisc, stands for.
pub(super) fn qdisc_index(name: &str) -> Option<u32> {
    name.strip_prefix(QDISC)?.parse().ok()
}

/// Whether a name among the links is that of a record, of a filter or of a qdisc.
pub(super) fn is_record(name: &str) -> bool {
    name.ends_with(SUFFIX) || qdisc_index(name).is_some()
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

/// Removes the filter that `record` stands for; one that is gone, be it with its interface or its qdisc,
/// is no error.
pub(super) fn detach(record: &Path) -> Result<()> {
    let name = record.file_name().unwrap_or_default().to_string_lossy();
    let (hook, ifindex) = hook_and_index(&name)?;
    if let Some(interface) = interface_name(ifindex) {
        let link = our_filter(&interface, hook)?;
        match link.detach() {
            Ok(()) => {}
            // No such filter, or no qdisc for it (`tc_del_tfilter`).
            Err(error) if matches!(errno(&error), Some(libc::ENOENT | libc::EINVAL)) => {}
            Err(error) => {
                let mut what = format!("cannot remove the filter {} from {interface}", hook.name());
                if errno(&error) == Some(libc::EPERM) {
                    what = format!("{what}; {NEEDS_NET_ADMIN}");
                }
                return Err(error).context(what);
            }
        }
    }
    remove(record)
}

/// Removes the record of a qdisc that is gone, or is others' by now.
pub fn forget_qdisc(record: &Path) -> Result<()> {
    remove(record)
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
        // The first of adding a filter, the second of removing one.
        ProgramError::TcError(TcError::NetlinkError(error)) | ProgramError::NetlinkError(error) => {
            error.raw_os_error()
        }
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
