//! Which packets `underpass monitor` is told of. A program asks that of the beginning of a frame, which
//! it has copied, and only while somebody listens.

use crate::{
    abi::{ANY_PROTOCOL, Addr, Filter, MAX_SNAP, Network},
    decide::inner_offset,
    headers::{ETHERNET_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4, IPV4_LEN},
    packet::Tunnel,
    parse::{IP, PROTOCOL_IPIP, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP},
};

/// The beginning of a frame. Behind its end it holds anything.
pub type Beginning = [u8; MAX_SNAP];

/// Where the inner IP header of IPIP is.
const IN_IPIP: usize = inner_offset(Tunnel::Ipip);
/// Where the inner IP header of VXLAN is.
const IN_VXLAN: usize = inner_offset(Tunnel::Vxlan);

/// Where in ARP for IPv4 the sender's address and the target's are.
const ARP_ADDRESSES: [usize; 2] = [ETHERNET_LEN + 14, ETHERNET_LEN + 24];
/// Where it ends.
const ARP_END: u32 = 14 + 28;

/// An IPv4 header, as far as it is asked for, and the ports behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heading {
    /// Source and destination address.
    pub addresses: [Addr; 2],
    /// Protocol number of the payload.
    pub protocol: u8,
    /// Source and destination port, where they are known.
    pub ports: Option<[u16; 2]>,
}

/// Whether the frame that begins so, and of which `captured` bytes are there, is one of those that are
/// meant: by itself, or by what is in its tunnel.
#[inline(always)]
#[must_use]
pub fn is_wanted(filter: &Filter, frame: &Beginning, captured: u32) -> bool {
    match [frame[ETHERNET_LEN - 2], frame[ETHERNET_LEN - 1]] {
        ETHERTYPE_IPV4 => {
            let Some(outer) = heading(frame, captured, IP) else {
                return filter.is_any();
            };
            let inner = match tunnel(&outer, filter.vxlan_port) {
                Some(Tunnel::Ipip) => heading(frame, captured, IN_IPIP),
                Some(Tunnel::Vxlan) => heading(frame, captured, IN_VXLAN),
                None => None,
            };
            filter.has(&outer) || inner.is_some_and(|inner| filter.has(&inner))
        }
        ETHERTYPE_ARP if captured >= ARP_END => {
            filter.protocol == ANY_PROTOCOL
                && filter.ports == [0; 2]
                && filter.have_networks(ARP_ADDRESSES.map(|offset| address(frame, offset)))
        }
        _ => filter.is_any(),
    }
}

/// The tunnel that `outer` is the header of, if it is one's.
#[inline(always)]
#[must_use]
pub fn tunnel(outer: &Heading, vxlan_port: u16) -> Option<Tunnel> {
    match (outer.protocol, outer.ports) {
        (PROTOCOL_IPIP, _) => Some(Tunnel::Ipip),
        (PROTOCOL_UDP, Some([_, port])) if port == vxlan_port => Some(Tunnel::Vxlan),
        _ => None,
    }
}

/// The IPv4 header at `offset`, if all of it is there.
#[inline(always)]
#[must_use]
#[allow(clippy::cast_possible_truncation)] // constants below 100
pub fn heading(frame: &Beginning, captured: u32, offset: usize) -> Option<Heading> {
    const VERSION_AND_LENGTH: u8 = 0x45;
    const LATER_FRAGMENT: u8 = 0x1f;
    if captured < (offset + IPV4_LEN) as u32 || frame[offset] >> 4 != 4 {
        return None;
    }
    let protocol = frame[offset + 9];
    let has_ports = matches!(protocol, PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_SCTP)
        && frame[offset] == VERSION_AND_LENGTH
        && frame[offset + 6] & LATER_FRAGMENT | frame[offset + 7] == 0
        && captured >= (offset + IPV4_LEN) as u32 + 4;
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    Some(Heading {
        addresses: [address(frame, offset + 12), address(frame, offset + 16)],
        protocol,
        ports: has_ports.then(|| [port(offset + IPV4_LEN), port(offset + IPV4_LEN + 2)]),
    })
}

#[inline(always)]
fn address(frame: &Beginning, offset: usize) -> Addr {
    [
        frame[offset],
        frame[offset + 1],
        frame[offset + 2],
        frame[offset + 3],
    ]
}

