mod flows;

use std::collections::BTreeMap;

use dataplane_common::{
    abi::{Endpoint, Peer, flags},
    memory::MemoryTables,
    tuple::{Role, Tuple},
};
use serde_json::json;

use super::*;

/// Interfaces that no machine has, so that their names are the same everywhere.
const VETH1: u32 = 1_000_001;
const VETH2: u32 = 1_000_002;
const UPLINK: u32 = 1_000_009;

const NODE: Addr = [192, 168, 1, 10];
const POD: Addr = [10, 0, 1, 2];
const OTHER_POD: Addr = [10, 0, 1, 3];
const UNRESOLVED_POD: Addr = [10, 0, 1, 4];
const TUNNEL_ADDRESS: Addr = [10, 0, 1, 1];
/// A peer's pods, by the mode in which they are reached.
const DIRECT_POD: Addr = [10, 1, 2, 2];
const IPIP_POD: Addr = [10, 2, 2, 2];
const VXLAN_POD: Addr = [10, 3, 2, 2];
const NOWHERE: Addr = [10, 9, 0, 1];
const OUTSIDE: Addr = [203, 0, 113, 9];

/// A node with three pods, and a peer, 192.168.2.10, behind the router 192.168.1.1.
fn snapshot() -> Snapshot {
    let of_kind = |kind| NextHop {
        kind: kind as u8,
        ..NextHop::default()
    };
    let to_peer = |kind, mtu| NextHop {
        mtu,
        ifindex: UPLINK,
        peer: [192, 168, 2, 10],
        gateway: [192, 168, 1, 1],
        source: NODE,
        vtep_mac: [0x66, 0, 0, 0, 0, 2],
        ..of_kind(kind)
    };
    let endpoint = |ifindex, last| Endpoint {
        ifindex,
        mtu: 1450,
        mac: [0, 0, 0, 0, 0, last],
        host_mac: [0xee; 6],
        ..Endpoint::default()
    };
    let peer = Peer {
        vtep_mac: [0x66, 0, 0, 0, 0, 2],
        ..Peer::default()
    };
    let config = Config {
        node: NODE,
        vni: 4096,
        carrier: 7,
        vxlan_port: [0x12, 0xb5],
        vtep_mac: [0x66, 0, 0, 0, 0, 1],
        ..Config::default()
    };
    Snapshot {
        tables: MemoryTables {
            config: Some(config),
            routes: BTreeMap::from([
                ((24, [10, 0, 1, 0]), of_kind(NextHopKind::Local)),
                ((24, [10, 1, 2, 0]), to_peer(NextHopKind::Direct, 1500)),
                ((24, [10, 2, 2, 0]), to_peer(NextHopKind::Ipip, 1480)),
                ((24, [10, 3, 2, 0]), to_peer(NextHopKind::Vxlan, 1450)),
                ((16, [10, 9, 0, 0]), of_kind(NextHopKind::Blackhole)),
            ]),
            endpoints: BTreeMap::from([
                (POD, endpoint(VETH1, 1)),
                (OTHER_POD, endpoint(VETH2, 2)),
                (UNRESOLVED_POD, endpoint(VETH2, 0)),
            ]),
            peers: BTreeMap::from([([192, 168, 2, 10], peer)]),
            ..MemoryTables::default()
        },
        routes: BTreeMap::new(),
    }
}

/// Where nothing is known of other nodes, nor of flows.
fn explain(snapshot: &Snapshot, question: &Question) -> Explanation {
    let others = Others::Unknown("of a test".to_owned());
    super::explain(copy(snapshot), question, None, &others)
}

fn copy(snapshot: &Snapshot) -> Snapshot {
    Snapshot {
        tables: snapshot.tables.clone(),
        routes: snapshot.routes.clone(),
    }
}

fn echo(source: Addr, destination: Addr) -> Question {
    Question {
        source: source.into(),
        destination: destination.into(),
        protocol: ICMP,
        ports: None,
    }
}

