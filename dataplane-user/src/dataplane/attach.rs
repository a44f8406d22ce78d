//! Which program sits on which interface.
//!
//! A tcx link is pinned as `<hook>-<ifindex>`: it holds its program on the interface without the
//! agent, and is replaced in place by the next one. Where the kernel has no tcx (before 6.6) the
//! program is a clsact filter, see [`super::clsact`].

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use aya::programs::{
    LinkOrder, SchedClassifier, TcAttachType,
    links::{FdLink, PinnedLink},
    tc::{SchedClassifierLink, TcAttachOptions},
};
use dataplane_common::abi::Hook;

use super::{
    Dataplane, Pins, clsact,
    pinned::{Link, Pinned, look},
    pins,
};
use crate::config::Attach;

/// A program on an interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attachment {
    /// Interface index.
    pub ifindex: u32,
    /// Which program, and so which side of the interface.
    pub hook: Hook,
    /// Interface name.
    pub interface: String,
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.hook.name(), self.interface)
    }
}

/// The side of an interface that `hook` is on.
pub(super) const fn side(hook: Hook) -> TcAttachType {
    match hook {
        Hook::FromWorkload | Hook::FromUplink | Hook::FromCarrier | Hook::XdpUplink => {
            TcAttachType::Ingress
        }
        Hook::FromStack | Hook::ToWorkload | Hook::ToUplink => TcAttachType::Egress,
    }
}

/// What is attached, and pinned or recorded as such.
#[derive(Debug)]
pub struct Attachments {
    pins: Pins,
    mode: Attach,
    /// What this agent has attached since it started.
    attached: BTreeSet<(u32, Hook)>,
}

/// What [`Attachments::apply`] did.
#[derive(Debug, Default)]
pub struct Applied {
    /// Newly attached, or taken over from an earlier agent.
    pub attached: Vec<Attachment>,
    /// Taken off, by the names of their pins.
    pub detached: Vec<String>,
    /// What could not be done.
    pub errors: Vec<anyhow::Error>,
}

impl Attachments {
    /// Knows of nothing yet: whatever is pinned is taken over when it is asked for, or removed.
    #[must_use]
    pub fn new(pins: Pins, mode: Attach) -> Self {
        Self {
            pins,
            mode,
            attached: BTreeSet::new(),
        }
    }

    /// Attaches what is wanted and not there, and takes off what is there and not wanted. What
    /// cannot be done does not keep the rest from being done.
    pub fn apply(&mut self, dataplane: &mut Dataplane, wanted: &BTreeSet<Attachment>) -> Applied {
        let mut applied = Applied::default();
        for attachment in wanted {
            let key = (attachment.ifindex, attachment.hook);
            if self.attached.contains(&key) {
                continue;
            }
            let result = dataplane
                .program(attachment.hook)
                .and_then(|program| self.attach(program, attachment))
                .with_context(|| format!("cannot attach {attachment}"));
            match result {
                Ok(()) => {
                    self.attached.insert(key);
                    applied.attached.push(attachment.clone());
                }
                Err(error) => applied.errors.push(error),
            }
        }
        let keys: BTreeSet<_> = wanted.iter().map(|a| (a.ifindex, a.hook)).collect();
        self.attached.retain(|key| keys.contains(key));
        match recorded(&self.pins) {
            Ok(pins) => self.sweep(pins, &mut applied),
            Err(error) => applied.errors.push(error),
        }
        applied
    }

    /// Whether the program for `hook` is on interface `ifindex`.
    #[must_use]
    pub fn has(&self, ifindex: u32, hook: Hook) -> bool {
        self.attached.contains(&(ifindex, hook))
    }

    /// Takes off what is on no interface where it is wanted, and what an earlier agent has attached
    /// in the other way beside what is.
    fn sweep(&self, pins: Vec<Pin>, applied: &mut Applied) {
        let clsact = self.mode == Attach::Clsact;
        for pin in pins {
            if self.attached.contains(&pin.key) && pin.clsact == clsact {
                continue;
            }
            match detach(&pin) {
                Ok(()) => applied.detached.push(pin.name),
                Err(error) => applied.errors.push(error),
            }
        }
    }

    fn attach(&mut self, program: &mut SchedClassifier, attachment: &Attachment) -> Result<()> {
        match self.mode {
            Attach::Tcx => self.attach_tcx(program, attachment),
            Attach::Clsact => clsact::attach(&self.pins, program, attachment),
            Attach::Auto => match self.attach_tcx(program, attachment) {
                Ok(()) => {
                    self.mode = Attach::Tcx;
                    Ok(())
                }
                Err(error) if !clsact::kernel_has_tcx() => {
                    tracing::debug!(%attachment, %error, "no tcx here: using clsact");
                    self.mode = Attach::Clsact;
                    clsact::attach(&self.pins, program, attachment)
                }
                Err(error) => Err(error),
            },
        }
    }

