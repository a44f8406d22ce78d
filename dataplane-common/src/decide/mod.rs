//! From facts and tables to a verdict; one function for each hook.
//!
//! Invariant: a packet is decided upon by its inner headers *before* anything is changed, so that
//! leaving it to the stack untouched is always possible.

mod established;
mod from_carrier;
mod from_stack;
mod from_uplink;
mod from_workload;
mod open;
mod tunnelled;
mod xdp_uplink;

pub use established::{to_uplink, to_workload};
pub use from_carrier::from_carrier;
pub use from_stack::from_stack;
pub use from_uplink::from_uplink;
pub use from_workload::from_workload;
pub use open::inner_offset;
pub use tunnelled::{Origin, TunnelKey};
pub use xdp_uplink::xdp_uplink;

use crate::{
    abi::{Config, Endpoint, Mac, NextHop, NextHopKind, flags},
    flow,
    packet::{Packet, Tunnel},
    parse::{self, Ipv4},
    reason::Reason,
    tables::Tables,
};

/// A [mark](crate::tuple::Tuple::mark), which has 16 bits, in the whole of the place that another verdict
/// has a pointer in: see [`Verdict`].
pub type Mark = u64;

/// What is to be done with a packet.
///
/// Its tag has a place of its own, which keeps reasons and pointers in different ones: LLVM compares
/// a reason before it knows that there is one, and the verifier refuses that of a pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Verdict<'t> {
    /// Nothing: it goes to the stack untouched or is dropped, as [`Reason::action`] says. It bears this
    /// [mark](crate::tuple::Tuple::mark), or 0 for none.
    Leave(Reason, Mark),
    /// Answer the ARP request with this address. Whether the asker's own is known already: if not,
    /// the stack gets the request too, and learns from it as it would have.
    AnswerArp(&'t Mac, bool),
    /// Hand it to a local pod, out of the tunnel it came in.
    Deliver(&'t Endpoint, Arrival),
    /// Send it to another node.
    Send(Send<'t>),
    /// Take it out of its tunnel, if it is in one still, and hand it to the stack, on the carrier's
    /// ingress, with this mark, or 0.
    Inject(Option<Decap>, Reason, Mark),
    /// Let it arrive on the carrier as it is, to be sent from there.
    Detour,
    /// Let the carrier, the kernel's device, encapsulate it for this next hop, with this
    /// [tunnel's TOS](Config::tunnel_tos).
    CarrierEncap(&'t NextHop, u8),
}

impl Verdict<'_> {
    /// What the packet is counted as.
    #[inline(always)]
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Leave(reason, _) | Self::Inject(_, reason, _) => *reason,
            Self::AnswerArp(..) => Reason::ArpAnswered,
            Self::Deliver(_, arrival) => arrival.reason(),
            Self::Send(send) => match send.encap {
                None => Reason::SentDirect,
                Some(Tunnel::Ipip) => Reason::SentIpip,
                Some(Tunnel::Vxlan) => Reason::SentVxlan,
            },
            Self::Detour => Reason::Detour,
            Self::CarrierEncap(..) => Reason::KernelEncap,
        }
    }

    /// What the packet bears through the stack, or 0.
    #[inline(always)]
    #[must_use]
    pub const fn mark(&self) -> Mark {
        match self {
            Self::Leave(_, mark) | Self::Inject(_, _, mark) => *mark,
            _ => 0,
        }
    }
}

impl From<Reason> for Verdict<'_> {
    #[inline(always)]
    fn from(reason: Reason) -> Self {
        Self::Leave(reason, 0)
    }
}

/// How a packet for a local pod came to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// From another pod on it.
    Local,
    /// From the wire, as it is.
    Direct,
    /// From the wire, in a tunnel.
    Tunnelled(Decap),
    /// From the wire, in a tunnel that [`xdp_uplink`] took it out of.
    TakenOut(Tunnel),
}

impl Arrival {
    const fn reason(self) -> Reason {
        match self {
            Self::Local => Reason::DeliveredLocal,
            Self::Direct => Reason::ReceivedDirect,
            Self::Tunnelled(Decap { tunnel, .. }) | Self::TakenOut(tunnel) => match tunnel {
                Tunnel::Ipip => Reason::ReceivedIpip,
                Tunnel::Vxlan => Reason::ReceivedVxlan,
            },
        }
    }
}

