use std::fmt::Write as _;

use super::*;
use crate::cluster::{Mode, NodeId, Pool, PoolMode, Route, RouteTarget, When};
use crate::document::corruption::corrupt;

/// The table of docs/install.md: one pool, two nodes, a route of each kind.
const VALID: &str = "\
pools:
  - { cidr: 10.244.0.0/16, ipipMode: Never, vxlanMode: CrossSubnet }
nodes:
  - name: node1
    address: 192.168.1.10/24
    podCIDRs: [10.244.0.0/24]
    tunnelAddress: 10.244.0.1
    vtepMAC: 66:5a:01:02:03:04
  - { name: node2, address: 192.168.2.10/24, podCIDRs: [10.244.1.0/24, 10.244.2.0/24] }
routes:
  - { cidr: 10.244.7.9/32, node: node1 }
  - { cidr: 10.244.9.0/24, blackhole: true }
";

fn refusal(text: &str) -> String {
    parse(Path::new("cluster.yaml"), text)
        .expect_err("the file is accepted")
        .to_string()
}

/// The refusal of the valid table with `from` replaced by `to`.
fn refusal_with(from: &str, to: &str) -> String {
    assert_eq!(VALID.matches(from).count(), 1, "{from:?} names one place");
    refusal(&VALID.replace(from, to))
}

#[test]
fn a_valid_table_is_read() {
    let net = |text: &str| text.parse().unwrap();
    let cluster = parse(Path::new("cluster.yaml"), VALID).unwrap();
    assert!(cluster.pools.iter().eq(&[Pool {
        cidr: net("10.244.0.0/16"),
        mode: PoolMode::Vxlan(When::CrossSubnet),
    }]));
    assert_eq!(
        cluster.nodes,
        [
            Node {
                name: "node1".to_owned(),
                address: [192, 168, 1, 10].into(),
                subnet: net("192.168.1.0/24"),
                pod_cidrs: vec![net("10.244.0.0/24")],
                tunnel_address: Some([10, 244, 0, 1].into()),
                vtep_mac: "66:5a:01:02:03:04".parse().unwrap(),
            },
            Node {
                name: "node2".to_owned(),
                address: [192, 168, 2, 10].into(),
                subnet: net("192.168.2.0/24"),
                pod_cidrs: vec![net("10.244.1.0/24"), net("10.244.2.0/24")],
                tunnel_address: None,
                vtep_mac: "66:2d:bf:44:a6:8b".parse().unwrap(),
            },
        ]
    );
    assert_eq!(
        cluster.routes,
        [
            Route {
                cidr: net("10.244.7.9/32"),
                target: RouteTarget::Node(NodeId(0)),
            },
            Route {
                cidr: net("10.244.9.0/24"),
                target: RouteTarget::Blackhole,
            },
        ]
    );
    let [node1, node2] = &cluster.nodes[..] else {
        unreachable!()
    };
    assert_eq!(
        cluster.encapsulation(node1, node2, net("10.244.1.0/24")),
        Mode::Vxlan
    );
}

#[test]
fn everything_but_pools_and_nodes_may_be_left_out() {
    let text =
        "pools: [{cidr: 10.0.0.0/8}]\nnodes: [{name: on, address: 192.168.1.1/32}]\nroutes:\n";
    let cluster = parse(Path::new("cluster.yaml"), text).unwrap();
    assert_eq!(cluster.nodes[0].name, "on");
    assert_eq!(cluster.nodes[0].pod_cidrs, []);
    assert!(cluster.pools.iter().all(|pool| pool.mode == PoolMode::None));
}