    fn attach_tcx(&self, program: &mut SchedClassifier, attachment: &Attachment) -> Result<()> {
        let path = self.pins.links().join(tcx_name(attachment));
        match look(&path)? {
            None => {}
            // The interface it was on is gone, and this one got its index.
            Some(Pinned::Link(Link { ifindex: 0, .. })) => fs::remove_file(&path)
                .with_context(|| format!("cannot unpin {}", path.display()))?,
            Some(_) => {
                return take_over(program, &path)
                    .with_context(|| format!("cannot replace the program of {}", path.display()));
            }
        }
        let id = program.attach_with_options(
            &attachment.interface,
            side(attachment.hook),
            TcAttachOptions::TcxOrder(LinkOrder::default()),
        )?;
        let link: FdLink = program.take_link(id)?.try_into()?;
        link.pin(&path)?;
        Ok(())
    }
}

/// Replaces the program of a pinned link in one step; the link stays pinned.
fn take_over(program: &mut SchedClassifier, path: &Path) -> Result<()> {
    let link: FdLink = PinnedLink::from_pin(path)?.into();
    let id = program.attach_to_link(SchedClassifierLink::try_from(link)?)?;
    // Dropping the returned link closes a descriptor; the pin keeps the program attached.
    program.take_link(id)?;
    Ok(())
}

/// A pinned link, or the record of a clsact filter.
#[derive(Debug)]
struct Pin {
    key: (u32, Hook),
    name: String,
    path: PathBuf,
    clsact: bool,
}

/// What is pinned or recorded as attached to traffic control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Interface index.
    pub ifindex: u32,
    /// Which program.
    pub hook: Hook,
    /// `tcx` or `clsact`.
    pub way: &'static str,
    /// Where the link is pinned, or what is recorded of the filter.
    pub pin: PathBuf,
}

/// Everything that is pinned or recorded as attached to traffic control.
pub fn attached(pins: &Pins) -> Result<Vec<Attached>> {
    let attached = recorded(pins)?.into_iter().map(|pin| {
        let (ifindex, hook) = pin.key;
        Attached {
            ifindex,
            hook,
            way: if pin.clsact { "clsact" } else { "tcx" },
            pin: pin.path,
        }
    });
    Ok(attached.collect())
}

fn detach(pin: &Pin) -> Result<()> {
    if pin.clsact {
        return clsact::detach(&pin.path);
    }
    // The last reference to a link takes the program off.
    fs::remove_file(&pin.path).with_context(|| format!("cannot unpin {}", pin.path.display()))
}

/// Every pinned link and clsact record; what has another name is not ours.
fn recorded(pins: &Pins) -> Result<Vec<Pin>> {
    let names = pins::names(&pins.links())?.into_iter();
    let recorded = names.filter_map(|name| {
        let (hook, ifindex) = hook_and_index(&name).ok()?;
        Some(Pin {
            key: (ifindex, hook),
            clsact: clsact::is_record(&name),
            path: pins.links().join(&name),
            name,
        })
    });
    Ok(recorded.collect())
}

/// Whether `name` is that of a link, or of a record, as this version names them.
pub(super) fn understands(name: &str) -> bool {
    clsact::qdisc_index(name).is_some() || hook_and_index(name).is_ok()
}

fn tcx_name(attachment: &Attachment) -> String {
    format!("{}-{}", attachment.hook.name(), attachment.ifindex)
}

/// The hook and interface index that a pin or record is named after.
pub(super) fn hook_and_index(name: &str) -> Result<(Hook, u32)> {
    let name = name.strip_suffix(clsact::SUFFIX).unwrap_or(name);
    let Some((hook, ifindex)) = name.rsplit_once('-') else {
        bail!("`{name}` has no interface index in it");
    };
    let hook = Hook::TC
        .into_iter()
        .find(|candidate| candidate.name() == hook)
        .with_context(|| format!("no hook is called `{hook}`"))?;
    let ifindex = ifindex
        .parse()
        .with_context(|| format!("`{ifindex}` is not an interface index"))?;
    Ok((hook, ifindex))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pin_names_say_what_is_attached_where() {
        let attachment = Attachment {
            ifindex: 17,
            hook: Hook::FromUplink,
            interface: "eth0".to_owned(),
        };
        let name = tcx_name(&attachment);
        assert_eq!(name, "from_uplink-17");
        assert_eq!(hook_and_index(&name).unwrap(), (Hook::FromUplink, 17));
        let record = clsact::record_name(&attachment);
        assert_eq!(hook_and_index(&record).unwrap(), (Hook::FromUplink, 17));
        assert!(hook_and_index("from_nowhere-1").is_err());
        assert!(hook_and_index("from_uplink").is_err());
    }
}
