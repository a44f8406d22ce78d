//! The world that the cases are played in: one node under test, and what it is connected to.
//!
//! ```text
//!   p0 ─ cali ┐                                     ┌ node-1, a peer: 10.244.1.0/24
//!             ├─ node-0, 10.244.0.0/24 ─ eth0 ─ wire ┼ node-2, a peer: 10.244.2.0/24
//!   p1 ─ cali ┘  pods' MTU 1500, and 1400 to p1      └ a router, and strangers
//! ```
//!
//! Only `node-0` has a stack that speaks; pods and wire say what a case has them say.

use std::net::Ipv4Addr;

use dataplane_common::{abi::Hook, reason::Reason};
use etherparse::icmpv4::DestUnreachableHeader;

use super::packets::{IDENTIFICATION, from_peers_vtep, from_wire, header, on_wire};
use crate::{Ip, Mac, Mode, frames};

/// The node under test.
pub(super) const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 10);
/// Another address of it.
pub(super) const SECOND: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 99);
/// Its address inside the tunnel.
pub(super) const TUNNEL: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
/// Its pods; to the second leads an MTU of [`NARROW`].
pub(super) const P0: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
pub(super) const P1: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 3);
/// Another address of the first pod, in nobody's block.
pub(super) const SECOND_OF_P0: Ipv4Addr = Ipv4Addr::new(10, 244, 77, 7);
/// An address in the node's block that is nobody's.
pub(super) const FREE: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 200);

/// A peer.
pub(super) const PEER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 11);
/// Its address inside the tunnel.
pub(super) const PEERS_TUNNEL: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 1);
/// A pod on it.
pub(super) const REMOTE: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);

/// Another peer.
pub(super) const OTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 12);
/// A pod on it.
pub(super) const OTHERS_POD: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 2);
/// A pod on it, with an address from the block of [`PEER`].
pub(super) const BORROWED: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 9);
/// A pod on it, with an address from the block of [`NODE`].
pub(super) const LENT: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 9);

/// The router of the subnet, to which the default route leads.
pub(super) const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
/// On the subnet, but nobody in the cluster.
pub(super) const STRANGER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 77);
/// Somewhere in the world.
pub(super) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
/// Behind a route of the kernel's of the type `unreachable`.
pub(super) const UNREACHABLE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Behind a route of the kernel's of the type `prohibit`.
pub(super) const PROHIBITED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 129);
/// Behind a blackhole in the cluster's table.
pub(super) const SWALLOWED: Ipv4Addr = Ipv4Addr::new(10, 244, 9, 9);

/// Ethernet addresses of the above.
pub(super) const NODE_MAC: Mac = Mac::of(NODE, 0);
pub(super) const PEER_MAC: Mac = Mac::of(PEER, 0);
pub(super) const OTHER_MAC: Mac = Mac::of(OTHER, 0);
pub(super) const ROUTER_MAC: Mac = Mac::of(ROUTER, 0);
pub(super) const P0_MAC: Mac = Mac::of(P0, 0);
pub(super) const P1_MAC: Mac = Mac::of(P1, 1);

/// The cluster's VXLAN network.
pub(super) const VNI: u32 = 4096;
/// The MTU of the uplink and of the first pod, in bytes.
pub(super) const WIDE: u16 = 1500;
/// The MTU of the second pod, in bytes.
pub(super) const NARROW: u16 = 1400;
/// Every node's name, in the order of their blocks.
pub(super) const NAMES: [&str; 3] = ["node-0", "node-1", "node-2"];

/// How pod traffic crosses between nodes, and what the running kernel has.
#[derive(Clone, Copy, Debug)]
pub struct World {
    /// One of none, IPIP and VXLAN.
    pub mode: Mode,
    /// What the kernel has.
    pub kernel: Kernel,
}

/// What of the running kernel shows in what the programs, or the stack behind them, do.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// It has an IPIP device, and so a receiver for the protocol, which answers by itself where no
    /// device is up.
    pub ipip: bool,
    /// Programs learn the outer destination of what its VXLAN device decapsulated (6.0).
    pub tells_outer_destination: bool,
}

impl World {
    /// What the kernel says about IPIP, or IPv6 in IPv4, where no device takes it.
    pub(super) fn nobodys_tunnel(self) -> DestUnreachableHeader {
        if self.kernel.ipip {
            DestUnreachableHeader::Port
        } else {
            DestUnreachableHeader::Protocol
        }
    }

