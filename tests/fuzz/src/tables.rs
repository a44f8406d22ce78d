//! Tables as an agent might write them, and as it never would.

use dataplane_common::{
    abi::{Addr, Config, Endpoint, NextHop, NextHopKind, Peer, WAYS, Workload, flags},
    memory::MemoryTables,
};

use crate::{Surroundings, addresses, choices::Choices, flows};

/// What a program might know on a node.
#[must_use]
pub fn tables(choices: &mut Choices, around: &Surroundings) -> MemoryTables {
    let config = config(choices, around);
    let mut tables = MemoryTables {
        config: (choices.mostly() || choices.mostly()).then_some(config),
        ..MemoryTables::default()
    };
    for _ in 0..choices.below(5) {
        let peer = peer(choices, around);
        tables.peers.insert(addresses::node(choices), peer);
    }
    for _ in 0..choices.of(&[8, 7, 6, 5, 4, 2, 1, 0]) {
        let (length, network) = prefix(choices);
        let next_hop = if choices.mostly() {
            next_hop(choices, around, config.node)
        } else {
            let entry = choices.of(&[0, 1, u16::MAX >> 1]);
            let ways = ways(choices, around, config.node);
            tables.multipaths.insert(entry, ways);
            NextHop {
                kind: NextHopKind::Multipath as u8,
                entry,
                ..NextHop::default()
            }
        };
        tables.routes.insert((length, network), next_hop);
    }
    for _ in 0..choices.of(&[6, 5, 4, 3, 2, 1, 0]) {
        let address = if choices.mostly() {
            addresses::pod(choices)
        } else {
            addresses::any(choices)
        };
        tables.endpoints.insert(address, endpoint(choices, around));
    }
    let interfaces: Vec<u32> = tables.endpoints.values().map(|pod| pod.ifindex).collect();
    for ifindex in interfaces {
        if !choices.mostly() {
            tables.gone.insert(ifindex);
        }
    }
    for interface in &around.workloads {
        if choices.mostly() {
            let workload = Workload {
                mac: interface.mac,
                ..Workload::default()
            };
            tables.workloads.insert(interface.index, workload);
        }
    }
    number(&mut tables);
    flows::insert(choices, &mut tables);
    tables
}

/// Gives each next hop a number of its own, from 1 on: first those of routes, then ways; and each
/// endpoint.
fn number(tables: &mut MemoryTables) {
    const MULTIPATH: u8 = NextHopKind::Multipath as u8;
    let ways = tables.multipaths.values_mut().flatten();
    for (next_hop, number) in tables.routes.values_mut().chain(ways).zip(1..) {
        // Of one with many ways, the entry is theirs, too.
        if next_hop.kind != MULTIPATH {
            next_hop.entry = number << 1;
        }
    }
    for (endpoint, number) in tables.endpoints.values_mut().zip(1..) {
        endpoint.number = number;
    }
}

fn config(choices: &mut Choices, around: &Surroundings) -> Config {
    let [_, a, b, c] = choices.bytes();
    Config {
        node: addresses::node(choices),
        vni: choices.of(&[4096, 4096, 1, 0xff_ffff, u32::from_be_bytes([0, a, b, c])]),
        flags: choices.of(&[0, flags::WORKLOAD_TUNNELS])
            | choices.of(&[0, 0, flags::VXLAN_CHECKSUM])
            | choices.of(&[0, 0, flags::INHERIT_DSCP])
            | choices.of(&[0, flags::ESTABLISHED]),
        carrier: choices.of(&[7, 7, 0]),
        vxlan_port: choices.of(&[4789_u16, 4789, 8472, 53]).to_be_bytes(),
        vtep_mac: addresses::mac(choices, around),
        gateways: [
            choices.of(&[[169, 254, 1, 1], [0; 4]]),
            [0; 4],
            addresses::any(choices),
            [0; 4],
        ],
        dscp: choices.of(&[0, 0, 1, 46, 63]),
        padding: [0; 3],
        reverify: flows::PERIOD,
    }
}

fn peer(choices: &mut Choices, around: &Surroundings) -> Peer {
    Peer {
        tunnel: addresses::pod(choices),
        vtep_mac: addresses::mac(choices, around),
        ..Peer::default()
    }
}

/// A prefix length and a network address.
fn prefix(choices: &mut Choices) -> (u8, Addr) {
    let length = choices.of(&[24, 24, 24, 26, 32, 31, 16, 8, 0]);
    let address = if choices.mostly() {
        addresses::pod(choices)
    } else {
        addresses::any(choices)
    };
    (length, addresses::within(address, length, [0; 4]))
}

/// What is at the places of a next hop with many ways.
fn ways(choices: &mut Choices, around: &Surroundings, node: Addr) -> [NextHop; WAYS] {
    let ways: [_; 3] = std::array::from_fn(|_| next_hop(choices, around, node));
    let order: [u8; WAYS] = choices.bytes();
    order.map(|way| ways[usize::from(way) % ways.len()])
}

fn next_hop(choices: &mut Choices, around: &Surroundings, node: Addr) -> NextHop {
    /// A kind that nobody has defined.
    const UNKNOWN: u8 = 7;
    /// Without ways; and no way has many itself.
    const MULTIPATH: u8 = NextHopKind::Multipath as u8;
    const DIRECT: u8 = NextHopKind::Direct as u8;
    let kind = match choices.below(16) {
        0..=2 => NextHopKind::Local as u8,
        3..=5 => DIRECT,
        6..=9 => NextHopKind::Ipip as u8,
        10..=13 => NextHopKind::Vxlan as u8,
        14 => NextHopKind::Blackhole as u8,
        _ => choices.of(&[0, UNKNOWN, MULTIPATH]),
    };
    NextHop {
        kind,
        mtu: mtu(choices),
        ifindex: if choices.mostly() {
            around.uplink.index
        } else {
            choices.of(&[0, 1, 250])
        },
        // By a router, who knows where to.
        peer: if kind == DIRECT && choices.rarely() {
            [0; 4]
        } else {
            addresses::node(choices)
        },
        gateway: match choices.below(8) {
            0..=3 => around.resolved,
            4..=6 => around.unresolved,
            _ => choices.of(&addresses::SPECIAL),
        },
        source: if choices.mostly() {
            node
        } else {
            addresses::any(choices)
        },
        vtep_mac: addresses::mac(choices, around),
        ..NextHop::default()
    }
}

fn endpoint(choices: &mut Choices, around: &Surroundings) -> Endpoint {
    let interface = if choices.mostly() {
        choices.of(&around.workloads).index
    } else {
        choices.of(&[0, 1, 250])
    };
    Endpoint {
        ifindex: interface,
        mtu: mtu(choices).into(),
        mac: if choices.mostly() {
            [0x02, 0, 0, 0, 0, choices.of(&[1, 2])]
        } else {
            [0; 6]
        },
        host_mac: addresses::mac(choices, around),
        ..Endpoint::default()
    }
}

fn mtu(choices: &mut Choices) -> u16 {
    match choices.below(8) {
        0..=5 => choices.of(&[1450, 1480, 1500]),
        6 => choices.of(&[0, 20, 27, 28, 68, 9000, u16::MAX]),
        _ => choices.word(),
    }
}