#[test]
fn both_modes_may_be_in_one_cluster_but_not_in_one_pool() {
    for (ipip, vxlan, mode) in [
        ("Never", "Never", PoolMode::None),
        ("Always", "Never", PoolMode::Ipip(When::Always)),
        ("CrossSubnet", "Never", PoolMode::Ipip(When::CrossSubnet)),
        ("Never", "Always", PoolMode::Vxlan(When::Always)),
    ] {
        let text = VALID
            .replace("ipipMode: Never", &format!("ipipMode: {ipip}"))
            .replace("vxlanMode: CrossSubnet", &format!("vxlanMode: {vxlan}"));
        let cluster = parse(Path::new("cluster.yaml"), &text).unwrap();
        assert!(cluster.pools.iter().all(|pool| pool.mode == mode));
    }
}

/// Where a test replaces one of these, it adds no line before it.
const POOL: &str = "{ cidr: 10.244.0.0/16, ipipMode: Never, vxlanMode: CrossSubnet }";
const NODE2: &str =
    "{ name: node2, address: 192.168.2.10/24, podCIDRs: [10.244.1.0/24, 10.244.2.0/24] }";
const ROUTE: &str = "{ cidr: 10.244.7.9/32, node: node1 }";

#[test]
fn files_without_content_are_refused() {
    for (text, message) in [
        (
            "",
            "cluster.yaml: is empty: list the cluster's pools and nodes in it",
        ),
        (
            "# pools:\n",
            "cluster.yaml: is empty: list the cluster's pools and nodes in it",
        ),
        (
            "pools: []\nnodes:\n",
            "cluster.yaml: has no pools: list the networks that pods have their addresses from\n\
             cluster.yaml: has no nodes: list all of them, this one included",
        ),
    ] {
        assert_eq!(refusal(text), message, "{text:?}");
    }
}

#[test]
fn fields_that_do_not_exist_or_come_twice_are_refused() {
    for (from, to, message) in [
        (
            "pools:",
            "pool:",
            "cluster.yaml:1: unknown field 'pool', expected one of pools, nodes, routes",
        ),
        (
            "ipipMode",
            "ipip",
            "cluster.yaml:2: unknown field 'ipip', expected one of cidr, ipipMode, vxlanMode",
        ),
        (
            "tunnelAddress",
            "tunnelAddr",
            "cluster.yaml:7: unknown field 'tunnelAddr', expected one of name, address, podCIDRs, \
             tunnelAddress, vtepMAC",
        ),
        (
            "blackhole: true",
            "drop: true",
            "cluster.yaml:12: unknown field 'drop', expected one of cidr, node, blackhole",
        ),
        (
            "    tunnelAddress: 10.244.0.1",
            "    name: node3",
            "cluster.yaml:7: 'name' is given a second time: keep one of them",
        ),
        (
            "blackhole: true",
            "blackhole: yes",
            "cluster.yaml:12: expected true or false",
        ),
    ] {
        assert_eq!(refusal_with(from, to), message);
    }
}

#[test]
fn pools_that_contradict_themselves_or_each_other_are_refused() {
    for (pool, message) in [
        (
            "{ ipipMode: Never }",
            "cluster.yaml:2: a pool has no cidr: add it, such as 10.244.0.0/16",
        ),
        (
            "{ cidr: 10.244.0.0/16, ipipMode: CrossSubnet, vxlanMode: Always }",
            "cluster.yaml:2: pool 10.244.0.0/16 has both ipipMode and vxlanMode on, but packets \
             travel in one of them: set the other to Never",
        ),
        (
            "{ cidr: 10.244.0.0/16, ipipMode: always }",
            "cluster.yaml:2: ipipMode 'always' of pool 10.244.0.0/16 is unknown: write one of \
             Always, CrossSubnet, Never",
        ),
        (
            "{ cidr: 10.244.0.0/16, vxlanMode: on }",
            "cluster.yaml:2: vxlanMode 'on' of pool 10.244.0.0/16 is unknown: write one of \
             Always, CrossSubnet, Never",
        ),
        (
            "{ cidr: 0.0.0.0/0 }",
            "cluster.yaml:2: pool 0.0.0.0/0 covers every address there is: write the prefix that \
             pods have theirs from",
        ),
        (
            "{ cidr: 10.244.0.0/16 }\n  - { cidr: 10.244.64.0/18 }",
            "cluster.yaml:3: pool 10.244.64.0/18 overlaps pool 10.244.0.0/16 (line 2): an address \
             has one pool, so separate them or keep one",
        ),
        (
            "{ cidr: 10.244.0.0/16 }\n  - { cidr: 10.0.0.0/8 }",
            "cluster.yaml:3: pool 10.0.0.0/8 overlaps pool 10.244.0.0/16 (line 2): an address has \
             one pool, so separate them or keep one",
        ),
        (
            "{ cidr: 10.244.0.0/16 }\n  - { cidr: 10.244.0.0/16 }",
            "cluster.yaml:3: pool 10.244.0.0/16 overlaps pool 10.244.0.0/16 (line 2): an address \
             has one pool, so separate them or keep one",
        ),
    ] {
        assert_eq!(refusal_with(POOL, pool), message);
    }
}

