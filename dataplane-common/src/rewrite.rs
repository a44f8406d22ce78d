//! Carrying out a verdict on a packet's bytes.
//!
//! Errors before room was made are [`Reason::NoRoom`] and [`Reason::CutUp`] and leave the packet as
//! it was, so that the stack can still have it; later ones are [`Reason::Rewrite`].

use network_types::{ip::Ipv4Hdr, udp::UdpHdr};

use crate::{
    abi::{Addr, Config, Endpoint, Mac},
    checksum,
    decide::{Decap, Send},
    ecn, flow,
    headers::{
        ETHERTYPE_IPV4, EthernetWords, IPV4_LEN, UDP_LEN, VXLAN_LEN, VxlanBytes, vxlan_header,
    },
    packet::{Packet, Tunnel},
    parse::{self, PROTOCOL_IPIP, PROTOCOL_UDP},
    reason::Reason,
};

/// TTL of the outer header of VXLAN (`ip4_dst_hoplimit`, as the kernel's device with TTL 0).
const VXLAN_TTL: u8 = 64;
/// The don't-fragment flag, first byte of the field.
const DONT_FRAGMENT: u8 = 0x40;

/// Prepares a packet for the uplink: counts its TTL down and puts it into its tunnel. The link
/// layer's header is left to the neighbour subsystem.
#[inline(always)]
pub fn send<P: Packet>(packet: &mut P, config: &Config, send: &Send) -> Result<(), Reason> {
    if let Some(tunnel) = send.encap {
        packet.encap_room(tunnel)?;
    }
    let inner = match send.encap {
        None => parse::IP,
        Some(Tunnel::Ipip) => {
            ipip(packet, config, send)?;
            parse::IP + IPV4_LEN
        }
        Some(Tunnel::Vxlan) => {
            vxlan(packet, config, send)?;
            parse::IP + usize::from(Tunnel::Vxlan.overhead())
        }
    };
    if send.forwarded {
        count_down(packet, inner, send.ip.tos)?;
    }
    Ok(())
}

/// Prepares an aggregate for the carrier, to which the caller then hands it with the outer
/// destination that is returned.
///
/// The kernel takes the packet to be in a tunnel, from which BPF took it, and can neither put it
/// into one nor cut it up as if it were in another. The carrier's device offloads nothing for
/// tunnel packets, so the kernel cuts it up before the device gets it, rightly, by its headers. From
/// there what is for VXLAN goes its way. What is for IPIP goes through VXLAN to this node itself,
/// whose receiver makes the kernel forget all tunnels.
#[inline(always)]
pub fn cut_up<P: Packet>(packet: &mut P, config: &Config, send: &Send) -> Result<Addr, Reason> {
    let (here, there) = (config.vtep_mac, send.next_hop.vtep_mac);
    let (destination, source, remote) = if send.encap == Some(Tunnel::Vxlan) {
        (there, here, send.next_hop.peer)
    } else {
        // The receiver drops what seems to come from itself (`vxlan_set_mac`).
        (here, there, config.node)
    };
    address(packet, destination, source)?;
    if send.forwarded {
        count_down(packet, parse::IP, send.ip.tos)?;
    }
    Ok(remote)
}

/// Takes a packet out of its tunnel, if it is in one, and addresses it to a local pod.
#[inline(always)]
pub fn deliver<P: Packet>(
    packet: &mut P,
    decap: Option<Decap>,
    endpoint: &Endpoint,
) -> Result<(), Reason> {
    if let Some(decap) = decap {
        packet.decap_room(decap.tunnel)?;
    }
    address(packet, endpoint.mac, endpoint.host_mac)?;
    let header: &Ipv4Hdr = packet.header(parse::IP).ok_or(Reason::Rewrite)?;
    let tos = decap.map_or(header.tos, |decap| decap.tos);
    count_down(packet, parse::IP, tos)
}

/// Takes a packet out of its tunnel, if it is in one still, and addresses it to the carrier, for the
/// stack to treat.
#[inline(always)]
pub fn inject<P: Packet>(
    packet: &mut P,
    config: &Config,
    decap: Option<Decap>,
) -> Result<(), Reason> {
    if let Some(decap) = decap {
        take_out(packet, decap)?;
    }
    address(packet, config.vtep_mac, config.vtep_mac)
}

/// Takes a packet out of its tunnel; the frame keeps its addresses.
#[inline(always)]
pub fn take_out<P: Packet>(packet: &mut P, decap: Decap) -> Result<(), Reason> {
    packet.decap_room(decap.tunnel)?;
    let header: &mut Ipv4Hdr = packet.header_mut(parse::IP).ok_or(Reason::Rewrite)?;
    set_tos(header, decap.tos);
    Ok(())
}