    /// The longest packet to a peer, in bytes.
    pub(super) fn path_mtu(self) -> u16 {
        match self.mode {
            Mode::Ipip => WIDE - 20,
            Mode::Vxlan => WIDE - 50,
            Mode::None | Mode::CrossSubnet => WIDE,
        }
    }

    /// Whether pod traffic is in tunnels.
    pub(super) fn is_tunnelled(self) -> bool {
        self.mode != Mode::None
    }

    /// What this node's own packets to remote pods have as their source.
    pub(super) fn own(self) -> Ipv4Addr {
        if self.is_tunnelled() { TUNNEL } else { NODE }
    }

    /// How sending to a peer is counted.
    pub(super) fn sent(self) -> Reason {
        match self.mode {
            Mode::Ipip => Reason::SentIpip,
            Mode::Vxlan => Reason::SentVxlan,
            Mode::None | Mode::CrossSubnet => Reason::SentDirect,
        }
    }

    /// How receiving for a pod is counted.
    pub(super) fn received(self) -> Reason {
        match self.mode {
            Mode::Ipip => Reason::ReceivedIpip,
            Mode::Vxlan => Reason::ReceivedVxlan,
            Mode::None | Mode::CrossSubnet => Reason::ReceivedDirect,
        }
    }

    /// How it is counted that the stack sends to a peer `times` times.
    pub(super) fn stack_sends(self, times: usize) -> Vec<(Hook, Reason)> {
        // Without a tunnel, it has no need of us.
        let times = if self.is_tunnelled() { times } else { 0 };
        vec![(Hook::FromStack, self.sent()); times]
    }

    /// How it is counted that the stack gets what arrived for a pod, for `reason`.
    pub(super) fn stack_receives(self, reason: Reason) -> Vec<(Hook, Reason)> {
        let accepted = self
            .is_tunnelled()
            .then_some((Hook::FromCarrier, Reason::Accepted));
        [(Hook::FromUplink, reason)]
            .into_iter()
            .chain(accepted)
            .collect()
    }

    /// The frame in which the node sends a packet, which is as it shall leave, to [`PEER`].
    pub(super) fn leaves(self, packet: &[u8]) -> Vec<u8> {
        self.leaves_to(PEER, packet)
    }

    /// The frame in which the node sends a packet to another.
    pub(super) fn leaves_to(self, node: Ipv4Addr, packet: &[u8]) -> Vec<u8> {
        self.leaves_marked(node, 0, packet)
    }

    /// As [`World::leaves_to`], with this outer TOS byte.
    ///
    /// The outer header is that of the kernel's devices with their defaults: `ipip` takes TTL and
    /// "don't fragment" from the inner one (`ip_tunnel_xmit`), `vxlan` neither (`vxlan_xmit_one`).
    pub(super) fn leaves_marked(self, node: Ipv4Addr, tos: u8, packet: &[u8]) -> Vec<u8> {
        let inner = header(packet);
        let outer = Ip::new(NODE, node).tos(tos);
        on_wire(
            node,
            &match self.mode {
                Mode::Ipip => outer
                    .ttl(inner.time_to_live)
                    .dont_fragment(inner.dont_fragment)
                    .ipip(packet),
                Mode::Vxlan => {
                    let name = if node == PEER { NAMES[1] } else { NAMES[2] };
                    let frame = frames::ethernet(vtep(NAMES[0]), vtep(name), packet);
                    outer.vxlan(VNI, &frame, false)
                }
                Mode::None | Mode::CrossSubnet => packet.to_vec(),
            },
        )
    }

    /// The frame in which [`PEER`] sends a packet to the node.
    pub(super) fn arrives(self, packet: &[u8]) -> Vec<u8> {
        self.arrives_in(&Ip::new(PEER, NODE).identification(IDENTIFICATION), packet)
    }

    /// The frame in which [`PEER`] sends a packet to the node, with this outer header if any.
    pub(super) fn arrives_in(self, outer: &Ip, packet: &[u8]) -> Vec<u8> {
        match self.mode {
            Mode::Ipip => from_wire(&outer.ipip(packet)),
            Mode::Vxlan => from_wire(&outer.vxlan(VNI, &from_peers_vtep(packet), false)),
            Mode::None | Mode::CrossSubnet => from_wire(packet),
        }
    }
}

/// The Ethernet address of a node's VTEP.
pub(super) fn vtep(node: &str) -> Mac {
    Mac::of_vtep(node)
}
