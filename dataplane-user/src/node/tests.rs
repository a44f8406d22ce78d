use std::fs;

use ipnet::Ipv4Net;

use super::*;
use crate::{
    config::Config,
    kernel::{NeighbourState, TABLE_MAIN},
};

const ETH0: u32 = 2;
const CALI1: u32 = 11;
const CALI2: u32 = 12;

const MAC: Mac = [0xaa, 0, 0, 0, 0, 1];
const OTHER_MAC: Mac = [0xaa, 0, 0, 0, 0, 2];

/// What a node is read from, without the kernel.
struct Kernel {
    links: BTreeMap<u32, Link>,
    routes: Vec<Route>,
    neighbours: Vec<Neighbour>,
}

impl Kernel {
    fn new(routes: &[Route]) -> Self {
        let links = [(ETH0, "eth0"), (CALI1, "cali1"), (CALI2, "cali2")];
        Self {
            links: links.map(|(index, name)| (index, link(index, name))).into(),
            routes: routes.to_vec(),
            neighbours: Vec::new(),
        }
    }

    fn pods(&self, learned: &mut LearnedMacs) -> Vec<Pod> {
        let workloads = patterns("cali*");
        learned.pods(&self.links, &self.routes, &self.neighbours, &workloads)
    }

    fn first_pods(&self) -> Vec<Pod> {
        self.pods(&mut LearnedMacs::default())
    }
}

fn patterns(pattern: &str) -> WorkloadPatterns {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yaml");
    fs::write(&file, format!("workloads: ['{pattern}']\n")).unwrap();
    Config::load(&file).unwrap().workloads
}

fn link(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.to_owned(),
        up: true,
        kind: Some("veth".to_owned()),
        ..Link::default()
    }
}

