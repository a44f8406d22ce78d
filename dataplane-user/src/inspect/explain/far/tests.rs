use std::fs;

use super::*;
use crate::inspect::{
    Explanation, ICMP, Snapshot,
    explain::{Question, explain},
};

/// A pool of each mode. `near` is on the subnet of `here`, `far` behind a router.
const CLUSTER: &str = "\
pools:
  - { cidr: 10.0.0.0/16 }
  - { cidr: 10.1.0.0/16, ipipMode: Always }
  - { cidr: 10.2.0.0/16, vxlanMode: Always }
  - { cidr: 10.3.0.0/16, ipipMode: CrossSubnet }
nodes:
  - name: here
    address: 192.168.1.10/24
    podCIDRs: [10.0.1.0/24, 10.1.1.0/24, 10.2.1.0/24, 10.3.1.0/24]
    tunnelAddress: 10.2.1.1
  - name: near
    address: 192.168.1.11/24
    podCIDRs: [10.0.2.0/24, 10.1.2.0/24, 10.2.2.0/24, 10.3.2.0/24]
    tunnelAddress: 10.2.2.1
  - name: far
    address: 192.168.2.10/24
    podCIDRs: [10.0.3.0/24, 10.1.3.0/24, 10.2.3.0/24, 10.3.3.0/24]
    tunnelAddress: 10.2.3.1
routes:
  - { cidr: 10.2.3.7/32, node: far }
  - { cidr: 10.0.9.0/24, blackhole: true }
";

const UNKNOWN: &str = "its configuration, taken to be as here; its pods, with their interfaces and \
                       Ethernet addresses; its uplinks and neighbours";

fn known(cluster: &str) -> ClusterFile {
    let directory = tempfile::tempdir().unwrap();
    let (config, file) = (
        directory.path().join("config.yaml"),
        directory.path().join("cluster.yaml"),
    );
    fs::write(&config, "node: here\nacceleration: all\n").unwrap();
    fs::write(&file, cluster).unwrap();
    ClusterFile {
        config: Config::load(&config).unwrap(),
        cluster: file::read(&file).unwrap_or_else(|error| panic!("{error}")),
        file: "/etc/underpass/cluster.yaml".into(),
    }
}

/// The maps of the node `here` by this cluster file, with the pod that is asked about.
fn snapshot(cluster: &str, pod: Ipv4Addr) -> Snapshot {
    let known = known(cluster);
    let mut tables = tables(&known, known.cluster.node("here").unwrap()).unwrap();
    let endpoint = Endpoint {
        ifindex: 1_000_001,
        mtu: 1450,
        mac: [2, 0, 0, 0, 0, 9],
        ..Endpoint::default()
    };
    tables.endpoints.insert(pod.octets(), endpoint);
    Snapshot {
        tables,
        routes: std::collections::BTreeMap::new(),
    }
}

/// Of an echo, by maps that are of one cluster file, where there is now another.
fn explained(maps_of: &str, source: &str, destination: &str, others: &Others) -> Explanation {
    let question = Question {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        protocol: ICMP,
        ports: None,
    };
    explain(snapshot(maps_of, question.source), &question, None, others)
}

fn told_by(maps_of: &str, source: &str, destination: &str, cluster: &str) -> FarNode {
    let others = Others::InFile(Box::new(known(cluster)));
    let explanation = explained(maps_of, source, destination, &others);
    let far = explanation.far_node.clone();
    far.unwrap_or_else(|| panic!("it stays here: {explanation:?}"))
}

fn told(source: &str, destination: &str) -> FarNode {
    told_by(CLUSTER, source, destination, CLUSTER)
}

#[track_caller]
fn assert_told(far: &FarNode, node: &str, outcome: (&str, &str), steps: &[&str], end: &str) {
    assert_eq!(far.steps, steps);
    assert_eq!(far.end, end);
    assert_eq!(far.name.as_deref(), Some(node));
    assert_eq!((far.action, far.reason), (Some(outcome.0), Some(outcome.1)));
    assert_eq!(far.unknown, UNKNOWN);
}