impl Filter {
    /// Every packet.
    #[must_use]
    pub const fn any(vxlan_port: u16) -> Self {
        Self {
            networks: [Network::ANY; 2],
            ports: [0; 2],
            protocol: ANY_PROTOCOL,
            vxlan_port,
            ifindex: 0,
        }
    }

    /// Whether it asks for nothing that only an IP packet has.
    #[inline(always)]
    fn is_any(&self) -> bool {
        let masks = self.networks[0].mask | self.networks[1].mask;
        masks == 0 && self.ports == [0; 2] && self.protocol == ANY_PROTOCOL
    }

    #[inline(always)]
    fn has(&self, heading: &Heading) -> bool {
        let is_protocol =
            self.protocol == ANY_PROTOCOL || self.protocol == u16::from(heading.protocol);
        is_protocol && self.have_networks(heading.addresses) && self.have_ports(heading.ports)
    }

    #[inline(always)]
    fn have_networks(&self, [one, other]: [Addr; 2]) -> bool {
        let [first, second] = &self.networks;
        first.has(one) && second.has(other) || first.has(other) && second.has(one)
    }

    #[inline(always)]
    fn have_ports(&self, ports: Option<[u16; 2]>) -> bool {
        let [first, second] = self.ports;
        let is = |wanted: u16, port: u16| wanted == 0 || wanted == port;
        match ports {
            Some([one, other]) => {
                is(first, one) && is(second, other) || is(first, other) && is(second, one)
            }
            None => first | second == 0,
        }
    }
}

impl Network {
    /// Every address.
    pub const ANY: Self = Self {
        address: 0,
        mask: 0,
    };

    /// The network of `address` whose mask has `length` bits, up to 32.
    #[must_use]
    pub const fn new(address: Addr, length: u8) -> Self {
        let mask = match length {
            0 => 0,
            length => u32::MAX << (32 - length),
        };
        let address = u32::from_be_bytes(address) & mask;
        Self { address, mask }
    }

