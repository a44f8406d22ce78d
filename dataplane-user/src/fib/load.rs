//! Taking in complete lists: at the start, and when changes may have been missed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
};

use dataplane_common::abi::Mac;
use ipnet::Ipv4Net;

use super::{
    Fib,
    infos::InfoId,
    table::{Place, Table},
};
use crate::kernel::{
    Link,
    fib::{Change, FibRoute, NextHopObject},
};

/// Lists on their way in. Routes are kept as numbers from the first, since there may be a million.
#[derive(Debug, Default)]
pub struct Loading {
    /// Everything but routes.
    others: Vec<Change>,
    tables: BTreeMap<u32, Table>,
}

impl Fib {
    /// Takes in an object of a complete list.
    pub fn load(&mut self, loading: &mut Loading, change: Change) {
        match change {
            Change::Route(route) | Change::RouteAppended(route) | Change::RouteReplaced(route) => {
                self.load_route(loading, route);
            }
            other => loading.others.push(other),
        }
    }

    /// A list has them in the kernel's order.
    fn load_route(&mut self, loading: &mut Loading, route: FibRoute) {
        let id = self.infos.take(route.info);
        let table = loading.tables.entry(route.table).or_default();
        let added = table.insert(route.prefix, id, Place::After, &self.infos);
        if added.was_there {
            self.infos.release(id);
        }
    }

    /// Complete lists of everything have been loaded: what is in none of them is gone. Returns
    /// whether anything differed.
    pub fn loaded(&mut self, loading: Loading) -> bool {
        let Loading { others, tables } = loading;
        let routes_differ = self.loaded_tables(tables);
        self.loaded_others(others) || routes_differ
    }

    /// Complete lists of all routes have been loaded.
    pub fn loaded_routes(&mut self, loading: Loading) -> bool {
        self.loaded_tables(loading.tables)
    }

    /// A complete list of the routes by the interface with this index has been read.
    pub fn loaded_routes_by(&mut self, index: u32, routes: Vec<FibRoute>) -> bool {
        let mut gone: BTreeSet<_> = self.routes_by(index).into_iter().collect();
        let mut differ = false;
        for route in routes {
            let known = self.infos.find(&route.info);
            let is_there = known.is_some_and(|id| gone.remove(&(route.table, route.prefix, id)));
            if !is_there {
                self.apply(Change::RouteAppended(route));
                differ = true;
            }
        }
        for (table, prefix, id) in gone {
            differ |= self.remove_route(table, prefix, id);
        }
        differ
    }

    /// A complete list of the nexthop objects has been read.
    pub fn loaded_objects(&mut self, objects: Vec<NextHopObject>) -> bool {
        let there: BTreeSet<u32> = objects.iter().map(|object| object.id).collect();
        let known: Vec<u32> = self.objects.keys().copied().collect();
        let gone: Vec<u32> = known.into_iter().filter(|id| !there.contains(id)).collect();
        for id in &gone {
            self.object_gone(*id);
        }
        for object in objects {
            self.apply(Change::Object(object));
        }
        !gone.is_empty()
    }

    fn loaded_tables(&mut self, tables: BTreeMap<u32, Table>) -> bool {
        let old = std::mem::replace(&mut self.tables, tables);
        let mut changed: BTreeSet<(u32, Ipv4Net)> = BTreeSet::new();
        let numbers: BTreeSet<u32> = old.keys().chain(self.tables.keys()).copied().collect();
        let empty = Table::default();
        for number in numbers {
            let was = old.get(&number).unwrap_or(&empty);
            let is = self.tables.get(&number).unwrap_or(&empty);
            changed.extend(differences(was, is).map(|prefix| (number, prefix)));
        }
        for (_, id) in old.values().flat_map(Table::iter) {
            self.infos.release(id);
        }
        self.on_link.clear();
        let routes: Vec<(Ipv4Net, InfoId)> = self
            .tables
            .values()
            .flat_map(Table::iter)
            .filter(|(_, id)| self.on_link_of(*id).is_some())
            .collect();
        for (prefix, id) in routes {
            self.note_on_link(prefix, id);
        }
        for (number, prefix) in &changed {
            self.touch(*number, *prefix);
        }
        self.dirty.node = true;
        !changed.is_empty()
    }

    /// Interfaces first, on which the rest depends; what has gone before what has come, since an
    /// index may have another interface now.
    fn loaded_others(&mut self, others: Vec<Change>) -> bool {
        let mut links = BTreeMap::new();
        let mut addresses = BTreeSet::new();
        let mut rules = Vec::new();
        let mut objects = BTreeMap::new();
        let mut neighbours = HashMap::new();
        let mut fdb = HashMap::new();
        for change in others {
            match change {
                Change::Link(link) => {
                    links.insert(link.index, *link);
                }
                Change::Address(address) => {
                    addresses.insert(address);
                }
                Change::Rule(rule) if rules.contains(&rule) => {}
                Change::Rule(rule) => rules.push(rule),
                Change::Object(object) => {
                    objects.insert(object.id, object.content);
                }
                Change::Neighbour(neighbour) => {
                    let key = (neighbour.index, neighbour.address);
                    neighbours.extend(neighbour.mac.map(|mac| (key, mac)));
                }
                Change::Fdb(entry) => {
                    fdb.insert((entry.index, entry.mac), entry);
                }
                _ => {}
            }
        }
        rules.sort_by_key(|rule| rule.priority);
        self.keep_pods(&links, &mut neighbours);
        let differ = links != self.links
            || addresses != self.addresses
            || rules != self.rules
            || objects != self.objects
            || neighbours != self.neighbours
            || fdb != self.fdb;
        if differ {
            self.dirty.every_prefix = true;
            self.node_changed();
        }
        self.links = links;
        self.addresses = addresses;
        self.rules = rules;
        self.objects = objects;
        self.neighbours = neighbours;
        self.fdb = fdb;
        differ
    }
}

impl Fib {
    /// What was known of the pods on interfaces that are the same as before.
    fn keep_pods(
        &self,
        links: &BTreeMap<u32, Link>,
        neighbours: &mut HashMap<(u32, Ipv4Addr), Mac>,
    ) {
        for ((index, address), mac) in &self.neighbours {
            let is_same = match (self.links.get(index), links.get(index)) {
                (Some(was), Some(is)) => was.name == is.name && was.mac == is.mac,
                _ => false,
            };
            if is_same && self.is_pod(*index, *address) {
                neighbours.entry((*index, *address)).or_insert(*mac);
            }
        }
    }
}

/// The prefixes whose routes are not the same in both tables.
fn differences(was: &Table, is: &Table) -> impl Iterator<Item = Ipv4Net> {
    let gone = was
        .prefixes()
        .filter(|prefix| is.routes(*prefix).next().is_none());
    let other = is
        .prefixes()
        .filter(|prefix| !was.routes(*prefix).eq(is.routes(*prefix)));
    gone.chain(other)
}