#[test]
fn one_wide_pool_over_two_is_two_overlaps() {
    let pools = "{ cidr: 10.244.0.0/16 }\n  - { cidr: 10.0.0.0/16 }\n  - { cidr: 10.0.0.0/8 }";
    assert_eq!(
        refusal_with(POOL, pools),
        "cluster.yaml:4: pool 10.0.0.0/8 overlaps pool 10.0.0.0/16 (line 3): an address has one \
         pool, so separate them or keep one\n\
         cluster.yaml:4: pool 10.0.0.0/8 overlaps pool 10.244.0.0/16 (line 2): an address has one \
         pool, so separate them or keep one"
    );
}

#[test]
fn values_of_a_node_that_cannot_be_its_own_are_refused() {
    for (node, message) in [
        (
            "{ address: 192.168.2.10/24 }",
            "cluster.yaml:9: a node has no name: add the one it has in Kubernetes",
        ),
        (
            "{ name: '', address: 192.168.2.10/24 }",
            "cluster.yaml:9: a node has no name: add the one it has in Kubernetes",
        ),
        (
            "{ name: node2 }",
            "cluster.yaml:9: node2 has no address: add it with the mask of its subnet, such as \
             192.168.1.10/24",
        ),
        (
            "{ name: node2, address: 192.168.2.10 }",
            "cluster.yaml:9: address 192.168.2.10 of node2 has no mask: write it like \
             192.168.2.10/24, because CrossSubnet compares the subnet with the addresses of the \
             peers",
        ),
        (
            "{ name: node2, address: 192.168.2.256/24 }",
            "cluster.yaml:9: address 192.168.2.256/24 of node2 is not an IPv4 address with a \
             mask: write it like 192.168.1.10/24",
        ),
        (
            "{ name: node2, address: 192.168.2.0/24 }",
            "cluster.yaml:9: address 192.168.2.0/24 of node2 is the subnet, not a host in it: \
             write the node's own address",
        ),
        (
            "{ name: node2, address: 192.168.2.255/24 }",
            "cluster.yaml:9: address 192.168.2.255/24 of node2 is the subnet's broadcast: write \
             the node's own address",
        ),
        (
            "{ name: node2, address: 192.168.2.10/0 }",
            "cluster.yaml:9: address 192.168.2.10/0 of node2 has the mask /0, by which every peer \
             is on one subnet: write the subnet's",
        ),
        (
            "{ name: node2, address: 127.0.0.1/8 }",
            "cluster.yaml:9: address 127.0.0.1/8 of node2 is not an address that other hosts \
             could send to",
        ),
        (
            "{ name: node2, address: 'fd00::1/64' }",
            "cluster.yaml:9: address fd00::1/64 of node2 is IPv6, and underpass is IPv4 only so \
             far: remove it",
        ),
        (
            "{ name: node2, address: 10.244.5.5/24 }",
            "cluster.yaml:9: address 10.244.5.5 of node2 lies in the pool 10.244.0.0/16: packets \
             to the node would enter the tunnel that they carry, so give it one outside the pools",
        ),
        (
            "{ name: node2, address: 192.168.2.10/24, tunnelAddress: 10.244.1.1/32 }",
            "cluster.yaml:9: tunnelAddress 10.244.1.1/32 of node2 has a prefix length: write \
             10.244.1.1 alone",
        ),
        (
            "{ name: node2, address: 192.168.2.10/24, tunnelAddress: 10.245.0.1 }",
            "cluster.yaml:9: tunnelAddress 10.245.0.1 of node2 is outside every pool \
             (10.244.0.0/16): its pool says how packets travel, so correct it or add a pool",
        ),
        (
            "{ name: node2, address: 192.168.2.10/24, vtepMAC: 66-5a-01-02-03-05 }",
            "cluster.yaml:9: vtepMAC 66-5a-01-02-03-05 of node2 is not a MAC address: write it \
             like 66:5a:01:02:03:04",
        ),
        (
            "{ name: node2, address: 192.168.2.10/24, vtepMAC: 67:5a:01:02:03:05 }",
            "cluster.yaml:9: vtepMAC 67:5a:01:02:03:05 of node2 is multicast, as its first byte \
             is odd, and no interface has such an address: leave it out for the default",
        ),
        (
            "{ name: node2, address: 192.168.2.10/24, vtepMAC: 00:00:00:00:00:00 }",
            "cluster.yaml:9: vtepMAC 00:00:00:00:00:00 of node2 is no interface's address: leave \
             it out for the default",
        ),
    ] {
        assert_eq!(refusal_with(NODE2, node), message);
    }
}

