//! What acceleration beside netfilter asks of connection tracking, and what it was before.
//!
//! Conntrack sees a few of an accelerated flow's packets, so it cannot know the windows. What was set
//! is recorded among the pins, as an empty directory `<sysctl>-<value before>`: first recorded, then
//! set, so that an agent that dies in between leaves nothing that nobody knows how to undo. Only what
//! still is what was set is set back.

use std::{fmt, fs, io, path::PathBuf};

use anyhow::{Context, Result};
use tracing::{info, warn};

use super::{Pins, pins};
use crate::kernel::{Conntrack, Sysctl};

/// What is set, and to what: all of them to [`ON`].
pub const SYSCTLS: [Sysctl; 2] = [Sysctl::BeLiberal, Sysctl::IgnoreInvalidRst];
/// See [`SYSCTLS`].
pub const ON: u32 = 1;

/// A sysctl that underpass has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Which one.
    pub sysctl: Sysctl,
    /// What it was before.
    pub before: u32,
    /// What it is now, where it still exists.
    pub now: Option<u32>,
    record: PathBuf,
}

/// The sysctls that are changed according to the pins.
pub fn changed_sysctls(pins: &Pins) -> Result<Vec<Changed>> {
    let mut changed = Vec::new();
    for name in pins::names(&pins.sysctls())? {
        let Some((sysctl, before)) = parse(&name) else {
            continue;
        };
        changed.push(Changed {
            sysctl,
            before,
            now: sysctl.read()?,
            record: pins.sysctls().join(name),
        });
    }
    Ok(changed)
}

/// Sets what is not as acceleration beside netfilter needs it. Where there is no connection tracking
/// yet, there is nothing to be set: it is looked at again and again.
pub fn set_sysctls(pins: &Pins) -> Result<()> {
    for sysctl in SYSCTLS {
        let Some(before) = sysctl.read()?.filter(|value| *value != ON) else {
            continue;
        };
        let is_recorded = changed_sysctls(pins)?
            .iter()
            .any(|changed| changed.sysctl == sysctl);
        if !is_recorded {
            let record = pins.sysctls().join(record_name(sysctl, before));
            fs::create_dir(&record)
                .with_context(|| format!("cannot make the record {}", record.display()))?;
        }
        sysctl.write(ON)?;
        info!("set {sysctl} to {ON}, which was {before}, since conntrack sees few packets now");
    }
    Ok(())
}

/// Sets back what an earlier agent has set.
pub fn restore_sysctls(pins: &Pins) -> Result<()> {
    let changed = changed_sysctls(pins)?;
    if !changed.is_empty() {
        spare_connections();
    }
    for changed in changed {
        changed.restore()?;
        info!("{changed}");
    }
    Ok(())
}

/// Has conntrack go on being liberal with the connections that there are: it has not seen all of
/// their packets. That it cannot be told so does not keep the node from being put back.
pub fn spare_connections() {
    if let Err(error) = Conntrack::connect().and_then(|mut conntrack| conntrack.be_liberal()) {
        warn!(
            "connections that were accelerated may be taken to be invalid, since conntrack cannot be \
             told that it has not seen all of their packets: {error:#}"
        );
    }
}

impl Changed {
    /// Sets it back to what it was, unless somebody has set it since.
    pub fn restore(&self) -> Result<()> {
        if self.is_ours() {
            self.sysctl.write(self.before)?;
        }
        self.forget()
    }

    /// Removes the record of it.
    pub(super) fn forget(&self) -> Result<()> {
        let record = &self.record;
        match fs::remove_dir(record) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove the record {}", record.display()))
            }
            _ => Ok(()),
        }
    }

    fn is_ours(&self) -> bool {
        self.now == Some(ON)
    }
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sysctl,
            before,
            record,
            ..
        } = self;
        match self.now {
            Some(_) if self.is_ours() => write!(f, "set {sysctl} back to {before}")?,
            Some(now) => write!(f, "leave {sysctl} at {now}, which somebody has set")?,
            None => write!(f, "forget {sysctl}, which the kernel has no more")?,
        }
        write!(f, " ({})", record.display())
    }
}

/// Whether a name among the sysctls is that of a record.
pub(super) fn understands(name: &str) -> bool {
    parse(name).is_some()
}

fn record_name(sysctl: Sysctl, before: u32) -> String {
    format!("{}-{before}", sysctl.name())
}

fn parse(name: &str) -> Option<(Sysctl, u32)> {
    let (name, before) = name.rsplit_once('-')?;
    let sysctl = SYSCTLS.into_iter().find(|sysctl| sysctl.name() == name)?;
    Some((sysctl, before.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_says_what_was_changed_and_what_it_was() {
        for (sysctl, before) in [(Sysctl::BeLiberal, 0), (Sysctl::IgnoreInvalidRst, 2)] {
            assert_eq!(parse(&record_name(sysctl, before)), Some((sysctl, before)));
        }
        for name in [
            "nf_conntrack_tcp_be_liberal",
            "nf_conntrack_tcp_be_liberal-",
            "nf_conntrack_tcp_loose-1",
            "nf_conntrack_tcp_timeout_established-1",
        ] {
            assert!(!understands(name), "{name}");
        }
    }
}
