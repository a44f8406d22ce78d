//! The routes' map as a table of prefixes.

use anyhow::{Context, Result};
use ipnet::Ipv4Net;

use super::{Pins, Table, lines::Chunks, mapping::Access, maps::RouteTable, trie::Trie};

/// The map of the routes: which next hop each prefix leads to.
#[derive(Debug)]
pub struct RouteMap(Trie<Chunks>);

impl RouteMap {
    /// Opens the routes to write them.
    pub fn open_routes(pins: &Pins) -> Result<Self> {
        Ok(Self(Trie::open(Chunks::open(pins, Access::Write)?)))
    }

    /// Opens the routes to read them, whoever writes them meanwhile.
    pub fn read_routes(pins: &Pins) -> Result<Self> {
        Ok(Self(Trie::open(Chunks::open(pins, Access::Read)?)))
    }

    /// How many lines of [`dataplane_common::trie`] are in use, and how many there may be.
    #[must_use]
    pub fn fill(&self) -> (u32, u32) {
        (self.0.used(), self.0.memory().most())
    }
}

impl Table<Ipv4Net, u32> for RouteMap {
    fn entries(&self) -> Result<Vec<(Ipv4Net, u32)>> {
        let entries = self.0.entries().into_iter();
        Ok(entries.map(|(prefix, route)| (prefix, route - 1)).collect())
    }

    fn insert(&mut self, prefix: &Ipv4Net, id: &u32) -> Result<()> {
        self.0
            .insert(*prefix, id + 1)
            .with_context(|| format!("cannot write {prefix}"))
    }

    fn remove(&mut self, prefix: &Ipv4Net) -> Result<()> {
        self.0.remove(*prefix);
        Ok(())
    }
}

impl RouteTable for RouteMap {
    fn get(&self, prefix: &Ipv4Net) -> Option<u32> {
        self.0.get(*prefix).checked_sub(1)
    }
}