#[test]
fn prefixes_that_are_none_or_in_no_pool_are_refused() {
    for (cidr, fault) in [
        ("10.244.3.5/24", "has host bits set: write 10.244.3.0/24"),
        (
            "10.244.3.5",
            "has no prefix length: write 10.244.3.5/32 if that one address is meant",
        ),
        (
            "10.244.3/24",
            "is not an IPv4 prefix: write it like 10.244.0.0/24",
        ),
        (
            "10.244.010.0/24",
            "is not an IPv4 prefix: write it like 10.244.0.0/24",
        ),
        (
            "10.244.3.0/33",
            "is not an IPv4 prefix: write it like 10.244.0.0/24",
        ),
        (
            "fd00:10:244::/64",
            "is IPv6, and underpass is IPv4 only so far: remove it",
        ),
        (
            "0.0.0.0/0",
            "covers every address there is: write the prefix that pods have theirs from",
        ),
        (
            "10.245.0.0/24",
            "is outside every pool (10.244.0.0/16): its pool says how packets travel, so correct \
             it or add a pool",
        ),
        (
            "10.244.0.0/15",
            "is outside every pool (10.244.0.0/16): its pool says how packets travel, so correct \
             it or add a pool",
        ),
    ] {
        assert_eq!(
            refusal_with(", 10.244.2.0/24", &format!(",\n      {cidr}")),
            format!("cluster.yaml:10: podCIDR {cidr} of node2 {fault}")
        );
        for target in ["node: node1", "blackhole: true"] {
            assert_eq!(
                refusal_with(ROUTE, &format!("{{ cidr: {cidr}, {target} }}")),
                format!("cluster.yaml:11: route {cidr} {fault}")
            );
        }
    }
}

