//! Packets that must not arrive.

use std::time::Duration;

use anyhow::{Context as _, Result};
use dataplane_tests::{Ip, Mac, PacketSocket, Pod, frames, patient};
use etherparse::{NetSlice, SlicedPacket, TcpHeader, TransportSlice};

/// The UDP port by which everybody may come to everybody.
pub(crate) const FENCE: u16 = 9999;

/// How long the last packet may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends packets from one pod to another, and then one that has to arrive; returns how many of the
/// others have.
pub(crate) fn delivered(from: &Pod, to: &Pod, packets: &[Vec<u8>]) -> Result<usize> {
    let sending = PacketSocket::open(from.ns(), "eth0")?;
    let receiving = PacketSocket::open(to.ns(), "eth0")?;
    for packet in packets {
        sending.send(&frames::ethernet(from.mac(), Mac::CALICO, packet))?;
    }
    // From a port that nobody has had: nobody can have verified it.
    let port = fastrand::u16(20_000..30_000);
    let last = Ip::new(from.address(), to.address()).udp(port, FENCE, b"last");
    sending.send(&frames::ethernet(from.mac(), Mac::CALICO, &last))?;
    let mut delivered = 0;
    let found = receiving.recv_matching(patient(PATIENCE), |frame| {
        let is_last = is_udp(frame, port, FENCE);
        delivered += usize::from(!is_last && is_between(frame, from, to));
        is_last
    })?;
    found.context("the packet that is allowed does not arrive")?;
    Ok(delivered)
}

/// What a stranger may try, by every protocol, from and to these ports: to begin a connection, and
/// to go on with one that there is not.
pub(crate) fn attempts(from: &Pod, to: &Pod, ports: (u16, u16)) -> Vec<Vec<u8>> {
    let ip = Ip::new(from.address(), to.address());
    let header = TcpHeader::new(ports.0, ports.1, 1000, 64000);
    let syn = TcpHeader {
        syn: true,
        ..header.clone()
    };
    let data = TcpHeader {
        ack: true,
        psh: true,
        acknowledgment_number: 5000,
        ..header
    };
    let mut packets = vec![ip.tcp(syn, b"")];
    for number in 0..20 {
        let data = TcpHeader {
            sequence_number: 1001 + 5 * number,
            ..data.clone()
        };
        packets.push(ip.tcp(data, b"hello"));
        packets.push(ip.udp(ports.0, ports.1, b"hello"));
    }
    packets
}

fn is_between(frame: &[u8], from: &Pod, to: &Pod) -> bool {
    let packet = SlicedPacket::from_ethernet(frame).ok();
    let Some(NetSlice::Ipv4(ip)) = packet.and_then(|packet| packet.net) else {
        return false;
    };
    let header = ip.header();
    header.source_addr() == from.address() && header.destination_addr() == to.address()
}

fn is_udp(frame: &[u8], source: u16, destination: u16) -> bool {
    let packet = SlicedPacket::from_ethernet(frame).ok();
    let Some(TransportSlice::Udp(udp)) = packet.and_then(|packet| packet.transport) else {
        return false;
    };
    (udp.source_port(), udp.destination_port()) == (source, destination)
}
