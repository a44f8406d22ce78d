//! The four programs, but for what only the kernel can do: redirecting.

use dataplane_common::{
    abi::Config,
    arp,
    decide::{self, Arrival, Origin, Verdict},
    packet::Packet,
    reason::Reason,
    rewrite,
    tables::Tables,
};

/// A program, by where its packets come from.
#[derive(Clone, Copy, Debug)]
pub enum Program {
    /// A pod, on the interface with this index.
    Workload(u32),
    Uplink,
    /// The host's stack, with the neighbour on the uplink resolved.
    Stack,
    /// The same, but not resolved.
    StackUnresolved,
    /// The carrier, with what the kernel says of how it came there.
    Carrier(Origin),
}

impl Program {
    pub fn decide<'t>(self, packet: &impl Packet, tables: &'t impl Tables) -> Verdict<'t> {
        match self {
            Self::Workload(ifindex) => decide::from_workload(packet, tables, ifindex),
            Self::Uplink => decide::from_uplink(packet, tables),
            Self::Stack => decide::from_stack(packet, tables, |_| true),
            Self::StackUnresolved => decide::from_stack(packet, tables, |_| false),
            Self::Carrier(origin) => decide::from_carrier(packet, tables, origin),
        }
    }
}

/// Rewrites the packet as `verdict` says.
pub fn carry_out(
    packet: &mut impl Packet,
    config: &Config,
    verdict: &Verdict,
) -> Result<(), Reason> {
    match *verdict {
        Verdict::Leave(_) => Ok(()),
        Verdict::AnswerArp(mac, _) => arp::answer(packet, mac),
        Verdict::Deliver(endpoint, Arrival::Local | Arrival::Direct | Arrival::TakenOut(_)) => {
            rewrite::deliver(packet, None, endpoint)
        }
        Verdict::Deliver(endpoint, Arrival::Tunnelled(decap)) => {
            rewrite::deliver(packet, Some(decap), endpoint)
        }
        Verdict::Send(send) => rewrite::send(packet, config, &send),
        Verdict::Inject(decap, _) => rewrite::inject(packet, config, decap),
        Verdict::Detour => rewrite::address(packet, config.vtep_mac, config.vtep_mac),
        Verdict::CarrierEncap(next_hop) => {
            rewrite::address(packet, next_hop.vtep_mac, config.vtep_mac)
        }
    }
}
