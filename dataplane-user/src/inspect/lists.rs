//! The lists that are read from a copy of the maps, and what of the kernel's routes is in none.

use anyhow::{Result, bail};
use dataplane_common::abi::{Addr, NextHop, Peer};

use super::{CounterRow, EndpointRow, PeerRow, RouteRow, Snapshot, UnmirroredRow, counters};
use crate::{
    config::{Config, Source},
    dataplane::Pins,
    source::kernel,
};

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

/// The prefixes of the kernel's routes that are left to the stack, and why.
///
/// # Errors
///
/// The source of the routes is not the kernel.
pub async fn unmirrored(config: &Config) -> Result<Vec<UnmirroredRow>> {
    let Source::Kernel(source) = &config.source else {
        bail!(
            "the routes are not the kernel's here: `source` in the configuration is a file, and all of \
             its routes are listed without --unmirrored"
        );
    };
    let survey = kernel::survey(config, source).await?;
    let rows = survey.fib.unmirrored().into_iter();
    Ok(rows.map(UnmirroredRow::from).collect())
}
