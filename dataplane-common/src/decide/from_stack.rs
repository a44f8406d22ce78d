//! What the host's stack sends to remote pods, on the carrier's egress.

use super::{Verdict, send};
use crate::{headers::ETHERTYPE_IPV4, packet::Packet, parse, reason::Reason, tables::Tables};

/// Decides on a frame that leaves by the carrier. What is left alone here is dropped by the
/// carrier, which has no destination of its own.
#[inline(always)]
pub fn from_stack<'t, P: Packet, T: Tables>(packet: &P, tables: &'t T) -> Verdict<'t> {
    decide(packet, tables).unwrap_or_else(Verdict::Leave)
}

/// The stack has already counted the TTL down, fragmented and answered; fragments and options are
/// carried like anything else.
#[inline(always)]
fn decide<'t, P: Packet, T: Tables>(packet: &P, tables: &'t T) -> Result<Verdict<'t>, Reason> {
    if parse::ethernet(packet)?.ethertype != ETHERTYPE_IPV4 {
        return Err(Reason::NotIpv4);
    }
    let ip = parse::ipv4(packet, parse::IP)?;
    let next_hop = tables.route(ip.destination).ok_or(Reason::NoRoute)?;
    send(packet, tables, ip, next_hop, false)
}