#[test]
fn out_of_its_tunnel_and_to_a_pod_if_there_is_one() {
    let delivered = |pod| {
        format!(
            "would be delivered to the pod {pod}, if far has one: the cluster file has its prefixes \
             alone"
        )
    };
    assert_told(
        &told("10.1.1.2", "10.1.3.2"),
        "far",
        ("forward", "received-ipip"),
        &[
            "it comes from 192.168.1.10 in IPIP: its peer here",
            "source 10.1.1.2 matches 10.1.1.0/24: ipip to here (192.168.1.10)",
            "destination 10.1.3.2 matches 10.1.3.0/24: local",
        ],
        &delivered("10.1.3.2"),
    );
    assert_told(
        &told("10.2.1.2", "10.2.3.2"),
        "far",
        ("forward", "received-vxlan"),
        &[
            "it comes from 192.168.1.10 in VXLAN: its peer here",
            "source 10.2.1.2 matches 10.2.1.0/24: vxlan to here (192.168.1.10)",
            "destination 10.2.3.2 matches 10.2.3.0/24: local",
        ],
        &delivered("10.2.3.2"),
    );
    assert_told(
        &told("10.0.1.2", "10.0.3.2"),
        "far",
        ("forward", "received-direct"),
        &[
            "it comes from 192.168.1.10 over the wire as it is",
            "source 10.0.1.2 matches 10.0.1.0/24: direct to here (192.168.1.10)",
            "destination 10.0.3.2 matches 10.0.3.0/24: local",
        ],
        &delivered("10.0.3.2"),
    );
}

#[test]
fn across_subnets_in_a_tunnel_and_on_one_subnet_as_it_is() {
    assert_eq!(told("10.3.1.2", "10.3.3.2").reason, Some("received-ipip"));
    let near = told("10.3.1.2", "10.3.2.2");
    assert_eq!(near.reason, Some("received-direct"));
    assert_eq!(near.name.as_deref(), Some("near"));
}

#[test]
fn to_a_pod_that_the_file_has() {
    assert_eq!(
        told("10.2.1.2", "10.2.3.7").end,
        "would be delivered to the pod 10.2.3.7, to which the cluster file has a route of its own"
    );
}

#[test]
fn to_the_node_itself() {
    let far = told("10.2.1.2", "10.2.3.1");
    assert_eq!((far.action, far.reason), (Some("stack"), Some("for-host")));
    assert_eq!(
        far.end,
        "would be handed to the stack of far, whose own address it is for"
    );
}

/// This node's own pod, from an address that the file says is another's.
#[test]
fn another_nodes_source_is_refused() {
    assert_told(
        &told("10.2.2.9", "10.2.3.2"),
        "far",
        ("drop", "foreign-source"),
        &[
            "it comes from 192.168.1.10 in VXLAN: its peer here",
            "source 10.2.2.9 matches 10.2.2.0/24: vxlan to near (192.168.1.11)",
            "destination 10.2.3.2 matches 10.2.3.0/24: local",
        ],
        "would be dropped by far: the inner source does not belong to the node that sent it",
    );
}

/// Its mask makes it answer in a tunnel what came without one.
#[test]
fn a_node_that_would_not_send_back_as_it_came_leaves_it_to_its_stack() {
    let cluster = CLUSTER.replace("192.168.1.10/24", "192.168.1.10/16");
    assert_told(
        &told_by(&cluster, "10.3.1.2", "10.3.3.2", &cluster),
        "far",
        ("stack", "source-outside"),
        &[
            "it comes from 192.168.1.10 over the wire as it is",
            "source 10.3.1.2 matches 10.3.1.0/24: ipip to here (192.168.1.10)",
            "destination 10.3.3.2 matches 10.3.3.0/24: local",
        ],
        "would be left to the stack of far: from the wire to a pod, from where no direct route leads",
    );
}

#[test]
fn a_node_that_knows_this_one_by_another_address_refuses_its_tunnels() {
    let cluster = CLUSTER.replace("192.168.1.10/24", "192.168.1.20/24");
    let far = told_by(CLUSTER, "10.1.1.2", "10.1.3.2", &cluster);
    assert_told(
        &far,
        "far",
        ("drop", "unknown-peer"),
        &[
            "it comes from 192.168.1.10 in IPIP: no peer of its",
            "source 10.1.1.2 matches 10.1.1.0/24: ipip to here (192.168.1.20)",
            "destination 10.1.3.2 matches 10.1.3.0/24: local",
        ],
        "would be dropped by far: a tunnel packet from an address that is no node's",
    );
}

