//! What a pod sends, on the host side of its veth.

use super::{
    Arrival, Verdict, deliver,
    established::{Arrived, Watch, watch},
    send, send_by, tunnelled,
};
use crate::{
    abi::{Addr, Config, NextHopKind, flags},
    arp,
    headers::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_QINQ, ETHERTYPE_VLAN},
    packet::Packet,
    parse::{self, Ipv4, PROTOCOL_TCP},
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
    decide(packet, tables, ifindex).unwrap_or_else(Verdict::from)
}

#[inline(always)]
fn decide<'t, P: Packet, T: Tables>(
    packet: &P,
    tables: &'t T,
    ifindex: u32,
) -> Result<Verdict<'t>, Reason> {
    let config = tables.config().ok_or(Reason::NoConfig)?;
    match parse::ethertype(packet)? {
        ETHERTYPE_IPV4 => {
            let ip = match parse::ipv4(packet, parse::IP) {
                Ok(ip) => ip,
                Err(reason) => return Err(unreadable(packet, tables, config, ifindex, reason)),
            };
            let from = Arrived::workload(ifindex);
            let watch = watch(packet, tables, config, &ip, parse::IP, from);
            if let Some(next_hop) = watch.way_out(tables) {
                routable(packet)?;
                ip.forwardable()?;
                let ports = parse::ports(packet, &ip, parse::IP);
                return send_by(packet, config, ip, ports, next_hop, true);
            }
            if let Some(endpoint) = watch.way_in(tables) {
                routable(packet)?;
                return deliver(packet, tables, &ip, parse::IP, endpoint, Arrival::Local);
            }
            may_send(tables, config, ifindex, ip.source, || {
                tunnelled::is_tunnel(packet, tables, config, &ip, parse::IP)
            })?;
            parse::untagged(packet)?;
            forward(packet, tables, config, ifindex, ip, &watch)
        }
        ETHERTYPE_ARP => {
            parse::untagged(packet)?;
            let asker = arp::asks_for_gateway(packet, config)?;
            let workload = tables.workload(ifindex).ok_or(Reason::ArpOther)?;
            let asker_endpoint = tables.endpoint(asker.address);
            // In another pod's name: the kernel's reverse-path filter would keep it silent. A pod
            // that nobody knows yet has to be answered.
            if asker_endpoint.is_some_and(|endpoint| endpoint.ifindex != ifindex) {
                return Err(Reason::ArpOther);
            }
            let is_known = asker_endpoint.is_some_and(|endpoint| endpoint.mac == asker.mac);
            Ok(Verdict::AnswerArp(&workload.mac, is_known))
        }
        // A tag within a tag: nobody has looked for the source behind it.
        ETHERTYPE_VLAN | ETHERTYPE_QINQ => Err(Reason::SpoofedSource),
        _ => Err(Reason::NotIpv4),
    }
}

/// Why a packet is left or dropped whose IPv4 header is in doubt: what may not be sent is dropped all
/// the same.
#[inline(always)]
fn unreadable<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    config: &Config,
    ifindex: u32,
    reason: Reason,
) -> Reason {
    let judged = parse::source(packet)
        .and_then(|source| {
            may_send(tables, config, ifindex, source, || {
                may_hide_tunnel(packet, reason)
            })
        })
        .and_then(|()| parse::untagged(packet));
    judged.err().unwrap_or(reason)
}

/// That the pod behind interface `ifindex` may send what it sends from `source`. Asked before anything
/// that would hand the packet to the stack, a VLAN tag included: of a tag without a number the stack
/// would take no notice.
#[inline(always)]
fn may_send<T: Tables>(
    tables: &T,
    config: &Config,
    ifindex: u32,
    source: Addr,
    is_tunnel: impl FnOnce() -> bool,
) -> Result<(), Reason> {
    let endpoint = tables.endpoint(source).ok_or(Reason::SpoofedSource)?;
    if endpoint.ifindex != ifindex {
        return Err(Reason::SpoofedSource);
    }
    // Behind a masquerading node it would come from an address that the others trust.
    if config.flags & flags::WORKLOAD_TUNNELS == 0 && is_tunnel() {
        return Err(Reason::WorkloadTunnel);
    }
    Ok(())
}

/// Whether the stack might see a tunnel's packet in one whose header is in doubt for this `reason`. An
/// aggregate of TCP may say nothing of its length; the stack reads any other as one, too, as long as
/// the kernel calls it TCP's (`iph_totlen`), which a pod with a packet socket can make it do.
#[inline(always)]
fn may_hide_tunnel<P: Packet>(packet: &P, reason: Reason) -> bool {
    reason == Reason::BigTcp && parse::protocol(packet) != Ok(PROTOCOL_TCP)
}

/// That a frame is for this interface to route, and on no VLAN.
#[inline(always)]
fn routable<P: Packet>(packet: &P) -> Result<(), Reason> {
    parse::untagged(packet)?;
    if !packet.is_to_interface() {
        return Err(Reason::OtherHost);
    }
    Ok(())
}

#[inline(always)]
fn forward<'t, P: Packet, T: Tables>(
    packet: &P,
    tables: &'t T,
    config: &Config,
    ifindex: u32,
    ip: Ipv4,
    watch: &Watch,
) -> Result<Verdict<'t>, Reason> {
    if !packet.is_to_interface() {
        return Err(Reason::OtherHost);
    }
    if !parse::is_unicast(ip.destination) {
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
        let verdict = deliver(packet, tables, &ip, parse::IP, endpoint, Arrival::Local)?;
        return Ok(watch.judge_in(tables, config, verdict));
    }
    ip.forwardable()?;
    let verdict = send(packet, tables, config, ip, next_hop, true)?;
    Ok(watch.judge_out(tables, config, verdict))
}
