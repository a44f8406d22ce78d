//! The values of the maps.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Addr, MAX_GATEWAYS, Mac};

/// Bits of [`Config::flags`].
pub mod flags {
    /// Outer UDP checksums are computed. BPF cannot do that for an offloaded packet, so VXLAN is
    /// then encapsulated by the carrier, the kernel's own device.
    pub const VXLAN_CHECKSUM: u32 = 1 << 0;
    /// Pods may send IPIP and VXLAN themselves.
    pub const WORKLOAD_TUNNELS: u32 = 1 << 1;
    /// Outer headers have the DSCP of the packet inside, not [`super::Config::dscp`].
    pub const INHERIT_DSCP: u32 = 1 << 2;
    /// Only flows are carried that the stack has let through both ways: see [`crate::decide`].
    pub const ESTABLISHED: u32 = 1 << 3;
}

/// What every program has to know about this node.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Config {
    /// This node's address: the only outer destination that is decapsulated.
    pub node: Addr,
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// [`flags`].
    pub flags: u32,
    /// Interface index of the carrier; 0 where there is none, and the kernel's own devices open and
    /// close the tunnels of what the stack treats.
    pub carrier: u32,
    /// UDP port of VXLAN, in network byte order.
    pub vxlan_port: [u8; 2],
    /// This node's VTEP: the inner source of VXLAN, and the carrier's own address.
    pub vtep_mac: Mac,
    /// Addresses that proxy ARP answers for; `0.0.0.0` is an empty place.
    pub gateways: [Addr; MAX_GATEWAYS],
    /// DSCP of outer headers, 6 bits, unless [`flags::INHERIT_DSCP`].
    pub dscp: u8,
    /// Zero.
    pub padding: [u8; 3],
    /// After how many [ticks](super::TICK_SHIFT) the stack sees a flow again.
    pub reverify: u32,
}

impl Config {
    /// The TOS byte of a tunnel for a packet with TOS byte `inner`: the outer DSCP in its upper six
    /// bits. The two of ECN, zero here, are [`crate::ecn`]'s.
    #[inline(always)]
    #[must_use]
    pub const fn tunnel_tos(&self, inner: u8) -> u8 {
        if self.flags & flags::INHERIT_DSCP == 0 {
            self.dscp << 2
        } else {
            inner & !0b11
        }
    }
}

/// What kind of next hop a [`NextHop`] is. Zero is what an array entry holds that nobody wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum NextHopKind {
    /// On this node: its pods and its own addresses.
    Local = 1,
    /// Dropped in silence.
    Blackhole = 2,
    /// Routed to the peer as it is.
    Direct = 3,
    /// IP in IP, RFC 2003.
    Ipip = 4,
    /// VXLAN, RFC 7348.
    Vxlan = 5,
    /// By several next hops, flow by flow: see [`Multipath`].
    Multipath = 6,
}

impl NextHopKind {
    /// The kind that `byte` stands for.
    #[inline(always)]
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Local),
            2 => Some(Self::Blackhole),
            3 => Some(Self::Direct),
            4 => Some(Self::Ipip),
            5 => Some(Self::Vxlan),
            6 => Some(Self::Multipath),
            _ => None,
        }
    }

    /// Whether packets leave this node by this very next hop.
    #[inline(always)]
    #[must_use]
    pub const fn is_remote(self) -> bool {
        matches!(self, Self::Direct | Self::Ipip | Self::Vxlan)
    }
}

/// Where packets to a prefix go. Never changed in place while it is live: see
/// [`super::maps::NEXT_HOP_LIVE`]. Of one of kind [`NextHopKind::Multipath`], only that and `entry`
/// say anything.
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
pub struct NextHop {
    /// A [`NextHopKind`], or 0 for none.
    pub kind: u8,
    /// Zero.
    pub reserved: u8,
    /// Longest IP packet, before encapsulation, that fits.
    pub mtu: u16,
    /// Interface index of the uplink.
    pub ifindex: u32,
    /// Address of the node that owns the prefix: the outer destination.
    pub peer: Addr,
    /// Neighbour on the uplink: the peer itself, or the router before it.
    pub gateway: Addr,
    /// Outer source.
    pub source: Addr,
    /// The peer's VTEP: the inner destination of VXLAN.
    pub vtep_mac: Mac,
    /// Which entry this is itself: of [`super::maps::MULTIPATHS`], too, where it has many ways.
    pub entry: u16,
}

impl NextHop {
    /// The kind, where the entry is in use.
    #[inline(always)]
    #[must_use]
    pub const fn kind(&self) -> Option<NextHopKind> {
        NextHopKind::from_byte(self.kind)
    }

    /// Its number, of which [`Self::entry`] is one of two entries.
    #[inline(always)]
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.entry >> 1
    }

    /// The same, whichever entry it is in.
    #[must_use]
    pub const fn anywhere(self) -> Self {
        Self { entry: 0, ..self }
    }
}

/// The places in a [`Multipath`], over which flows spread evenly.
pub const WAYS: usize = 32;

/// The ways of a next hop of kind [`NextHopKind::Multipath`]: a flow takes the one at the place that
/// [`crate::flow::place`] gives it, so that a way has as many places as its weight asks for.
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
pub struct Multipath {
    /// Numbers of other next hops, none of which has many ways itself.
    pub ways: [u16; WAYS],
}

/// A pod on this node. Never changed in place: what changes gets another number, and its old entry is
/// zero.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Endpoint {
    /// Interface index of the host side of the pod's veth.
    #[cfg(not(feature = "other-layout"))]
    pub ifindex: u32,
    /// MTU of that interface.
    pub mtu: u32,
    /// Interface index of the host side of the pod's veth.
    #[cfg(feature = "other-layout")]
    pub ifindex: u32,
    /// The pod's Ethernet address; zero while it is not resolved.
    pub mac: Mac,
    /// The host side's Ethernet address.
    pub host_mac: Mac,
    /// Its number: which entry of [`super::maps::ENDPOINT_ENTRIES`] it is in.
    pub number: u16,
    /// Zero.
    pub padding: [u8; 2],
}

impl Endpoint {
    /// The same, whichever number it has.
    #[must_use]
    pub const fn anywhere(self) -> Self {
        Self { number: 0, ..self }
    }
}

/// An interface that pods send from.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Workload {
    /// The host side's Ethernet address: what proxy ARP answers with.
    pub mac: Mac,
    /// Zero.
    pub padding: [u8; 2],
}

/// Another node, by its address. The programs ask only whether there is one; what it holds is for
/// people to read.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Peer {
    /// The node's own address inside the tunnel; `0.0.0.0` for none.
    pub tunnel: Addr,
    /// The node's VTEP.
    pub vtep_mac: Mac,
    /// Zero.
    pub padding: [u8; 2],
}

/// What was counted for one reason at one hook, by one CPU.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Counter {
    /// Packets; a segmentation-offloaded one counts once.
    pub packets: u64,
    /// Bytes from the Ethernet header on, as the packet arrived.
    pub bytes: u64,
}
