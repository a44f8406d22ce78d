//! Making the maps equal to the plan.
//!
//! The maps are read once, when the reconciler starts; after that it knows what they hold, since
//! nothing else writes them, and writes only what differs.

mod delta;
mod destinations;
mod next_hops;

pub use delta::Tracked;
pub use destinations::Destinations;
pub use next_hops::NextHops;

use anyhow::Result;
use dataplane_common::abi::{Addr, Config, Endpoint, Multipath, NextHop, Peer, Workload, maps};
use ipnet::Ipv4Net;

use crate::{
    dataplane::{BpfArray, BpfHash, Pins, RouteMap},
    plan::{NextHopKey, Tables},
};

/// How much was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Entries added or replaced.
    pub written: usize,
    /// Entries removed.
    pub removed: usize,
}

impl Changes {
    /// Whether nothing was.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

impl std::ops::AddAssign for Changes {
    fn add_assign(&mut self, other: Self) {
        self.written += other.written;
        self.removed += other.removed;
    }
}

/// The pinned maps, and what they are known to hold.
pub struct Reconciler {
    config: BpfArray<Config>,
    next_hops: NextHops<BpfArray<u32>, BpfArray<NextHop>, BpfArray<Multipath>>,
    routes: Tracked<Ipv4Net, u32, RouteMap>,
    endpoints: Tracked<Addr, Endpoint, BpfHash<Addr, Endpoint>>,
    workloads: Tracked<u32, Workload, BpfHash<u32, Workload>>,
    peers: Tracked<Addr, Peer, BpfHash<Addr, Peer>>,
}

impl Reconciler {
    /// Reads the maps pinned below `pins`.
    pub fn open(pins: &Pins) -> Result<Self> {
        let routes = Tracked::open(RouteMap::open_routes(pins)?)?;
        Ok(Self {
            config: BpfArray::open_array(pins, maps::CONFIG)?,
            next_hops: NextHops::open(
                BpfArray::open_array(pins, maps::NEXT_HOP_LIVE)?,
                BpfArray::open_array(pins, maps::NEXT_HOPS)?,
                BpfArray::open_array(pins, maps::MULTIPATHS)?,
                routes.values(),
            )?,
            routes,
            endpoints: Tracked::open(BpfHash::open_hash(pins, maps::ENDPOINTS)?)?,
            workloads: Tracked::open(BpfHash::open_hash(pins, maps::WORKLOADS)?)?,
            peers: Tracked::open(BpfHash::open_hash(pins, maps::PEERS)?)?,
        })
    }

    /// How many entries of each map are in use.
    #[must_use]
    pub fn fill(&self) -> [(&'static str, usize); 5] {
        [
            (maps::ROUTES, self.routes.len()),
            // Each next hop owns two entries.
            (maps::NEXT_HOPS, self.next_hops.len() * 2),
            (maps::ENDPOINTS, self.endpoints.len()),
            (maps::WORKLOADS, self.workloads.len()),
            (maps::PEERS, self.peers.len()),
        ]
    }

    /// Writes what differs from `tables`: first what others refer to, so that a program never finds
    /// a reference without its object; what is no longer wanted goes in the opposite order.
    pub fn apply(&mut self, tables: &Tables) -> Result<Changes> {
        let mut changes = self.write_tables(tables)?;
        let routes = tables
            .routes
            .iter()
            .map(|(prefix, key)| Ok((*prefix, self.next_hops.id(key)?)))
            .collect::<Result<_>>()?;
        changes.written += self.routes.write(&routes)?;
        changes.removed += self.routes.sweep(&routes)?;
        changes += self.sweep_tables(tables)?;
        Ok(changes)
    }

    /// Adds and replaces what differs from `tables`, but for the routes, which refer to it.
    pub fn write_tables(&mut self, tables: &Tables) -> Result<Changes> {
        let mut changes = Changes::default();
        if self.config.get(0)? != tables.config {
            self.config.set(0, tables.config)?;
            changes.written += 1;
        }
        // First of all: the interface of a pod that is gone may be another's by now.
        changes.removed += self.endpoints.sweep(&tables.endpoints)?;
        changes.written += self.workloads.write(&tables.workloads)?;
        changes.written += self.endpoints.write(&tables.endpoints)?;
        changes.written += self.peers.write(&tables.peers)?;
        changes.written += self.next_hops.write(tables)?;
        Ok(changes)
    }

    /// Removes what is not in `tables`, but for the routes, which no longer refer to it.
    pub fn sweep_tables(&mut self, tables: &Tables) -> Result<Changes> {
        let mut changes = Changes::default();
        changes.removed += self.next_hops.sweep(tables)?;
        changes.removed += self.peers.sweep(&tables.peers)?;
        changes.removed += self.workloads.sweep(&tables.workloads)?;
        Ok(changes)
    }

    /// Has the routes have `key` for `prefix`, or nothing. Returns what it led to before, if that was
    /// something else; `Some(None)` where it was nothing, or is not known.
    pub fn route(
        &mut self,
        prefix: Ipv4Net,
        key: Option<NextHopKey>,
    ) -> Result<Option<Option<NextHopKey>>> {
        let id = key.map(|key| self.next_hops.id(&key)).transpose()?;
        let was = self.routes.get(&prefix);
        if was == id {
            return Ok(None);
        }
        self.routes.set(prefix, id)?;
        Ok(Some(was.and_then(|id| self.next_hops.key(id))))
    }

    /// The prefixes of all routes.
    pub fn prefixes(&self) -> impl Iterator<Item = Ipv4Net> {
        self.routes.keys()
    }
}
