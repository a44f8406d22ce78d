//! What is remembered of flows, in rows and in words.

mod row;
mod state;
#[cfg(test)]
mod tests;

use std::{cmp::Reverse, collections::BTreeMap, net::Ipv4Addr, sync::Arc, time::Duration};

use anyhow::{Result, bail};
use dataplane_common::abi::{
    Config, Direction, Flow, FlowKey, Generation, NextHop, WAY_IN, WAY_OUT, flags, maps,
};

use super::{Snapshot, rows};
use crate::{
    dataplane::{self, BpfArray, Flows, Generations, Pins, endpoints, flow_tuples, now, time},
    kernel::{Conntrack, Detail},
};

pub use row::{DirectionRow, End, FlowRow};
pub use state::State;

use state::{Seen, seen, state};

/// Which flows are asked for.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// With this address at one end, or with each of two at one.
    pub addresses: Vec<Ipv4Addr>,
    /// With these ports, likewise.
    pub ports: Vec<u16>,
    /// Of this IP protocol.
    pub protocol: Option<u8>,
    /// That stand so.
    pub state: Option<State>,
    /// Of those, at most so many: the ones that most packets were carried of.
    pub limit: Option<usize>,
    /// Whether conntrack is asked for each, and not for those alone that were not verified.
    pub in_full: bool,
}

/// The flows that are asked for, those first of which most packets were carried.
pub fn flows(pins: &Pins, selection: &Selection) -> Result<Vec<FlowRow>> {
    let moment = Moment::read(pins)?;
    let mut found = BTreeMap::new();
    Flows::open(pins)?.each(|key, flow| {
        if selection.has(&key) {
            found.insert(key, flow);
        }
    })?;
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by_key(|(_, flow)| Reverse(packets(flow)));
    let mut conntrack = Conntrack::connect();
    let rows = found.iter().map(|(key, flow)| {
        let mut row = moment.row(key, flow);
        if row.state == State::Unverified || selection.in_full {
            moment.ask(&mut row, key, flow, conntrack.as_mut());
        }
        row
    });
    let rows = rows.filter(|row| selection.state.is_none_or(|state| row.state == state));
    Ok(rows.take(selection.limit.unwrap_or(usize::MAX)).collect())
}

/// Has `snapshot` remember what is remembered of the flow `key`, so that a packet of it is decided upon as
/// it stands, and returns it. There is none with `acceleration: all`.
pub fn recall(pins: &Pins, snapshot: &mut Snapshot, key: FlowKey) -> Result<Option<FlowRow>> {
    let config = snapshot.tables.config.unwrap_or_default();
    if config.flags & flags::ESTABLISHED == 0 {
        return Ok(None);
    }
    let moment = Moment::read(pins)?;
    snapshot.tables.generation = moment.generation;
    snapshot.tables.now = moment.now;
    let Some(flow) = Flows::open(pins)?.get(&key)? else {
        return Ok(None);
    };
    let mut row = moment.row(&key, &flow);
    moment.ask(&mut row, &key, &flow, Conntrack::connect().as_mut());
    snapshot.tables.flows().insert(key, Arc::new(flow));
    Ok(Some(row))
}

/// How many flows are accelerated, and how many there are.
pub fn count_flows(pins: &Pins) -> Result<(usize, usize)> {
    let moment = Moment::read(pins)?;
    let mut states = BTreeMap::new();
    Flows::open(pins)?.each(|key, flow| {
        states.insert(key, moment.state(&flow));
    })?;
    let accelerated = states
        .values()
        .filter(|state| **state == State::Accelerated);
    Ok((accelerated.count(), states.len()))
}

fn packets(flow: &Flow) -> u64 {
    flow.directions.iter().map(|way| way.packets.get()).sum()
}

impl Selection {
    fn has(&self, key: &FlowKey) -> bool {
        let addresses = [key.lower, key.higher].map(Ipv4Addr::from);
        let ports = [key.lower_port, key.higher_port].map(u16::from_be_bytes);
        self.protocol
            .is_none_or(|protocol| protocol == key.protocol)
            && self
                .addresses
                .iter()
                .all(|address| addresses.contains(address))
            && self.ports.iter().all(|port| ports.contains(port))
    }
}

/// What a flow's state depends on beside the flow.
struct Moment {
    generation: u16,
    now: u64,
    period: u64,
    next_hops: BTreeMap<u64, NextHop>,
    /// The interfaces of the pods here, by their addresses.
    pods: BTreeMap<Ipv4Addr, u32>,
}

impl Moment {
    fn read(pins: &Pins) -> Result<Self> {
        let config = BpfArray::<Config>::open_array(pins, maps::CONFIG)?.get(0)?;
        if config.flags & flags::ESTABLISHED == 0 {
            bail!(
                "no flows are followed here: with `acceleration: all` whatever has a route is \
                 carried (see `underpass status`)"
            );
        }
        Ok(Self {
            generation: Generations::open(pins, Generation::Flush)?.current()?,
            now: now(),
            period: config.reverify.into(),
            next_hops: dataplane::live_next_hops(pins)?,
            pods: pods(pins)?,
        })
    }

    fn state(&self, flow: &Flow) -> State {
        state(flow, self.generation, self.now, self.period)
    }

    fn seen(&self, direction: &Direction) -> Seen {
        seen(direction, self.generation, self.now, self.period)
    }

