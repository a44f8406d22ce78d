//! Packets that a hook might see: by a grammar, so that they get far, and then corrupted, so that
//! they get elsewhere.

mod corruption;
mod frames;
mod ip;
mod tunnel;

use dataplane_common::{
    abi::{Addr, Hook, Mac, NextHop, NextHopKind},
    decide::{Origin, TunnelKey},
    memory::{MemoryPacket, MemoryTables},
    packet::Tunnel,
};

use crate::{Case, Surroundings, addresses, choices::Choices, flows, surroundings::Interface};

/// A packet for some hook of a node that knows `tables`.
#[must_use]
pub fn case(choices: &mut Choices, tables: &MemoryTables, around: &Surroundings) -> Case {
    let hook = choices.of(&Hook::DECIDING);
    case_at(hook, choices, tables, around)
}

/// A packet for `hook` of a node that knows `tables`.
#[must_use]
pub fn case_at(
    hook: Hook,
    choices: &mut Choices,
    tables: &MemoryTables,
    around: &Surroundings,
) -> Case {
    let uplink = around.uplink;
    // Nothing is, until there is a configuration.
    let may_be_taken_out = hook == Hook::FromUplink && tables.config.is_some();
    let taken_out_of =
        (may_be_taken_out && choices.rarely()).then(|| choices.of(&[Tunnel::Ipip, Tunnel::Vxlan]));
    let (interface, mut bytes) = match hook {
        Hook::FromWorkload => from_workload(choices, tables, around),
        Hook::FromUplink if taken_out_of.is_some() => {
            let inner = tunnel::inner(choices, tables, None);
            (uplink, frames::ethernet(choices, uplink, &inner))
        }
        Hook::FromUplink | Hook::XdpUplink => (uplink, from_uplink(choices, tables, uplink)),
        Hook::FromStack => (uplink, from_stack(choices, tables, uplink)),
        Hook::FromCarrier => (uplink, from_carrier(choices, tables, uplink)),
        Hook::ToWorkload | Hook::ToUplink => unreachable!("decides nothing"),
    };
    // What was taken out was found right.
    if taken_out_of.is_none() && choices.maybe() {
        corruption::corrupt(choices, tables, &mut bytes);
    }
    Case {
        hook,
        ifindex: interface.index,
        origin: origin(choices, tables),
        packet: match hook {
            Hook::XdpUplink => in_frame(bytes),
            _ => MemoryPacket {
                taken_out_of,
                ..in_buffer(choices, interface, bytes)
            },
        },
    }
}

/// What an XDP program is told of a frame.
#[must_use]
pub fn in_frame(bytes: Vec<u8>) -> MemoryPacket {
    MemoryPacket {
        to_interface: bytes.first().is_some_and(|byte| byte & 1 == 0),
        ..MemoryPacket::new(bytes)
    }
}

/// What the kernel says of a packet.
fn in_buffer(choices: &mut Choices, interface: Interface, bytes: Vec<u8>) -> MemoryPacket {
    MemoryPacket {
        // As it finds out when a frame arrives (`eth_type_trans`).
        to_interface: bytes.get(..6) == Some(&interface.mac),
        vlan_tag: choices.rarely() && choices.rarely(),
        gso_size: match choices.below(8) {
            0..=5 => 0,
            6 => choices.of(&[1, 536, 1000, 1410, 1448, 65_535]),
            _ => choices.word().into(),
        },
        checksum_verified: choices.maybe(),
        makes_room: choices.mostly(),
        forgets_tunnels: choices.maybe(),
        ..MemoryPacket::new(bytes)
    }
}