#[test]
fn what_two_nodes_cannot_share_is_refused() {
    for (node, message) in [
        (
            "{ name: node1, address: 192.168.2.10/24 }",
            "cluster.yaml:9: another node is called node1 (line 4): give each its own name, or \
             remove one",
        ),
        (
            "{ name: node2, address: 192.168.1.10/16 }",
            "cluster.yaml:9: address 192.168.1.10 of node2 is also that of node1 (line 5): give \
             each node its own",
        ),
        (
            "{ name: node2, address: 192.168.2.10/24, vtepMAC: 66:5A:01:02:03:04 }",
            "cluster.yaml:9: vtepMAC 66:5a:01:02:03:04 of node2 is also that of node1 (line 8): \
             give each node its own",
        ),
    ] {
        assert_eq!(refusal_with(NODE2, node), message);
    }
    // Another's default counts, too.
    assert_eq!(
        refusal_with("66:5a:01:02:03:04", "66:2d:bf:44:a6:8b"),
        "cluster.yaml:9: vtepMAC 66:2d:bf:44:a6:8b of node2 is also that of node1 (line 8): give \
         each node its own"
    );
    // Both mistakes are true: the address is shared, and for node2 it also leads to node1.
    assert_eq!(
        refusal_with(
            NODE2,
            "{ name: node2, address: 192.168.2.10/24, tunnelAddress: 10.244.0.1 }"
        )
        .lines()
        .next(),
        Some(
            "cluster.yaml:9: tunnelAddress 10.244.0.1 of node2 is also that of node1 (line 7): \
             give each node its own"
        )
    );
}

#[test]
fn one_prefix_with_two_owners_is_refused() {
    for (from, to, message) in [
        (
            "10.244.1.0/24,",
            "10.244.0.0/24,",
            "cluster.yaml:9: 10.244.0.0/24 is given as a podCIDR of node2, but already as a \
             podCIDR of node1 (line 6): a prefix leads to one place, so keep one of them",
        ),
        (
            "10.244.1.0/24,",
            "10.244.2.0/24,",
            "cluster.yaml:9: 10.244.2.0/24 is given as a podCIDR of node2, but already as a \
             podCIDR of node2 (line 9): a prefix leads to one place, so keep one of them",
        ),
        (
            "10.244.7.9/32, node: node1",
            "10.244.0.0/24, node: node2",
            "cluster.yaml:11: 10.244.0.0/24 is given as a route to node2, but already as a \
             podCIDR of node1 (line 6): a prefix leads to one place, so keep one of them",
        ),
        (
            "10.244.7.9/32",
            "10.244.9.0/24",
            "cluster.yaml:12: 10.244.9.0/24 is given as a blackhole, but already as a route to \
             node1 (line 11): a prefix leads to one place, so keep one of them",
        ),
    ] {
        assert_eq!(refusal_with(from, to), message);
    }
}

#[test]
fn prefixes_of_different_lengths_may_nest() {
    let text = VALID.replace(
        ROUTE,
        "{ cidr: 10.244.0.0/23, node: node2 }\n  - { cidr: 10.244.1.128/25, node: node1 }",
    );
    assert!(parse(Path::new("cluster.yaml"), &text).is_ok());
}

#[test]
fn a_tunnel_address_must_lead_to_its_node() {
    for (from, to, message) in [
        (
            "tunnelAddress: 10.244.0.1",
            "tunnelAddress: 10.244.1.1",
            "cluster.yaml:7: tunnelAddress 10.244.1.1 of node1 lies in 10.244.1.0/24, a podCIDR \
             of node2 (line 9), so packets for it would not reach node1: choose one of node1's \
             own, or add the route {cidr: 10.244.1.1/32, node: node1}",
        ),
        (
            "tunnelAddress: 10.244.0.1",
            "tunnelAddress: 10.244.9.1",
            "cluster.yaml:7: tunnelAddress 10.244.9.1 of node1 lies in 10.244.9.0/24, a blackhole \
             (line 12), so packets for it would not reach node1: choose one of node1's own, or \
             add the route {cidr: 10.244.9.1/32, node: node1}",
        ),
        (
            "10.244.7.9/32, node: node1",
            "10.244.0.1/32, node: node2",
            "cluster.yaml:7: tunnelAddress 10.244.0.1 of node1 lies in 10.244.0.1/32, a route to \
             node2 (line 11), so packets for it would not reach node1: choose one of node1's own, \
             or change that line",
        ),
    ] {
        assert_eq!(refusal_with(from, to), message);
    }
}

