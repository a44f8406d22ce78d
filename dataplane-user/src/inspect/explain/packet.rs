//! The packet that is asked about.

use std::net::Ipv4Addr;

use dataplane_common::{
    abi::FlowKey,
    checksum,
    headers::{self, ETHERNET_LEN, ETHERTYPE_IPV4, EthernetHeader, IPV4_LEN},
    memory::MemoryPacket,
    parse::{self, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP},
    tuple::Tuple,
};
use network_types::ip::Ipv4Hdr;

/// IP protocol number of ICMP.
pub const ICMP: u8 = 1;

/// An ordinary packet: small, with a TTL of 64, and of TCP one that neither opens nor closes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Its source.
    pub source: Ipv4Addr,
    /// Its destination.
    pub destination: Ipv4Addr,
    /// Its IP protocol; of ICMP it is an echo request.
    pub protocol: u8,
    /// Its ports, where the protocol has them.
    pub ports: Option<[u16; 2]>,
}

impl Question {
    /// Whether packets of this IP protocol have ports that flows are told apart by.
    #[must_use]
    pub const fn has_ports(protocol: u8) -> bool {
        matches!(protocol, PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_SCTP)
    }

    /// The flow that the packet is of; none where nobody can say it: of an echo it depends on the
    /// identifier, too, and what else has no ports is of none.
    #[must_use]
    pub fn flow(&self) -> Option<FlowKey> {
        self.ports?;
        let packet = self.packet();
        let ip = parse::ipv4(&packet, parse::IP).ok()?;
        let (tuple, _) = Tuple::of(&packet, &ip, parse::IP).ok()?;
        Some(tuple.key())
    }

    /// The packet in an Ethernet frame.
    pub(super) fn packet(&self) -> MemoryPacket {
        let transport = self.transport();
        let length = IPV4_LEN + transport.len();
        let mut bytes = vec![0; ETHERNET_LEN + length];
        if let Some(ethernet) = headers::at_mut::<EthernetHeader>(&mut bytes, 0) {
            ethernet.ethertype = ETHERTYPE_IPV4;
        }
        if let Some(header) = headers::at_mut::<Ipv4Hdr>(&mut bytes, parse::IP) {
            *header = Ipv4Hdr {
                vihl: 0x45,
                tos: 0,
                tot_len: u16::try_from(length).unwrap_or_default().to_be_bytes(),
                id: [0; 2],
                frags: [0x40, 0],
                ttl: 64,
                proto: self.protocol,
                check: [0; 2],
                src_addr: self.source.octets(),
                dst_addr: self.destination.octets(),
            };
            header.check = checksum::ipv4(header);
        }
        bytes[parse::TRANSPORT..].copy_from_slice(&transport);
        MemoryPacket::new(bytes)
    }

    /// What follows the IP header. Nobody on the way looks at the checksums in it.
    fn transport(&self) -> Vec<u8> {
        const ECHO: [u8; 8] = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
        /// Length in words, PSH and ACK, window.
        const TCP_END: [u8; 12] = [0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0, b'd', b'a', b't', b'a'];
        /// Length and checksum.
        const UDP_END: [u8; 8] = [0, 12, 0, 0, b'd', b'a', b't', b'a'];
        /// Tag and checksum, and a DATA chunk of 20 bytes (RFC 9260, section 3.3.1).
        const SCTP_END: [u8; 28] = [
            0, 0, 0, 1, 0, 0, 0, 0, 0, 3, 0, 20, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, b'd', b'a',
            b't', b'a',
        ];
        let [source, destination] = self.ports.unwrap_or_default().map(u16::to_be_bytes);
        let ports = [source, destination].concat();
        match self.protocol {
            ICMP => ECHO.to_vec(),
            PROTOCOL_TCP => [&ports[..], &[0; 8], &TCP_END].concat(),
            PROTOCOL_UDP => [&ports[..], &UDP_END].concat(),
            PROTOCOL_SCTP => [&ports[..], &SCTP_END].concat(),
            _ => b"data".to_vec(),
        }
    }
}
