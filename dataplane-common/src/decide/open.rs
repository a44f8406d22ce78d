//! Opening what the wire brings in a tunnel.

use network_types::{ip::Ipv4Hdr, udp::UdpHdr};

use super::{
    Arrival, Decap, Verdict, deliver,
    established::{Arrived, Watch, watch},
    tunnelled::{self, Owner},
};
use crate::{
    abi::{Addr, Config, Endpoint},
    ecn,
    headers::{
        ETHERNET_LEN, ETHERTYPE_IPV4, EthernetHeader, UDP_LEN, VXLAN_LEN, VxlanBytes, vxlan_header,
    },
    packet::{Packet, Tunnel},
    parse::{self, Ipv4, PROTOCOL_IPIP, PROTOCOL_UDP},
    reason::Reason,
    tables::Tables,
};

/// Where the VXLAN header begins.
const VXLAN: usize = parse::TRANSPORT + UDP_LEN;
/// Where the inner Ethernet header of a VXLAN packet begins.
const VXLAN_INNER_ETHERNET: usize = VXLAN + VXLAN_LEN;

/// A tunnel packet, looked into and judged.
pub(super) struct Opened<'t> {
    /// The inner header.
    pub(super) inner: Ipv4,
    /// The local pod it is for, or none where it is for this node itself.
    pub(super) endpoint: Option<&'t Endpoint>,
    /// How it is taken out.
    pub(super) decap: Decap,
    /// What is known of its flow.
    watch: Watch,
}

impl<'t> Opened<'t> {
    /// Straight to the local pod that it is for, out of `tunnel`.
    ///
    /// # Errors
    ///
    /// Why it is the stack's to treat.
    #[inline(always)]
    pub(super) fn to_pod<P: Packet, T: Tables>(
        &self,
        packet: &P,
        tables: &T,
        config: &Config,
        tunnel: Tunnel,
    ) -> Result<Verdict<'t>, Reason> {
        let endpoint = self.endpoint.ok_or(Reason::ForHost)?;
        let verdict = deliver(
            packet,
            tables,
            &self.inner,
            inner_offset(tunnel),
            endpoint,
            Arrival::Tunnelled(self.decap),
        )?;
        Ok(self.watch.judge_in(tables, config, verdict))
    }

    /// Has its flow remember that it goes to that pod, if it may be carried.
    #[inline(always)]
    pub(super) fn note<T: Tables>(&self, tables: &T) {
        if let Some(endpoint) = self.endpoint {
            self.watch.note_in(tables, endpoint);
        }
    }
}

/// Where the IP header begins that is in `tunnel`.
#[inline(always)]
#[must_use]
pub const fn inner_offset(tunnel: Tunnel) -> usize {
    match tunnel {
        Tunnel::Ipip => parse::TRANSPORT,
        Tunnel::Vxlan => VXLAN_INNER_ETHERNET + ETHERNET_LEN,
    }
}

/// Which tunnel a packet for this node's own address is in, if one that is opened here. Whatever
/// else it is, it is the stack's.
#[inline(always)]
pub(super) fn tunnel<P: Packet>(
    packet: &P,
    config: &Config,
    outer: &Ipv4,
) -> Result<Tunnel, Reason> {
    match outer.protocol {
        PROTOCOL_IPIP => {
            readable(outer)?;
            Ok(Tunnel::Ipip)
        }
        PROTOCOL_UDP => {
            readable(outer)?;
            let udp: &UdpHdr = packet.header(parse::TRANSPORT).ok_or(Reason::NotForPod)?;
            if udp.dst != config.vxlan_port {
                return Err(Reason::NotForPod);
            }
            vxlan(packet, config, outer)?;
            Ok(Tunnel::Vxlan)
        }
        _ => Err(Reason::NotForPod),
    }
}