#[test]
fn a_tunnel_address_may_be_borrowed_by_a_route_or_belong_to_nobody() {
    let borrowed = VALID
        .replace("tunnelAddress: 10.244.0.1", "tunnelAddress: 10.244.1.1")
        .replace("10.244.7.9/32", "10.244.1.1/32");
    let unclaimed = VALID.replace("tunnelAddress: 10.244.0.1", "tunnelAddress: 10.244.200.1");
    for text in [borrowed, unclaimed] {
        parse(Path::new("cluster.yaml"), &text).unwrap();
    }
}

#[test]
fn routes_without_one_target_are_refused() {
    for (route, message) in [
        (
            "{ node: node1 }",
            "cluster.yaml:11: a route has no cidr: add the prefix that it is for",
        ),
        (
            "{ cidr: 10.244.7.9/32 }",
            "cluster.yaml:11: route 10.244.7.9/32 leads nowhere: give it a node, or blackhole: \
             true to drop its packets",
        ),
        (
            "{ cidr: 10.244.7.9/32, node: node1, blackhole: true }",
            "cluster.yaml:11: route 10.244.7.9/32 has both node and blackhole: keep the one that \
             is meant",
        ),
        (
            "{ cidr: 10.244.7.9/32, blackhole: false }",
            "cluster.yaml:11: route 10.244.7.9/32 has blackhole: false, which leads nowhere: \
             remove it and give a node",
        ),
        (
            "{ cidr: 10.244.7.9/32, node: node3 }",
            "cluster.yaml:11: route 10.244.7.9/32 leads to node3, which is not in the list of \
             nodes (node1, node2): correct the name or add the node",
        ),
    ] {
        assert_eq!(refusal_with(ROUTE, route), message);
    }
}

#[test]
fn mistakes_are_told_all_at_once_but_not_what_follows_from_them() {
    let text = "\
pools:
  - { cidr: 10.244.0.7/16 }
nodes:
  - { name: node1, address: 192.168.1.10, podCIDRs: [10.244.0.0/24] }
  - { name: node1, address: 192.168.1.11/24, podCIDRs: [10.244.0.0/24] }
routes:
  - { cidr: 10.9.0.0/24, node: node7 }
";
    assert_eq!(
        refusal(text),
        "cluster.yaml:2: pool 10.244.0.7/16 has host bits set: write 10.244.0.0/16\n\
         cluster.yaml:4: address 192.168.1.10 of node1 has no mask: write it like \
         192.168.1.10/24, because CrossSubnet compares the subnet with the addresses of the peers\n\
         cluster.yaml:5: another node is called node1 (line 4): give each its own name, or remove \
         one\n\
         cluster.yaml:5: 10.244.0.0/24 is given as a podCIDR of node1, but already as a podCIDR \
         of node1 (line 4): a prefix leads to one place, so keep one of them\n\
         cluster.yaml:7: route 10.9.0.0/24 leads to node7, which is not in the list of nodes \
         (node1, node1): correct the name or add the node"
    );
}

#[test]
fn this_node_must_be_in_the_list() {
    let cluster = parse(Path::new("cluster.yaml"), VALID).unwrap();
    let local = |name| local_node(&cluster, Path::new("cluster.yaml"), name);
    assert_eq!(local("node2").unwrap().name, "node2");
    assert_eq!(
        local("node3").unwrap_err().to_string(),
        "cluster.yaml: node3, which is this node, is not in the list of nodes (node1, node2): add \
         it, or set node in the config, which by default is $NODE_NAME, else the hostname"
    );
    for namesake in ["node1.example.org", "Node1"] {
        assert_eq!(
            local(namesake).unwrap_err().to_string(),
            format!(
                "cluster.yaml: {namesake}, which is this node, is not in the list of nodes (node1, \
                 node2): if it is node1 there, write node: node1 in the config"
            )
        );
    }
}

