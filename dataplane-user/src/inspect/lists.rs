//! The lists that are read from a copy of the maps.

use anyhow::Result;
use dataplane_common::abi::{Addr, NextHop, Peer};

use super::{CounterRow, EndpointRow, PeerRow, RouteRow, Snapshot, counters};
use crate::dataplane::Pins;

/// Every route.
#[must_use]
pub fn routes(snapshot: &Snapshot) -> Vec<RouteRow> {
    let routes = snapshot.routes.iter();
    routes
        .map(|(prefix, next_hop)| RouteRow::new(*prefix, next_hop, &snapshot.tables))
        .collect()
}

/// The pods of this node.
#[must_use]
pub fn endpoints(snapshot: &Snapshot) -> Vec<EndpointRow> {
    let endpoints = snapshot.tables.endpoints.iter();
    endpoints
        .map(|(address, endpoint)| EndpointRow::new((*address).into(), endpoint))
        .collect()
}

/// The other nodes.
#[must_use]
pub fn peers(snapshot: &Snapshot) -> Vec<PeerRow> {
    let next_hops = snapshot.next_hops();
    let row = |(address, peer): (&Addr, &Peer)| {
        let to_it = next_hops.iter().filter(|hop| hop.peer == *address);
        let to_it: Vec<NextHop> = to_it.copied().collect();
        PeerRow::new((*address).into(), peer, &to_it)
    };
    snapshot.tables.peers.iter().map(row).collect()
}

/// What every hook has counted; `all`, also what it has not.
pub fn counter_rows(pins: &Pins, all: bool) -> Result<Vec<CounterRow>> {
    let counters = counters(pins)?.into_iter();
    Ok(counters
        .filter(|(_, counter)| all || counter.packets != 0)
        .map(|((hook, reason), counter)| CounterRow::new(hook, reason, counter))
        .collect())
}
