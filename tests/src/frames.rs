//! Frames to send, built by etherparse: independent of the code under test.
//!
//! ```
//! use dataplane_tests::{Ip, Mac, frames};
//!
//! let (pod, peer) = ([10, 244, 0, 2].into(), [10, 244, 1, 2].into());
//! let packet = Ip::new(pod, peer).ttl(3).udp(4000, 5000, b"hello");
//! let frame = frames::ethernet(Mac::of(pod, 0), Mac::CALICO, &packet);
//! assert_eq!(frame.len(), 14 + 20 + 8 + 5);
//! ```

use std::net::Ipv4Addr;

use etherparse::{
    ArpEthIpv4Packet, ArpOperation, EtherType, Ethernet2Header, IcmpEchoHeader, Icmpv4Header,
    Icmpv4Type, IpFragOffset, IpNumber, Ipv4Header, TcpHeader, UdpHeader,
};

use crate::Mac;

/// The gateway of every pod.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The UDP port of VXLAN.
pub const VXLAN_PORT: u16 = 4789;

/// The UDP source port of [`Ip::vxlan`].
pub const VXLAN_SOURCE_PORT: u16 = 49152;

/// A frame with an IPv4 packet.
#[must_use]
pub fn ethernet(source: Mac, destination: Mac, packet: &[u8]) -> Vec<u8> {
    ethernet_with_type(source, destination, EtherType::IPV4.0, packet)
}

/// A frame with any payload.
#[must_use]
pub fn ethernet_with_type(
    source: Mac,
    destination: Mac,
    ether_type: u16,
    payload: &[u8],
) -> Vec<u8> {
    let header = Ethernet2Header {
        source: source.0,
        destination: destination.0,
        ether_type: EtherType(ether_type),
    };
    [&header.to_bytes(), payload].concat()
}

/// How a pod asks for its gateway.
#[must_use]
pub fn arp_gateway_request(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    arp_request(mac, address, Mac::BROADCAST, GATEWAY)
}

/// How a station announces its own address.
#[must_use]
pub fn arp_gratuitous(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    arp_request(mac, address, Mac::BROADCAST, address)
}

/// How a station asks whether an address is taken before it uses it (RFC 5227).
#[must_use]
pub fn arp_duplicate_probe(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    arp_request(mac, Ipv4Addr::UNSPECIFIED, Mac::BROADCAST, address)
}

/// Any ARP request, broadcast or, to verify a neighbour, unicast.
#[must_use]
pub fn arp_request(mac: Mac, address: Ipv4Addr, destination: Mac, target: Ipv4Addr) -> Vec<u8> {
    let request = ArpEthIpv4Packet {
        operation: ArpOperation::REQUEST,
        sender_mac: mac.0,
        sender_ipv4: address.octets(),
        target_mac: Mac::ZERO.0,
        target_ipv4: target.octets(),
    };
    ethernet_with_type(mac, destination, EtherType::ARP.0, &request.to_bytes())
}

/// The reply of `mac`, which has `address`, to whoever asked.
#[must_use]
pub fn arp_reply(mac: Mac, address: Ipv4Addr, asker: Mac, asker_address: Ipv4Addr) -> Vec<u8> {
    let reply = ArpEthIpv4Packet {
        operation: ArpOperation::REPLY,
        sender_mac: mac.0,
        sender_ipv4: address.octets(),
        target_mac: asker.0,
        target_ipv4: asker_address.octets(),
    };
    ethernet_with_type(mac, asker, EtherType::ARP.0, &reply.to_bytes())
}

/// An IPv4 header, from which packets are made. Lengths and checksums are filled in.
///
/// Values that do not fit their field, and payloads too long for a packet, panic: they are mistakes
/// of the test.
#[derive(Clone, Debug)]
pub struct Ip(Ipv4Header);

impl Ip {
    /// A header with TTL 64, identification 0 and neither TOS, flags nor options.
    #[must_use]
    pub fn new(source: Ipv4Addr, destination: Ipv4Addr) -> Self {
        Self(Ipv4Header {
            source: source.octets(),
            destination: destination.octets(),
            time_to_live: 64,
            dont_fragment: false,
            ..Ipv4Header::default()
        })
    }