#[test]
fn a_file_is_read_and_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cluster.yaml");
    let error = read(&file).unwrap_err().to_string();
    let begin = format!("{}: there is no such file: ", file.display());
    assert!(error.starts_with(&begin), "{error}");
    std::fs::write(&file, VALID).unwrap();
    assert_eq!(read(&file).unwrap(), parse(&file, VALID).unwrap());
}

/// More than the YAML parser takes by default, to defend itself against strangers.
#[test]
fn a_large_table_is_no_attack() {
    let mut text = VALID.replace("10.244.0.0/16", "10.0.0.0/8");
    for route in 0..60_000_u32 {
        let [_, a, b, c] = route.to_be_bytes();
        writeln!(text, "  - {{ cidr: 10.{a}.{b}.{c}/32, node: node2 }}").unwrap();
    }
    let cluster = parse(Path::new("cluster.yaml"), &text).unwrap();
    assert_eq!(cluster.routes.len(), 60_002);
}

#[test]
fn a_corrupted_table_is_read_or_refused_by_line() {
    let whole = ["is empty", "has no pools", "has no nodes"];
    corrupt(VALID, 4_000, &whole, |text| {
        let table = parse(Path::new("cluster.yaml"), text);
        table.err().map(|error| error.to_string())
    });
}

#[test]
fn plain_routes_are_read_as_yaml_is() {
    let (before, _) = VALID.split_once("routes:").unwrap();
    let flow = VALID.replace("  - { cidr", "- {cidr").replace(" }", "}");
    let block = "routes:\n- cidr: 10.244.7.9/32\n  node: node1\n\n# more\n- cidr: 10.244.9.0/24\n  \
                 blackhole: true\n";
    let block = before.to_owned() + block;
    let (pools, nodes) = before.split_once("nodes:").unwrap();
    let between = format!("{pools}routes:\n- {{cidr: 10.244.7.9/32, node: node1}}\nnodes:{nodes}");
    for text in [VALID, &flow, &block, &between] {
        let plain = parse_plain(Path::new("a.yaml"), text).expect(text);
        assert_eq!(plain, parse_yaml(Path::new("a.yaml"), text).unwrap());
    }
}

#[test]
fn what_is_not_plain_is_left_to_yaml() {
    for (from, to) in [
        ("node: node1 }", "node: \"node1\" }"),
        ("node: node1 }", "node: node1 } # it"),
        ("node: node1 }", "node: &a node1 }"),
        ("node: node1 }", "node: null }"),
        ("  - { cidr: 10.244.7.9", " - { cidr: 10.244.7.9"),
        ("blackhole: true", "blackhole: True"),
        (
            "{ cidr: 10.244.7.9/32, node: node1 }",
            "{ node: node1, cidr: 10.244.7.9/32 }",
        ),
    ] {
        assert_eq!(VALID.matches(from).count(), 1, "{from:?} names one place");
        assert!(plain::split(&VALID.replace(from, to)).is_none(), "{to}");
    }
}

#[test]
fn what_plain_routes_are_corrupted_to_is_read_as_yaml_or_not_at_all() {
    let plain = std::cell::Cell::new(0);
    corrupt(VALID, 5_000, &[""], |text| {
        let yaml = parse_yaml(Path::new("cluster.yaml"), text);
        if let Some(cluster) = parse_plain(Path::new("cluster.yaml"), text) {
            plain.set(plain.get() + 1);
            assert_eq!(Some(&cluster), yaml.as_ref().ok(), "{text}");
        }
        yaml.err().map(|error| error.to_string())
    });
    assert!(plain.get() > 50, "{} of them are plain", plain.get());
}
