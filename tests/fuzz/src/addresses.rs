//! Addresses, of so few that they meet.

use dataplane_common::{
    abi::{Addr, Mac, NextHop},
    memory::MemoryTables,
};

use crate::{Surroundings, choices::Choices};

/// Addresses that are not like others: of hosts, of gateways, of many, of nobody.
pub(crate) const SPECIAL: [Addr; 8] = [
    [0, 0, 0, 0],
    [127, 0, 0, 1],
    [169, 254, 1, 1],
    [203, 0, 113, 9],
    [224, 0, 0, 1],
    [239, 255, 255, 255],
    [240, 0, 0, 1],
    [255, 255, 255, 255],
];

/// Any address.
pub(crate) fn any(choices: &mut Choices) -> Addr {
    match choices.below(8) {
        0..=3 => pod(choices),
        4 | 5 => node(choices),
        6 => choices.of(&SPECIAL),
        _ => choices.bytes(),
    }
}

/// An address as pods have.
pub(crate) fn pod(choices: &mut Choices) -> Addr {
    [
        10,
        244,
        choices.of(&[0, 1, 2, 3]),
        choices.of(&[0, 1, 2, 3, 4, 130]),
    ]
}

/// An address as nodes have.
pub(crate) fn node(choices: &mut Choices) -> Addr {
    [192, 168, 1, choices.of(&[10, 11, 12, 13])]
}

/// An Ethernet address.
pub(crate) fn mac(choices: &mut Choices, around: &Surroundings) -> Mac {
    match choices.below(8) {
        0..=4 => [0x66, 0, 0, 0, 0, choices.of(&[1, 2, 3])],
        5 => around.uplink.mac,
        6 => choices.of(&[[0xee; 6], [0xff; 6], [0x01, 0, 0x5e, 0, 0, 1]]),
        _ => choices.bytes(),
    }
}

/// Mostly a pod of this node.
pub(crate) fn endpoint(choices: &mut Choices, tables: &MemoryTables) -> Addr {
    if choices.mostly()
        && let Some(address) = choices.of_any(tables.endpoints.keys())
    {
        return *address;
    }
    any(choices)
}

/// Mostly an address that a route leads to, where there is one whose next hop is `wanted`.
pub(crate) fn routed(
    choices: &mut Choices,
    tables: &MemoryTables,
    wanted: impl Fn(&NextHop) -> bool,
) -> Addr {
    let prefixes: Vec<_> = tables
        .routes
        .iter()
        .filter(|(_, next_hop)| wanted(next_hop))
        .map(|(prefix, _)| *prefix)
        .collect();
    if choices.mostly()
        && let Some((length, network)) = choices.of_any(prefixes.into_iter())
    {
        return within(network, length, pod(choices));
    }
    any(choices)
}

/// The address in a prefix whose host part is that of `host`.
pub(crate) fn within(network: Addr, length: u8, host: Addr) -> Addr {
    let mask = u32::MAX
        .checked_shl(32 - u32::from(length))
        .unwrap_or_default();
    let (network, host) = (u32::from_be_bytes(network), u32::from_be_bytes(host));
    (network & mask | host & !mask).to_be_bytes()
}