    /// Sets the TTL.
    #[must_use]
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.0.time_to_live = ttl;
        self
    }

    /// Sets the TOS byte: six bits DSCP, two bits ECN.
    #[must_use]
    #[allow(clippy::missing_panics_doc, reason = "the shifts make the values fit")]
    pub fn tos(mut self, tos: u8) -> Self {
        self.0.dscp = (tos >> 2).try_into().expect("six bits");
        self.0.ecn = (tos & 3).try_into().expect("two bits");
        self
    }

    /// Sets "don't fragment".
    #[must_use]
    pub fn dont_fragment(mut self, set: bool) -> Self {
        self.0.dont_fragment = set;
        self
    }

    /// Sets the identification.
    #[must_use]
    pub fn identification(mut self, identification: u16) -> Self {
        self.0.identification = identification;
        self
    }

    /// Makes it a fragment at an offset in bytes, with or without others after it. The payload is
    /// then best given to [`Ip::packet`].
    ///
    /// # Panics
    ///
    /// When the offset is not a multiple of 8.
    #[must_use]
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        assert!(
            offset.is_multiple_of(8),
            "a fragment cannot begin at byte {offset}"
        );
        self.0.fragment_offset = IpFragOffset::try_new(offset / 8).expect("13 bits");
        self.0.more_fragments = more;
        self
    }

    /// Sets the options.
    ///
    /// # Panics
    ///
    /// When they are not a multiple of 4 bytes, up to 40.
    #[must_use]
    pub fn options(mut self, options: &[u8]) -> Self {
        self.0.options = options.try_into().expect("options of whole words");
        self
    }

    /// A packet with any payload.
    ///
    /// # Panics
    ///
    /// When the payload is too long.
    #[must_use]
    pub fn packet(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut header = self.0.clone();
        header.protocol = IpNumber(protocol);
        header
            .set_payload_len(payload.len())
            .expect("a payload that fits");
        header.header_checksum = header.calc_header_checksum();
        [&header.to_bytes(), payload].concat()
    }

    /// A UDP packet.
    ///
    /// # Panics
    ///
    /// When the payload is too long.
    #[must_use]
    pub fn udp(&self, source_port: u16, destination_port: u16, payload: &[u8]) -> Vec<u8> {
        let header = UdpHeader::with_ipv4_checksum(source_port, destination_port, &self.0, payload);
        self.with_udp_header(&header.expect("a payload that fits"), payload)
    }

    /// A UDP packet with checksum 0: none.
    ///
    /// # Panics
    ///
    /// When the payload is too long.
    #[must_use]
    pub fn udp_unsummed(&self, source_port: u16, destination_port: u16, payload: &[u8]) -> Vec<u8> {
        let header = UdpHeader::without_ipv4_checksum(source_port, destination_port, payload.len());
        self.with_udp_header(&header.expect("a payload that fits"), payload)
    }

    fn with_udp_header(&self, header: &UdpHeader, payload: &[u8]) -> Vec<u8> {
        self.packet(IpNumber::UDP.0, &[&header.to_bytes(), payload].concat())
    }

    /// A TCP packet. The checksum of `header` does not matter.
    ///
    /// # Panics
    ///
    /// When the payload is too long.
    #[must_use]
    pub fn tcp(&self, mut header: TcpHeader, payload: &[u8]) -> Vec<u8> {
        header.checksum = header
            .calc_checksum_ipv4(&self.0, payload)
            .expect("a payload that fits");
        self.packet(IpNumber::TCP.0, &[&header.to_bytes(), payload].concat())
    }

    /// An ICMP echo request.
    #[must_use]
    pub fn echo_request(&self, id: u16, sequence: u16, payload: &[u8]) -> Vec<u8> {
        self.icmp(
            Icmpv4Type::EchoRequest(IcmpEchoHeader { id, seq: sequence }),
            payload,
        )
    }

    /// An ICMP echo reply.
    #[must_use]
    pub fn echo_reply(&self, id: u16, sequence: u16, payload: &[u8]) -> Vec<u8> {
        self.icmp(
            Icmpv4Type::EchoReply(IcmpEchoHeader { id, seq: sequence }),
            payload,
        )
    }

    /// Any ICMP packet.
    #[must_use]
    pub fn icmp(&self, kind: Icmpv4Type, payload: &[u8]) -> Vec<u8> {
        let header = Icmpv4Header::with_checksum(kind, payload);
        self.packet(IpNumber::ICMP.0, &[&header.to_bytes(), payload].concat())
    }

    /// A packet in this one (RFC 2003).
    #[must_use]
    pub fn ipip(&self, inner_packet: &[u8]) -> Vec<u8> {
        self.packet(IpNumber::IPV4.0, inner_packet)
    }

    /// A frame in this packet (RFC 7348), from [`VXLAN_SOURCE_PORT`] to [`VXLAN_PORT`]; for other
    /// ports, see [`vxlan_header`].
    #[must_use]
    pub fn vxlan(&self, vni: u32, inner_frame: &[u8], udp_checksum: bool) -> Vec<u8> {
        let payload = [&vxlan_header(vni), inner_frame].concat();
        if udp_checksum {
            self.udp(VXLAN_SOURCE_PORT, VXLAN_PORT, &payload)
        } else {
            self.udp_unsummed(VXLAN_SOURCE_PORT, VXLAN_PORT, &payload)
        }
    }
}