/// Asserts what is told: hook, action, reason, and every step.
#[track_caller]
fn assert_told(
    snapshot: &Snapshot,
    source: Addr,
    destination: Addr,
    outcome: (Option<&str>, &str, Option<&str>),
    steps: &[&str],
) {
    let told = explain(snapshot, &echo(source, destination));
    assert_eq!(told.steps, steps);
    assert_eq!((told.hook, told.action, told.reason), outcome);
    assert_eq!(told.source.octets(), source);
    assert_eq!(told.destination.octets(), destination);
}

#[test]
fn without_a_configuration_nothing_is_decided() {
    let snapshot = Snapshot {
        tables: MemoryTables {
            config: None,
            ..snapshot().tables
        },
        routes: BTreeMap::new(),
    };
    assert_told(
        &snapshot,
        POD,
        VXLAN_POD,
        (None, "stack", None),
        &["the agent has not written the configuration: every packet is the stack's"],
    );
}

#[test]
fn from_pod_to_pod_on_this_node() {
    assert_told(
        &snapshot(),
        POD,
        OTHER_POD,
        (Some("from_workload"), "forward", Some("delivered-local")),
        &[
            "10.0.1.2 is a pod on this node, behind #1000001 (gone)",
            "destination 10.0.1.3 matches 10.0.1.0/24: local",
            "straight into the pod behind #1000002 (gone)",
        ],
    );
}

#[test]
fn an_interface_that_is_there_is_named() {
    let mut snapshot = snapshot();
    // Every network namespace has one.
    snapshot
        .tables
        .endpoints
        .entry(POD)
        .and_modify(|pod| pod.ifindex = 1);
    let told = explain(&snapshot, &echo(POD, OUTSIDE));
    assert_eq!(told.steps[0], "10.0.1.2 is a pod on this node, behind lo");
}

#[test]
fn from_a_pod_to_a_remote_pod_in_each_mode() {
    let pod = "10.0.1.2 is a pod on this node, behind #1000001 (gone)";
    for (to, reason, route, sent) in [
        (
            DIRECT_POD,
            "sent-direct",
            "destination 10.1.2.2 matches 10.1.2.0/24: direct to 192.168.2.10, MTU 1500",
            "out of #1000009 (gone) to neighbour 192.168.1.1",
        ),
        (
            IPIP_POD,
            "sent-ipip",
            "destination 10.2.2.2 matches 10.2.2.0/24: ipip to 192.168.2.10, MTU 1480",
            "in an outer header 192.168.1.10 -> 192.168.2.10 (20 bytes more), \
             out of #1000009 (gone) to neighbour 192.168.1.1",
        ),
        (
            VXLAN_POD,
            "sent-vxlan",
            "destination 10.3.2.2 matches 10.3.2.0/24: vxlan to 192.168.2.10, MTU 1450",
            "in an outer header 192.168.1.10 -> 192.168.2.10 (50 bytes more), \
             out of #1000009 (gone) to neighbour 192.168.1.1",
        ),
    ] {
        assert_told(
            &snapshot(),
            POD,
            to,
            (Some("from_workload"), "forward", Some(reason)),
            &[pod, route, sent],
        );
    }
}

#[test]
fn from_a_pod_to_where_the_fast_path_does_not_lead() {
    let pod = "10.0.1.2 is a pod on this node, behind #1000001 (gone)";
    for (to, action, reason, route, conclusion) in [
        (
            OUTSIDE,
            "stack",
            "no-route",
            "destination 203.0.113.9 has no route",
            "stack: no route in the table",
        ),
        (
            POD,
            "stack",
            "hairpin",
            "destination 10.0.1.2 matches 10.0.1.0/24: local",
            "stack: from a pod to itself",
        ),
        (
            TUNNEL_ADDRESS,
            "stack",
            "local-address",
            "destination 10.0.1.1 matches 10.0.1.0/24: local",
            "stack: an address of this node that is not a pod's",
        ),
        (
            UNRESOLVED_POD,
            "stack",
            "unresolved",
            "destination 10.0.1.4 matches 10.0.1.0/24: local",
            "stack: the pod's Ethernet address is not known yet; the stack resolves it",
        ),
        (
            NOWHERE,
            "drop",
            "blackhole",
            "destination 10.9.0.1 matches 10.9.0.0/16: blackhole",
            "drop: a blackhole route",
        ),
    ] {
        assert_told(
            &snapshot(),
            POD,
            to,
            (Some("from_workload"), action, Some(reason)),
            &[pod, route, conclusion],
        );
    }
}

