//! A node with underpass and a node without it talk: `node-0` runs the agent, `node-1` has what
//! Calico programs into a kernel, and nothing of ours.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use dataplane_tests::{
    Agent, Count, Counters, Lab, NetNs, Node, PacketSocket, PingOptions, Pod, TcpOptions,
    UdpOptions, cluster_yaml, eventually, ping, require_root, tcp_throughput, udp_throughput,
};
use etherparse::{NetSlice, SlicedPacket, TransportSlice, UdpHeader};

const SECOND: Duration = Duration::from_secs(1);

/// More than any link of the lab carries in one piece: frames of such a mean size are aggregates
/// that nobody has cut into segments, in bytes.
const WHOLE: u64 = 3000;

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_kernels_vxlan_without_outer_checksums_is_understood_both_ways() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let (ours, theirs) = (lab.node("node-0"), lab.node("node-1"));
    be_a_calico_node(theirs)?;
    route_by_vxlan(theirs, ours, "noudpcsum")?;
    let _agent = run_underpass(&lab, "Always", "")?;

    every_path_works(&lab)?;
    tcp_stays_whole(&lab, "vxlan")?;
    let counted = Counters::read(ours)?;
    assert_eq!(counted.get("from_uplink", "outer-checksum").packets, 0);
    assert_eq!(
        counted.get("from_carrier", "accepted").packets,
        counted.get("from_uplink", "for-host").packets,
        "the kernel's receiver has had nothing to do: {counted:?}"
    );
    Ok(())
}

