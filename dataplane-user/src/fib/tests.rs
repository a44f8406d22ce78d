use std::fs;

use dataplane_common::abi::NextHopKind;

use super::*;
use crate::{
    config::Config,
    kernel::{
        Ipip, Neighbour, NeighbourState, Vxlan,
        fib::{Action, Hop, NextHopObject, RouteKind},
    },
};

mod by_chance;
mod by_hand;

const LO: u32 = 1;
const ETH0: u32 = 2;
const ETH1: u32 = 3;
const TUNL0: u32 = 4;
const VXLAN: u32 = 5;
const PEER1: u32 = 6;
const CALI1: u32 = 11;
const CALI2: u32 = 12;

const MAIN: u32 = 254;
const LOCAL: u32 = 255;

const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);
const PEER_VTEP: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 0);
const PEER_MAC: Mac = [0x66, 0, 0, 0, 0, 2];

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

fn address(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn patterns() -> WorkloadPatterns {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yaml");
    fs::write(&file, "").unwrap();
    Config::load(&file).unwrap().workloads
}

/// A mirror of a node with Calico's devices and the kernel's three rules, without routes.
fn node() -> Fib {
    node_for(Vec::new())
}

fn node_for(only: Vec<Ipv4Net>) -> Fib {
    let mut fib = Fib::new(patterns(), only);
    let ethernet = |index, name: &str| Link {
        mac: Some([2, 0, 0, 0, 0, 1]),
        ..link(index, name)
    };
    let veth = |index, name: &str| Link {
        kind: Some("veth".to_owned()),
        ..ethernet(index, name)
    };
    let links = [
        link(LO, "lo"),
        ethernet(ETH0, "eth0"),
        ethernet(ETH1, "eth1"),
        Link {
            ipip: Some(Ipip::default()),
            mtu: 1480,
            ..link(TUNL0, "tunl0")
        },
        Link {
            vxlan: Some(Vxlan {
                vni: 4096,
                port: 4789,
                local: Some(NODE),
                ..Vxlan::default()
            }),
            mtu: 1450,
            ..ethernet(VXLAN, "vxlan.calico")
        },
        Link {
            ipip: Some(Ipip {
                remote: Some(PEER),
                ..Ipip::default()
            }),
            mtu: 1480,
            ..link(PEER1, "tun-peer1")
        },
        veth(CALI1, "cali1"),
        veth(CALI2, "cali2"),
    ];
    for link in links {
        fib.apply(Change::Link(Box::new(link)));
    }
    for (priority, table) in [(0, LOCAL), (32766, MAIN), (32767, 253)] {
        fib.apply(Change::Rule(Rule::lookup(priority, table)));
    }
    fib.set_pods(&[]);
    fib.set_underlays([(PEER, Some(underlay()))].into());
    fib.take_dirty();
    fib
}

fn link(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.to_owned(),
        mtu: 1500,
        up: true,
        carrier: true,
        ..Link::default()
    }
}

fn underlay() -> Underlay {
    Underlay {
        oif: ETH0,
        gateway: None,
        source: NODE,
        mtu: None,
    }
}

fn hop(oif: u32, gateway: Option<&str>) -> Hop {
    Hop {
        oif,
        gateway: gateway.map(address),
        onlink: false,
        weight: 1,
        special: None,
    }
}

fn route(prefix: &str, hops: &[Hop]) -> FibRoute {
    FibRoute {
        table: MAIN,
        prefix: net(prefix),
        info: FibInfo {
            target: Target::Hops(hops.to_vec()),
            ..FibInfo::default()
        },
    }
}

fn via(prefix: &str, oif: u32, gateway: &str) -> FibRoute {
    route(prefix, &[hop(oif, Some(gateway))])
}

fn pod(prefix: &str, oif: u32) -> FibRoute {
    let mut route = route(prefix, &[hop(oif, None)]);
    route.info.on_link = true;
    route
}

fn of_kind(prefix: &str, kind: RouteKind) -> FibRoute {
    let mut route = route(prefix, &[]);
    route.info.kind = kind;
    route.info.target = Target::Nowhere;
    route
}

fn metric(metric: u32, mut route: FibRoute) -> FibRoute {
    route.info.metric = metric;
    route
}

fn in_table(table: u32, mut route: FibRoute) -> FibRoute {
    route.table = table;
    route
}

fn to(oif: u32, gateway: &str) -> Destination {
    Destination::Via(Via {
        oif,
        gateway: Some(address(gateway)),
        mtu: None,
    })
}