#[test]
fn a_longer_prefix_is_the_one_that_is_told() {
    let mut snapshot = snapshot();
    let borrowed = snapshot.tables.routes[&(24, [10, 2, 2, 0])];
    snapshot.tables.routes.insert((32, VXLAN_POD), borrowed);
    let told = explain(&snapshot, &echo(POD, VXLAN_POD));
    assert_eq!(
        told.steps[1],
        "destination 10.3.2.2 matches 10.3.2.2/32: ipip to 192.168.2.10, MTU 1480"
    );
}

#[test]
fn from_a_remote_pod_to_a_pod_in_each_mode() {
    let destination = "destination 10.0.1.2 matches 10.0.1.0/24: local";
    for (from, reason, route, arrival, delivered) in [
        (
            DIRECT_POD,
            "received-direct",
            "source 10.1.2.2 matches 10.1.2.0/24: direct to 192.168.2.10, MTU 1500",
            "it comes over the wire as it is",
            "straight into the pod behind #1000001 (gone)",
        ),
        (
            IPIP_POD,
            "received-ipip",
            "source 10.2.2.2 matches 10.2.2.0/24: ipip to 192.168.2.10, MTU 1480",
            "it comes from 192.168.2.10 by ipip",
            "out of its tunnel and straight into the pod behind #1000001 (gone)",
        ),
        (
            VXLAN_POD,
            "received-vxlan",
            "source 10.3.2.2 matches 10.3.2.0/24: vxlan to 192.168.2.10, MTU 1450",
            "it comes from 192.168.2.10 by vxlan",
            "out of its tunnel and straight into the pod behind #1000001 (gone)",
        ),
    ] {
        assert_told(
            &snapshot(),
            from,
            POD,
            (Some("from_uplink"), "forward", Some(reason)),
            &[route, arrival, destination, delivered],
        );
    }
}

#[test]
fn from_a_remote_pod_to_the_stack_of_this_node() {
    let source = "source 10.3.2.2 matches 10.3.2.0/24: vxlan to 192.168.2.10, MTU 1450";
    let arrival = "it comes from 192.168.2.10 by vxlan";
    assert_told(
        &snapshot(),
        VXLAN_POD,
        TUNNEL_ADDRESS,
        (Some("from_uplink"), "stack", Some("for-host")),
        &[
            source,
            arrival,
            "destination 10.0.1.1 matches 10.0.1.0/24: local",
            "out of the tunnel to the stack, on the carrier: out of a tunnel, for this node's own \
             stack",
        ],
    );
    assert_told(
        &snapshot(),
        VXLAN_POD,
        UNRESOLVED_POD,
        (Some("from_uplink"), "stack", Some("unresolved")),
        &[
            source,
            arrival,
            "destination 10.0.1.4 matches 10.0.1.0/24: local",
            "out of the tunnel to the stack, on the carrier: the pod's Ethernet address is not \
             known yet; the stack resolves it",
        ],
    );
}

/// Nodes are outside the pools: no node encapsulates for them.
#[test]
fn from_a_remote_pod_to_a_node_no_tunnel_is_used() {
    assert_told(
        &snapshot(),
        VXLAN_POD,
        NODE,
        (Some("from_uplink"), "stack", Some("not-for-pod")),
        &[
            "source 10.3.2.2 matches 10.3.2.0/24: vxlan to 192.168.2.10, MTU 1450",
            "it comes over the wire as it is",
            "destination 192.168.1.10 has no route",
            "stack: from the wire, to something that is not a local pod",
        ],
    );
}

#[test]
fn from_a_remote_pod_to_what_is_not_here() {
    assert_told(
        &snapshot(),
        VXLAN_POD,
        IPIP_POD,
        (Some("from_uplink"), "drop", Some("foreign-destination")),
        &[
            "source 10.3.2.2 matches 10.3.2.0/24: vxlan to 192.168.2.10, MTU 1450",
            "it comes from 192.168.2.10 by vxlan",
            "destination 10.2.2.2 matches 10.2.2.0/24: ipip to 192.168.2.10, MTU 1480",
            "drop: the inner destination is not on this node",
        ],
    );
}

