//! Flows as the stack might have let them through, and packets of them.

use std::sync::Arc;

use dataplane_common::{
    abi::{Addr, Asker, Direction, Flow, FlowKey, Word, flags},
    memory::MemoryTables,
};

use crate::{addresses, choices::Choices};

/// The re-verification period, in ticks.
pub(crate) const PERIOD: u32 = 1000;
/// Now, in ticks. Beside a kernel, whose clock is another, what is long ago is, and what is to come is
/// to come.
const NOW: u64 = 1 << 32;
const LONG_AGO: u64 = 1;
const TO_COME: u64 = 1 << 47;
const PROTOCOLS: [u8; 4] = [1, 6, 17, 132];

/// Adds flows between pods of this node and whoever a route leads to.
pub(crate) fn insert(choices: &mut Choices, tables: &mut MemoryTables) {
    tables.now = NOW;
    tables.generation = choices.of(&[0, 1, u16::MAX]);
    let config = tables.config.unwrap_or_default();
    if config.flags & flags::ESTABLISHED == 0 {
        return;
    }
    for _ in 0..choices.of(&[12, 6, 3, 1, 0]) {
        let here = addresses::endpoint(choices, tables);
        let there = addresses::routed(choices, tables, |_| true);
        let key = key(choices, here, there);
        let flow = Flow {
            incarnation: choices.of(&[0_u64, 1 << 32, 1 << 32 | 5]).into(),
            directions: [direction(choices, tables), direction(choices, tables)],
        };
        tables.flows().insert(key, Arc::new(flow));
    }
}

/// Mostly what makes a verified one.
fn direction(choices: &mut Choices, tables: &MemoryTables) -> Direction {
    let generation = if choices.mostly() {
        tables.generation
    } else {
        tables.generation.wrapping_add(1)
    };
    let verified = Word::default();
    match choices.below(8) {
        0..=5 => verified.set(generation, TO_COME),
        6 => verified.set(generation, LONG_AGO),
        _ => {}
    }
    Direction {
        verified,
        ..Direction::default()
    }
}

fn key(choices: &mut Choices, one: Addr, other: Addr) -> FlowKey {
    let protocol = choices.of(&PROTOCOLS);
    let (lower, higher) = if u32::from_be_bytes(one) < u32::from_be_bytes(other) {
        (one, other)
    } else {
        (other, one)
    };
    let (client, server) = (choices.bytes(), 80_u16.to_be_bytes());
    let (lower_port, higher_port, asker) = match (protocol, choices.maybe()) {
        (1, true) => (client, client, Asker::Lower),
        (1, false) => (client, client, Asker::Higher),
        (_, true) => (client, server, Asker::Either),
        (_, false) => (server, client, Asker::Either),
    };
    FlowKey {
        lower,
        higher,
        lower_port,
        higher_port,
        protocol,
        asker: asker as u8,
        padding: [0; 2],
    }
}

/// Source and destination of some flow's packet, where there is a flow: the source one that `may_send`,
/// if there is one.
pub(crate) fn ends(
    choices: &mut Choices,
    tables: &MemoryTables,
    may_send: impl Fn(Addr) -> bool,
) -> Option<(Addr, Addr)> {
    let flows = tables.flows();
    let ways = flows.keys().flat_map(|key| {
        let there = (key.lower, key.higher);
        [there, (key.higher, key.lower)]
    });
    let ways: Vec<_> = ways.filter(|(source, _)| may_send(*source)).collect();
    choices.of_any(ways.into_iter())
}

/// The protocol and the beginning of a packet between these two of some flow of theirs, if there is one.
pub(crate) fn transport(
    choices: &mut Choices,
    tables: &MemoryTables,
    source: Addr,
    destination: Addr,
) -> Option<(u8, Vec<u8>)> {
    let flows = tables.flows();
    let keys = flows.keys().filter(|key| {
        [(key.lower, key.higher), (key.higher, key.lower)].contains(&(source, destination))
    });
    let keys: Vec<_> = keys.collect();
    let key = *choices.of_any(keys.into_iter())?;
    let from_lower = key.lower == source;
    let (from, to) = if from_lower {
        (key.lower_port, key.higher_port)
    } else {
        (key.higher_port, key.lower_port)
    };
    let ports = [from, to].concat();
    let bytes = match key.protocol {
        1 => {
            let asks = from_lower == (key.asker == Asker::Lower as u8);
            let [a, b] = key.lower_port;
            vec![if asks { 8 } else { 0 }, 0, 0, 0, a, b, 0, 1]
        }
        6 => {
            // ACK, with FIN, SYN, RST, PSH.
            let flags = choices.of(&[0x10, 0x18, 0x10, 0x18, 0x10, 0x11, 0x02, 0x14]);
            let rest = [0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 1, 0, 0, 0, 0, 0];
            [&ports[..], &rest].concat()
        }
        17 => [&ports[..], &[0, 12, 0, 0], b"data"].concat(),
        _ => {
            let chunk = choices.of(&[0, 0, 3, 0, 3, 1, 7, 14]);
            [&ports[..], &[0; 8], &[chunk, 3, 0, 8], b"data"].concat()
        }
    };
    Some((key.protocol, bytes))
}
