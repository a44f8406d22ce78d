use std::fs;

use dataplane_common::abi::{Hook, NextHopKind, flags};

use super::*;
use crate::{
    kernel::{Address, OwnTarget, Underlay},
    source,
};

const LO: u32 = 1;
const ETH0: u32 = 2;
const ETH1: u32 = 3;
const CALI1: u32 = 11;
const CALI2: u32 = 12;
const CARRIER: u32 = 7;

/// A pool of each mode; a node on our subnet and one behind the router 192.168.1.1.
const CLUSTER: &str = "\
pools:
  - { cidr: 10.0.0.0/16 }
  - { cidr: 10.1.0.0/16, ipipMode: Always }
  - { cidr: 10.2.0.0/16, vxlanMode: Always }
  - { cidr: 10.3.0.0/16, ipipMode: CrossSubnet }
  - { cidr: 10.4.0.0/16, vxlanMode: CrossSubnet }
nodes:
  - name: here
    address: 192.168.1.10/24
    podCIDRs: [10.0.1.0/24, 10.1.1.0/24, 10.2.1.0/24, 10.3.1.0/24, 10.4.1.0/24]
    tunnelAddress: 10.2.1.1
    vtepMAC: 66:00:00:00:00:01
  - name: near
    address: 192.168.1.11/24
    podCIDRs: [10.0.2.0/24, 10.1.2.0/24, 10.2.2.0/24, 10.3.2.0/24, 10.4.2.0/24]
    tunnelAddress: 10.2.2.1
    vtepMAC: 66:00:00:00:00:02
  - name: far
    address: 192.168.2.10/24
    podCIDRs: [10.0.3.0/24, 10.1.3.0/24, 10.2.3.0/24, 10.3.3.0/24, 10.4.3.0/24]
    tunnelAddress: 10.2.3.1
    vtepMAC: 66:00:00:00:00:03
";

/// One VXLAN pool and two nodes: where every line of the plan is compared.
const SMALL: &str = "\
pools: [{ cidr: 10.244.0.0/16, vxlanMode: Always }]
nodes:
  - { name: here, address: 192.168.1.10/24, podCIDRs: [10.244.1.0/24], tunnelAddress: 10.244.1.1 }
  - { name: near, address: 192.168.1.11/24, podCIDRs: [10.244.2.0/24], tunnelAddress: 10.244.2.1 }
";

/// The three parts of a model, to be changed by a test.
struct World {
    config: Config,
    cluster: Cluster,
    node: NodeState,
}

impl World {
    /// The node `here`, with one pod of each of two veths.
    fn new(cluster: &str) -> Self {
        Self {
            config: config("node: here\n"),
            cluster: self::cluster(cluster),
            node: NodeState {
                links: [
                    link(LO, "lo", 65536),
                    link(ETH0, "eth0", 1500),
                    link(ETH1, "eth1", 9000),
                    link(CALI1, "cali1", 1450),
                    link(CALI2, "cali2", 1450),
                ]
                .into_iter()
                .map(|link| (link.index, link))
                .collect(),
                addresses: vec![
                    held(LO, "127.0.0.1", 8),
                    held(ETH0, "192.168.1.10", 24),
                    held(ETH1, "172.16.0.10", 16),
                ],
                pods: Vec::new(),
                underlays: [
                    ("192.168.1.11", on_link(ETH0)),
                    ("192.168.2.10", by_router(ETH0, "192.168.1.1")),
                ]
                .into_iter()
                .map(|(peer, underlay)| (address(peer), underlay))
                .collect(),
            },
        }
    }

    fn with_pods(mut self, pods: &[Pod]) -> Self {
        self.node.pods = pods.to_vec();
        self
    }

    fn with_underlay(mut self, peer: &str, underlay: Underlay) -> Self {
        self.node.underlays.insert(address(peer), underlay);
        self
    }

    fn without_underlay(mut self, peer: &str) -> Self {
        self.node.underlays.remove(&address(peer));
        self
    }