/// The header between UDP and the inner frame.
///
/// # Panics
///
/// When the VNI has more than 24 bits.
#[must_use]
pub fn vxlan_header(vni: u32) -> [u8; 8] {
    let [0, a, b, c] = vni.to_be_bytes() else {
        panic!("{vni} is not a VNI")
    };
    [0x08, 0, 0, 0, a, b, c, 0]
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
    const PEER: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);

    #[test]
    fn header_fields_are_where_they_belong() {
        let packet = Ip::new(POD, PEER)
            .ttl(3)
            .tos(0xb9)
            .identification(0x1234)
            .fragment(1480, true)
            .options(&[1, 1, 1, 0])
            .packet(47, b"payload");
        assert_eq!(packet[..2], [0x46, 0xb9]);
        assert_eq!(packet[2..4], 31_u16.to_be_bytes());
        assert_eq!(packet[4..6], [0x12, 0x34]);
        assert_eq!(packet[6..8], [0x20, 185]);
        assert_eq!(packet[8..10], [3, 47]);
        assert_eq!(packet[12..16], POD.octets());
        assert_eq!(packet[16..20], PEER.octets());
        assert_eq!(&packet[20..], b"\x01\x01\x01\x00payload");
        assert_eq!(internet_checksum(&packet[..24]), 0);
    }

    #[test]
    fn vxlan_wraps_a_frame() {
        let inner = ethernet(
            Mac::of(POD, 0),
            Mac::CALICO,
            &Ip::new(POD, PEER).udp(1, 2, b"x"),
        );
        let outer = Ip::new([192, 168, 1, 10].into(), [192, 168, 1, 11].into());
        for checksum in [false, true] {
            let packet = outer.vxlan(4096, &inner, checksum);
            let parsed = SlicedPacket::from_ip(&packet).unwrap();
            let Some(TransportSlice::Udp(udp)) = parsed.transport else {
                panic!("not UDP")
            };
            assert_eq!(udp.destination_port(), 4789);
            assert_eq!(udp.checksum() != 0, checksum);
            assert_eq!(udp.payload()[..8], [8, 0, 0, 0, 0, 16, 0, 0]);
            assert_eq!(udp.payload()[8..], inner);
        }
    }

    #[test]
    fn ipip_wraps_a_packet() {
        let inner = Ip::new(POD, PEER).echo_request(7, 1, b"ping");
        let packet = Ip::new([192, 168, 1, 10].into(), [192, 168, 1, 11].into()).ipip(&inner);
        let parsed = SlicedPacket::from_ip(&packet).unwrap();
        let Some(NetSlice::Ipv4(outer)) = parsed.net else {
            panic!("not IPv4")
        };
        assert_eq!(outer.header().protocol(), IpNumber(4));
        assert_eq!(packet[20..], inner);
    }

    #[test]
    fn arp_requests_differ_in_what_they_claim() {
        let mac = Mac::of(POD, 0);
        let sender_and_target = |frame: Vec<u8>| (frame[28..32].to_vec(), frame[38..42].to_vec());
        let [pod, gateway, none] =
            [POD, GATEWAY, Ipv4Addr::UNSPECIFIED].map(|a| a.octets().to_vec());
        assert_eq!(
            sender_and_target(arp_gateway_request(mac, POD)),
            (pod.clone(), gateway)
        );
        assert_eq!(
            sender_and_target(arp_gratuitous(mac, POD)),
            (pod.clone(), pod.clone())
        );
        assert_eq!(
            sender_and_target(arp_duplicate_probe(mac, POD)),
            (none, pod)
        );
    }

    fn internet_checksum(bytes: &[u8]) -> u16 {
        let words = bytes
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
        let sum: u32 = words.sum();
        !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap()
    }
}
