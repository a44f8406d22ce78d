//! Making the maps equal to the plan.
//!
//! The maps are read once, when the reconciler starts; after that it knows what they hold, since
//! nothing else writes them, and writes only what differs.

mod delta;
mod devices;
mod endpoints;
mod next_hops;
mod routes;

pub use delta::Tracked;
pub use endpoints::Endpoints;
pub use next_hops::NextHops;
pub use routes::Routes;

use std::{collections::BTreeSet, mem};

use anyhow::{Error, Result};
use dataplane_common::abi::{
    Addr, Config, Endpoint, Generation, MAX_ENDPOINTS, MAX_NEXT_HOP_ENTRIES, MAX_PEERS,
    MAX_WORKLOADS, Multipath, NextHop, Peer, Workload, maps,
};
use ipnet::Ipv4Net;
use tracing::{info, warn};

use self::devices::Devices;
use crate::{
    dataplane::{AddressMap, BpfArray, BpfHash, DeviceMap, Generations, Pins, RouteMap},
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

/// What came of writing to a table.
#[derive(Debug, Default)]
pub struct Written {
    /// How many entries were added or replaced.
    pub written: usize,
    /// How many found no room.
    pub refused: usize,
    /// Why the first of these did not.
    pub why: String,
}

impl Written {
    fn refuse(&mut self, error: &Error) {
        if self.refused == 0 {
            self.why = format!("{error:#}");
        }
        self.refused += 1;
    }
}

impl std::ops::AddAssign for Written {
    fn add_assign(&mut self, other: Self) {
        if self.refused == 0 {
            self.why = other.why;
        }
        self.written += other.written;
        self.refused += other.refused;
    }
}

/// How many entries have found no room, as it was said last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Refused {
    tables: usize,
    routes: usize,
}

/// The pinned maps, and what they are known to hold.
pub struct Reconciler {
    config: BpfArray<Config>,
    next_hops: NextHops<BpfArray<u32>, BpfArray<NextHop>, BpfArray<Multipath>>,
    routes: Routes<RouteMap>,
    refused: Refused,
    endpoints: Tracked<Addr, Endpoint, Endpoints<AddressMap, BpfArray<Endpoint>>>,
    workloads: Tracked<u32, Workload, BpfHash<u32, Workload>>,
    devices: Devices,
    peers: Tracked<Addr, Peer, BpfHash<Addr, Peer>>,
    generations: Generations,
    /// Whether something may have been written that flows do not know of.
    is_new: bool,
}

impl Reconciler {
    /// Reads the maps pinned below `pins`.
    pub fn open(pins: &Pins) -> Result<Self> {
        let routes = Routes::open(RouteMap::open_routes(pins)?)?;
        Ok(Self {
            config: BpfArray::open_array(pins, maps::CONFIG)?,
            next_hops: NextHops::open(
                BpfArray::open_array(pins, maps::NEXT_HOP_LIVE)?,
                BpfArray::open_array(pins, maps::NEXT_HOPS)?,
                BpfArray::open_array(pins, maps::MULTIPATHS)?,
                routes.numbers()?.into_iter(),
            )?,
            routes,
            refused: Refused::default(),
            endpoints: Tracked::open(Endpoints::open(
                AddressMap::open_addresses(pins)?,
                BpfArray::open_array(pins, maps::ENDPOINT_ENTRIES)?,
            )?)?,
            workloads: Tracked::open(BpfHash::open_hash(pins, maps::WORKLOADS)?)?,
            devices: Devices::new(DeviceMap::open_devices(pins)?),
            peers: Tracked::open(BpfHash::open_hash(pins, maps::PEERS)?)?,
            generations: Generations::open(pins, Generation::Agent)?,
            is_new: true,
        })
    }

    /// How many routes there are.
    #[must_use]
    pub fn routes(&self) -> usize {
        self.routes.len()
    }

