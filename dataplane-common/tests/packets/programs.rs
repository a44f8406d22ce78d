//! The four programs, but for what only the kernel can do: redirecting.

use dataplane_common::{
    abi::Config,
    arp,
    decide::{self, Arrival, TunnelKey, Verdict},
    packet::Packet,
    reason::Reason,
    rewrite,
    tables::Tables,
};

#[derive(Clone, Copy, Debug)]
pub enum Program {
    /// On the interface with this index.
    FromWorkload(u32),
    FromUplink,
    FromStack,
    /// With what the kernel says of the tunnel.
    FromCarrier(Option<TunnelKey>),
}

impl Program {
    pub fn decide<'t>(self, packet: &impl Packet, tables: &'t impl Tables) -> Verdict<'t> {
        match self {
            Self::FromWorkload(ifindex) => decide::from_workload(packet, tables, ifindex),
            Self::FromUplink => decide::from_uplink(packet, tables),
            Self::FromStack => decide::from_stack(packet, tables),
            Self::FromCarrier(key) => decide::from_carrier(packet, tables, key),
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
        Verdict::AnswerArp(mac) => arp::answer(packet, mac),
        Verdict::Deliver(endpoint, Arrival::Local | Arrival::Direct) => {
            rewrite::deliver(packet, None, endpoint)
        }
        Verdict::Deliver(endpoint, Arrival::Tunnelled(decap)) => {
            rewrite::deliver(packet, Some(decap), endpoint)
        }
        Verdict::Send(send) => rewrite::send(packet, config, &send),
        Verdict::Inject(decap, _) => rewrite::inject(packet, config, decap),
        Verdict::CarrierEncap(next_hop) => {
            rewrite::address(packet, next_hop.vtep_mac, config.vtep_mac)
        }
    }
}
