//! From headers to facts.
//!
//! Everything sits at a constant offset: a packet with IP options is not looked into further, so
//! that the verifier never has to follow a length that came off the wire.

use network_types::ip::Ipv4Hdr;

use crate::{
    abi::Addr,
    checksum,
    headers::{ETHERNET_LEN, EthernetHeader, IPV4_LEN, UDP_LEN},
    packet::Packet,
    reason::Reason,
};

/// IP protocol number of IPv4 in IPv4.
pub const PROTOCOL_IPIP: u8 = 4;
/// IP protocol number of TCP.
pub const PROTOCOL_TCP: u8 = 6;
/// IP protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;
/// IP protocol number of SCTP.
pub const PROTOCOL_SCTP: u8 = 132;

/// Where the IP header of a frame begins.
pub const IP: usize = ETHERNET_LEN;
/// Where the payload of an IP header without options begins.
pub const TRANSPORT: usize = IP + IPV4_LEN;
/// Where in a TCP header the byte lies whose upper half is the header's length in 32-bit words.
const TCP_DATA_OFFSET: usize = 12;

/// What an IPv4 header says, once it has been found consistent with itself and with the frame.
#[allow(clippy::struct_excessive_bools)] // facts, each by itself; there is no state among them
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ipv4 {
    /// Source address.
    pub source: Addr,
    /// Destination address.
    pub destination: Addr,
    /// Protocol number of the payload.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Identification.
    pub id: [u8; 2],
    /// Length of header and payload in bytes, in the host's order; 20 at the least.
    pub total_length: u16,
    /// The don't-fragment flag.
    pub dont_fragment: bool,
    /// Whether this is a fragment, the first one included.
    pub fragment: bool,
    /// Whether this is a fragment and not the first one.
    pub is_later_fragment: bool,
    /// Whether the header is longer than 20 bytes.
    pub options: bool,
    /// Whether the header's checksum is right; not looked at where there are options.
    pub checksum_valid: bool,
}

impl Ipv4 {
    /// Why a forwarder has to hand this packet to the stack, whatever its addresses: the stack
    /// reassembles, reads options, answers and drops.
    #[inline(always)]
    pub fn forwardable(&self) -> Result<(), Reason> {
        if self.options {
            return Err(Reason::Options);
        }
        if !self.checksum_valid {
            return Err(Reason::HeaderChecksum);
        }
        if self.fragment {
            return Err(Reason::Fragment);
        }
        if self.ttl <= 1 {
            return Err(Reason::TtlExpired);
        }
        Ok(())
    }
}

/// What a frame holds.
#[inline(always)]
pub fn ethertype<P: Packet>(packet: &P) -> Result<[u8; 2], Reason> {
    let ethernet: &EthernetHeader = packet.header(0).ok_or(Reason::Malformed)?;
    Ok(ethernet.ethertype)
}

/// That a frame carries no VLAN tag beside its bytes, where the kernel puts the first one.
#[inline(always)]
pub fn untagged<P: Packet>(packet: &P) -> Result<(), Reason> {
    if packet.has_vlan_tag() {
        Err(Reason::VlanTag)
    } else {
        Ok(())
    }
}

/// The source address of an IPv4 packet, whatever else its header says. Without one, nobody can be
/// said to have sent it.
#[inline(always)]
pub fn source<P: Packet>(packet: &P) -> Result<Addr, Reason> {
    let header: &Ipv4Hdr = packet.header(IP).ok_or(Reason::SpoofedSource)?;
    Ok(header.src_addr)
}

/// The protocol number of an IPv4 packet, whatever else its header says.
#[inline(always)]
pub fn protocol<P: Packet>(packet: &P) -> Result<u8, Reason> {
    let header: &Ipv4Hdr = packet.header(IP).ok_or(Reason::Malformed)?;
    Ok(header.proto)
}