fn address(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

/// A route as Calico's CNI plugin makes it for a pod.
fn route(destination: &str, oif: u32) -> Route {
    Route {
        destination: net(destination),
        gateway: None,
        oif: Some(oif),
        source: None,
        mtu: None,
        scope: RouteScope::Link,
        kind: RouteType::Unicast,
        protocol: 3,
        table: TABLE_MAIN,
        metric: None,
        onlink: false,
        opaque: false,
    }
}

fn neighbour(index: u32, text: &str, mac: Option<Mac>) -> Neighbour {
    Neighbour {
        index,
        address: address(text),
        mac,
        state: NeighbourState::Stale,
    }
}

fn pod(text: &str, ifindex: u32, mac: Option<Mac>) -> Pod {
    Pod {
        address: address(text),
        ifindex,
        mac,
    }
}

#[test]
fn a_pod_is_a_host_route_to_a_workload() {
    let kernel = Kernel::new(&[
        route("10.244.0.3/32", CALI2),
        route("10.244.0.2/32", CALI1),
        route("10.244.7.9/32", CALI1),
    ]);
    assert_eq!(
        kernel.first_pods(),
        [
            pod("10.244.0.2", CALI1, None),
            pod("10.244.0.3", CALI2, None),
            pod("10.244.7.9", CALI1, None),
        ]
    );
}

#[test]
fn other_routes_are_no_pods() {
    let good = || route("10.244.0.2/32", CALI1);
    for (what, route) in [
        ("a prefix", route("10.244.0.2/31", CALI1)),
        ("a network", route("10.244.0.0/24", CALI1)),
        ("to the uplink", route("10.244.0.2/32", ETH0)),
        ("to an interface that is gone", route("10.244.0.2/32", 99)),
        (
            "to no interface",
            Route {
                oif: None,
                ..good()
            },
        ),
        (
            "by a gateway",
            Route {
                gateway: Some(address("10.244.0.1")),
                ..good()
            },
        ),
        (
            "to anywhere",
            Route {
                scope: RouteScope::Universe,
                ..good()
            },
        ),
        (
            "to the host",
            Route {
                scope: RouteScope::Host,
                kind: RouteType::Local,
                ..good()
            },
        ),
        (
            "to nowhere",
            Route {
                kind: RouteType::BlackHole,
                ..good()
            },
        ),
        (
            "in another table",
            Route {
                table: 255,
                ..good()
            },
        ),
        (
            "that does more than it tells",
            Route {
                opaque: true,
                ..good()
            },
        ),
    ] {
        assert_eq!(Kernel::new(&[route]).first_pods(), [], "{what}");
    }
}

#[test]
fn an_interface_that_is_down_has_no_pods() {
    let mut kernel = Kernel::new(&[route("10.244.0.2/32", CALI1)]);
    kernel.links.get_mut(&CALI1).unwrap().up = false;
    assert_eq!(kernel.first_pods(), []);
}

#[test]
fn the_patterns_say_which_interfaces_are_workloads() {
    let kernel = Kernel::new(&[route("10.244.0.2/32", CALI1), route("10.244.0.3/32", CALI2)]);
    for (pattern, count) in [("cali*", 2), ("cali2", 1), ("veth*", 0), ("cali?", 2)] {
        let learned = LearnedMacs::default();
        let pods = pods(&kernel.links, &kernel.routes, &patterns(pattern), &learned);
        assert_eq!(pods.len(), count, "{pattern}");
    }
}

/// As the stack chooses among them.
#[test]
fn of_several_routes_to_a_pod_the_one_with_the_smallest_metric_counts() {
    let with_metric = |oif, metric| Route {
        metric,
        ..route("10.244.0.2/32", oif)
    };
    for routes in [
        [with_metric(CALI1, None), with_metric(CALI2, Some(1))],
        [with_metric(CALI2, Some(100)), with_metric(CALI1, Some(20))],
        [with_metric(CALI1, Some(0)), with_metric(CALI2, Some(1))],
    ] {
        let pods = Kernel::new(&routes).first_pods();
        assert_eq!(pods, [pod("10.244.0.2", CALI1, None)]);
    }
}

#[test]
fn a_pods_mac_is_its_neighbours_on_its_own_interface() {
    let mut kernel = Kernel::new(&[route("10.244.0.2/32", CALI1), route("10.244.0.3/32", CALI2)]);
    kernel.neighbours = vec![
        neighbour(CALI1, "10.244.0.2", Some(MAC)),
        neighbour(CALI1, "10.244.0.3", Some(OTHER_MAC)),
        neighbour(ETH0, "10.244.0.3", Some(OTHER_MAC)),
        neighbour(CALI2, "10.244.0.3", None),
    ];
    assert_eq!(
        kernel.first_pods(),
        [
            pod("10.244.0.2", CALI1, Some(MAC)),
            pod("10.244.0.3", CALI2, None),
        ]
    );
}

#[test]
fn a_mac_is_kept_after_the_kernel_forgot_it_and_replaced_when_it_learns_another() {
    let mut learned = LearnedMacs::default();
    let mut kernel = Kernel::new(&[route("10.244.0.2/32", CALI1)]);
    assert_eq!(kernel.pods(&mut learned), [pod("10.244.0.2", CALI1, None)]);
    for (neighbours, mac) in [
        (vec![neighbour(CALI1, "10.244.0.2", Some(MAC))], MAC),
        (vec![], MAC),
        (vec![neighbour(CALI1, "10.244.0.2", None)], MAC),
        (
            vec![neighbour(CALI1, "10.244.0.2", Some(OTHER_MAC))],
            OTHER_MAC,
        ),
        (vec![], OTHER_MAC),
    ] {
        kernel.neighbours = neighbours;
        assert_eq!(
            kernel.pods(&mut learned),
            [pod("10.244.0.2", CALI1, Some(mac))]
        );
    }
}

/// What comes after it under the same number and address is another pod.
#[test]
fn a_mac_is_forgotten_with_the_pod() {
    let known = || {
        let mut learned = LearnedMacs::default();
        let mut kernel = Kernel::new(&[route("10.244.0.2/32", CALI1)]);
        kernel.neighbours = vec![neighbour(CALI1, "10.244.0.2", Some(MAC))];
        kernel.pods(&mut learned);
        kernel.neighbours.clear();
        (kernel, learned)
    };
    let unknown = [pod("10.244.0.2", CALI1, None)];

    let (mut kernel, mut learned) = known();
    let link = kernel.links.remove(&CALI1).unwrap();
    assert_eq!(kernel.pods(&mut learned), []);
    kernel.links.insert(CALI1, link);
    assert_eq!(kernel.pods(&mut learned), unknown);

    let (mut kernel, mut learned) = known();
    let route = kernel.routes.remove(0);
    assert_eq!(kernel.pods(&mut learned), []);
    kernel.routes.push(route);
    assert_eq!(kernel.pods(&mut learned), unknown);
}

#[test]
fn interfaces_are_found_by_name_and_by_address() {
    let node = NodeState {
        links: Kernel::new(&[]).links,
        addresses: vec![
            Address {
                index: ETH0,
                address: address("192.168.1.10"),
                prefix_len: 24,
            },
            Address {
                index: 99,
                address: address("192.168.1.99"),
                prefix_len: 24,
            },
        ],
        ..NodeState::default()
    };
    let index = |link: Option<&Link>| link.map(|link| link.index);
    assert_eq!(index(node.link("cali1")), Some(CALI1));
    assert_eq!(index(node.link("cali")), None);
    assert_eq!(index(node.holder(address("192.168.1.10"))), Some(ETH0));
    assert_eq!(index(node.holder(address("192.168.1.11"))), None);
    assert_eq!(index(node.holder(address("192.168.1.99"))), None);
}