    fn row(&self, key: &FlowKey, flow: &Flow) -> FlowRow {
        let [there, back] = &flow.directions;
        let [a, b] = ends(key);
        let state = self.state(flow);
        FlowRow {
            a,
            b,
            protocol: protocol_name(key.protocol),
            age_seconds: self.age(flow),
            echo_id: a.port.is_none().then(|| u16::from_be_bytes(key.lower_port)),
            state,
            why: self.why(state, flow, [a, b]),
            a_to_b: self.direction(there, b),
            b_to_a: self.direction(back, a),
            conntrack: None,
        }
    }

    fn why(&self, state: State, flow: &Flow, [a, b]: [End; 2]) -> Option<String> {
        let ways = [(a, b), (b, a)];
        let of = |wanted| {
            let mut ways = flow.directions.iter().zip(ways);
            let (_, (from, to)) = ways.find(|(way, _)| self.seen(way) == wanted)?;
            Some(format!("{from} -> {to}"))
        };
        match state {
            State::Stale => Some("idle: the stack sees the next packet".to_owned()),
            State::Revoked => Some("rules or routes have changed since".to_owned()),
            State::OneWay => of(Seen::Never).map(|way| format!("nothing seen of {way}")),
            State::Unverified => of(Seen::Entered)
                .map(|way| format!("{way} went into the stack and did not leave it as it came")),
            State::Accelerated | State::Translated | State::Policy => None,
        }
    }

    /// Since when the stack has been handed packets of it, of either direction.
    fn age(&self, flow: &Flow) -> Option<f64> {
        let since = flow.directions.iter().map(|way| way.since.parts().1);
        let since = since.filter(|since| *since != 0).min()?;
        Some(seconds(time(self.now.saturating_sub(since))))
    }

    fn direction(&self, direction: &Direction, to: End) -> DirectionRow {
        let (_, verified) = direction.verified.parts();
        let ago = time(self.now.saturating_sub(verified));
        DirectionRow {
            verified_seconds_ago: (verified != 0).then(|| seconds(ago)),
            packets: direction.packets.get(),
            way: self.way(direction, to.address),
        }
    }

    /// Where the packets were carried to last, on their way to `address`.
    fn way(&self, direction: &Direction, address: Ipv4Addr) -> Option<String> {
        let (_, from) = direction.from.parts();
        let (_, to) = direction.to.parts();
        match from & (WAY_OUT | WAY_IN) {
            WAY_OUT => {
                let next_hop = self.next_hops.get(&to.checked_sub(1)?)?;
                Some(format!("{} to {}", rows::kind(next_hop), remote(next_hop)))
            }
            WAY_IN => {
                let ifindex = self.pods.get(&address)?;
                Some(format!("pod behind {}", rows::interface(*ifindex)))
            }
            _ => None,
        }
    }

    /// Asks conntrack what it makes of the flow.
    fn ask(
        &self,
        row: &mut FlowRow,
        key: &FlowKey,
        flow: &Flow,
        conntrack: Result<&mut Conntrack, &mut anyhow::Error>,
    ) {
        let Some(tuples) = flow_tuples(key) else {
            return;
        };
        let entered = flow.directions.iter().zip(&tuples);
        let mut entered = entered.filter(|(way, _)| self.seen(way) == Seen::Entered);
        let tuple = entered.next().map_or(&tuples[0], |(_, tuple)| tuple);
        let answer = match conntrack {
            Ok(conntrack) => conntrack.get(tuple).map_err(|error| format!("{error:#}")),
            Err(error) => Err(format!("{error:#}")),
        };
        match answer {
            Ok(entry) => row.learn(tuple, entry.as_ref()),
            Err(error) => row.conntrack = Some(format!("cannot be asked: {error}")),
        }
    }
}

/// The number of an IP protocol, by its name or in digits.
pub fn protocol_number(text: &str) -> Result<u8, String> {
    match PROTOCOLS.iter().find(|(name, _)| *name == text) {
        Some((_, number)) => Ok(*number),
        None => text
            .parse()
            .map_err(|_| "write tcp, udp, sctp, icmp or the protocol's number".to_owned()),
    }
}

const PROTOCOLS: [(&str, u8); 4] = [("icmp", 1), ("tcp", 6), ("udp", 17), ("sctp", 132)];

/// Its name, or the number where it has none here.
#[must_use]
pub fn protocol_name(number: u8) -> String {
    match PROTOCOLS.iter().find(|(_, known)| *known == number) {
        Some((name, _)) => (*name).to_owned(),
        None => number.to_string(),
    }
}

/// The ends of a flow, that with the lower address first.
fn ends(key: &FlowKey) -> [End; 2] {
    let ports = match flow_tuples(key).map(|[there, _]| there.detail) {
        Some(Detail::Ports(lower, higher)) => [Some(lower), Some(higher)],
        _ => [None, None],
    };
    let end = |address: [u8; 4], port| End {
        address: address.into(),
        port,
    };
    [end(key.lower, ports[0]), end(key.higher, ports[1])]
}

/// The interfaces of the pods here, by their addresses.
fn pods(pins: &Pins) -> Result<BTreeMap<Ipv4Addr, u32>> {
    let pods = endpoints(pins)?.into_iter();
    Ok(pods
        .map(|(address, endpoint)| (address.into(), endpoint.ifindex))
        .collect())
}

/// The node that a next hop leads to, or else the neighbour.
pub(crate) fn remote(next_hop: &NextHop) -> Ipv4Addr {
    let peer = Ipv4Addr::from(next_hop.peer);
    if peer.is_unspecified() {
        next_hop.gateway.into()
    } else {
        peer
    }
}

fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}