#[test]
fn a_node_that_has_another_vtep_leaves_it_to_its_stack() {
    let cluster = CLUSTER.replace("name: far\n", "name: far\n    vtepMAC: 66:00:00:00:00:03\n");
    let far = told_by(CLUSTER, "10.2.1.2", "10.2.3.2", &cluster);
    assert_eq!(
        (far.action, far.reason),
        (Some("stack"), Some("inner-other-host"))
    );
}

/// The maps here are older than the file, by which the block has moved.
#[test]
fn a_block_that_is_elsewhere_by_now_is_routed_onward_or_refused() {
    let moved = |block: &str| {
        let without = CLUSTER.replace(&format!("{block}, "), "");
        without + &format!("  - {{ cidr: {block}, node: near }}\n")
    };
    let direct = moved("10.0.3.0/24");
    assert_told(
        &told_by(CLUSTER, "10.0.1.2", "10.0.3.2", &direct),
        "far",
        ("stack", "not-for-pod"),
        &[
            "it comes from 192.168.1.10 over the wire as it is",
            "source 10.0.1.2 matches 10.0.1.0/24: direct to here (192.168.1.10)",
            "destination 10.0.3.2 matches 10.0.3.0/24: direct to near (192.168.1.11)",
        ],
        "would be left to the stack of far, which routes it on: direct to near (192.168.1.11)",
    );
    let ipip = moved("10.1.3.0/24");
    let far = told_by(CLUSTER, "10.1.1.2", "10.1.3.2", &ipip);
    assert_eq!(far.reason, Some("foreign-destination"));
    assert_eq!(
        far.end,
        "would be dropped by far: the inner destination is not on this node"
    );
}

#[test]
fn the_hosts_own_packets_arrive_there_too() {
    let far = told("10.2.1.1", "10.2.3.2");
    assert_eq!(far.reason, Some("received-vxlan"));
    // No program sees it here, and there no direct route leads to the node's own address.
    let far = told("192.168.1.10", "10.0.3.2");
    assert_eq!(far.reason, Some("source-outside"));
    assert_eq!(far.steps[1], "source 192.168.1.10 has no route there");
}

#[test]
fn a_node_that_is_not_in_the_file_is_not_known() {
    let without = CLUSTER.replace("name: far", "name: other");
    let without = without.replace("node: far", "node: other");
    let without = without.replace("192.168.2.10/24", "192.168.2.20/24");
    let far = told_by(CLUSTER, "10.1.1.2", "10.1.3.2", &without);
    assert_not_known(
        &far,
        "its table: no node in /etc/underpass/cluster.yaml has this address",
    );
}

#[test]
fn with_the_kernels_routes_no_file_tells() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yaml");
    fs::write(&file, "node: here\nsource: kernel\n").unwrap();
    let others = Others::read(Config::load(&file).map_err(Into::into));
    let far = explained(CLUSTER, "10.1.1.2", "10.1.3.2", &others).far_node;
    assert_not_known(
        &far.unwrap(),
        "its table: the routes are the kernel's (`source: kernel`), and no file has those of other \
         nodes",
    );
}

#[test]
fn what_cannot_be_read_is_not_known_and_why() {
    let missing = Config::load("/nowhere/config.yaml".as_ref());
    let others = Others::read(missing.map_err(Into::into));
    let Others::Unknown(why) = others else {
        panic!("{others:?}");
    };
    let (begins, names) = (
        "the configuration has the source of routes: ",
        "/nowhere/config.yaml",
    );
    assert!(why.starts_with(begins) && why.contains(names), "{why}");
}

#[track_caller]
fn assert_not_known(far: &FarNode, unknown: &str) {
    assert_eq!(far.unknown, unknown);
    assert_eq!((&far.name, far.action, far.reason), (&None, None, None));
    assert_eq!(
        far.end,
        "not known here: ask `underpass explain` on that node"
    );
}

#[test]
fn what_does_not_leave_has_no_far_node() {
    let others = Others::InFile(Box::new(known(CLUSTER)));
    for destination in ["10.0.9.1", "203.0.113.9", "10.2.1.1"] {
        let explanation = explained(CLUSTER, "10.2.1.2", destination, &others);
        assert_eq!(explanation.far_node, None, "{destination}");
    }
}
