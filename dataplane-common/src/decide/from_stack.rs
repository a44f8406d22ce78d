//! What the host's stack sends to remote pods, on the carrier's egress.

use super::{Origin, Verdict, send};
use crate::{
    abi::NextHop, headers::ETHERTYPE_IPV4, packet::Packet, parse, reason::Reason, tables::Tables,
};

/// Decides on a frame that leaves by the carrier. What is left alone here is dropped by the
/// carrier, which has no destination of its own. What a program has given one, which `origin` tells, is the
/// carrier's own to encapsulate: see [`crate::rewrite::cut_up`].
///
/// A packet of the stack's brings its route along, and a neighbour that is not resolved when it is
/// sent would later be looked up by that route (`neigh_update`): on the carrier, where it is a
/// wrong one. `is_resolved` tells; the packet then takes the detour over the carrier's ingress,
/// which strips the route, to [`super::from_carrier`].
#[inline(always)]
pub fn from_stack<'t, P: Packet, T: Tables>(
    packet: &P,
    tables: &'t T,
    origin: Origin,
    is_resolved: impl FnOnce(&NextHop) -> bool,
) -> Verdict<'t> {
    if origin != Origin::Program {
        return Reason::KernelEncap.into();
    }
    match to_peer(packet, tables) {
        Ok(Verdict::Send(send)) if !is_resolved(send.next_hop) => detour(tables),
        Ok(verdict) => verdict,
        Err(reason) => reason.into(),
    }
}

#[inline(always)]
fn detour<'t, T: Tables>(tables: &T) -> Verdict<'t> {
    match tables.config() {
        Some(config) if config.carrier != 0 => Verdict::Detour,
        _ => Reason::NoCarrier.into(),
    }
}

/// To the node that has the destination. The stack has already counted the TTL down, fragmented and answered; fragments and options are
/// carried like anything else.
#[inline(always)]
pub(super) fn to_peer<'t, P: Packet, T: Tables>(
    packet: &P,
    tables: &'t T,
) -> Result<Verdict<'t>, Reason> {
    parse::untagged(packet)?;
    if parse::ethertype(packet)? != ETHERTYPE_IPV4 {
        return Err(Reason::NotIpv4);
    }
    let ip = parse::ipv4(packet, parse::IP)?;
    let config = tables.config().ok_or(Reason::NoConfig)?;
    let next_hop = tables.route(ip.destination).ok_or(Reason::NoRoute)?;
    send(packet, tables, config, ip, next_hop, false)
}
