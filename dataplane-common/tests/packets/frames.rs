//! Packets, built by etherparse.

use dataplane_common::{
    abi::{Addr, Mac},
    memory::MemoryPacket,
};
use etherparse::{
    ArpEthIpv4Packet, ArpOperation, EtherType, Ethernet2Header, IpFragOffset, IpNumber, Ipv4Header,
    TcpHeader, UdpHeader,
};

use crate::world::{VNI, VXLAN_PORT, node, vtep_mac};

/// Where the IP header of a frame is.
pub const IP: usize = 14;
/// Where the payload of an IP header without options is.
pub const PAYLOAD: usize = 34;
/// Where the inner IP header is in an IPIP packet, and in a VXLAN packet.
pub const IPIP_INNER: usize = 34;
pub const VXLAN_INNER: usize = 64;

/// Destination and source of frames whose addresses do not matter.
const TO: Mac = [0x02, 0, 0, 0, 0, 0xaa];
const FROM: Mac = [0x02, 0, 0, 0, 0, 0xbb];

/// An IPv4 packet. Lengths and checksums are filled in when it is made.
#[derive(Clone, Debug)]
pub struct Ip {
    header: Ipv4Header,
    payload: Vec<u8>,
}

impl Ip {
    /// A UDP datagram of a few bytes with TTL 64.
    pub fn new(source: Addr, destination: Addr) -> Self {
        let header = Ipv4Header {
            source,
            destination,
            time_to_live: 64,
            dont_fragment: false,
            ..Ipv4Header::default()
        };
        let packet = Self {
            header,
            payload: Vec::new(),
        };
        packet.udp(40_000, 53, b"question")
    }

    pub fn ttl(mut self, ttl: u8) -> Self {
        self.header.time_to_live = ttl;
        self
    }

    /// Sets DSCP and ECN.
    pub fn tos(mut self, tos: u8) -> Self {
        self.header.dscp = (tos >> 2).try_into().unwrap();
        self.header.ecn = (tos & 3).try_into().unwrap();
        self
    }

    pub fn id(mut self, id: u16) -> Self {
        self.header.identification = id;
        self
    }

    pub fn dont_fragment(mut self, set: bool) -> Self {
        self.header.dont_fragment = set;
        self
    }

    /// Makes it a fragment at `offset`, in units of 8 bytes.
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        self.header.fragment_offset = IpFragOffset::try_new(offset).unwrap();
        self.header.more_fragments = more;
        self
    }

    pub fn options(mut self, options: &[u8]) -> Self {
        self.header.options = options.try_into().unwrap();
        self
    }

    pub fn payload(mut self, protocol: u8, payload: &[u8]) -> Self {
        self.header.protocol = IpNumber(protocol);
        self.payload = payload.to_vec();
        self
    }

    pub fn udp(self, source: u16, destination: u16, payload: &[u8]) -> Self {
        let header = UdpHeader::with_ipv4_checksum(source, destination, &self.header, payload);
        let header = header.unwrap().to_bytes();
        self.payload(17, &[&header, payload].concat())
    }

    /// A TCP segment of `length` bytes of data behind a header of `header_length` bytes.
    pub fn tcp(self, header_length: usize, length: usize) -> Self {
        let mut header = TcpHeader::new(40_000, 80, u32::MAX, 1000);
        header
            .set_options_raw(&vec![1; header_length - 20])
            .unwrap();
        self.payload(6, &[&header.to_bytes()[..], &vec![0x5a; length]].concat())
    }

    /// Gives it a UDP payload that makes it `length` bytes long, headers included.
    pub fn of_length(self, length: u16) -> Self {
        let payload = vec![0x5a; usize::from(length) - self.header.header_len() - 8];
        self.udp(40_000, 53, &payload)
    }

    /// A packet in this one (RFC 2003).
    pub fn ipip(self, inner: &[u8]) -> Self {
        self.payload(4, inner)
    }

    pub fn packet(&self) -> Vec<u8> {
        let mut header = self.header.clone();
        header.set_payload_len(self.payload.len()).unwrap();
        header.header_checksum = header.calc_header_checksum();
        [&header.to_bytes()[..], &self.payload].concat()
    }

    pub fn frame(&self) -> MemoryPacket {
        frame_of(EtherType::IPV4.0, &self.packet())
    }
}