/// Addresses a frame that holds an IPv4 packet.
#[inline(always)]
pub fn address<P: Packet>(packet: &mut P, destination: Mac, source: Mac) -> Result<(), Reason> {
    let words: &mut EthernetWords = packet.header_mut(0).ok_or(Reason::Rewrite)?;
    *words = EthernetWords::new(destination, source, ETHERTYPE_IPV4);
    Ok(())
}

/// The outer header of IPIP, as the kernel's device with its defaults: the inner TTL, and the inner
/// don't-fragment flag (`ip_tunnel_xmit`).
#[inline(always)]
fn ipip<P: Packet>(packet: &mut P, config: &Config, send: &Send) -> Result<(), Reason> {
    let ttl = send.ip.ttl - u8::from(send.forwarded);
    outer(
        packet,
        config,
        send,
        Tunnel::Ipip,
        PROTOCOL_IPIP,
        ttl,
        send.ip.dont_fragment,
    )
}

/// The outer headers of VXLAN, as the kernel's device with its defaults (`vxlan_xmit_one`), but for
/// the source port, see [`flow::entropy_port`].
#[inline(always)]
fn vxlan<P: Packet>(packet: &mut P, config: &Config, send: &Send) -> Result<(), Reason> {
    outer(
        packet,
        config,
        send,
        Tunnel::Vxlan,
        PROTOCOL_UDP,
        VXLAN_TTL,
        false,
    )?;

    let length = send.ip.total_length + Tunnel::Vxlan.overhead() - IPV4_LEN_U16;
    let udp: &mut UdpHdr = packet.header_mut(parse::TRANSPORT).ok_or(Reason::Rewrite)?;
    *udp = UdpHdr {
        src: flow::entropy_port(&send.ip, send.ports),
        dst: config.vxlan_port,
        len: length.to_be_bytes(),
        check: [0, 0],
    };

    let offset = parse::TRANSPORT + UDP_LEN;
    let header: &mut VxlanBytes = packet.header_mut(offset).ok_or(Reason::Rewrite)?;
    *header = vxlan_header(config.vni);

    let offset = offset + VXLAN_LEN;
    let words: &mut EthernetWords = packet.header_mut(offset).ok_or(Reason::Rewrite)?;
    *words = EthernetWords::new(send.next_hop.vtep_mac, config.vtep_mac, ETHERTYPE_IPV4);
    Ok(())
}

#[allow(clippy::cast_possible_truncation)] // 20
const IPV4_LEN_U16: u16 = IPV4_LEN as u16;

#[inline(always)]
fn outer<P: Packet>(
    packet: &mut P,
    config: &Config,
    send: &Send,
    tunnel: Tunnel,
    proto: u8,
    ttl: u8,
    dont_fragment: bool,
) -> Result<(), Reason> {
    let source: Addr = send.next_hop.source;
    let mut header = Ipv4Hdr {
        vihl: 0x45,
        tos: ecn::encapsulate(config.tunnel_tos(send.ip.tos), send.ip.tos),
        tot_len: (send.ip.total_length + tunnel.overhead()).to_be_bytes(),
        // As unique as the inner one is (RFC 6864). It matters only where the underlay fragments,
        // which the MTU of the next hop is there to avoid.
        id: send.ip.id,
        frags: [if dont_fragment { DONT_FRAGMENT } else { 0 }, 0],
        ttl,
        proto,
        check: [0, 0],
        src_addr: source,
        dst_addr: send.next_hop.peer,
    };
    header.check = checksum::ipv4(&header);
    *packet.header_mut(parse::IP).ok_or(Reason::Rewrite)? = header;
    Ok(())
}

/// Counts the TTL of the header at `offset` down by one, as a router does, and sets its TOS byte.
#[inline(always)]
fn count_down<P: Packet>(packet: &mut P, offset: usize, tos: u8) -> Result<(), Reason> {
    let header: &mut Ipv4Hdr = packet.header_mut(offset).ok_or(Reason::Rewrite)?;
    let ttl = header.ttl.wrapping_sub(1);
    header.check = checksum::replace(
        header.check,
        [header.ttl, header.proto],
        [ttl, header.proto],
    );
    header.ttl = ttl;
    set_tos(header, tos);
    Ok(())
}

#[inline(always)]
fn set_tos(header: &mut Ipv4Hdr, tos: u8) {
    if header.tos != tos {
        header.check =
            checksum::replace(header.check, [header.vihl, header.tos], [header.vihl, tos]);
        header.tos = tos;
    }
}
