//! Pods, and nodes, that forward what came to them: into a network behind them, whose device wants
//! segments, or to another node, into the same kind of tunnel, the other kind, or none.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use dataplane_tests::{
    Agent, Count, Counters, Lab, Mode, Nested, PacketSocket, cluster_yaml_by_node,
    offloads::{Receiving, Sending},
    paths::all_arrives,
    relay, require_root,
};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};

const WAYS: [Mode; 3] = [Mode::None, Mode::Ipip, Mode::Vxlan];
const TUNNELS: [Mode; 2] = [Mode::Ipip, Mode::Vxlan];

/// How long to wait for one more frame when all have been sent.
const LAST: Duration = Duration::from_millis(50);

/// The MTU of the lab's pods, and an Ethernet header.
const LONGEST_FRAME: usize = 1450 + 14;

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_host_behind_a_pod_gets_and_sends_every_byte() -> Result<()> {
    require_root();
    for mode in WAYS {
        let lab = Lab::flat(2, 1)?;
        let _agents = start(&lab, &[mode, mode])?;
        let (client, router) = (lab.pod("node-0", "p0"), lab.pod("node-1", "p0"));
        let nested = Nested::behind(lab.node("node-1"), router, [10, 244, 1, 200].into())?;
        for sending in Sending::CHOICES {
            sending.apply(router.ns(), "nested")?;
            for (from, to, server) in [
                (client.ns(), nested.address(), nested.ns()),
                (nested.ns(), client.address(), client.ns()),
            ] {
                all_arrives(from, to, server)
                    .with_context(|| format!("to {to} by {mode}, the pod sends {sending:?}"))?;
            }
        }
    }
    Ok(())
}

/// The pod's device does neither checksums nor segmentation: what it carries is finished.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_host_behind_a_pod_gets_finished_segments() -> Result<()> {
    require_root();
    for mode in WAYS {
        let lab = Lab::flat(2, 1)?;
        let _agents = start(&lab, &[mode, mode])?;
        let (client, router) = (lab.pod("node-0", "p0"), lab.pod("node-1", "p0"));
        let nested = Nested::behind(lab.node("node-1"), router, [10, 244, 1, 200].into())?;
        Sending::Nothing.apply(router.ns(), "nested")?;
        let wire = PacketSocket::open(nested.ns(), "eth0")?;
        all_arrives(client.ns(), nested.address(), nested.ns())?;

        let mut seen = 0;
        while let Some(frame) = wire.recv_matching(LAST, |_| true)? {
            assert!(
                frame.len() <= LONGEST_FRAME,
                "{mode}: {} bytes",
                frame.len()
            );
            seen += u32::from(assert_finished(&frame, mode));
        }
        assert!(seen > 1000, "{mode}: {seen} segments and datagrams");
    }
    Ok(())
}

/// Every way in with every way out. The pod sends on in its own name: to another node the program
/// lets nothing else pass.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_pod_sends_on_to_another_node_whatever_came() -> Result<()> {
    require_root();
    for way_in in WAYS {
        for way_out in WAYS {
            let lab = Lab::flat(3, 1)?;
            let _agents = start(&lab, &[way_out, way_in, way_out])?;
            let router = lab.pod("node-1", "p0");
            let target = lab.pod("node-2", "p0");
            relay(router.ns(), router.address(), target.address())?;
            sends_on(
                &lab,
                router.address(),
                &format!("{way_in} in, {way_out} out"),
            )?;
        }
    }
    Ok(())
}

/// As kube-proxy has a node do, for its address in the tunnel.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_node_sends_on_to_another_node_what_came_in_a_tunnel() -> Result<()> {
    require_root();
    for way_in in TUNNELS {
        for way_out in TUNNELS {
            let lab = Lab::flat(3, 1)?;
            let _agents = start(&lab, &[way_out, way_in, way_out])?;
            let router = lab.node("node-1");
            let target = lab.pod("node-2", "p0");
            relay(router.ns(), router.tunnel_address(), target.address())?;
            sends_on(
                &lab,
                router.tunnel_address(),
                &format!("{way_in} in, {way_out} out"),
            )?;
        }
    }
    Ok(())
}

/// Sends from the pod of `node-0` to `to`, from where it is sent on to the pod of `node-2`, and
/// fails unless it arrives, whatever the devices on the way do.
fn sends_on(lab: &Lab, to: Ipv4Addr, what: &str) -> Result<()> {
    let (here, between) = (lab.node("node-0"), lab.node("node-1"));
    let (client, router) = (here.pod("p0"), between.pod("p0"));
    let target = lab.pod("node-2", "p0");
    let before = Counters::read(between)?;
    for (wire, receiving, pod, from_pod, onwards) in [
        // Aggregates all the way.
        (
            Sending::All,
            Receiving::Plain,
            Sending::All,
            Receiving::Plain,
            Sending::All,
        ),
        // Aggregated on arrival, and cut up by the pod's device, and aggregated again behind it.
        (
            Sending::NoSegmentation,
            Receiving::Aggregates,
            Sending::NoSegmentation,
            Receiving::Aggregates,
            Sending::NoSegmentation,
        ),
        // Chained, and finished wherever it can be.
        (
            Sending::Nothing,
            Receiving::Chains,
            Sending::All,
            Receiving::Plain,
            Sending::Nothing,
        ),
        (
            Sending::NoSegmentation,
            Receiving::AggregatesUdp,
            Sending::Nothing,
            Receiving::Plain,
            Sending::All,
        ),
    ] {
        wire.apply(here.ns(), "eth0")?;
        receiving.apply(between.ns(), "eth0")?;
        pod.apply(router.ns(), "eth0")?;
        from_pod.apply(between.ns(), router.host_ifname())?;
        onwards.apply(between.ns(), "eth0")?;
        all_arrives(client.ns(), to, target.ns()).with_context(|| {
            format!(
                "{what}: {wire:?} to the wire, {receiving:?} from it, the pod's device {pod:?}, \
                 {from_pod:?} from it, {onwards:?} to the wire"
            )
        })?;
    }
    let since = Counters::read(between)?.since(&before);
    for hook in ["from_workload", "from_stack", "from_carrier"] {
        let refused = since.get(hook, "no-room");
        assert_eq!(refused, Count::default(), "{what}: {hook} was refused room");
    }
    Ok(())
}

/// Whether a frame holds TCP or UDP over IPv4; its checksums are then right.
fn assert_finished(frame: &[u8], mode: Mode) -> bool {
    let packet = SlicedPacket::from_ethernet(frame).expect("a whole packet");
    let (Some(NetSlice::Ipv4(ip)), Some(transport)) = (packet.net, packet.transport) else {
        return false;
    };
    let header = ip.header().to_header();
    assert_eq!(
        header.header_checksum,
        header.calc_header_checksum(),
        "{mode}"
    );
    let (sent, right) = match transport {
        TransportSlice::Tcp(tcp) => (
            tcp.checksum(),
            tcp.calc_checksum_ipv4(header.source, header.destination)
                .expect("a length"),
        ),
        TransportSlice::Udp(udp) => (
            udp.checksum(),
            udp.to_header()
                .calc_checksum_ipv4(&header, udp.payload())
                .expect("a length"),
        ),
        _ => return false,
    };
    assert_eq!(sent, right, "{mode}: the checksum inside of {frame:02x?}");
    true
}

/// Starts agents with a pool for each node, and with the pods resolved.
fn start(lab: &Lab, modes: &[Mode]) -> Result<Vec<Agent>> {
    let agents = lab.start_agents_with(&cluster_yaml_by_node(lab, modes))?;
    lab.wait_resolved()?;
    Ok(agents)
}