/// Of packets whose outer checksum nobody has verified, the kernel's receiver takes care: in the lab
/// all that are not aggregates.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_kernels_vxlan_with_outer_checksums_is_understood_both_ways() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let (ours, theirs) = (lab.node("node-0"), lab.node("node-1"));
    be_a_calico_node(theirs)?;
    route_by_vxlan(theirs, ours, "udpcsum")?;
    let _agent = run_underpass(&lab, "Always", "")?;

    every_path_works(&lab)?;
    let unverified = Counters::read(ours)?;
    assert!(
        unverified.get("from_uplink", "outer-checksum").packets > 0,
        "{unverified:?}"
    );
    assert_eq!(
        unverified.get("from_carrier", "accepted").packets,
        unverified.get("from_uplink", "outer-checksum").packets
            + unverified.get("from_uplink", "for-host").packets,
        "what the kernel's receiver decapsulates is found right: {unverified:?}"
    );
    tcp_stays_whole(&lab, "vxlan")
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_calico_node_accepts_the_outer_checksums_it_is_sent() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let (ours, theirs) = (lab.node("node-0"), lab.node("node-1"));
    be_a_calico_node(theirs)?;
    route_by_vxlan(theirs, ours, "udpcsum")?;
    let checksums = "tunnel: { vxlan: { checksum: true } }\n";
    let _agent = run_underpass(&lab, "Always", checksums)?;

    every_path_works(&lab)?;
    let before = Counters::read(ours)?;
    let (client, server) = (lab.pod("node-0", "p0"), lab.pod("node-1", "p0"));
    assert_tcp(client.ns(), server)?;
    assert_tcp(server.ns(), client)?;
    let since = Counters::read(ours)?.since(&before);
    for (hook, reason) in [
        ("from_workload", "kernel-encap"),
        ("from_stack", "kernel-encap"),
        ("from_uplink", "received-vxlan"),
    ] {
        assert_whole(since.get(hook, reason), reason);
    }
    assert_eq!(since.get("from_workload", "sent-vxlan").packets, 0);

    // Without offloads the wire carries what a real one would: finished checksums.
    ours.ns().exec("ethtool -K eth0 tx off")?;
    let wire = PacketSocket::open(theirs.ns(), "eth0")?;
    for (what, from) in [("pod", client.ns()), ("host", ours.ns())] {
        let report = ping(from, server.address(), &PingOptions::default())?;
        assert!(report.is_lossless(), "{what}: {report:?}");
        for _ in 0..report.sent {
            let frame = wire.recv_matching(SECOND, is_vxlan)?;
            let frame = frame.with_context(|| format!("the {what}'s packets by VXLAN"))?;
            let (sent, right) = udp_checksum(&frame)?;
            assert_ne!(sent, 0, "the {what}'s packets have no checksum");
            assert_eq!(sent, right, "the {what}'s packets have a wrong checksum");
        }
    }
    assert_tcp(client.ns(), server)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_calico_node_is_told_of_packets_that_are_too_big_or_too_old() -> Result<()> {
    require_root();
    for checksums in ["noudpcsum", "udpcsum"] {
        let lab = Lab::flat(2, 1)?;
        let (ours, theirs) = (lab.node("node-0"), lab.node("node-1"));
        be_a_calico_node(theirs)?;
        route_by_vxlan(theirs, ours, checksums)?;
        let _agent = run_underpass(&lab, "Always", "")?;
        let (near, far) = (ours.pod("p0"), theirs.pod("p0"));
        narrow(ours, near)?;

        let send = |length: u16, dont_fragment| {
            let options = PingOptions {
                count: 2,
                payload: length - 28,
                dont_fragment,
                ..PingOptions::default()
            };
            ping(far.ns(), near.address(), &options)
        };
        assert!(send(1450, false)?.is_lossless(), "in fragments");
        assert!(send(1400, true)?.is_lossless(), "what fits");
        let report = send(1401, true)?;
        let told = format!("From {} icmp_seq=1", ours.tunnel_address());
        assert!(
            report.is_silent() && report.errors[0].starts_with(&told),
            "{checksums}: {report:?}"
        );
        assert!(report.errors[0].contains("mtu = 1400"), "{report:?}");

        far.ns().exec("ip route flush cache")?;
        assert_tcp(far.ns(), near)?;
        assert_tcp(near.ns(), far)?;

        let one_hop_short = PingOptions {
            count: 2,
            ttl: Some(2),
            ..PingOptions::default()
        };
        let report = ping(far.ns(), near.address(), &one_hop_short)?;
        assert!(
            report.is_silent()
                && report.errors.len() == 2
                && report.errors[0].starts_with(&told)
                && report.errors[0].contains("Time to live exceeded"),
            "{checksums}: {report:?}"
        );
        let options = PingOptions {
            ttl: Some(3),
            ..one_hop_short
        };
        assert!(ping(far.ns(), near.address(), &options)?.is_lossless());
    }
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_node_with_plain_routes_talks_both_ways() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let (ours, theirs) = (lab.node("node-0"), lab.node("node-1"));
    be_a_calico_node(theirs)?;
    route_plainly(theirs, ours)?;
    let _agent = run_underpass(&lab, "Never", "")?;

    every_path_works(&lab)?;
    tcp_stays_whole(&lab, "direct")?;

    let near = ours.pod("p0");
    narrow(ours, near)?;
    let too_big = PingOptions {
        count: 1,
        payload: 1401 - 28,
        dont_fragment: true,
        ..PingOptions::default()
    };
    let report = ping(theirs.pod("p0").ns(), near.address(), &too_big)?;
    assert!(
        report.is_silent() && report.errors[0].contains("mtu = 1400"),
        "{report:?}"
    );
    Ok(())
}

/// Calico compares a peer's address with its *own* node's subnet: nodes whose masks differ do not
/// agree whether to encapsulate.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_node_that_encapsulates_and_one_that_does_not_talk() -> Result<()> {
    require_root();
    for we_encapsulate in [true, false] {
        let lab = Lab::flat(2, 1)?;
        let (ours, theirs) = (lab.node("node-0"), lab.node("node-1"));
        be_a_calico_node(theirs)?;
        route_by_vxlan(theirs, ours, "noudpcsum")?;
        if we_encapsulate {
            theirs
                .ns()
                .exec(&format!("ip route delete {}", ours.pod_cidr()))?;
            route_plainly(theirs, ours)?;
        }
        let narrow = |address: String| {
            if we_encapsulate {
                address.replace(&format!("{}/24", ours.address().addr()), "192.168.1.10/32")
            } else {
                address
            }
        };
        let cluster = narrow(cluster_yaml(&lab, "Never", "CrossSubnet"));
        let _agent = Agent::start(ours, &ours.agent_config(), &cluster)?;
        ours.wait_resolved()?;

        let (near, far) = (ours.pod("p0"), theirs.pod("p0"));
        for (what, from, to) in [("out", near, far), ("in", far, near)] {
            let report = ping(from.ns(), to.address(), &PingOptions::default())?;
            assert!(report.is_lossless(), "{what}: {report:?}");
            assert_tcp(from.ns(), to)?;
        }
        let counted = Counters::read(ours)?;
        let (sent, received) = if we_encapsulate {
            // What we would not answer so, the stack judges by its reverse-path filter.
            ("sent-vxlan", "source-outside")
        } else {
            ("sent-direct", "received-vxlan")
        };
        assert_whole(counted.get("from_workload", sent), sent);
        assert_whole(counted.get("from_uplink", received), received);
    }
    Ok(())
}

