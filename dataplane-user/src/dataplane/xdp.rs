//! XDP on the uplinks.
//!
//! How it is on each stands among the pins, as `<ifindex>-<state>`: a link that holds the program on
//! the interface, or, where there is none, an empty directory whose name says why.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    path::PathBuf,
};

use anyhow::{Context, Result};
use aya::programs::{
    ProgramError, Xdp,
    links::{FdLink, PinnedLink},
    xdp::{XdpError, XdpLink},
};

use super::{
    Dataplane, Pins,
    pinned::{Link, Pinned, look},
    pins,
};

/// Where in the kernel an XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum XdpMode {
    /// In the driver, before there is a socket buffer.
    Native,
    /// Behind the driver, on a socket buffer that is made one piece for it.
    Generic,
}

/// Why no XDP program is on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WhyOff {
    /// The configuration says so.
    Configured,
    /// It is a veth, and the configuration leaves it to us: with native XDP its peer would have to
    /// cut every packet into segments itself.
    Veth,
    /// The kernel or the driver refused, with this `errno`.
    Refused(i32),
}

/// How XDP is on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum XdpState {
    /// The program is attached.
    On(XdpMode),
    /// It is not.
    Off(WhyOff),
}

/// An uplink, and what is wanted on it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct XdpUplink {
    /// Interface index.
    pub ifindex: u32,
    /// Interface name.
    pub interface: String,
    /// The interface's MTU in bytes. What a driver has refused is tried again when it changes.
    pub mtu: u32,
    /// The mode, or why none.
    pub wanted: Result<XdpMode, WhyOff>,
}

/// XDP on the uplinks, as this agent has brought it about.
#[derive(Debug)]
pub struct XdpLinks {
    pins: Pins,
    states: BTreeMap<u32, (XdpUplink, XdpState)>,
}

impl XdpLinks {
    /// Knows of nothing yet: an earlier agent's links are taken over when they are asked for.
    #[must_use]
    pub fn new(pins: Pins) -> Self {
        Self {
            pins,
            states: BTreeMap::new(),
        }
    }

    /// Takes off what is not wanted as it is, and returns where it was. To be done before
    /// `from_uplink` is taken off: without it nobody looks at what comes out of a tunnel.
    pub fn keep_only(&mut self, uplinks: &BTreeSet<XdpUplink>) -> Result<BTreeSet<u32>> {
        self.states
            .retain(|_, (uplink, _)| uplinks.contains(uplink));
        let mut taken_off = BTreeSet::new();
        for record in records(&self.pins)? {
            let keeps = match self.states.get(&record.ifindex) {
                Some((_, state)) => *state == record.state,
                None => uplinks.iter().any(|uplink| record.is_wanted(uplink)),
            };
            if !keeps {
                record.remove()?;
                taken_off.extend(record.is_link().then_some(record.ifindex));
            }
        }
        Ok(taken_off)
    }

    /// Attaches what is wanted and not there; returns what is new. A refusal is a state: the
    /// packets then go by `from_uplink` in their tunnels.
    pub fn attach(
        &mut self,
        dataplane: &mut Dataplane,
        uplinks: &BTreeSet<XdpUplink>,
    ) -> Result<Vec<(XdpUplink, XdpState)>> {
        let mut changes = Vec::new();
        for uplink in uplinks {
            if self.states.contains_key(&uplink.ifindex) {
                continue;
            }
            let state = match uplink.wanted {
                Ok(mode) => self.attach_one(dataplane.xdp()?, uplink, mode)?,
                Err(why) => XdpState::Off(why),
            };
            if matches!(state, XdpState::Off(_)) {
                let record = self.path(uplink.ifindex, state);
                fs::create_dir_all(&record)
                    .with_context(|| format!("cannot make the record {}", record.display()))?;
            }
            self.states.insert(uplink.ifindex, (uplink.clone(), state));
            changes.push((uplink.clone(), state));
        }
        Ok(changes)
    }

    fn attach_one(&self, program: &mut Xdp, uplink: &XdpUplink, mode: XdpMode) -> Result<XdpState> {
        let on = XdpState::On(mode);
        let path = self.path(uplink.ifindex, on);
        match look(&path)? {
            None => {}
            // The interface it was on is gone, and this one got its index.
            Some(Pinned::Link(Link { ifindex: 0, .. })) => fs::remove_file(&path)
                .with_context(|| format!("cannot unpin {}", path.display()))?,
            Some(_) => {
                take_over(program, &path)
                    .with_context(|| format!("cannot replace the program of {}", path.display()))?;
                return Ok(on);
            }
        }
        match attach_link(program, uplink.ifindex, mode) {
            Ok(link) => {
                link.pin(&path)
                    .with_context(|| format!("cannot pin {}", path.display()))?;
                Ok(on)
            }
            Err(error) => match errno(&error) {
                Some(errno) => Ok(XdpState::Off(WhyOff::Refused(errno))),
                None => {
                    Err(error).with_context(|| format!("cannot attach XDP to {}", uplink.interface))
                }
            },
        }
    }

    fn path(&self, ifindex: u32, state: XdpState) -> PathBuf {
        xdp_pin(&self.pins, ifindex, state)
    }
}

/// How XDP is on each uplink, by interface index, as the pins say.
pub fn xdp_states(pins: &Pins) -> Result<BTreeMap<u32, XdpState>> {
    let records = records(pins)?.into_iter();
    Ok(records
        .map(|record| (record.ifindex, record.state))
        .collect())
}

/// Where the link is pinned that has XDP in this state on an interface, or what is recorded of it.
#[must_use]
pub fn xdp_pin(pins: &Pins, ifindex: u32, state: XdpState) -> PathBuf {
    pins.xdp().join(name(ifindex, state))
}