/// A VXLAN packet (RFC 7348).
#[derive(Clone)]
pub struct Vxlan {
    pub outer: Ip,
    pub port: u16,
    pub header: [u8; 8],
    pub has_checksum: bool,
    pub inner_destination: Mac,
    pub inner_type: u16,
    pub inner: Vec<u8>,
}

impl Vxlan {
    /// `inner` as node `from` sends it to node `to`.
    pub fn new(from: u8, to: u8, inner: &Ip) -> Self {
        let [_, a, b, c] = VNI.to_be_bytes();
        Self {
            outer: Ip::new(node(from), node(to)),
            port: VXLAN_PORT,
            header: [0x08, 0, 0, 0, a, b, c, 0],
            has_checksum: false,
            inner_destination: vtep_mac(to),
            inner_type: EtherType::IPV4.0,
            inner: inner.packet(),
        }
    }

    pub fn frame(&self) -> MemoryPacket {
        let inner = Ethernet2Header {
            destination: self.inner_destination,
            source: FROM,
            ether_type: EtherType(self.inner_type),
        };
        let payload = [&self.header[..], &inner.to_bytes(), &self.inner].concat();
        let mut outer = self.outer.clone().udp(50_000, self.port, &payload);
        if !self.has_checksum {
            outer.payload[6..8].fill(0);
        }
        outer.frame()
    }
}

/// A frame with any payload, for the interface it arrives on.
pub fn frame_of(ether_type: u16, payload: &[u8]) -> MemoryPacket {
    let header = Ethernet2Header {
        destination: TO,
        source: FROM,
        ether_type: EtherType(ether_type),
    };
    MemoryPacket::new([&header.to_bytes(), payload].concat())
}

/// A question for the address `target`.
pub fn arp_question(mac: Mac, address: Addr, target: Addr) -> ArpEthIpv4Packet {
    ArpEthIpv4Packet {
        operation: ArpOperation::REQUEST,
        sender_mac: mac,
        sender_ipv4: address,
        target_mac: [0; 6],
        target_ipv4: target,
    }
}

pub fn arp_frame(destination: Mac, arp: &ArpEthIpv4Packet) -> MemoryPacket {
    let mut frame = frame_of(EtherType::ARP.0, &arp.to_bytes());
    frame.bytes[..6].copy_from_slice(&destination);
    frame.to_interface = destination[0] & 1 == 0;
    frame
}

/// Changes to a frame that no builder would make.
pub trait Tamper: Sized {
    /// Overwrites bytes.
    fn with(self, offset: usize, bytes: &[u8]) -> Self;

    /// Overwrites bytes of the IP header at `header`, and makes its checksum right again.
    fn with_ip(self, header: usize, offset: usize, bytes: &[u8]) -> Self;

    /// Appends bytes.
    fn padded(self, length: usize) -> Self;

    /// Cuts it off.
    fn truncated(self, length: usize) -> Self;

    /// Says that it stands for segments with `size` bytes of payload each.
    fn of_segments(self, size: u32) -> Self;
}

impl Tamper for MemoryPacket {
    fn with(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn with_ip(self, header: usize, offset: usize, bytes: &[u8]) -> Self {
        let packet = self.with(header + offset, bytes).with(header + 10, &[0; 2]);
        let sum: u32 = packet.bytes[header..header + 20]
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        let check = !u16::try_from(sum).unwrap();
        packet.with(header + 10, &check.to_be_bytes())
    }

    fn padded(mut self, length: usize) -> Self {
        self.bytes.resize(self.bytes.len() + length, 0xee);
        self
    }

    fn truncated(mut self, length: usize) -> Self {
        self.bytes.truncate(length);
        self
    }

    fn of_segments(mut self, size: u32) -> Self {
        self.gso_size = size;
        self
    }
}
