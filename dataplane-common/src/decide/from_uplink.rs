//! What the wire brings.

use super::{
    Arrival, Decap, Verdict, deliver,
    established::{Arrived, watch},
    open::{self, Opened},
};
use crate::{
    abi::{Addr, Config, NextHop, NextHopKind},
    headers::ETHERTYPE_IPV4,
    packet::{Packet, Tunnel},
    parse::{self, Ipv4},
    reason::Reason,
    tables::Tables,
};

/// Decides on a frame that arrived on an uplink.
#[inline(always)]
pub fn from_uplink<'t, P: Packet, T: Tables>(packet: &P, tables: &'t T) -> Verdict<'t> {
    let verdict = match packet.taken_out_of() {
        Some(tunnel) => taken_out(packet, tables, tunnel),
        None => decide(packet, tables),
    };
    verdict.unwrap_or_else(Verdict::from)
}

/// A packet that [`super::xdp_uplink`] has judged and taken out of its tunnel.
#[inline(always)]
fn taken_out<'t, P: Packet, T: Tables>(
    packet: &P,
    tables: &'t T,
    tunnel: Tunnel,
) -> Result<Verdict<'t>, Reason> {
    let config = tables.config().ok_or(Reason::NoConfig)?;
    // A tag that the device has taken off an XDP program cannot see.
    parse::untagged(packet).map_err(|_| Reason::NotInner)?;
    if !packet.is_to_interface() {
        return Err(Reason::OtherHost);
    }
    to_pod(packet, tables, config, tunnel).or_else(|reason| Ok(for_stack(config, None, reason)))
}

/// Without a carrier XDP takes out only what may be delivered: it has looked at the flow.
#[inline(always)]
fn to_pod<'t, P: Packet, T: Tables>(
    packet: &P,
    tables: &'t T,
    config: &Config,
    tunnel: Tunnel,
) -> Result<Verdict<'t>, Reason> {
    let ip = parse::ipv4(packet, parse::IP)?;
    let arrival = Arrival::TakenOut(tunnel);
    let watch = watch(packet, tables, config, &ip, parse::IP, Arrived::TAKEN_OUT);
    if let Some(endpoint) = watch.way_in(tables) {
        return deliver(packet, tables, &ip, parse::IP, endpoint, arrival);
    }
    let endpoint = tables.endpoint(ip.destination).ok_or(Reason::ForHost)?;
    let verdict = deliver(packet, tables, &ip, parse::IP, endpoint, arrival)?;
    if config.carrier == 0 {
        return Ok(verdict);
    }
    Ok(watch.judge_in(tables, config, verdict))
}

#[inline(always)]
fn decide<'t, P: Packet, T: Tables>(packet: &P, tables: &'t T) -> Result<Verdict<'t>, Reason> {
    let ip = received(packet)?;
    let config = tables.config().ok_or(Reason::NoConfig)?;
    if ip.destination != config.node {
        return direct(packet, tables, config, &ip);
    }
    // In two arms, so that in each of them every offset is a constant.
    match open::tunnel(packet, config, &ip)? {
        Tunnel::Ipip => {
            let opened = open::open(packet, tables, config, &ip, Tunnel::Ipip)?;
            Ok(out_of_tunnel(packet, tables, config, &opened, Tunnel::Ipip))
        }
        Tunnel::Vxlan => {
            let opened = open::open(packet, tables, config, &ip, Tunnel::Vxlan)?;
            Ok(out_of_tunnel(
                packet,
                tables,
                config,
                &opened,
                Tunnel::Vxlan,
            ))
        }
    }
}

/// The header of an IPv4 packet that is for this interface and on no VLAN.
#[inline(always)]
pub(super) fn received<P: Packet>(packet: &P) -> Result<Ipv4, Reason> {
    parse::untagged(packet)?;
    if parse::ethertype(packet)? != ETHERTYPE_IPV4 {
        return Err(Reason::NotIpv4);
    }
    if !packet.is_to_interface() {
        return Err(Reason::OtherHost);
    }
    parse::ipv4(packet, parse::IP)
}

/// A packet that is not for this node's own address.
#[inline(always)]
fn direct<'t, P: Packet, T: Tables>(
    packet: &P,
    tables: &'t T,
    config: &Config,
    ip: &Ipv4,
) -> Result<Verdict<'t>, Reason> {
    let watch = watch(packet, tables, config, ip, parse::IP, Arrived::WIRE);
    if let Some(endpoint) = watch.way_in(tables) {
        return deliver(packet, tables, ip, parse::IP, endpoint, Arrival::Direct);
    }
    let endpoint = tables.endpoint(ip.destination).ok_or(Reason::NotForPod)?;
    // From where we would send the answer in the same way. What else routes to pods, a peer whose
    // mask makes it choose differently included, is for the stack and its reverse-path filter.
    if !is_direct(tables, ip.source) {
        return Err(Reason::SourceOutside);
    }
    let verdict = deliver(packet, tables, ip, parse::IP, endpoint, Arrival::Direct)?;
    Ok(watch.judge_in(tables, config, verdict))
}

/// Whether the route to `source` is a direct one. Of many ways the first tells: whoever gives a route
/// many gives it ways of one kind, and where not, the worst is that the stack judges.
#[inline(always)]
fn is_direct<T: Tables>(tables: &T, source: Addr) -> bool {
    let route = tables.route(source);
    let way = match route.and_then(NextHop::kind) {
        Some(NextHopKind::Multipath) => route.and_then(|multipath| tables.way(multipath, 0)),
        _ => route,
    };
    way.and_then(NextHop::kind) == Some(NextHopKind::Direct)
}

/// A packet in a tunnel that ends here.
#[inline(always)]
fn out_of_tunnel<'t, P: Packet, T: Tables>(
    packet: &P,
    tables: &'t T,
    config: &Config,
    opened: &Opened<'t>,
    tunnel: Tunnel,
) -> Verdict<'t> {
    let decap = opened.decap;
    opened
        .to_pod(packet, tables, config, tunnel)
        .unwrap_or_else(|reason| for_stack(config, Some(decap), reason))
}

/// What is wrong with a tunnel's packet is for the stack to treat, on the carrier. Without one it
/// stays as it is: in its tunnel, for the kernel's own device, unless XDP took it out.
#[inline(always)]
const fn for_stack<'t>(config: &Config, decap: Option<Decap>, reason: Reason) -> Verdict<'t> {
    if config.carrier == 0 {
        Verdict::Leave(reason, 0)
    } else {
        Verdict::Inject(decap, reason, 0)
    }
}