/// Headers to remove, and what to carry over from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decap {
    /// Which headers.
    pub tunnel: Tunnel,
    /// The inner TOS byte afterwards: ECN by RFC 6040.
    pub tos: u8,
}

/// A packet on its way to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Send<'t> {
    /// Where to.
    pub next_hop: &'t NextHop,
    /// In what.
    pub encap: Option<Tunnel>,
    /// The packet's own header, from which the outer one is made.
    pub ip: Ipv4,
    /// The packet's ports: the entropy of the outer source port.
    pub ports: [u8; 4],
    /// Whether this node forwards it (and counts its TTL down), rather than being its origin.
    pub forwarded: bool,
}

/// The packet `ip`, whose header is at [`parse::IP`], to a remote `next_hop`, or by one of its ways.
#[inline(always)]
fn send<'t, P: Packet, T: Tables>(
    packet: &P,
    tables: &'t T,
    config: &Config,
    ip: Ipv4,
    next_hop: &'t NextHop,
    forwarded: bool,
) -> Result<Verdict<'t>, Reason> {
    let ports = parse::ports(packet, &ip, parse::IP);
    let next_hop = if next_hop.kind() == Some(NextHopKind::Multipath) {
        let way = tables.way(next_hop, flow::place(&ip, ports));
        way.ok_or(Reason::NextHopUnset)?
    } else {
        next_hop
    };
    send_by(packet, config, ip, ports, next_hop, forwarded)
}

/// As [`send`], by a `next_hop` that is one way.
#[inline(always)]
fn send_by<'t, P: Packet>(
    packet: &P,
    config: &Config,
    ip: Ipv4,
    ports: [u8; 4],
    next_hop: &'t NextHop,
    forwarded: bool,
) -> Result<Verdict<'t>, Reason> {
    let encap = match next_hop.kind().ok_or(Reason::NextHopUnset)? {
        // Of many ways, none has many.
        NextHopKind::Multipath => return Err(Reason::NextHopUnset),
        NextHopKind::Local => return Err(Reason::LocalAddress),
        NextHopKind::Blackhole => return Err(Reason::Blackhole),
        NextHopKind::Direct => None,
        NextHopKind::Ipip => Some(Tunnel::Ipip),
        NextHopKind::Vxlan => Some(Tunnel::Vxlan),
    };
    if parse::segment_length(packet, &ip, parse::IP)? > u32::from(next_hop.mtu) {
        return Err(Reason::TooBig);
    }
    // The outer length field has 16 bits, and an aggregate of many segments may nearly fill it.
    let overhead = encap.map_or(0, Tunnel::overhead);
    if ip.total_length.checked_add(overhead).is_none() {
        return Err(Reason::TooBig);
    }
    if encap == Some(Tunnel::Vxlan) && config.flags & flags::VXLAN_CHECKSUM != 0 {
        return if forwarded {
            Err(Reason::KernelEncap)
        } else {
            let tos = config.tunnel_tos(ip.tos);
            Ok(Verdict::CarrierEncap(next_hop, tos))
        };
    }
    Ok(Verdict::Send(Send {
        next_hop,
        encap,
        ip,
        ports,
        forwarded,
    }))
}

/// The packet `ip`, whose header is at `offset`, to a local pod.
#[inline(always)]
fn deliver<'t, P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    ip: &Ipv4,
    offset: usize,
    endpoint: &'t Endpoint,
    arrival: Arrival,
) -> Result<Verdict<'t>, Reason> {
    const UNRESOLVED: Mac = [0; 6];
    ip.forwardable()?;
    if endpoint.mac == UNRESOLVED {
        return Err(Reason::Unresolved);
    }
    if parse::segment_length(packet, ip, offset)? > endpoint.mtu {
        return Err(Reason::TooBig);
    }
    if !tables.is_present(endpoint.ifindex) {
        return Err(Reason::InterfaceGone);
    }
    Ok(Verdict::Deliver(endpoint, arrival))
}