    #[inline(always)]
    fn has(self, address: Addr) -> bool {
        u32::from_be_bytes(address) & self.mask == self.address
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::{headers::ETHERTYPE_QINQ, parse::TRANSPORT};

    const VXLAN_PORT: u16 = 4789;
    const NODES: [Addr; 2] = [[192, 0, 2, 1], [192, 0, 2, 2]];
    const PODS: [Addr; 2] = [[10, 244, 1, 10], [10, 244, 2, 20]];

    fn ip(protocol: u8, [source, destination]: [Addr; 2]) -> Vec<u8> {
        let mut bytes = [0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0].to_vec();
        bytes.extend(source);
        bytes.extend(destination);
        bytes
    }

    fn ports([source, destination]: [u16; 2]) -> Vec<u8> {
        [
            source.to_be_bytes(),
            destination.to_be_bytes(),
            [0; 2],
            [0; 2],
        ]
        .concat()
    }

    fn ethernet(ethertype: [u8; 2]) -> Vec<u8> {
        [&[0; 12][..], &ethertype].concat()
    }

    fn of_pods() -> Vec<u8> {
        [ip(PROTOCOL_TCP, PODS), ports([40000, 80])].concat()
    }

    fn direct() -> Vec<u8> {
        [ethernet(ETHERTYPE_IPV4), of_pods()].concat()
    }

    fn ipip() -> Vec<u8> {
        [
            ethernet(ETHERTYPE_IPV4),
            ip(PROTOCOL_IPIP, NODES),
            of_pods(),
        ]
        .concat()
    }

    fn vxlan() -> Vec<u8> {
        let outer = [ip(PROTOCOL_UDP, NODES), ports([50000, VXLAN_PORT])].concat();
        let inner = [ethernet(ETHERTYPE_IPV4), of_pods()].concat();
        [ethernet(ETHERTYPE_IPV4), outer, [0; 8].to_vec(), inner].concat()
    }

    fn arp() -> Vec<u8> {
        let addresses = [&[0; 14][..], &PODS[0], &[0; 6], &PODS[1]].concat();
        [ethernet(ETHERTYPE_ARP), addresses].concat()
    }

    fn has(filter: Filter, bytes: &[u8]) -> bool {
        // What was there before must not be taken for the packet's.
        let mut frame = [0x45; MAX_SNAP];
        frame[..bytes.len()].copy_from_slice(bytes);
        is_wanted(&filter, &frame, bytes.len().try_into().unwrap())
    }

    fn any() -> Filter {
        Filter::any(VXLAN_PORT)
    }

    fn between(first: Network, second: Network) -> Filter {
        Filter {
            networks: [first, second],
            ..any()
        }
    }

    #[test]
    fn whoever_asks_for_nothing_gets_everything() {
        let frames = [direct(), ipip(), vxlan(), arp(), ethernet(ETHERTYPE_QINQ)];
        for frame in frames
            .into_iter()
            .chain([Vec::new(), ethernet(ETHERTYPE_IPV4)])
        {
            assert!(has(any(), &frame), "{frame:x?}");
        }
    }

    #[test]
    fn an_address_is_one_of_either_end_inside_or_outside() {
        for [one, other] in [PODS, [PODS[1], PODS[0]]] {
            let (one, other) = (Network::new(one, 32), Network::new(other, 32));
            for frame in [direct(), ipip(), vxlan(), arp()] {
                assert!(has(between(one, Network::ANY), &frame));
                assert!(has(between(Network::ANY, one), &frame));
                assert!(has(between(one, other), &frame));
                assert!(!has(between(one, one), &frame));
            }
        }
        let node = Network::new(NODES[1], 32);
        assert!(has(between(node, Network::ANY), &ipip()));
        assert!(has(between(node, Network::ANY), &vxlan()));
        assert!(!has(between(node, Network::ANY), &direct()));
        // One end of the outer header and one of the inner are not the ends of anything.
        assert!(!has(between(node, Network::new(PODS[0], 32)), &ipip()));
    }

    #[test]
    fn a_network_has_the_addresses_that_begin_as_it_does() {
        let network = |length| between(Network::new([10, 244, 2, 99], length), Network::ANY);
        assert!(has(network(24), &direct()));
        assert!(has(network(0), &direct()));
        assert!(!has(network(26), &direct()));
    }

    #[test]
    fn ports_are_those_of_either_end_of_one_header() {
        let between = |one, other| Filter {
            ports: [one, other],
            ..any()
        };
        for frame in [direct(), ipip(), vxlan()] {
            assert!(has(between(80, 0), &frame));
            assert!(has(between(0, 40000), &frame));
            assert!(has(between(80, 40000), &frame));
            assert!(!has(between(80, 80), &frame));
            assert!(!has(between(81, 0), &frame));
        }
        assert!(has(between(VXLAN_PORT, 0), &vxlan()));
        assert!(!has(between(VXLAN_PORT, 80), &vxlan()));
        assert!(!has(between(80, 0), &arp()));
    }

    #[test]
    fn what_is_no_port_is_not_taken_for_one() {
        let wanted = Filter {
            ports: [80, 0],
            ..any()
        };
        let change = |at: usize, to: u8| {
            let mut frame = direct();
            frame[at] = to;
            frame
        };
        assert!(!has(wanted, &change(IP + 9, 1)), "a protocol without ports");
        assert!(!has(wanted, &change(IP + 7, 1)), "a later fragment");
        assert!(!has(wanted, &change(IP, 0x46)), "options");
        assert!(
            !has(wanted, &direct()[..TRANSPORT + 3]),
            "they are not all there"
        );
    }

    #[test]
    fn a_protocol_is_that_of_the_packet_or_of_the_one_inside() {
        let of = |protocol: u8| Filter {
            protocol: protocol.into(),
            ..any()
        };
        assert!(has(of(PROTOCOL_TCP), &direct()));
        assert!(!has(of(PROTOCOL_UDP), &direct()));
        assert!(has(of(PROTOCOL_UDP), &vxlan()) && has(of(PROTOCOL_TCP), &vxlan()));
        assert!(has(of(PROTOCOL_IPIP), &ipip()) && has(of(PROTOCOL_TCP), &ipip()));
        assert!(!has(of(PROTOCOL_TCP), &arp()));
    }

    #[test]
    fn what_ends_before_its_inner_header_is_meant_by_its_outer_one_alone() {
        let pod = between(Network::new(PODS[0], 32), Network::ANY);
        let node = between(Network::new(NODES[0], 32), Network::ANY);
        for (frame, at) in [(ipip(), IN_IPIP), (vxlan(), IN_VXLAN)] {
            let cut = &frame[..at + IPV4_LEN - 1];
            assert!(!has(pod, cut) && has(node, cut));
        }
        // Another UDP port is no tunnel.
        let other = Filter {
            vxlan_port: 8472,
            ..pod
        };
        assert!(!has(other, &vxlan()));
    }
}