fn attach_link(program: &mut Xdp, ifindex: u32, mode: XdpMode) -> Result<FdLink> {
    let mode = match mode {
        XdpMode::Native => aya::programs::XdpMode::Driver,
        XdpMode::Generic => aya::programs::XdpMode::Skb,
    };
    let id = program.attach_to_if_index(ifindex, mode)?;
    // Not a link of another kind, which aya tries where a link is refused, and nothing would hold.
    Ok(program.take_link(id)?.try_into()?)
}

/// Replaces the program of a pinned link in one step; the link stays pinned.
fn take_over(program: &mut Xdp, path: &PathBuf) -> Result<()> {
    let link: FdLink = PinnedLink::from_pin(path)?.into();
    let id = program.attach_to_link(XdpLink::try_from(link)?)?;
    // Dropping the returned link closes a descriptor; the pin keeps the program attached.
    program.take_link(id)?;
    Ok(())
}

/// What the kernel refused with, if it did.
fn errno(error: &anyhow::Error) -> Option<i32> {
    match error.downcast_ref()? {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        ProgramError::XdpError(XdpError::NetlinkError(error)) => error.raw_os_error(),
        _ => None,
    }
}

/// A pinned link, or the record of why there is none.
#[derive(Debug)]
struct Record {
    ifindex: u32,
    state: XdpState,
    path: PathBuf,
}

impl Record {
    /// Whether it is a link that an earlier agent left, and that is wanted still.
    fn is_wanted(&self, uplink: &XdpUplink) -> bool {
        self.ifindex == uplink.ifindex && uplink.wanted.map(XdpState::On) == Ok(self.state)
    }

    fn is_link(&self) -> bool {
        matches!(self.state, XdpState::On(_))
    }

    fn remove(&self) -> Result<()> {
        if self.is_link() {
            fs::remove_file(&self.path)
        } else {
            fs::remove_dir(&self.path)
        }
        .with_context(|| format!("cannot remove {}", self.path.display()))
    }
}

/// Every pinned link and record; what has another name is not ours.
fn records(pins: &Pins) -> Result<Vec<Record>> {
    let names = pins::names(&pins.xdp())?.into_iter();
    let records = names.filter_map(|name| {
        let (ifindex, state) = index_and_state(&name)?;
        Some(Record {
            ifindex,
            state,
            path: pins.xdp().join(name),
        })
    });
    Ok(records.collect())
}

/// The interface that a name stands for, and whether it is a link's, not a record's.
pub(super) fn index_and_kind(name: &str) -> Option<(u32, bool)> {
    let (ifindex, state) = index_and_state(name)?;
    Some((ifindex, matches!(state, XdpState::On(_))))
}

/// Whether `name` is that of a link, or of a record, as this version names them.
pub(super) fn understands(name: &str) -> bool {
    index_and_state(name).is_some()
}

fn name(ifindex: u32, state: XdpState) -> String {
    let state = match state {
        XdpState::On(XdpMode::Native) => "native".to_owned(),
        XdpState::On(XdpMode::Generic) => "generic".to_owned(),
        XdpState::Off(WhyOff::Configured) => "off-configured".to_owned(),
        XdpState::Off(WhyOff::Veth) => "off-veth".to_owned(),
        XdpState::Off(WhyOff::Refused(errno)) => format!("off-refused-{errno}"),
    };
    format!("{ifindex}-{state}")
}

/// What [`name`] makes a name of.
fn index_and_state(name: &str) -> Option<(u32, XdpState)> {
    let (ifindex, state) = name.split_once('-')?;
    let state = match state {
        "native" => XdpState::On(XdpMode::Native),
        "generic" => XdpState::On(XdpMode::Generic),
        "off-configured" => XdpState::Off(WhyOff::Configured),
        "off-veth" => XdpState::Off(WhyOff::Veth),
        _ => {
            let errno = state.strip_prefix("off-refused-")?.parse().ok()?;
            XdpState::Off(WhyOff::Refused(errno))
        }
    };
    Some((ifindex.parse().ok()?, state))
}

impl XdpState {
    /// The word that is printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::On(XdpMode::Native) => "native",
            Self::On(XdpMode::Generic) => "generic",
            Self::Off(_) => "off",
        }
    }
}

impl fmt::Display for WhyOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configured => f.write_str("`xdp: off` in the configuration"),
            Self::Veth => f.write_str(
                "a veth: with native XDP its peer would lose segmentation offload; `xdp: native` \
                 has it nevertheless",
            ),
            Self::Refused(libc::EOPNOTSUPP) => f.write_str("the driver has no native XDP"),
            Self::Refused(libc::EBUSY | libc::EEXIST) => {
                f.write_str("another XDP program is on the interface")
            }
            Self::Refused(errno @ (libc::EINVAL | libc::ERANGE | libc::E2BIG | libc::ENOMEM)) => {
                write!(
                    f,
                    "the driver refused ({}): the MTU may be too long for it, large receive offload \
                     on, or queues too few; the kernel's log may say",
                    io::Error::from_raw_os_error(*errno)
                )
            }
            Self::Refused(errno) => {
                write!(
                    f,
                    "the kernel refused: {}",
                    io::Error::from_raw_os_error(*errno)
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_pins_say_how_it_is() {
        for state in [
            XdpState::On(XdpMode::Native),
            XdpState::On(XdpMode::Generic),
            XdpState::Off(WhyOff::Configured),
            XdpState::Off(WhyOff::Veth),
            XdpState::Off(WhyOff::Refused(libc::EOPNOTSUPP)),
        ] {
            assert_eq!(index_and_state(&name(17, state)), Some((17, state)));
        }
        for other in ["17", "17-", "x-native", "17-off", "17-off-refused-x"] {
            assert_eq!(index_and_state(other), None, "{other}");
        }
    }
}