/// The IPv4 header at `offset`, checked against itself and against the length of the frame
/// (what `ip_rcv_core` checks).
#[inline(always)]
pub fn ipv4<P: Packet>(packet: &P, offset: usize) -> Result<Ipv4, Reason> {
    let header: &Ipv4Hdr = packet.header(offset).ok_or(Reason::Malformed)?;
    let total_length = u16::from_be_bytes(header.tot_len);
    let header_length = u16::from(header.vihl & 0x0f) * 4;
    if header.vihl >> 4 != 4 || usize::from(header_length) < IPV4_LEN {
        return Err(Reason::Malformed);
    }
    if total_length == 0 && packet.gso_size() != 0 {
        return Err(Reason::BigTcp);
    }
    #[allow(clippy::cast_possible_truncation)] // a constant: 14, 34 or 64
    let end = offset as u32 + u32::from(total_length);
    if total_length < header_length || end > packet.frame_length() {
        return Err(Reason::Malformed);
    }
    let options = usize::from(header_length) != IPV4_LEN;
    let [flags_and_offset, offset_low] = header.frags;
    Ok(Ipv4 {
        source: header.src_addr,
        destination: header.dst_addr,
        protocol: header.proto,
        ttl: header.ttl,
        tos: header.tos,
        id: header.id,
        total_length,
        dont_fragment: flags_and_offset & 0x40 != 0,
        // More fragments, or an offset.
        fragment: (flags_and_offset & 0x3f) | offset_low != 0,
        is_later_fragment: (flags_and_offset & 0x1f) | offset_low != 0,
        options,
        checksum_valid: options || checksum::ipv4_is_valid(header),
    })
}

/// Whether a host on a network can have `address` (RFC 1812, section 5.3.7): it is in neither
/// 0.0.0.0/8, 127.0.0.0/8 nor 224.0.0.0/3.
#[inline(always)]
#[must_use]
pub const fn is_unicast(address: Addr) -> bool {
    !matches!(address[0], 0 | 127 | 224..)
}

/// Source and destination port of a packet whose IP header is at `offset`, as they stand on the
/// wire; zero where the protocol has none, or the packet is a fragment or has options.
#[inline(always)]
pub fn ports<P: Packet>(packet: &P, ip: &Ipv4, offset: usize) -> [u8; 4] {
    if ip.fragment || ip.options {
        return [0; 4];
    }
    match ip.protocol {
        PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_SCTP => packet
            .header(offset + IPV4_LEN)
            .copied()
            .unwrap_or_default(),
        _ => [0; 4],
    }
}

/// Length in bytes of the longest IP packet that this one will be on the wire: itself, with the
/// padding that follows it in its frame, or one segment of it (`skb_gso_network_seglen`). Its IP
/// header is at `offset`; of a segment with options it is the least that the length can be.
#[inline(always)]
pub fn segment_length<P: Packet>(packet: &P, ip: &Ipv4, offset: usize) -> Result<u32, Reason> {
    let gso_size = packet.gso_size();
    if gso_size == 0 {
        // Nothing cuts the padding off on the way.
        #[allow(clippy::cast_possible_truncation)] // a constant: 14, 34 or 64
        return Ok(packet.frame_length() - offset as u32);
    }
    #[allow(clippy::cast_possible_truncation)] // 20
    let ip_length = IPV4_LEN as u32;
    if ip.options {
        // Where the transport header is, is not looked into. Only the stack's own packets come
        // here, and it has kept to the MTU of its route.
        return Ok(ip_length + gso_size);
    }
    let transport = offset + IPV4_LEN;
    let transport_length = match ip.protocol {
        PROTOCOL_TCP => {
            let [data_offset]: &[u8; 1] = packet
                .header(transport + TCP_DATA_OFFSET)
                .ok_or(Reason::UnsupportedGso)?;
            u32::from(data_offset >> 4) * 4
        }
        #[allow(clippy::cast_possible_truncation)] // 8
        PROTOCOL_UDP => UDP_LEN as u32,
        _ => return Err(Reason::UnsupportedGso),
    };
    Ok(ip_length + transport_length + gso_size)
}