#[test]
fn from_a_peer_that_only_the_routes_name() {
    let mut snapshot = snapshot();
    snapshot.tables.peers.clear();
    let told = explain(&snapshot, &echo(VXLAN_POD, POD));
    assert_eq!(told.reason, Some("received-vxlan"));
}

#[test]
fn from_this_node_itself() {
    for (from, own) in [
        (
            NODE,
            &[
                "source 192.168.1.10 has no route",
                "192.168.1.10 is this node's own",
            ],
        ),
        (
            TUNNEL_ADDRESS,
            &[
                "source 10.0.1.1 matches 10.0.1.0/24: local",
                "10.0.1.1 is this node's own",
            ],
        ),
    ] {
        let steps = |rest: &[&'static str]| -> Vec<&'static str> {
            own.iter().chain(rest).copied().collect()
        };
        assert_told(
            &snapshot(),
            from,
            VXLAN_POD,
            (Some("from_stack"), "forward", Some("sent-vxlan")),
            &steps(&[
                "destination 10.3.2.2 matches 10.3.2.0/24: vxlan to 192.168.2.10, MTU 1450",
                "the stack routes it to the carrier",
                "in an outer header 192.168.1.10 -> 192.168.2.10 (50 bytes more), \
                 out of #1000009 (gone) to neighbour 192.168.1.1",
            ]),
        );
        for (to, route) in [
            (
                DIRECT_POD,
                "destination 10.1.2.2 matches 10.1.2.0/24: direct to 192.168.2.10, MTU 1500",
            ),
            (POD, "destination 10.0.1.2 matches 10.0.1.0/24: local"),
            (
                NOWHERE,
                "destination 10.9.0.1 matches 10.9.0.0/16: blackhole",
            ),
            (OUTSIDE, "destination 203.0.113.9 has no route"),
        ] {
            assert_told(
                &snapshot(),
                from,
                to,
                (None, "stack", None),
                &steps(&[route, "no program sees it: it is the stack's alone"]),
            );
        }
    }
}

#[test]
fn from_outside_the_cluster() {
    assert_told(
        &snapshot(),
        OUTSIDE,
        POD,
        (Some("from_uplink"), "stack", Some("source-outside")),
        &[
            "source 203.0.113.9 has no route",
            "as it stands on the wire, without a tunnel:",
            "stack: from the wire to a pod, from where no direct route leads",
        ],
    );
    assert_told(
        &snapshot(),
        NOWHERE,
        OUTSIDE,
        (Some("from_uplink"), "stack", Some("not-for-pod")),
        &[
            "source 10.9.0.1 matches 10.9.0.0/16: blackhole",
            "as it stands on the wire, without a tunnel:",
            "stack: from the wire, to something that is not a local pod",
        ],
    );
}

#[test]
fn with_outer_checksums_the_kernels_device_encapsulates_vxlan() {
    let mut snapshot = snapshot();
    if let Some(config) = &mut snapshot.tables.config {
        config.flags = flags::VXLAN_CHECKSUM;
    }
    for (from, hook) in [(POD, "from_workload"), (NODE, "from_stack")] {
        let told = explain(&snapshot, &echo(from, VXLAN_POD));
        assert_eq!(
            (told.hook, told.action, told.reason),
            (Some(hook), "stack", Some("kernel-encap"))
        );
        assert_eq!(
            told.steps.last().map(String::as_str),
            Some("stack: VXLAN that the kernel's device encapsulates")
        );
    }
}

#[test]
fn what_does_not_apply_is_left_out_of_the_json() {
    let of = |from: Addr, to: Addr| {
        let mut json = serde_json::to_value(explain(&snapshot(), &echo(from, to))).unwrap();
        json["steps"].take();
        json
    };
    assert_eq!(
        of(POD, NOWHERE),
        json!({
            "source": "10.0.1.2",
            "destination": "10.9.0.1",
            "protocol": "icmp",
            "hook": "from_workload",
            "action": "drop",
            "reason": "blackhole",
            "steps": null,
        })
    );
    assert_eq!(
        of(NODE, OUTSIDE),
        json!({
            "source": "192.168.1.10",
            "destination": "203.0.113.9",
            "protocol": "icmp",
            "action": "stack",
            "steps": null,
        })
    );
}

/// The explained packet is one that the programs would take for what it is.
#[test]
fn the_packet_is_an_ordinary_echo_request() {
    let packet = echo(POD, VXLAN_POD).packet();
    let ip = parse::ipv4(&packet, parse::IP).unwrap();
    assert_eq!(ip.forwardable(), Ok(()));
    assert_eq!((ip.source, ip.destination), (POD, VXLAN_POD));
    assert_eq!((ip.protocol, ip.ttl, ip.total_length), (1, 64, 28));
    // The ICMP message's sum is all ones with its checksum in it (RFC 1071).
    let words = packet.bytes[parse::TRANSPORT..].chunks(2);
    let sum: u32 = words
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    assert_eq!(sum, 0xffff);
}

/// Of TCP and SCTP, such as is carried in the middle of a connection.
#[test]
fn other_packets_are_ordinary_ones_with_their_ports() {
    for protocol in [6, 17, 132, 47] {
        let question = with_ports(POD, VXLAN_POD, protocol, [40_000, 80]);
        let packet = question.packet();
        let ip = parse::ipv4(&packet, parse::IP).unwrap();
        assert_eq!(ip.forwardable(), Ok(()));
        assert_eq!(ip.protocol, protocol);
        let ports = parse::ports(&packet, &ip, parse::IP);
        if Question::has_ports(protocol) {
            assert_eq!(ports, [0x9c, 0x40, 0, 80], "{protocol}");
            let (_, role) = Tuple::of(&packet, &ip, parse::IP).unwrap();
            assert_eq!(role, Role::Data, "{protocol}");
        } else {
            assert_eq!(ports, [0; 4], "{protocol}");
        }
    }
}

fn with_ports(source: Addr, destination: Addr, protocol: u8, ports: [u16; 2]) -> Question {
    Question {
        protocol,
        ports: Some(ports),
        ..echo(source, destination)
    }
}

#[test]
fn the_outer_headers_are_the_bytes_that_are_sent() {
    let told = explain(&snapshot(), &with_ports(POD, VXLAN_POD, 17, [40_000, 53]));
    let names: Vec<_> = told.outer.iter().map(|outer| outer.header).collect();
    assert_eq!(names, ["IPv4", "UDP", "VXLAN", "Ethernet"]);
    let [ip, udp, vxlan, ethernet] = &told.outer[..] else {
        panic!("{:?}", told.outer);
    };
    assert_eq!(
        ip.meaning,
        "192.168.1.10 -> 192.168.2.10, TTL 64, protocol 17"
    );
    // 50 bytes longer than the packet, which is of 32.
    assert!(ip.bytes.starts_with("45 00 00 52 "), "{}", ip.bytes);
    assert!(udp.meaning.ends_with(" -> 4789"), "{}", udp.meaning);
    assert_eq!(vxlan.bytes, "08 00 00 00 00 10 00 00");
    assert_eq!(vxlan.meaning, "network 4096");
    assert_eq!(ethernet.bytes, "66 00 00 00 00 02 66 00 00 00 00 01 08 00");
    assert_eq!(ethernet.meaning, "66:00:00:00:00:01 -> 66:00:00:00:00:02");
    assert_eq!(told.mtu, Some(1450));

    let told = explain(&snapshot(), &echo(POD, IPIP_POD));
    assert_eq!(told.outer.len(), 1);
    assert_eq!(told.mtu, Some(1480));
    let told = explain(&snapshot(), &echo(POD, DIRECT_POD));
    assert_eq!((told.outer, told.mtu), (Vec::new(), Some(1500)));
}

#[test]
fn flows_have_source_ports_of_their_own_in_vxlan() {
    let port = |source_port| {
        let question = with_ports(POD, VXLAN_POD, 6, [source_port, 80]);
        explain(&snapshot(), &question).outer[1].meaning.clone()
    };
    assert_eq!(port(40_000), port(40_000));
    assert_ne!(port(40_000), port(40_001));
}

mod ways {
    use super::*;

    const ANYCAST: Addr = [10, 4, 4, 4];

    /// As above, and two ways to one address, of which the second has three quarters.
    fn snapshot() -> Snapshot {
        let mut snapshot = super::snapshot();
        let routes = &mut snapshot.tables.routes;
        let first = routes[&(24, [10, 3, 2, 0])];
        let second = NextHop {
            peer: [192, 168, 2, 11],
            ..first
        };
        let multipath = NextHop {
            kind: NextHopKind::Multipath as u8,
            entry: 5,
            ..NextHop::default()
        };
        routes.insert((32, ANYCAST), multipath);
        let ways = std::array::from_fn(|place| if place < 8 { first } else { second });
        snapshot.tables.multipaths.insert(5, ways);
        snapshot
    }

    const MATCHES: &str = "matches 10.4.4.4/32: multipath, for 8 of 32 flows vxlan to \
                           192.168.2.10, MTU 1450, for 24 of 32 flows vxlan to 192.168.2.11, MTU \
                           1450";

    #[test]
    fn from_a_pod_by_the_way_of_its_flow() {
        let told = explain(&snapshot(), &echo(POD, ANYCAST));
        assert_eq!(told.steps[1], format!("destination 10.4.4.4 {MATCHES}"));
        let way = told.steps[2].strip_prefix("this flow, without ports, takes vxlan to ");
        let way = way
            .and_then(|rest| rest.strip_suffix(", MTU 1450; one with ports may take another way"));
        let peer = way.unwrap_or_else(|| panic!("{:?}", told.steps));
        assert!(["192.168.2.10", "192.168.2.11"].contains(&peer), "{peer}");
        let outer = format!("in an outer header 192.168.1.10 -> {peer} (50 bytes more), ");
        assert!(told.steps[3].starts_with(&outer), "{:?}", told.steps);
        assert_eq!(told.reason, Some("sent-vxlan"));
    }

    #[test]
    fn each_flow_by_its_own() {
        let peers = (40_000..40_032).map(|port| {
            let told = explain(&snapshot(), &with_ports(POD, ANYCAST, 6, [port, 80]));
            let way = told.steps[2].strip_prefix("this flow, by its addresses and ports, takes ");
            let way = way.unwrap_or_else(|| panic!("{:?}", told.steps)).to_owned();
            let sent = told.outer[0].meaning.replace("192.168.1.10 -> ", "");
            let peer = sent.split(',').next().unwrap_or_default().to_owned();
            assert_eq!(way, format!("vxlan to {peer}, MTU 1450"));
            peer
        });
        let peers: std::collections::BTreeSet<_> = peers.collect();
        assert_eq!(peers.len(), 2, "{peers:?}");
    }

    #[test]
    fn from_where_many_ways_lead_nobody_can_say_who_sent_it() {
        assert_told(
            &snapshot(),
            ANYCAST,
            POD,
            (Some("from_uplink"), "stack", Some("owner-unknown")),
            &[
                &format!("source 10.4.4.4 {MATCHES}"),
                "it comes from 192.168.2.10 by vxlan",
                "destination 10.0.1.2 matches 10.0.1.0/24: local",
                "stack: in a tunnel, from an address whose one owner no route tells; the stack's",
            ],
        );
    }
}

mod without_a_carrier {
    use super::*;

    fn snapshot() -> Snapshot {
        let mut snapshot = super::snapshot();
        let config = snapshot.tables.config.as_mut().unwrap();
        config.carrier = 0;
        snapshot
    }

    #[test]
    fn what_is_for_the_stack_stays_in_its_tunnel() {
        let told = explain(&snapshot(), &echo(VXLAN_POD, TUNNEL_ADDRESS));
        let last = told.steps.last().map(String::as_str);
        assert_eq!(
            last,
            Some("stack: out of a tunnel, for this node's own stack")
        );
        assert_eq!((told.action, told.reason), ("stack", Some("for-host")));
    }

    #[test]
    fn the_hosts_own_packets_pass_no_program() {
        assert_told(
            &snapshot(),
            TUNNEL_ADDRESS,
            VXLAN_POD,
            (None, "stack", None),
            &[
                "source 10.0.1.1 matches 10.0.1.0/24: local",
                "10.0.1.1 is this node's own",
                "destination 10.3.2.2 matches 10.3.2.0/24: vxlan to 192.168.2.10, MTU 1450",
                "no program sees it: it is the stack's alone",
            ],
        );
    }
}