/// Sets up what Calico does on every node: proxy ARP towards the pods, for which the kernel needs a
/// default route, strict reverse-path filters, permanent neighbours, and no way out for what is
/// nobody's in the node's block.
fn be_a_calico_node(node: &Node) -> Result<()> {
    node.ns()
        .exec("ip route add default via 192.168.1.1 dev eth0")?;
    for pod in node.pods() {
        let ifname = pod.host_ifname();
        for (key, value) in [("proxy_arp", "1"), ("rp_filter", "1")] {
            node.ns()
                .set_sysctl(&format!("net.ipv4.conf.{ifname}.{key}"), value)?;
        }
        node.ns()
            .set_sysctl(&format!("net.ipv4.neigh.{ifname}.proxy_delay"), "0")?;
        node.ns().exec(&format!(
            "ip neigh replace {} lladdr {} dev {ifname} nud permanent",
            pod.address(),
            pod.mac()
        ))?;
    }
    node.ns().exec(&format!(
        "ip route add blackhole {} proto 80",
        node.pod_cidr()
    ))?;
    Ok(())
}

/// Sets up the kernel's VXLAN device as Calico does, and by it the way to `peer`.
fn route_by_vxlan(node: &Node, peer: &Node, checksums: &str) -> Result<()> {
    let (local, mac) = (node.address().addr(), node.vtep_mac());
    let (remote, remote_mac) = (peer.address().addr(), peer.vtep_mac());
    let (tunnel, remote_tunnel) = (node.tunnel_address(), peer.tunnel_address());
    for command in [
        format!(
            "ip link add vxlan.calico address {mac} mtu 1450 type vxlan \
             id 4096 dstport 4789 local {local} dev eth0 nolearning {checksums}"
        ),
        format!("ip address add {tunnel}/32 dev vxlan.calico"),
        "ip link set vxlan.calico up".to_owned(),
        format!(
            "ip neigh replace {remote_tunnel} lladdr {remote_mac} dev vxlan.calico nud permanent"
        ),
        format!("bridge fdb append {remote_mac} dev vxlan.calico dst {remote} self permanent"),
        format!(
            "ip route add {} via {remote_tunnel} dev vxlan.calico onlink",
            peer.pod_cidr()
        ),
    ] {
        node.ns().exec(&command)?;
    }
    Ok(())
}

/// Sets up the way to `peer` as BIRD does without encapsulation.
fn route_plainly(node: &Node, peer: &Node) -> Result<()> {
    let (block, via) = (peer.pod_cidr(), peer.address().addr());
    node.ns().exec(&format!(
        "ip route add {block} via {via} dev eth0 proto bird"
    ))?;
    Ok(())
}

/// Runs underpass on `node-0`, with this `vxlanMode` and these further lines of configuration.
fn run_underpass(lab: &Lab, vxlan_mode: &str, more: &str) -> Result<Agent> {
    let node = lab.node("node-0");
    let config = node.agent_config() + more;
    let agent = Agent::start(node, &config, &cluster_yaml(lab, "Never", vxlan_mode))?;
    node.wait_resolved()?;
    Ok(agent)
}