fn from_workload(
    choices: &mut Choices,
    tables: &MemoryTables,
    around: &Surroundings,
) -> (Interface, Vec<u8>) {
    let pods: Vec<_> = tables
        .endpoints
        .iter()
        .filter_map(|(address, pod)| Some((*address, pod.mac, around.interface(pod.ifindex)?)))
        .collect();
    let any = (
        addresses::any(choices),
        choices.bytes(),
        choices.of(&around.workloads),
    );
    let pod = choices.of_any(pods.into_iter()).unwrap_or(any);
    let (source, mac, interface) = if choices.mostly() { pod } else { any };
    let flow = if choices.maybe() {
        flows::ends(choices, tables, |sender| sender == source)
    } else {
        None
    };
    if let Some((_, destination)) = flow {
        let packet = ip::packet(choices, tables, source, destination);
        return (interface, frames::ethernet(choices, interface, &packet));
    }
    let frame = from_pod(choices, tables, interface, source, mac);
    (interface, frame)
}

fn from_pod(
    choices: &mut Choices,
    tables: &MemoryTables,
    interface: Interface,
    source: Addr,
    mac: Mac,
) -> Vec<u8> {
    let packet = match choices.below(16) {
        0 => return frames::gateway_question(choices, tables, interface, source, mac),
        1 => return frames::other(choices, interface),
        2 => {
            let destination = addresses::node(choices);
            tunnel::packet(choices, tables, source, destination)
        }
        3..=5 => {
            let destination = addresses::endpoint(choices, tables);
            ip::packet(choices, tables, source, destination)
        }
        _ => {
            let destination = addresses::routed(choices, tables, is_remote);
            ip::packet(choices, tables, source, destination)
        }
    };
    frames::ethernet(choices, interface, &packet)
}

fn from_uplink(choices: &mut Choices, tables: &MemoryTables, interface: Interface) -> Vec<u8> {
    let packet = match choices.below(16) {
        0 => return frames::other(choices, interface),
        1..=4 => {
            let is_direct = |hop: &NextHop| {
                matches!(
                    hop.kind(),
                    Some(NextHopKind::Direct | NextHopKind::Multipath)
                )
            };
            let flow = flows::ends(choices, tables, |sender| {
                !tables.endpoints.contains_key(&sender)
            });
            let (source, destination) = match flow {
                Some(ends) if choices.mostly() => ends,
                _ => (
                    addresses::routed(choices, tables, is_direct),
                    addresses::endpoint(choices, tables),
                ),
            };
            ip::packet(choices, tables, source, destination)
        }
        _ => tunnel::from_peer(choices, tables),
    };
    frames::ethernet(choices, interface, &packet)
}

fn from_stack(choices: &mut Choices, tables: &MemoryTables, interface: Interface) -> Vec<u8> {
    if choices.rarely() {
        return frames::other(choices, interface);
    }
    let source = addresses::any(choices);
    let destination = addresses::routed(choices, tables, is_remote);
    let packet = ip::packet(choices, tables, source, destination);
    frames::ethernet(choices, interface, &packet)
}

fn from_carrier(choices: &mut Choices, tables: &MemoryTables, interface: Interface) -> Vec<u8> {
    if choices.maybe() {
        return from_stack(choices, tables, interface);
    }
    let packet = tunnel::inner(choices, tables, None);
    frames::ethernet(choices, interface, &packet)
}

/// Whether it leads to others, or its ways might.
fn is_remote(next_hop: &NextHop) -> bool {
    next_hop
        .kind()
        .is_some_and(|kind| kind.is_remote() || kind == NextHopKind::Multipath)
}

/// Where a frame on the carrier comes from.
fn origin(choices: &mut Choices, tables: &MemoryTables) -> Origin {
    let config = tables.config.unwrap_or_default();
    match choices.below(8) {
        0..=2 => Origin::Program,
        3..=6 => {
            let node = Some(config.node).filter(|_| choices.rarely());
            let peer = node.or_else(|| choices.of_any(tables.peers.keys()).copied());
            Origin::Tunnel(TunnelKey {
                remote: peer.unwrap_or_else(|| addresses::node(choices)),
                vni: if choices.mostly() { config.vni } else { 1 },
                local: choices.of(&[
                    None,
                    Some(config.node),
                    Some(config.node),
                    Some([192, 168, 1, 13]),
                ]),
                cut_up: choices.maybe(),
            })
        }
        _ => Origin::Foreign,
    }
}
