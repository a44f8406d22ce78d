//! Frames for people who look for what is wrong with them.

use std::fmt::Write as _;

use etherparse::{
    Ethernet2HeaderSlice, IpNumber, Ipv4HeaderSlice, LaxSlicedPacket, TransportSlice, UdpSlice,
};

use crate::frames::VXLAN_PORT;

/// Length of an IPv4 header without options, in bytes.
const IPV4_LEN: usize = 20;

/// A frame that was expected beside the one that came, what they mean and what they are, and where
/// they begin to differ.
pub(super) fn difference(expected: &[u8], got: &[u8]) -> String {
    let same = expected.iter().zip(got).take_while(|(a, b)| a == b).count();
    let (expected_lines, got_lines) = (describe(expected), describe(got));
    let mut text = String::new();
    for (word, lines, others) in [
        ("expected", &expected_lines, &got_lines),
        ("got", &got_lines, &expected_lines),
    ] {
        let _ = writeln!(text, "    {word}:");
        for line in lines {
            let mark = if others.contains(line) { ' ' } else { '!' };
            let _ = writeln!(text, "    {mark} {line}");
        }
    }
    let _ = writeln!(text, "    from byte {same} on:");
    let _ = writeln!(text, "      expected {}", hex(&expected[same..]));
    let _ = write!(text, "      got      {}", hex(&got[same..]));
    text
}

/// A frame and what it means.
pub(super) fn frame(frame: &[u8]) -> String {
    let mut text = String::new();
    for line in describe(frame) {
        let _ = writeln!(text, "      {line}");
    }
    let _ = write!(text, "      {}", hex(frame));
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// One line a header, tunnels opened.
fn describe(frame: &[u8]) -> Vec<String> {
    let mut lines = vec![format!("frame of {} bytes", frame.len())];
    describe_frame(frame, &mut lines);
    lines
}

fn describe_frame(frame: &[u8], lines: &mut Vec<String>) {
    let Ok(ethernet) = Ethernet2HeaderSlice::from_slice(frame) else {
        lines.push("not a frame".to_owned());
        return;
    };
    let ethernet = ethernet.to_header();
    lines.push(format!(
        "Ethernet {} > {} {:?}",
        hex(&ethernet.source),
        hex(&ethernet.destination),
        ethernet.ether_type
    ));
    if ethernet.ether_type == etherparse::EtherType::IPV4 {
        describe_packet(&frame[14..], lines);
    } else if let Ok(packet) = LaxSlicedPacket::from_ethernet(frame)
        && let Some(net) = packet.net
    {
        lines.push(format!("{net:?}"));
    }
}

fn describe_packet(packet: &[u8], lines: &mut Vec<String>) {
    let Ok(slice) = Ipv4HeaderSlice::from_slice(packet) else {
        lines.push(format!("malformed IPv4 {}", hex(packet)));
        return;
    };
    let ip = slice.to_header();
    let sum = if ip.header_checksum == ip.calc_header_checksum() {
        "right"
    } else {
        "wrong"
    };
    lines.push(format!(
        "IPv4 {} > {} {:?} length {} TTL {} DSCP {} ECN {}",
        slice.source_addr(),
        slice.destination_addr(),
        ip.protocol,
        ip.total_len,
        ip.time_to_live,
        ip.dscp.value(),
        ip.ecn.value(),
    ));
    lines.push(format!(
        "     identification {:#06x} DF {} MF {} offset {} options {} checksum {sum}",
        ip.identification,
        ip.dont_fragment,
        ip.more_fragments,
        ip.fragment_offset.byte_offset(),
        hex(&ip.options),
    ));
    let payload = &packet[ip.header_len()..];
    match ip.protocol {
        _ if ip.is_fragmenting_payload() => {}
        IpNumber::IPV4 => describe_packet(payload, lines),
        _ => describe_transport(packet, lines),
    }
}

fn describe_transport(packet: &[u8], lines: &mut Vec<String>) {
    let Ok(parsed) = LaxSlicedPacket::from_ip(packet) else {
        return;
    };
    match parsed.transport {
        Some(TransportSlice::Udp(udp)) if udp.destination_port() == VXLAN_PORT => {
            lines.push(format!("{:?}", udp.to_header()));
            describe_vxlan(&udp, lines);
        }
        Some(TransportSlice::Udp(udp)) => lines.push(format!("{:?}", udp.to_header())),
        Some(TransportSlice::Tcp(tcp)) => lines.push(format!("{:?}", tcp.to_header())),
        Some(TransportSlice::Icmpv4(icmp)) => {
            lines.push(format!("{:?}", icmp.header()));
            if !matches!(
                icmp.icmp_type(),
                etherparse::Icmpv4Type::EchoReply(_) | etherparse::Icmpv4Type::EchoRequest(_)
            ) {
                lines.push("about:".to_owned());
                describe_packet(icmp.payload(), lines);
            }
        }
        _ => lines.push(format!(
            "payload {}",
            hex(&packet[IPV4_LEN.min(packet.len())..])
        )),
    }
}

fn describe_vxlan(udp: &UdpSlice, lines: &mut Vec<String>) {
    let payload = udp.payload();
    if payload.len() < 8 {
        return;
    }
    let (header, frame) = payload.split_at(8);
    lines.push(format!("VXLAN {}", hex(header)));
    describe_frame(frame, lines);
}