/// Pings between everything on the two nodes, and UDP between pods, both ways.
fn every_path_works(lab: &Lab) -> Result<()> {
    let (ours, theirs) = (lab.node("node-0"), lab.node("node-1"));
    for (here, there) in [(ours, theirs), (theirs, ours)] {
        let (pod, remote) = (here.pod("p0"), there.pod("p0"));
        let mut paths = vec![
            ("pod to pod", pod.ns(), remote.address(), 62),
            ("pod to host", pod.ns(), there.address().addr(), 63),
            ("host to pod", here.ns(), remote.address(), 63),
        ];
        if has_address(there, there.tunnel_address())? {
            let tunnel = there.tunnel_address();
            paths.push(("pod to tunnel address", pod.ns(), tunnel, 63));
            paths.push(("host to tunnel address", here.ns(), tunnel, 64));
        }
        for (what, from, to, ttl) in paths {
            let report = ping(from, to, &PingOptions::default())?;
            assert!(
                report.is_lossless(),
                "{what} from {}: {report:?}",
                here.name()
            );
            assert_eq!(report.reply_ttl, Some(ttl), "{what} from {}", here.name());
        }
        let slow = UdpOptions {
            length: 1000,
            bits_per_second: 8_000_000,
            ..UdpOptions::default()
        };
        // A server that gets no time to read loses some in its socket.
        let overflown = || remote.ns().snmp_counter("Udp", "RcvbufErrors");
        let before = overflown()?;
        let udp = udp_throughput(remote.ns(), pod.ns(), remote.address(), 1, &slow)?;
        let overflown = overflown()? - before;
        assert!(udp.lost <= overflown, "{overflown} in the socket: {udp:?}");
        assert!(udp.packets > udp.lost, "{udp:?}");
    }
    Ok(())
}

fn has_address(node: &Node, address: Ipv4Addr) -> Result<bool> {
    let shown = node
        .ns()
        .exec(&format!("ip -o address show to {address}/32"))?;
    Ok(!shown.is_empty())
}

/// Sends TCP both ways, which passes underpass as `sent-<word>` and `received-<word>`.
fn tcp_stays_whole(lab: &Lab, word: &str) -> Result<()> {
    let ours = lab.node("node-0");
    let (near, far) = (ours.pod("p0"), lab.pod("node-1", "p0"));
    for (from, to, hook, reason) in [
        (near, far, "from_workload", format!("sent-{word}")),
        (far, near, "from_uplink", format!("received-{word}")),
    ] {
        let before = Counters::read(ours)?;
        assert_tcp(from.ns(), to)?;
        let count = Counters::read(ours)?.since(&before).get(hook, &reason);
        assert_whole(count, &reason);
    }
    Ok(())
}

fn assert_tcp(client: &NetNs, server: &Pod) -> Result<()> {
    let options = TcpOptions::default();
    let tcp = tcp_throughput(server.ns(), client, server.address(), 1, &options)?;
    assert!(tcp.bits_per_second > 0.0, "{tcp:?}");
    Ok(())
}

fn assert_whole(count: Count, reason: &str) {
    assert!(count.packets > 0, "nothing is {reason}");
    assert!(
        count.bytes / count.packets > WHOLE,
        "what is {reason} has been cut into segments: {count:?}"
    );
}

/// Makes the way into a pod narrower than what the pod tells its TCP peers, in bytes: 1400.
fn narrow(node: &Node, pod: &Pod) -> Result<()> {
    node.set_pod_mtu(pod.name(), 1400)?;
    pod.ns()
        .exec("ip route replace default via 169.254.1.1 dev eth0 advmss 1410")?;
    eventually("the agent knows the veth's MTU", || {
        let output = node.underpass(&["endpoints", "list"])?;
        let table = String::from_utf8(output.stdout)?;
        let is_narrow = |line: &str| line.contains(pod.host_ifname()) && line.ends_with(" 1400");
        Ok(table.lines().any(is_narrow))
    })
}

fn is_vxlan(frame: &[u8]) -> bool {
    udp(frame).is_some_and(|(_, header, _)| header.destination_port == 4789)
}

/// The checksum of a UDP packet, and what it should be.
fn udp_checksum(frame: &[u8]) -> Result<(u16, u16)> {
    let (ip, header, payload) = udp(frame).context("not UDP")?;
    let right = header.calc_checksum_ipv4_raw(ip.source, ip.destination, payload)?;
    Ok((header.checksum, right))
}

fn udp(frame: &[u8]) -> Option<(etherparse::Ipv4Header, UdpHeader, &[u8])> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) = (packet.net, packet.transport)
    else {
        return None;
    };
    Some((ip.header().to_header(), udp.to_header(), udp.payload()))
}
