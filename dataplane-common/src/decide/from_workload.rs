//! What a pod sends, on the host side of its veth.

use super::{Arrival, Verdict, deliver, send};
use crate::{
    abi::NextHopKind,
    arp,
    headers::{ETHERTYPE_ARP, ETHERTYPE_IPV4},
    packet::Packet,
    parse::{self, Ipv4},
    reason::Reason,
    tables::Tables,
};

/// Decides on a frame that arrived on workload interface `ifindex`.
#[inline(always)]
pub fn from_workload<'t, P: Packet, T: Tables>(
    packet: &P,
    tables: &'t T,
    ifindex: u32,
) -> Verdict<'t> {
    decide(packet, tables, ifindex).unwrap_or_else(Verdict::Leave)
}

#[inline(always)]
fn decide<'t, P: Packet, T: Tables>(
    packet: &P,
    tables: &'t T,
    ifindex: u32,
) -> Result<Verdict<'t>, Reason> {
    match parse::ethernet(packet)?.ethertype {
        ETHERTYPE_IPV4 => {
            let ip = parse::ipv4(packet, parse::IP)?;
            if !owns(tables, ifindex, &ip) {
                return Err(Reason::SpoofedSource);
            }
            forward(packet, tables, ifindex, ip)
        }
        ETHERTYPE_ARP => {
            let config = tables.config().ok_or(Reason::NoConfig)?;
            arp::asks_for_gateway(packet, config)?;
            let workload = tables.workload(ifindex).ok_or(Reason::ArpOther)?;
            Ok(Verdict::AnswerArp(workload.mac))
        }
        _ => Err(Reason::NotIpv4),
    }
}

/// Whether the source address belongs to a pod behind interface `ifindex`.
#[inline(always)]
fn owns<T: Tables>(tables: &T, ifindex: u32, ip: &Ipv4) -> bool {
    tables
        .endpoint(ip.source)
        .is_some_and(|endpoint| endpoint.ifindex == ifindex)
}

#[inline(always)]
fn forward<'t, P: Packet, T: Tables>(
    packet: &P,
    tables: &'t T,
    ifindex: u32,
    ip: Ipv4,
) -> Result<Verdict<'t>, Reason> {
    if !packet.is_to_interface() {
        return Err(Reason::OtherHost);
    }
    if ip.destination[0] >= 224 {
        return Err(Reason::Multicast);
    }
    let next_hop = tables.route(ip.destination).ok_or(Reason::NoRoute)?;
    if next_hop.kind() == Some(NextHopKind::Local) {
        let endpoint = tables
            .endpoint(ip.destination)
            .ok_or(Reason::LocalAddress)?;
        if endpoint.ifindex == ifindex {
            return Err(Reason::Hairpin);
        }
        return deliver(packet, &ip, parse::IP, endpoint, Arrival::Local);
    }
    ip.forwardable()?;
    send(packet, tables, ip, next_hop, true)
}
