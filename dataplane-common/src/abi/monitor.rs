//! What `underpass monitor` asks of the programs, and what they tell it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Addr, Hook, NextHopKind};
use crate::reason::Reason;

/// Most bytes of a frame that are told of it.
pub const MAX_SNAP: usize = 512;

/// Words of a bitmap with a bit for each [`Reason`].
const REASON_WORDS: usize = 2;

/// What is to be reported, and to whom. It is written by the one who listens, while
/// [`Monitor::session`] is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Monitor {
    /// The number of the one who listens, which no other has had; 0 for nobody.
    pub session: u64,
    /// Until when, in nanoseconds of `CLOCK_MONOTONIC`, unless it is put off: nobody listens for ever
    /// who was killed.
    pub until: u64,
    /// Reasons that are reported, by hook: bit `n` of a row is the reason with number `n`.
    pub reasons: [[u64; REASON_WORDS]; Hook::ALL.len()],
    /// Of numbers by chance, packets are reported that draw one up to this.
    pub sample: u32,
    /// Of each frame, so many bytes at the most; up to [`MAX_SNAP`].
    pub snap: u32,
    /// Packets that are reported.
    pub filter: Filter,
    /// Zero.
    pub padding: [u8; 4],
}

/// Which packets are meant. The two networks are those of the two ends, in either order, of the packet
/// itself or of the one in its tunnel; and so are the two ports.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Filter {
    /// The networks of the ends; one of length 0 is any.
    pub networks: [Network; 2],
    /// The ports of the ends; 0 is any.
    pub ports: [u16; 2],
    /// The IP protocol; [`ANY_PROTOCOL`] is any.
    pub protocol: u16,
    /// The UDP port by which VXLAN is told.
    pub vxlan_port: u16,
    /// The interface that the program sits on; 0 is any.
    pub ifindex: u32,
}

/// See [`Filter::protocol`].
pub const ANY_PROTOCOL: u16 = u16::MAX;

/// A network, as numbers.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Network {
    /// Its address, whose bits beyond the mask are zero.
    pub address: u32,
    /// Its mask.
    pub mask: u32,
}

/// A packet at a hook: what came, and what became of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Event {
    /// See [`Monitor::session`].
    pub session: u64,
    /// When it came: nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// The interface that the program sits on.
    pub ifindex: u32,
    /// Length of the frame in bytes.
    pub length: u32,
    /// How many of them are told.
    pub captured: u32,
    /// A [`Hook`].
    pub hook: u8,
    /// A [`Reason`].
    pub reason: u8,
    /// Where it was to go: a [`NextHopKind`], [`TO_POD`], or 0 for nowhere that a program would know.
    pub towards: u8,
    /// Zero.
    pub padding: u8,
    /// The interface by which it was to leave, or that of the pod.
    pub egress: u32,
    /// The next hop's [`peer`](super::NextHop::peer).
    pub peer: Addr,
    /// Its [`gateway`](super::NextHop::gateway).
    pub gateway: Addr,
    /// Its [`source`](super::NextHop::source).
    pub source: Addr,
    /// The beginning of the frame, as it came to the hook.
    pub frame: [u8; MAX_SNAP],
}

/// See [`Event::towards`].
pub const TO_POD: u8 = 255;

/// Length in bytes of an [`Event`] before the frame.
pub const EVENT_HEAD: usize = core::mem::offset_of!(Event, frame);

/// An event in the making, of each CPU, and how many there was no room for.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Observed {
    /// Events that nobody was told of, since the buffer was full.
    pub lost: u64,
    /// What is known of the packet; its session is 0 when it is not to be reported.
    pub event: Event,
}

/// Bytes of the buffer of events. It is looked into some fifty times in a second.
pub const EVENTS_SIZE: u32 = 1 << 21;

impl Monitor {
    /// Nobody listens.
    pub const OFF: Self = Self {
        session: 0,
        until: 0,
        reasons: [[0; REASON_WORDS]; Hook::ALL.len()],
        sample: 0,
        snap: 0,
        filter: Filter {
            networks: [Network::ANY; 2],
            ports: [0; 2],
            protocol: 0,
            vxlan_port: 0,
            ifindex: 0,
        },
        padding: [0; 4],
    };

    /// Has `reason` reported at `hook`.
    pub const fn want(&mut self, hook: Hook, reason: Reason) {
        let number = reason as usize;
        self.reasons[hook as usize][number / 64] |= 1 << (number % 64);
    }
}

impl Event {
    /// What is told of it: all but the bytes of the frame that were not copied.
    #[inline(always)]
    #[must_use]
    pub fn told(&self) -> Option<&[u8]> {
        self.as_bytes().get(..EVENT_HEAD + self.captured as usize)
    }

    /// The hook.
    #[must_use]
    pub fn hook(&self) -> Option<Hook> {
        Hook::ALL.get(usize::from(self.hook)).copied()
    }

    /// What became of it.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        Reason::ALL.get(usize::from(self.reason)).copied()
    }

    /// The kind of the next hop it was to be sent to.
    #[must_use]
    pub const fn next_hop(&self) -> Option<NextHopKind> {
        NextHopKind::from_byte(self.towards)
    }
}

const _: () = assert!(Reason::ALL.len() <= REASON_WORDS * 64);
const _: () = assert!(Hook::ALL.len() * REASON_WORDS == 14);
