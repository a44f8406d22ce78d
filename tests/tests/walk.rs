//! A packet's walk: each program is fed what the one before it has left, byte by byte.

use anyhow::Result;
use dataplane_common::abi::Hook;
use dataplane_tests::{
    Ip, Lab, Mac, Mode, Node, PingOptions, frames, ping,
    programs::{Programs, REDIRECTED, Ran, TO_STACK},
    require_root,
};
use etherparse::SlicedPacket;

const TTL: u8 = 64;
const PAYLOAD: &[u8] = b"what the pod has to say";

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn from_pod_to_pod_in_every_mode() -> Result<()> {
    require_root();
    for mode in [Mode::None, Mode::Ipip, Mode::Vxlan] {
        let lab = Lab::flat(2, 1)?;
        let _agents = lab.start_agents(mode)?;
        let (near, far) = (lab.node("node-0"), lab.node("node-1"));
        let (source, destination) = (near.pod("p0"), far.pod("p0"));
        far.wait_resolved()?;

        let ip = Ip::new(source.address(), destination.address()).ttl(TTL);
        let frame = frames::ethernet(source.mac(), Mac::CALICO, &ip.udp(4000, 5000, PAYLOAD));
        let ran = Programs::load(near)?.run(Hook::FromWorkload, source.host_ifname(), &frame)?;
        assert_eq!(ran.action, REDIRECTED, "{mode}: to the uplink");
        assert_outer(&ran, near, far, mode);

        let wire = as_neighbour_sends(&ran.frame, near, far);
        let ran = Programs::load(far)?.run(Hook::FromUplink, "eth0", &wire)?;
        assert_eq!(ran.action, REDIRECTED, "{mode}: into the pod");

        let expected = frames::ethernet(
            Mac::CALICO,
            destination.mac(),
            &ip.ttl(TTL - 2).udp(4000, 5000, PAYLOAD),
        );
        assert_eq!(ran.frame, expected, "{mode}: the packet, two routers on");
    }
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn from_host_to_host_over_the_carrier() -> Result<()> {
    require_root();
    for mode in [Mode::Ipip, Mode::Vxlan] {
        let lab = Lab::flat(2, 1)?;
        let _agents = lab.start_agents(mode)?;
        let (near, far) = (lab.node("node-0"), lab.node("node-1"));

        let ip = Ip::new(near.tunnel_address(), far.tunnel_address()).ttl(TTL);
        let packet = ip.udp(4000, 5000, PAYLOAD);
        let frame = frames::ethernet(Mac::ZERO, Mac::ZERO, &packet);
        let mut programs = Programs::load(near)?;
        near.ns().exec("ip neigh flush dev eth0")?;
        let detour = programs.run(Hook::FromStack, "underpass0", &frame)?;
        assert_eq!(
            detour.action, REDIRECTED,
            "{mode}: to the carrier's ingress"
        );
        assert_eq!(&detour.frame[14..], packet, "{mode}: as it was");
        let by_detour = programs.run(Hook::FromCarrier, "underpass0", &detour.frame)?;
        assert_eq!(by_detour.action, REDIRECTED, "{mode}: to the uplink");
        assert_outer(&by_detour, near, far, mode);

        let neighbour = far.address().addr();
        ping(near.ns(), neighbour, &PingOptions::default())?;
        let ran = programs.run(Hook::FromStack, "underpass0", &frame)?;
        assert_eq!(ran.action, REDIRECTED, "{mode}: to the uplink");
        assert_eq!(
            ran.frame[14..],
            by_detour.frame[14..],
            "{mode}: one packet either way"
        );

        let wire = as_neighbour_sends(&ran.frame, near, far);
        let mut programs = Programs::load(far)?;
        let ran = programs.run(Hook::FromUplink, "eth0", &wire)?;
        assert_eq!(ran.action, REDIRECTED, "{mode}: to the carrier's ingress");

        let ran = programs.run(Hook::FromCarrier, "underpass0", &ran.frame)?;
        assert_eq!(ran.action, TO_STACK, "{mode}: to the host");
        assert_eq!(
            &ran.frame[14..],
            packet,
            "{mode}: the TTL is the stack's to count"
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn from_pod_to_pod_on_one_node() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 2)?;
    let _agents = lab.start_agents(Mode::Vxlan)?;
    let node = lab.node("node-0");
    let (source, destination) = (node.pod("p0"), node.pod("p1"));
    node.wait_resolved()?;

    let ip = Ip::new(source.address(), destination.address()).ttl(TTL);
    let frame = frames::ethernet(source.mac(), Mac::CALICO, &ip.udp(4000, 5000, PAYLOAD));
    let ran = Programs::load(node)?.run(Hook::FromWorkload, source.host_ifname(), &frame)?;
    assert_eq!(ran.action, REDIRECTED);
    let expected = frames::ethernet(
        Mac::CALICO,
        destination.mac(),
        &ip.ttl(TTL - 1).udp(4000, 5000, PAYLOAD),
    );
    assert_eq!(ran.frame, expected);
    Ok(())
}

/// The Ethernet header that the neighbour subsystem writes when `near` sends to `far`.
fn as_neighbour_sends(frame: &[u8], near: &Node, far: &Node) -> Vec<u8> {
    frames::ethernet(near.mac(), far.mac(), &frame[14..])
}

/// The outer headers, as an independent parser reads them.
fn assert_outer(ran: &Ran, near: &Node, far: &Node, mode: Mode) {
    let packet = SlicedPacket::from_ethernet(&ran.frame).expect("a whole packet");
    let Some(etherparse::NetSlice::Ipv4(ip)) = packet.net else {
        panic!("no IPv4: {:02x?}", ran.frame);
    };
    let header = ip.header();
    if mode == Mode::None {
        assert_eq!(header.ttl(), TTL - 1);
        return;
    }
    assert_eq!(header.source_addr(), near.address().addr());
    assert_eq!(header.destination_addr(), far.address().addr());
    assert_eq!(
        header.to_header().calc_header_checksum(),
        header.header_checksum()
    );
    assert_eq!(usize::from(header.total_len()), ran.frame.len() - 14);
    if mode == Mode::Vxlan {
        let Some(etherparse::TransportSlice::Udp(udp)) = packet.transport else {
            panic!("no UDP: {:02x?}", ran.frame);
        };
        assert_eq!(udp.destination_port(), 4789);
        assert!(udp.source_port() >= 49_152);
        assert_eq!(udp.payload()[..8], frames::vxlan_header(4096));
    } else {
        assert_eq!(header.protocol(), etherparse::IpNumber::IPV4);
    }
}
