//! What two stacks may choose differently in one packet, and nothing else.

use std::net::Ipv4Addr;

use etherparse::{IpNumber, Ipv4HeaderSlice, UdpHeaderSlice};

use super::world::{NODE, SECOND, TUNNEL};
use crate::frames::{VXLAN_PORT, VXLAN_SOURCE_PORT};

const IPV4: [u8; 2] = [0x08, 0x00];
const ETHERNET_LEN: usize = 14;
const UDP_LEN: usize = 8;
const VXLAN_LEN: usize = 8;

/// The least port that a VXLAN packet may come from: where Linux's local port range begins; the
/// dynamic ports of RFC 6335 begin further up.
const FIRST_PORT: u16 = 32_768;

/// The frame with the node's own choices replaced: the identification of every packet that begins
/// at the node, outer packets among them, and the source port of VXLAN. A header whose checksum is
/// wrong is left as it is, and so are ports out of range: they are not to equal anything.
pub(super) fn masked(frame: &[u8]) -> Vec<u8> {
    let mut masked = frame.to_vec();
    mask_frame(&mut masked);
    masked
}

fn mask_frame(frame: &mut [u8]) {
    if frame.len() > ETHERNET_LEN && frame[12..14] == IPV4 {
        mask_packet(&mut frame[ETHERNET_LEN..]);
    }
}

fn mask_packet(packet: &mut [u8]) {
    let Ok(header) = Ipv4HeaderSlice::from_slice(packet) else {
        return;
    };
    let mut header = header.to_header();
    if !is_nodes(header.source.into()) || header.header_checksum != header.calc_header_checksum() {
        return;
    }
    header.identification = 0;
    header.header_checksum = header.calc_header_checksum();
    let (before, payload) = packet.split_at_mut(header.header_len());
    before.copy_from_slice(&header.to_bytes());
    match header.protocol {
        _ if header.is_fragmenting_payload() => {}
        IpNumber::IPV4 => mask_packet(payload),
        IpNumber::UDP => mask_vxlan(payload),
        _ => {}
    }
}

fn mask_vxlan(datagram: &mut [u8]) {
    let Ok(udp) = UdpHeaderSlice::from_slice(datagram) else {
        return;
    };
    if udp.destination_port() == VXLAN_PORT && udp.source_port() >= FIRST_PORT {
        datagram[..2].copy_from_slice(&VXLAN_SOURCE_PORT.to_be_bytes());
        mask_frame(&mut datagram[UDP_LEN + VXLAN_LEN..]);
    }
}

fn is_nodes(address: Ipv4Addr) -> bool {
    [NODE, SECOND, TUNNEL].contains(&address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ip, Mac, frames};

    const PEER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 11);

    fn frame(source: Ipv4Addr, identification: u16, port: u16) -> Vec<u8> {
        let inner = frames::ethernet(
            Mac::ZERO,
            Mac::ZERO,
            &Ip::new(TUNNEL, PEER)
                .identification(identification)
                .udp(1, 2, b"x"),
        );
        let datagram = [&frames::vxlan_header(1)[..], &inner].concat();
        let outer = Ip::new(source, PEER).identification(identification);
        let packet = outer.udp_unsummed(port, VXLAN_PORT, &datagram);
        frames::ethernet(Mac::ZERO, Mac::ZERO, &packet)
    }

    #[test]
    fn the_nodes_choices_do_not_count_inside_and_out() {
        let [one, other] = [frame(NODE, 1, 50_000), frame(NODE, 2, 40_000)];
        assert_ne!(one, other);
        assert_eq!(masked(&one), masked(&other));
    }

    #[test]
    fn the_choices_of_others_count() {
        let [one, other] = [frame(PEER, 1, 50_000), frame(PEER, 2, 50_000)];
        assert_ne!(masked(&one), masked(&other));
    }

    #[test]
    fn a_wrong_checksum_and_a_wrong_port_are_not_hidden() {
        let right = frame(NODE, 1, 50_000);
        let mut wrong = right.clone();
        wrong[25] ^= 1;
        assert_ne!(masked(&right), masked(&wrong));
        assert_ne!(masked(&right), masked(&frame(NODE, 1, 4789)));
    }
}