    /// How many entries of each map are in use, and how many it has room for; of the routes' map,
    /// lines.
    #[must_use]
    pub fn fill(&self) -> [(&'static str, usize, u32); 5] {
        let (lines, most_lines) = self.routes.table().fill();
        [
            (maps::ROUTES, lines as usize, most_lines),
            // Each next hop owns two entries.
            (
                maps::NEXT_HOPS,
                self.next_hops.len() * 2,
                MAX_NEXT_HOP_ENTRIES,
            ),
            (maps::ENDPOINTS, self.endpoints.len(), MAX_ENDPOINTS),
            (maps::WORKLOADS, self.workloads.len(), MAX_WORKLOADS),
            (maps::PEERS, self.peers.len(), MAX_PEERS),
        ]
    }

    /// Writes what differs from `tables`: first what others refer to, so that a program never finds
    /// a reference without its object; what is no longer wanted goes in the opposite order.
    pub fn apply(&mut self, tables: &Tables) -> Result<Changes> {
        let mut changes = self.write_tables(tables)?;
        let routes = tables.routes.iter();
        changes += self.write_routes(routes.map(|(prefix, key)| (*prefix, *key)))?;
        changes += self.sweep_tables(tables)?;
        Ok(changes)
    }

    /// Adds and replaces what differs from `tables`, but for the routes, which refer to it.
    pub fn write_tables(&mut self, tables: &Tables) -> Result<Changes> {
        let result = self.put_tables(tables);
        self.noted(result)
    }

    fn put_tables(&mut self, tables: &Tables) -> Result<Changes> {
        let mut result = Written::default();
        if self.config.get(0)? != tables.config {
            self.config.set(0, tables.config)?;
            result.written += 1;
        }
        // First of all: the interface of a pod that is gone may be another's by now.
        let removed = self.endpoints.sweep(&tables.endpoints)?;
        result.written += self.devices.write(&devices(tables))?;
        result += self.workloads.write(&tables.workloads)?;
        result += self.endpoints.write(&tables.endpoints)?;
        result += self.peers.write(&tables.peers)?;
        result.written += self.next_hops.write(tables)?;
        self.say(
            Refused {
                tables: result.refused,
                ..self.refused
            },
            &result.why,
        );
        Ok(Changes {
            written: result.written,
            removed,
        })
    }

    /// Removes what is not in `tables`, but for the routes, which no longer refer to it.
    pub fn sweep_tables(&mut self, tables: &Tables) -> Result<Changes> {
        let result = self.take_from_tables(tables);
        self.noted(result)
    }

    fn take_from_tables(&mut self, tables: &Tables) -> Result<Changes> {
        let mut removed = self.next_hops.sweep(tables)?;
        removed += self.peers.sweep(&tables.peers)?;
        removed += self.workloads.sweep(&tables.workloads)?;
        removed += self.devices.sweep(&devices(tables))?;
        Ok(Changes {
            written: 0,
            removed,
        })
    }

    /// Has the routes be these, which are all, in the order of their prefixes.
    pub fn write_routes(
        &mut self,
        routes: impl Iterator<Item = (Ipv4Net, NextHopKey)>,
    ) -> Result<Changes> {
        let routes: Vec<_> = routes
            .map(|(prefix, key)| Ok((prefix, self.next_hops.id(&key)?)))
            .collect::<Result<_>>()?;
        let result = self.put_routes(&routes);
        self.noted(result)
    }

    fn put_routes(&mut self, routes: &[(Ipv4Net, u32)]) -> Result<Changes> {
        let result = self.routes.write(routes)?;
        let removed = self.routes.sweep(routes)?;
        self.say(
            Refused {
                routes: result.refused,
                ..self.refused
            },
            &result.why,
        );
        Ok(Changes {
            written: result.written,
            removed,
        })
    }

    /// Has `prefix` lead to `key`, or nowhere. Returns what it led to before, if that was something
    /// else; `Some(None)` where it was nothing, or is not known.
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
        self.is_new = true;
        let result = self.routes.set(prefix, id)?;
        if result.refused != 0 {
            self.say(
                Refused {
                    routes: self.refused.routes + result.refused,
                    ..self.refused
                },
                &result.why,
            );
        }
        Ok(Some(was.and_then(|id| self.next_hops.key(id))))
    }

    /// Ends the generation of flows if anything has been written: they remember where they went by
    /// the tables as they were. Returns whether it has.
    pub fn renew(&mut self) -> Result<bool> {
        if self.is_new {
            self.generations.bump()?;
        }
        Ok(mem::take(&mut self.is_new))
    }

    /// Notes whether anything was written, or may have been.
    fn noted(&mut self, result: Result<Changes>) -> Result<Changes> {
        self.is_new |= !matches!(&result, Ok(changes) if changes.is_empty());
        result
    }

    /// Whether something has found no room, and may find it later.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.refused != Refused::default()
    }

    /// Says that there is no room for everything, and that there is again: once.
    fn say(&mut self, refused: Refused, why: &str) {
        let count = refused.tables + refused.routes;
        if (count == 0) == self.is_short() {
            if count == 0 {
                info!("the maps have room for everything again");
            } else {
                warn!(
                    "{count} entries find no room, and packets that need them are left to the \
                     stack: {why}; `underpass status` says how full each map is"
                );
            }
        }
        self.refused = refused;
    }
}

/// The interfaces of the pods.
fn devices(tables: &Tables) -> BTreeSet<u32> {
    tables.endpoints.values().map(|pod| pod.ifindex).collect()
}
