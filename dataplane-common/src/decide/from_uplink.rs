//! What the wire brings.

use network_types::udp::UdpHdr;

use super::{Arrival, Decap, Verdict, deliver, tunnelled};
use crate::{
    abi::{Config, NextHop, NextHopKind},
    ecn,
    headers::{
        ETHERNET_LEN, ETHERTYPE_IPV4, EthernetHeader, UDP_LEN, VXLAN_LEN, VxlanBytes, vxlan_header,
    },
    packet::{Packet, Tunnel},
    parse::{self, Ipv4, PROTOCOL_IPIP, PROTOCOL_UDP},
    reason::Reason,
    tables::Tables,
};

/// Where the inner IP header of an IPIP packet begins.
const IPIP_INNER: usize = parse::TRANSPORT;
/// Where the VXLAN header begins.
const VXLAN: usize = parse::TRANSPORT + UDP_LEN;
/// Where the inner Ethernet header of a VXLAN packet begins.
const VXLAN_INNER_ETHERNET: usize = VXLAN + VXLAN_LEN;
/// Where the inner IP header of a VXLAN packet begins.
const VXLAN_INNER: usize = VXLAN_INNER_ETHERNET + ETHERNET_LEN;

/// Decides on a frame that arrived on an uplink.
#[inline(always)]
pub fn from_uplink<'t, P: Packet, T: Tables>(packet: &P, tables: &'t T) -> Verdict<'t> {
    decide(packet, tables).unwrap_or_else(Verdict::Leave)
}

#[inline(always)]
fn decide<'t, P: Packet, T: Tables>(packet: &P, tables: &'t T) -> Result<Verdict<'t>, Reason> {
    parse::untagged(packet)?;
    if parse::ethertype(packet)? != ETHERTYPE_IPV4 {
        return Err(Reason::NotIpv4);
    }
    if !packet.is_to_interface() {
        return Err(Reason::OtherHost);
    }
    let ip = parse::ipv4(packet, parse::IP)?;
    let config = tables.config().ok_or(Reason::NoConfig)?;
    if ip.destination != config.node {
        return direct(packet, tables, ip);
    }
    match ip.protocol {
        PROTOCOL_IPIP => {
            open(&ip)?;
            tunnel(packet, tables, config, &ip, Tunnel::Ipip, IPIP_INNER)
        }
        PROTOCOL_UDP => {
            open(&ip)?;
            let udp: &UdpHdr = packet.header(parse::TRANSPORT).ok_or(Reason::NotForPod)?;
            if udp.dst != config.vxlan_port {
                return Err(Reason::NotForPod);
            }
            vxlan(packet, config, &ip)?;
            tunnel(packet, tables, config, &ip, Tunnel::Vxlan, VXLAN_INNER)
        }
        _ => Err(Reason::NotForPod),
    }
}

/// A packet that is not for this node's own address.
#[inline(always)]
fn direct<'t, P: Packet, T: Tables>(
    packet: &P,
    tables: &'t T,
    ip: Ipv4,
) -> Result<Verdict<'t>, Reason> {
    let endpoint = tables.endpoint(ip.destination).ok_or(Reason::NotForPod)?;
    // From where we would send the answer in the same way. What else routes to pods, a peer whose
    // mask makes it choose differently included, is for the stack and its reverse-path filter.
    let kind = tables.route(ip.source).and_then(NextHop::kind);
    if kind != Some(NextHopKind::Direct) {
        return Err(Reason::SourceOutside);
    }
    deliver(packet, &ip, parse::IP, endpoint, Arrival::Direct)
}

/// Whether an outer header allows what it carries to be read.
#[inline(always)]
fn open(outer: &Ipv4) -> Result<(), Reason> {
    if outer.fragment {
        return Err(Reason::Fragment);
    }
    if outer.options {
        return Err(Reason::Options);
    }
    if !outer.checksum_valid {
        return Err(Reason::HeaderChecksum);
    }
    Ok(())
}

/// Whether a datagram to the VXLAN port is of our network and holds an IPv4 packet for our VTEP.
/// Whatever else it is, it is left to the kernel's receiver.
#[inline(always)]
fn vxlan<P: Packet>(packet: &P, config: &Config, outer: &Ipv4) -> Result<(), Reason> {
    let header: &VxlanBytes = packet.header(VXLAN).ok_or(Reason::NotOurTunnel)?;
    if *header != vxlan_header(config.vni) {
        return Err(Reason::NotOurTunnel);
    }
    let udp: &UdpHdr = packet.header(parse::TRANSPORT).ok_or(Reason::Malformed)?;
    let payload = usize::from(outer.total_length) + ETHERNET_LEN - parse::TRANSPORT;
    if usize::from(u16::from_be_bytes(udp.len)) != payload {
        return Err(Reason::Malformed);
    }
    if udp.check != [0, 0] && !packet.is_checksum_verified() {
        return Err(Reason::OuterChecksum);
    }
    let inner: &EthernetHeader = packet
        .header(VXLAN_INNER_ETHERNET)
        .ok_or(Reason::Malformed)?;
    if inner.ethertype != ETHERTYPE_IPV4 {
        return Err(Reason::InnerNotIpv4);
    }
    if inner.destination != config.vtep_mac {
        return Err(Reason::InnerOtherHost);
    }
    Ok(())
}

/// A packet in a tunnel that ends here, its inner IP header at `offset`.
#[inline(always)]
fn tunnel<'t, P: Packet, T: Tables>(
    packet: &P,
    tables: &'t T,
    config: &Config,
    outer: &Ipv4,
    tunnel: Tunnel,
    offset: usize,
) -> Result<Verdict<'t>, Reason> {
    if tables.peer(outer.source).is_none() {
        return Err(Reason::UnknownPeer);
    }
    let inner = parse::ipv4(packet, offset).map_err(|_| Reason::InnerMalformed)?;
    // The inner packet ends within the outer one, not only within the frame.
    let room = usize::from(outer.total_length) + ETHERNET_LEN;
    if offset + usize::from(inner.total_length) > room {
        return Err(Reason::InnerMalformed);
    }
    let endpoint = tunnelled::check(tables, config, outer.source, &inner)?;
    let decap = Decap {
        tunnel,
        tos: ecn::decapsulate(outer.tos, inner.tos).ok_or(Reason::Congestion)?,
    };
    let Some(endpoint) = endpoint else {
        return Ok(Verdict::Inject(decap, Reason::ForHost));
    };
    let arrival = Arrival::Tunnelled(decap);
    // What is wrong with the inner packet is for the stack to treat, once it is out of the tunnel.
    deliver(packet, &inner, offset, endpoint, arrival)
        .or_else(|reason| Ok(Verdict::Inject(decap, reason)))
}