    fn model(&self) -> Model<'_> {
        Model {
            config: &self.config,
            cluster: &self.cluster,
            node: &self.node,
        }
    }

    fn plan(&self) -> Plan {
        plan(&self.model(), CARRIER).unwrap()
    }

    fn refusal(&self) -> String {
        plan(&self.model(), CARRIER).unwrap_err().to_string()
    }
}

fn config(text: &str) -> Config {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yaml");
    fs::write(&file, text).unwrap();
    Config::load(&file).unwrap()
}

fn cluster(text: &str) -> Cluster {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cluster.yaml");
    fs::write(&file, text).unwrap();
    source::file::read(&file).unwrap_or_else(|error| panic!("{error}"))
}

fn address(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn octets(text: &str) -> Addr {
    address(text).octets()
}

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

fn link(index: u32, name: &str, mtu: u32) -> Link {
    let [_, _, _, last] = index.to_be_bytes();
    Link {
        index,
        name: name.to_owned(),
        mac: Some([2, 0, 0, 0, 0, last]),
        mtu,
        up: true,
        kind: Some("veth".to_owned()),
        ..Link::default()
    }
}

fn held(index: u32, text: &str, prefix_len: u8) -> Address {
    Address {
        index,
        address: address(text),
        prefix_len,
    }
}

fn on_link(oif: u32) -> Underlay {
    Underlay {
        oif,
        gateway: None,
        source: address("192.168.1.10"),
        mtu: None,
    }
}

fn by_router(oif: u32, router: &str) -> Underlay {
    Underlay {
        gateway: Some(address(router)),
        ..on_link(oif)
    }
}

fn pod(text: &str, ifindex: u32) -> Pod {
    Pod {
        address: address(text),
        ifindex,
        mac: Some([0xaa, 0, 0, 0, 0, 1]),
    }
}

/// The next hop that the fast path would take, if any.
fn hop(plan: &Plan, prefix: &str) -> Option<NextHop> {
    let key = plan.tables.routes.get(&net(prefix))?;
    Some(plan.tables.next_hops[key])
}

fn kind(plan: &Plan, prefix: &str) -> Option<NextHopKind> {
    hop(plan, prefix)?.kind()
}

/// Where the stack would send it, if a route of ours says so.
fn target(plan: &Plan, prefix: &str) -> Option<OwnTarget> {
    let mut routes = plan
        .kernel_routes
        .iter()
        .filter(|route| route.destination == net(prefix));
    let target = routes.next().map(|route| route.target);
    assert_eq!(routes.next(), None, "{prefix} twice");
    target
}

fn attachment(ifindex: u32, hook: Hook, interface: &str) -> Attachment {
    Attachment {
        ifindex,
        hook,
        interface: interface.to_owned(),
    }
}

mod next_hops {
    use super::*;

    #[test]
    fn the_pools_mode_and_the_subnet_choose_kind_and_mtu() {
        let plan = World::new(CLUSTER).plan();
        for (prefix, kind, mtu) in [
            ("10.0.2.0/24", NextHopKind::Direct, 1500),
            ("10.1.2.0/24", NextHopKind::Ipip, 1480),
            ("10.2.2.0/24", NextHopKind::Vxlan, 1450),
            ("10.3.2.0/24", NextHopKind::Direct, 1500),
            ("10.4.2.0/24", NextHopKind::Direct, 1500),
            ("10.0.3.0/24", NextHopKind::Direct, 1500),
            ("10.1.3.0/24", NextHopKind::Ipip, 1480),
            ("10.2.3.0/24", NextHopKind::Vxlan, 1450),
            ("10.3.3.0/24", NextHopKind::Ipip, 1480),
            ("10.4.3.0/24", NextHopKind::Vxlan, 1450),
        ] {
            let hop = hop(&plan, prefix).unwrap();
            assert_eq!((hop.kind(), hop.mtu), (Some(kind), mtu), "{prefix}");
        }
        assert_eq!(plan.left_out, []);
    }

    #[test]
    fn a_peer_on_the_link_is_its_own_gateway_and_one_beyond_has_the_router() {
        let plan = World::new(CLUSTER).plan();
        for (prefix, peer, gateway, mac) in [
            ("10.0.2.0/24", "192.168.1.11", "192.168.1.11", 2),
            ("10.2.2.0/24", "192.168.1.11", "192.168.1.11", 2),
            ("10.0.3.0/24", "192.168.2.10", "192.168.1.1", 3),
            ("10.1.3.0/24", "192.168.2.10", "192.168.1.1", 3),
            ("10.2.3.0/24", "192.168.2.10", "192.168.1.1", 3),
        ] {
            let found = hop(&plan, prefix).unwrap();
            assert_eq!(
                found,
                NextHop {
                    kind: found.kind,
                    mtu: found.mtu,
                    ifindex: ETH0,
                    peer: octets(peer),
                    gateway: octets(gateway),
                    source: octets("192.168.1.10"),
                    vtep_mac: [0x66, 0, 0, 0, 0, mac],
                    ..NextHop::default()
                },
                "{prefix}"
            );
        }
    }

    #[test]
    fn the_mtu_is_the_paths_or_the_uplinks_whichever_is_less_and_below_the_outer_header() {
        for (link, path, direct, ipip, vxlan) in [
            (1500, None, 1500, 1480, 1450),
            (9000, None, 9000, 8980, 8950),
            (1500, Some(1400), 1400, 1380, 1350),
            (1500, Some(9000), 1500, 1480, 1450),
            (65536, None, 65535, 65515, 65485),
        ] {
            let mut world = World::new(CLUSTER).with_underlay(
                "192.168.1.11",
                Underlay {
                    mtu: path,
                    ..on_link(ETH0)
                },
            );
            world.node.links.get_mut(&ETH0).unwrap().mtu = link;
            let plan = world.plan();
            let mtu = |prefix| hop(&plan, prefix).unwrap().mtu;
            assert_eq!(
                [mtu("10.0.2.0/24"), mtu("10.1.2.0/24"), mtu("10.2.2.0/24")],
                [direct, ipip, vxlan],
                "{link} {path:?}"
            );
        }
    }

    #[test]
    fn a_peer_has_one_next_hop_a_pool_however_many_prefixes() {
        let more = CLUSTER.replace("[10.0.2.0/24,", "[10.0.2.0/24, 10.0.22.0/24, 10.0.23.7/32,");
        let hops = World::new(&more).plan().tables.next_hops;
        let key = |peer, pool| NextHopKey::Peer {
            address: address(peer),
            pool: net(pool),
        };
        let pools = [
            "10.0.0.0/16",
            "10.1.0.0/16",
            "10.2.0.0/16",
            "10.3.0.0/16",
            "10.4.0.0/16",
        ];
        let peers = ["192.168.1.11", "192.168.2.10"];
        let expected: BTreeSet<_> = peers
            .into_iter()
            .flat_map(|peer| pools.map(|pool| key(peer, pool)))
            .chain([NextHopKey::Local])
            .collect();
        assert_eq!(hops.into_keys().collect::<BTreeSet<_>>(), expected);
    }

    #[test]
    fn changing_a_pools_mode_changes_its_next_hops_and_no_route() {
        let before = World::new(CLUSTER).plan();
        for (from, to, kind) in [
            ("ipipMode: Always", "vxlanMode: Always", NextHopKind::Vxlan),
            ("ipipMode: Always", "ipipMode: Never", NextHopKind::Direct),
        ] {
            let after = World::new(&CLUSTER.replace(from, to)).plan();
            let changed: Vec<_> = after
                .tables
                .next_hops
                .iter()
                .filter(|(key, hop)| before.tables.next_hops.get(key) != Some(hop))
                .map(|(key, hop)| (*key, hop.kind()))
                .collect();
            let of = |peer| NextHopKey::Peer {
                address: address(peer),
                pool: net("10.1.0.0/16"),
            };
            assert_eq!(
                changed,
                [
                    (of("192.168.1.11"), Some(kind)),
                    (of("192.168.2.10"), Some(kind)),
                ]
            );
            let with_hops_of_before = Tables {
                next_hops: before.tables.next_hops.clone(),
                ..after.tables
            };
            assert_eq!(with_hops_of_before, before.tables);
        }
    }

    #[test]
    fn a_peer_without_a_way_is_left_out_and_the_stack_drops_instead_of_leaking() {
        let plan = World::new(CLUSTER).without_underlay("192.168.2.10").plan();
        let left_out: Vec<_> = plan.left_out.iter().map(ToString::to_string).collect();
        assert_eq!(
            left_out,
            ["far (192.168.2.10): the kernel has no route to it"]
        );
        for pool in 0..=4 {
            let far = format!("10.{pool}.3.0/24");
            assert_eq!(hop(&plan, &far), None, "{far}");
            assert_eq!(target(&plan, &far), Some(OwnTarget::Blackhole), "{far}");
            let near = format!("10.{pool}.2.0/24");
            assert!(hop(&plan, &near).is_some(), "{near}");
        }
        // It may come back, and is known meanwhile.
        assert!(plan.tables.peers.contains_key(&octets("192.168.2.10")));
    }

    #[test]
    fn a_peer_by_an_interface_that_is_no_uplink_is_left_out() {
        for (oif, why) in [
            (ETH1, "it is reached by eth1, which is no uplink"),
            (
                99,
                "it is reached by an interface that is gone, which is no uplink",
            ),
        ] {
            let world = World::new(CLUSTER).with_underlay("192.168.1.11", on_link(oif));
            let plan = world.plan();
            let left_out = LeftOut {
                peer: "near (192.168.1.11)".to_owned(),
                why: why.to_owned(),
            };
            assert_eq!(plan.left_out, [left_out]);
            assert_eq!(hop(&plan, "10.2.2.0/24"), None);
            assert_eq!(target(&plan, "10.2.2.0/24"), Some(OwnTarget::Blackhole));
        }
    }

    #[test]
    fn each_peer_has_the_uplink_that_leads_to_it() {
        let mut world =
            World::new(CLUSTER).with_underlay("192.168.2.10", by_router(ETH1, "172.16.0.1"));
        world.config = config("node: here\nuplinks: [eth0, eth1]\n");
        let plan = world.plan();
        let near = hop(&plan, "10.2.2.0/24").unwrap();
        let far = hop(&plan, "10.2.3.0/24").unwrap();
        assert_eq!((near.ifindex, near.mtu), (ETH0, 1450));
        assert_eq!((far.ifindex, far.mtu), (ETH1, 8950));
        assert_eq!(plan.left_out, []);
    }
}

mod prefixes {
    use super::*;

    #[test]
    fn every_prefix_of_every_node_has_a_route() {
        let plan = World::new(SMALL).plan();
        let near = NextHopKey::Peer {
            address: address("192.168.1.11"),
            pool: net("10.244.0.0/16"),
        };
        assert_eq!(
            plan.tables.routes,
            BTreeMap::from([
                (net("10.244.1.0/24"), NextHopKey::Local),
                (net("10.244.2.0/24"), near),
            ])
        );
        assert_eq!(kind(&plan, "10.244.1.0/24"), Some(NextHopKind::Local));
        assert_eq!(kind(&plan, "10.244.2.0/24"), Some(NextHopKind::Vxlan));
    }

    #[test]
    fn a_blackhole_is_one_in_both_paths() {
        let text = format!("{SMALL}routes: [{{ cidr: 10.244.9.0/24, blackhole: true }}]\n");
        let plan = World::new(&text).plan();
        assert_eq!(kind(&plan, "10.244.9.0/24"), Some(NextHopKind::Blackhole));
        assert_eq!(
            plan.tables.routes[&net("10.244.9.0/24")],
            NextHopKey::Blackhole
        );
        assert_eq!(target(&plan, "10.244.9.0/24"), Some(OwnTarget::Blackhole));
    }

    #[test]
    fn a_borrowed_address_is_routed_to_the_node_that_has_it() {
        let borrow = |node: &str, cidr: &str| {
            let text = format!("{CLUSTER}routes: [{{ cidr: {cidr}, node: {node} }}]\n");
            World::new(&text).plan()
        };
        // From one peer to the other, in the mode between that one and us.
        let plan = borrow("far", "10.4.2.7/32");
        let hop_of = |prefix| hop(&plan, prefix).unwrap();
        assert_eq!(hop_of("10.4.2.7/32").peer, octets("192.168.2.10"));
        assert_eq!(kind(&plan, "10.4.2.7/32"), Some(NextHopKind::Vxlan));
        assert_eq!(hop_of("10.4.2.0/24").peer, octets("192.168.1.11"));
        assert_eq!(kind(&plan, "10.4.2.0/24"), Some(NextHopKind::Direct));

        // From us to a peer.
        let plan = borrow("near", "10.1.1.7/32");
        assert_eq!(kind(&plan, "10.1.1.7/32"), Some(NextHopKind::Ipip));
        assert_eq!(kind(&plan, "10.1.1.0/24"), Some(NextHopKind::Local));

        // From a peer to us.
        let plan = borrow("here", "10.1.2.7/32");
        assert_eq!(kind(&plan, "10.1.2.7/32"), Some(NextHopKind::Local));
        assert_eq!(target(&plan, "10.1.2.7/32"), Some(OwnTarget::Blackhole));
        assert_eq!(kind(&plan, "10.1.2.0/24"), Some(NextHopKind::Ipip));
    }

    #[test]
    fn a_tunnel_address_outside_its_nodes_prefixes_has_a_route_of_its_own() {
        let inside = World::new(SMALL).plan();
        assert_eq!(kind(&inside, "10.244.1.1/32"), None);
        assert_eq!(kind(&inside, "10.244.2.1/32"), None);

        let text = SMALL
            .replace("tunnelAddress: 10.244.1.1 ", "tunnelAddress: 10.244.200.1 ")
            .replace("tunnelAddress: 10.244.2.1 ", "tunnelAddress: 10.244.200.2 ");
        let outside = World::new(&text).plan();
        assert_eq!(kind(&outside, "10.244.200.1/32"), Some(NextHopKind::Local));
        assert_eq!(kind(&outside, "10.244.200.2/32"), Some(NextHopKind::Vxlan));
        // The stack has our own on the carrier, and would lose it to a blackhole.
        assert_eq!(target(&outside, "10.244.200.1/32"), None);
        assert!(matches!(
            target(&outside, "10.244.200.2/32"),
            Some(OwnTarget::Carrier { .. })
        ));
    }

    #[test]
    fn a_pod_that_is_here_beats_what_the_table_says_of_its_address() {
        let text = format!(
            "{CLUSTER}routes:\n  - {{ cidr: 10.2.9.0/24, blackhole: true }}\n  \
             - {{ cidr: 10.2.3.8/32, node: near }}\n"
        );
        let world = World::new(&text);
        let elsewhere = [
            // In a peer's prefix, borrowed by a peer, blackholed, and nobody's at all.
            "10.2.2.7",
            "10.2.3.8",
            "10.2.9.9",
            "10.2.77.7",
        ];
        let without = world.plan();
        assert_eq!(kind(&without, "10.2.3.8/32"), Some(NextHopKind::Vxlan));

        let pods = elsewhere.map(|address| pod(address, CALI1));
        let plan = world.with_pods(&pods).plan();
        for address in elsewhere {
            let host = format!("{address}/32");
            assert_eq!(kind(&plan, &host), Some(NextHopKind::Local), "{host}");
            assert_eq!(plan.tables.endpoints[&octets(address)].ifindex, CALI1);
            // The CNI's own route is the stack's.
            assert_eq!(target(&plan, &host), None, "{host}");
        }
        assert_eq!(kind(&plan, "10.2.2.0/24"), Some(NextHopKind::Vxlan));
        assert_eq!(kind(&plan, "10.2.9.0/24"), Some(NextHopKind::Blackhole));
    }

    #[test]
    fn a_pod_in_this_nodes_own_prefix_needs_no_route() {
        let pods = [pod("10.244.1.2", CALI1), pod("10.244.1.3", CALI2)];
        let with = World::new(SMALL).with_pods(&pods).plan();
        let without = World::new(SMALL).plan();
        assert_eq!(with.tables.routes, without.tables.routes);
        assert_eq!(with.kernel_routes, without.kernel_routes);
    }
}

mod kernel_routes {
    use super::*;

    #[test]
    fn the_stack_routes_every_prefix_of_the_fast_path_and_two_halves_as_one() {
        let text = format!(
            "{CLUSTER}routes:\n  - {{ cidr: 10.2.9.0/24, blackhole: true }}\n  \
             - {{ cidr: 10.2.2.7/32, node: here }}\n"
        );
        let plan = World::new(&text).plan();
        let via = |gateway| OwnTarget::Via {
            gateway: address(gateway),
            oif: ETH0,
            onlink: true,
            source: None,
        };
        let carrier = |mtu| OwnTarget::Carrier {
            ifindex: CARRIER,
            source: Some(address("10.2.1.1")),
            mtu,
        };
        let (near, far) = (via("192.168.1.11"), via("192.168.1.1"));
        let expected = [
            ("10.0.1.0/24", OwnTarget::Blackhole),
            ("10.0.2.0/24", near),
            ("10.0.3.0/24", far),
            ("10.1.1.0/24", OwnTarget::Blackhole),
            ("10.1.2.0/23", carrier(1480)),
            ("10.2.1.0/24", OwnTarget::Blackhole),
            ("10.2.2.0/23", carrier(1450)),
            ("10.2.2.7/32", OwnTarget::Blackhole),
            ("10.2.9.0/24", OwnTarget::Blackhole),
            ("10.3.1.0/24", OwnTarget::Blackhole),
            ("10.3.2.0/24", near),
            ("10.3.3.0/24", carrier(1480)),
            ("10.4.1.0/24", OwnTarget::Blackhole),
            ("10.4.2.0/24", near),
            ("10.4.3.0/24", carrier(1450)),
        ]
        .map(|(destination, target)| OwnRoute {
            destination: net(destination),
            target,
        });
        assert_eq!(plan.kernel_routes, expected);
        for (prefix, _) in plan.tables.routes {
            let routed = |route: &OwnRoute| route.destination.contains(&prefix);
            assert!(plan.kernel_routes.iter().any(routed), "{prefix}");
        }
    }

    #[test]
    fn without_a_tunnel_address_the_stack_chooses_the_source() {
        let text = SMALL.replace(", tunnelAddress: 10.244.1.1", "");
        let plan = World::new(&text).plan();
        assert_eq!(
            target(&plan, "10.244.2.0/24"),
            Some(OwnTarget::Carrier {
                ifindex: CARRIER,
                source: None,
                mtu: 1450,
            })
        );
    }
}

mod interfaces {
    use super::*;

    #[test]
    fn each_interface_has_its_programs() {
        let mut world = World::new(SMALL);
        let entries = BTreeSet::from([
            attachment(CALI1, Hook::FromWorkload, "cali1"),
            attachment(CALI2, Hook::FromWorkload, "cali2"),
            attachment(ETH0, Hook::FromUplink, "eth0"),
            attachment(CARRIER, Hook::FromStack, "underpass0"),
            attachment(CARRIER, Hook::FromCarrier, "underpass0"),
        ]);
        let exits = BTreeSet::from([
            attachment(CALI1, Hook::ToWorkload, "cali1"),
            attachment(CALI2, Hook::ToWorkload, "cali2"),
            attachment(ETH0, Hook::ToUplink, "eth0"),
        ]);
        assert_eq!(world.plan().attachments, &entries | &exits);
        world.config = config("node: here\nacceleration: all\n");
        assert_eq!(world.plan().attachments, entries);
    }

    #[test]
    fn workloads_are_the_veths_that_the_patterns_name_but_for_the_uplinks() {
        let mut world = World::new(SMALL);
        let tap = Link {
            kind: Some("tun".to_owned()),
            ..link(13, "cali3", 1450)
        };
        world.node.links.insert(13, tap);
        let workloads = |world: &World| world.plan().tables.workloads;
        let workload = |last| Workload {
            mac: [2, 0, 0, 0, 0, last],
            padding: [0; 2],
        };
        assert_eq!(
            workloads(&world),
            BTreeMap::from([(CALI1, workload(11)), (CALI2, workload(12))])
        );
        world.config = config("node: here\nworkloads: [eth1, '?ali2']\n");
        assert_eq!(
            workloads(&world),
            BTreeMap::from([(ETH1, workload(3)), (CALI2, workload(12))])
        );
        world.config = config("node: here\nworkloads: ['*']\n");
        assert!(!workloads(&world).contains_key(&ETH0), "the uplink");
    }

    #[test]
    fn the_uplink_is_the_holder_of_the_nodes_address_unless_named() {
        let uplinks = |world: &World| -> Vec<String> {
            let attachments = world.plan().attachments.into_iter();
            attachments
                .filter(|attachment| attachment.hook == Hook::FromUplink)
                .map(|attachment| attachment.interface)
                .collect()
        };
        let mut world = World::new(SMALL);
        assert_eq!(uplinks(&world), ["eth0"]);
        world.config = config("node: here\nuplinks: [eth1]\n");
        assert_eq!(uplinks(&world), ["eth1"]);
        world.config = config("node: here\nuplinks: [eth1, eth0]\n");
        assert_eq!(uplinks(&world), ["eth0", "eth1"]);
    }

    #[test]
    fn an_uplink_that_is_not_there_is_named_and_the_others_are_used() {
        let mut world = World::new(SMALL);
        world.config = config("node: here\nuplinks: [eth0, bond0]\n");
        let plan = world.plan();
        assert_eq!(
            left_out(&plan),
            ["uplink bond0: there is no interface of that name"]
        );
        let on_eth0 = |attachment: &Attachment| attachment.interface == "eth0";
        assert!(plan.attachments.iter().any(on_eth0));
    }

    fn left_out(plan: &Plan) -> Vec<String> {
        plan.left_out.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_node_address_on_no_interface_is_told_with_its_remedies() {
        let expected = "here (this node): no interface holds 192.168.1.10, its address in the \
                        cluster table: correct the table, or add the address";
        let mut world = World::new(SMALL);
        world.node.addresses.retain(|held| held.index != ETH0);
        assert_eq!(left_out(&world.plan())[0], expected);
        assert!(
            !world.plan().tables.workloads.is_empty(),
            "its pods are planned for all the same"
        );
        // The interface went away between two dumps.
        let mut world = World::new(SMALL);
        world.node.links.remove(&ETH0);
        assert_eq!(left_out(&world.plan())[0], expected);
        // Naming the uplinks does not make the address less wrong.
        let mut world = World::new(SMALL);
        world.node.addresses.clear();
        world.config = config("node: here\nuplinks: [eth0]\n");
        assert_eq!(left_out(&world.plan())[0], expected);
    }

    #[test]
    fn a_node_that_the_table_does_not_have_is_told() {
        let mut world = World::new(SMALL);
        world.config = config("node: nobody\n");
        assert_eq!(world.refusal(), "the cluster table has no node nobody");
    }

    #[test]
    fn the_carrier_fits_the_smallest_uplink_and_holds_the_tunnel_address() {
        let mut world = World::new(CLUSTER);
        let spec = CarrierSpec {
            name: "underpass0".to_owned(),
            mac: [0x66, 0, 0, 0, 0, 1],
            mtu: 1480,
            vxlan_port: 4789,
            addresses: vec![address("10.2.1.1")],
            up: false,
        };
        assert_eq!(carrier(&world.model()).unwrap(), spec);

        world.config =
            config("node: here\nuplinks: [eth1, eth0]\ntunnel: { vxlan: { port: 8472 } }\n");
        world.node.links.get_mut(&ETH0).unwrap().mtu = 8000;
        assert_eq!(
            carrier(&world.model()).unwrap(),
            CarrierSpec {
                mtu: 7980,
                vxlan_port: 8472,
                ..spec
            }
        );
    }

    #[test]
    fn an_uplink_without_room_for_a_tunnel_is_refused() {
        let mut world = World::new(CLUSTER);
        world.node.links.get_mut(&ETH0).unwrap().mtu = 118;
        assert_eq!(carrier(&world.model()).unwrap().mtu, 98);
        world.node.links.get_mut(&ETH0).unwrap().mtu = 117;
        assert_eq!(
            carrier(&world.model()).unwrap_err().to_string(),
            "an uplink has an MTU of 117, which leaves no room for a tunnel"
        );
    }
}

#[test]
fn the_programs_are_told_about_this_node() {
    let mut world = World::new(CLUSTER);
    let expected = abi::Config {
        node: [192, 168, 1, 10],
        vni: 4096,
        flags: flags::ESTABLISHED,
        carrier: CARRIER,
        vxlan_port: [0x12, 0xb5],
        vtep_mac: [0x66, 0, 0, 0, 0, 1],
        gateways: [[169, 254, 1, 1], [0; 4], [0; 4], [0; 4]],
        dscp: 0,
        padding: [0; 3],
        // 2 s in units of 65,536 ns.
        reverify: 30_517,
    };
    assert_eq!(world.plan().tables.config, expected);

    world.config = config(
        "node: here\nacceleration: all\nreverify: 50ms\n\
         gateways: [10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4]\n\
         tunnel: { vxlan: { vni: 16777215, port: 8472, checksum: true } }\n",
    );
    assert_eq!(
        world.plan().tables.config,
        abi::Config {
            vni: 0x00ff_ffff,
            flags: flags::VXLAN_CHECKSUM,
            vxlan_port: [0x21, 0x18],
            gateways: [[10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 3], [10, 0, 0, 4]],
            reverify: 762,
            ..expected
        }
    );
    for (text, flag, dscp) in [("46", 0, 46), ("inherit", flags::INHERIT_DSCP, 0)] {
        world.config = config(&format!("node: here\ntunnel: {{ dscp: {text} }}\n"));
        let told = abi::Config {
            flags: flags::ESTABLISHED | flag,
            dscp,
            ..expected
        };
        assert_eq!(world.plan().tables.config, told, "{text}");
    }
}

#[test]
fn every_other_node_is_a_peer() {
    let text = CLUSTER.replace("    tunnelAddress: 10.2.3.1\n", "");
    let peer = |tunnel, last| Peer {
        tunnel,
        vtep_mac: [0x66, 0, 0, 0, 0, last],
        padding: [0; 2],
    };
    assert_eq!(
        World::new(&text).plan().tables.peers,
        BTreeMap::from([
            ([192, 168, 1, 11], peer([10, 2, 2, 1], 2)),
            ([192, 168, 2, 10], peer([0; 4], 3)),
        ])
    );
}

#[test]
fn pods_are_endpoints_of_their_veths_and_the_unresolved_are_to_be_asked_for() {
    let resolved = pod("10.244.1.2", CALI1);
    let unresolved = Pod {
        mac: None,
        ..pod("10.244.1.3", CALI2)
    };
    let vanished = pod("10.244.1.4", 99);
    let plan = World::new(SMALL)
        .with_pods(&[resolved, unresolved, vanished])
        .plan();
    let endpoint = |ifindex, mac, last| Endpoint {
        ifindex,
        mtu: 1450,
        mac,
        host_mac: [2, 0, 0, 0, 0, last],
        ..Endpoint::default()
    };
    assert_eq!(
        plan.tables.endpoints,
        BTreeMap::from([
            ([10, 244, 1, 2], endpoint(CALI1, [0xaa, 0, 0, 0, 0, 1], 11)),
            ([10, 244, 1, 3], endpoint(CALI2, [0; 6], 12)),
        ])
    );
    assert_eq!(plan.unresolved, [unresolved]);
}

#[test]
fn one_model_has_one_plan() {
    let world = World::new(CLUSTER).with_pods(&[pod("10.2.1.2", CALI1)]);
    let (one, other) = (world.plan(), world.plan());
    assert_eq!(one.tables, other.tables);
    assert_eq!(one.kernel_routes, other.kernel_routes);
    assert_eq!(one.attachments, other.attachments);
}