/// Judges what is in a tunnel that ends here.
#[inline(always)]
pub(super) fn open<'t, P: Packet, T: Tables>(
    packet: &P,
    tables: &'t T,
    config: &Config,
    outer: &Ipv4,
    tunnel: Tunnel,
) -> Result<Opened<'t>, Reason> {
    let from = Arrived::tunnel(tunnel, outer.source);
    let offset = inner_offset(tunnel);
    let inner = match inner(packet, outer, offset) {
        Ok(inner) => inner,
        Err(reason) => {
            check_peer(tables, config, outer.source)?;
            return Err(reason);
        }
    };
    let watch = watch(packet, tables, config, &inner, offset, from);
    let endpoint = if let Some(endpoint) = watch.way_in(tables) {
        Some(endpoint)
    } else {
        let owner = Owner::of(tables, inner.source);
        if !owner.is_behind_tunnel(outer.source) {
            check_peer(tables, config, outer.source)?;
        }
        tunnelled::check(packet, tables, config, outer.source, &inner, offset, &owner)?
    };
    let tos = ecn::decapsulate(outer.tos, inner.tos).ok_or(Reason::Congestion)?;
    Ok(Opened {
        inner,
        endpoint,
        decap: Decap { tunnel, tos },
        watch,
    })
}

/// The inner header, at `offset`.
#[inline(always)]
fn inner<P: Packet>(packet: &P, outer: &Ipv4, offset: usize) -> Result<Ipv4, Reason> {
    let inner = parse::ipv4(packet, offset).map_err(|_| Reason::InnerMalformed)?;
    // The inner packet ends within the outer one, not only within the frame.
    let room = usize::from(outer.total_length) + ETHERNET_LEN;
    if offset + usize::from(inner.total_length) > room {
        return Err(Reason::InnerMalformed);
    }
    Ok(inner)
}

/// Which tunnel the kernel has put a packet into that leaves it, if any.
#[inline(always)]
pub(super) fn tunnel_out<P: Packet>(packet: &P, config: &Config) -> Result<Option<Tunnel>, Reason> {
    if parse::ethertype(packet)? != ETHERTYPE_IPV4 {
        return Err(Reason::NotIpv4);
    }
    let outer = parse::ipv4(packet, parse::IP)?;
    match outer.protocol {
        PROTOCOL_IPIP => {
            readable(&outer)?;
            Ok(Some(Tunnel::Ipip))
        }
        PROTOCOL_UDP if outer.source == config.node => {
            readable(&outer)?;
            let udp: &UdpHdr = packet.header(parse::TRANSPORT).ok_or(Reason::Malformed)?;
            let is_vxlan = udp.dst == config.vxlan_port;
            Ok(is_vxlan.then_some(Tunnel::Vxlan))
        }
        _ => Ok(None),
    }
}

/// That `source` is a peer's, which need not be asked where our own tunnels lead to it. Without a carrier the peers are those that our own tunnels lead to: another
/// node may well send in one what goes to it without, and the kernel's device and whoever guards it know.
#[inline(always)]
fn check_peer<T: Tables>(tables: &T, config: &Config, source: Addr) -> Result<(), Reason> {
    match tables.peer(source) {
        Some(_) => Ok(()),
        None if config.carrier == 0 => Err(Reason::UnlistedPeer),
        None => Err(Reason::UnknownPeer),
    }
}

/// Whether an outer header allows what it carries to be read.
#[inline(always)]
fn readable(outer: &Ipv4) -> Result<(), Reason> {
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
    if !packet.forgets_tunnels() && is_udp_aggregate(packet) {
        return Err(Reason::UdpAggregate);
    }
    Ok(())
}

/// Whether a VXLAN packet is of many datagrams. As long as the kernel takes them to be in VXLAN, it
/// takes their UDP header for the tunnel's when it parts them (`udp4_ufo_fragment`), be it for a
/// device or for a socket, and drops them all. Its own receiver makes it forget.
#[inline(always)]
fn is_udp_aggregate<P: Packet>(packet: &P) -> bool {
    let inner: Option<&Ipv4Hdr> = packet.header(inner_offset(Tunnel::Vxlan));
    packet.gso_size() != 0 && inner.is_some_and(|inner| inner.proto == PROTOCOL_UDP)
}
