//! The kernel's FIB, mirrored: what the kernel said last of routes, rules, interfaces, addresses,
//! neighbours, forwarding entries and nexthop objects, and what a pod's packet would meet in it.
//!
//! Pure: changes go in by [`Fib::apply`] and [`Fib::load`], and what has to be looked at again
//! comes out by [`Fib::take_dirty`]. [`destination`] says where a prefix leads, [`way`] how that is
//! reached, and nothing here speaks to the kernel.

mod destination;
mod infos;
mod load;
mod lookup;
mod stages;
mod table;
#[cfg(test)]
mod tests;
mod way;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
};

use dataplane_common::abi::Mac;
use ipnet::Ipv4Net;

pub use self::{
    destination::{Destination, Unmirrored, Via},
    load::Loading,
};
use self::{
    infos::{InfoId, Infos},
    stages::Stage,
    table::{Place, Table},
};
use crate::{
    config::WorkloadPatterns,
    kernel::{
        Address, Link, Underlay,
        fib::{Change, Content, Fdb, FibInfo, FibRoute, Rule, Target},
    },
};

/// The mirror.
#[derive(Debug)]
pub struct Fib {
    workloads: WorkloadPatterns,
    /// The networks whose routes are mirrored; all where there are none.
    only: Vec<Ipv4Net>,
    infos: Infos,
    tables: BTreeMap<u32, Table>,
    rules: Vec<Rule>,
    /// What the rules come to for the pods that there are.
    stages: Vec<Stage>,
    links: BTreeMap<u32, Link>,
    addresses: BTreeSet<Address>,
    objects: BTreeMap<u32, Content>,
    neighbours: HashMap<(u32, Ipv4Addr), Mac>,
    fdb: HashMap<(u32, Mac), Fdb>,
    /// The prefixes that are on the link of an interface, by its index: the pods are among them.
    on_link: BTreeMap<u32, BTreeSet<Ipv4Net>>,
    /// How the outer destinations of tunnels are reached; found out by asking the kernel.
    underlays: BTreeMap<Ipv4Addr, Option<Underlay>>,
    dirty: Dirty,
}

/// What has to be looked at again.
// Each is a question of its own.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Default)]
pub struct Dirty {
    /// Where these prefixes lead.
    pub prefixes: BTreeSet<Ipv4Net>,
    /// Where every prefix leads.
    pub every_prefix: bool,
    /// How the destinations are reached.
    pub ways: bool,
    /// The node's interfaces, addresses and pods.
    pub node: bool,
    /// The ways to the outer destinations.
    pub underlays: bool,
    /// Interfaces by which routes may be gone that the kernel has not announced.
    pub suspects: BTreeSet<u32>,
    /// Nexthop objects may be gone that the kernel has not announced.
    pub suspect_objects: bool,
    /// Routes by any interface may be gone that the kernel has not announced.
    pub suspect_routes: bool,
}

impl Dirty {
    /// All of it.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            every_prefix: true,
            ways: true,
            node: true,
            underlays: true,
            ..Self::default()
        }
    }
}

impl Fib {
    /// An empty mirror, for pods behind interfaces that match `workloads`, and for routes within the
    /// networks `only`, if any are named.
    #[must_use]
    pub fn new(workloads: WorkloadPatterns, only: Vec<Ipv4Net>) -> Self {
        Self {
            workloads,
            only,
            infos: Infos::default(),
            tables: BTreeMap::new(),
            rules: Vec::new(),
            stages: Vec::new(),
            links: BTreeMap::new(),
            addresses: BTreeSet::new(),
            objects: BTreeMap::new(),
            neighbours: HashMap::new(),
            fdb: HashMap::new(),
            on_link: BTreeMap::new(),
            underlays: BTreeMap::new(),
            dirty: Dirty::default(),
        }
    }

    /// What has to be looked at again since the last time.
    pub fn take_dirty(&mut self) -> Dirty {
        std::mem::take(&mut self.dirty)
    }

    /// Interfaces by index.
    #[must_use]
    pub fn links(&self) -> &BTreeMap<u32, Link> {
        &self.links
    }

    /// The addresses of interfaces.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.addresses.iter()
    }

    /// Whether the interface with this index is the host side of a pod's.
    #[must_use]
    pub fn is_workload(&self, index: u32) -> bool {
        self.links
            .get(&index)
            .is_some_and(|link| link.is_veth() && self.workloads.matches(&link.name))
    }

    /// The Ethernet address of a neighbour.
    #[must_use]
    pub fn neighbour(&self, index: u32, address: Ipv4Addr) -> Option<Mac> {
        self.neighbours.get(&(index, address)).copied()
    }

    /// The prefixes that are on the link of a pod's interface, with its index.
    pub fn on_workloads(&self) -> impl Iterator<Item = (u32, Ipv4Net)> {
        self.on_link
            .iter()
            .filter(|(index, _)| self.is_workload(**index))
            .flat_map(|(index, prefixes)| prefixes.iter().map(|prefix| (*index, *prefix)))
    }

    /// Every prefix that may have an answer of its own, some more than once. A longer one comes
    /// after those that contain it, within each table.
    pub fn prefixes(&self) -> impl Iterator<Item = Ipv4Net> {
        let of_tables = self.tables.values().flat_map(Table::prefixes);
        of_tables.chain(self.stages.iter().filter_map(|stage| stage.within))
    }

    /// Whether `prefix` is one of [`Fib::prefixes`].
    #[must_use]
    pub fn has_prefix(&self, prefix: Ipv4Net) -> bool {
        self.tables
            .values()
            .any(|table| table.routes(prefix).next().is_some())
            || self.stages.iter().any(|stage| stage.within == Some(prefix))
    }

    /// The rules hold for the pods' addresses: to be called when those have changed.
    pub fn set_pods(&mut self, addresses: &[Ipv4Addr]) {
        let workloads = &self.workloads;
        let stages = stages::stages(&self.rules, addresses, |name| workloads.matches(name));
        if stages != self.stages {
            self.stages = stages;
            self.dirty.every_prefix = true;
        }
    }

    /// Takes a change in.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Link(link) => self.link(*link),
            Change::LinkGone(index) => self.link_gone(index),
            Change::Address(address) => {
                if self.addresses.insert(address) {
                    self.node_changed();
                }
            }
            Change::AddressGone(address) => self.address_gone(address),
            Change::Route(route) => self.route(route, Place::Before),
            Change::RouteAppended(route) => self.route(route, Place::After),
            Change::RouteReplaced(route) => self.route(route, Place::Instead),
            Change::RouteGone(route) => self.route_gone(&route),
            Change::Rule(rule) => self.rule(rule),
            Change::RuleGone(rule) => {
                self.rules.retain(|other| *other != rule);
                self.rules_changed();
            }
            Change::Object(object) => {
                let changed = self.objects.get(&object.id) != Some(&object.content);
                if changed && self.objects.insert(object.id, object.content).is_some() {
                    self.dirty.every_prefix = true;
                }
            }
            Change::ObjectGone(id) => self.object_gone(id),
            Change::Neighbour(neighbour) => {
                if let Some(mac) = neighbour.mac {
                    let key = (neighbour.index, neighbour.address);
                    if self.neighbours.insert(key, mac) != Some(mac) {
                        self.neighbour_changed(neighbour.index);
                    }
                }
            }
            Change::NeighbourGone(index, address) => self.neighbour_gone(index, address),
            Change::Fdb(fdb) => {
                // A copy of an entry for a bridge's port says nothing of a remote.
                if self.fdb.insert((fdb.index, fdb.mac), fdb) != Some(fdb) {
                    self.dirty.ways = true;
                }
            }
            Change::FdbGone(fdb) => {
                if self.fdb.remove(&(fdb.index, fdb.mac)).is_some() {
                    self.dirty.ways = true;
                }
            }
        }
    }

    fn link(&mut self, link: Link) {
        let index = link.index;
        let (up, carrier) = (link.up, link.carrier);
        let old = self.links.insert(index, link);
        if old.as_ref() == self.links.get(&index) {
            return;
        }
        self.node_changed();
        let Some(old) = old else { return };
        // Where its routes lead depends on what it is.
        let link = &self.links[&index];
        self.dirty.every_prefix |= old.name != link.name
            || old.kind != link.kind
            || old.ipip != link.ipip
            || old.vxlan.is_some() != link.vxlan.is_some();
        if old.up != up || old.carrier != carrier {
            // The kernel takes routes and objects away in silence, and what is left of a multipath
            // route changes.
            self.dirty.suspects.insert(index);
            self.dirty.suspect_objects |= !self.objects.is_empty();
            self.dirty.every_prefix |= self.is_in_multipath(index);
        }
        if old.name != self.links[&index].name {
            self.rules_changed();
        }
    }

    /// What depends on the interface goes with it, before another can have its index.
    fn link_gone(&mut self, index: u32) {
        if self.links.remove(&index).is_none() {
            return;
        }
        self.dirty.every_prefix |= self.is_in_multipath(index);
        for (table, prefix, id) in self.routes_by(index) {
            if self.infos[id].hops().len() == 1 {
                self.remove_route(table, prefix, id);
            } else {
                self.dirty.suspect_routes = true;
            }
        }
        self.addresses.retain(|address| address.index != index);
        self.neighbours.retain(|(of, _), _| *of != index);
        self.fdb.retain(|(of, _), _| *of != index);
        self.dirty.suspect_objects |= !self.objects.is_empty();
        self.node_changed();
    }

    fn address_gone(&mut self, address: Address) {
        if !self.addresses.remove(&address) {
            return;
        }
        self.node_changed();
        self.dirty.suspects.insert(address.index);
        self.dirty.suspect_objects |= !self.objects.is_empty();
        // Routes that prefer it as their source go with it, by whatever interface.
        self.dirty.suspect_routes |= self
            .infos
            .iter()
            .any(|(_, info)| info.source == Some(address.address));
    }

    fn route(&mut self, route: FibRoute, place: Place) {
        let FibRoute {
            table,
            prefix,
            info,
        } = route;
        let id = self.infos.take(info);
        let routes = self.tables.entry(table).or_default();
        let added = routes.insert(prefix, id, place, &self.infos);
        if added.was_there {
            self.infos.release(id);
        }
        if let Some(displaced) = added.displaced {
            self.forget_on_link(prefix, displaced);
            self.infos.release(displaced);
        }
        self.note_on_link(prefix, id);
        self.touch(table, prefix);
    }

    fn route_gone(&mut self, route: &FibRoute) {
        let known = self.infos.find(&route.info);
        let removed = known.is_some_and(|id| self.remove_route(route.table, route.prefix, id));
        let has_any = || {
            let table = self.tables.get(&route.table);
            table.is_some_and(|table| table.routes(route.prefix).next().is_some())
        };
        // It is not what we took it for.
        if !removed && has_any() {
            self.dirty.suspect_routes = true;
        }
    }

    fn remove_route(&mut self, table: u32, prefix: Ipv4Net, id: InfoId) -> bool {
        let Some(routes) = self.tables.get_mut(&table) else {
            return false;
        };
        if !routes.remove(prefix, id) {
            return false;
        }
        if routes.is_empty() {
            self.tables.remove(&table);
        }
        self.forget_on_link(prefix, id);
        self.infos.release(id);
        self.touch(table, prefix);
        true
    }

    /// The routes with a hop by the interface with this index. Where they can only be on its link,
    /// there is no need to look at all of them.
    fn routes_by(&self, index: u32) -> Vec<(u32, Ipv4Net, InfoId)> {
        let ids: BTreeSet<InfoId> = self.infos_where(|info| info.has_hop_by(index));
        if ids.is_empty() {
            return Vec::new();
        }
        if !ids.iter().all(|id| self.on_link_of(*id).is_some()) {
            return self.routes_of(&ids);
        }
        let prefixes = self.on_link.get(&index).into_iter().flatten();
        let routes = prefixes.flat_map(|prefix| {
            self.tables.iter().flat_map(|(number, table)| {
                let routes = table.routes(*prefix);
                routes.map(|id| (*number, *prefix, id))
            })
        });
        routes.filter(|(_, _, id)| ids.contains(id)).collect()
    }

    fn routes_of(&self, ids: &BTreeSet<InfoId>) -> Vec<(u32, Ipv4Net, InfoId)> {
        let routes = self.tables.iter().flat_map(|(number, table)| {
            let routes = table.iter();
            routes.map(|(prefix, id)| (*number, prefix, id))
        });
        routes.filter(|(_, _, id)| ids.contains(id)).collect()
    }

    fn infos_where(&self, is_wanted: impl Fn(&FibInfo) -> bool) -> BTreeSet<InfoId> {
        let wanted = self.infos.iter().filter(|(_, info)| is_wanted(info));
        wanted.map(|(id, _)| id).collect()
    }

    fn object_gone(&mut self, id: u32) {
        self.objects.remove(&id);
        for content in self.objects.values_mut() {
            if let Content::Group(members) = content {
                members.retain(|(member, _)| *member != id);
            }
        }
        let by_objects = self.infos_where(|info| matches!(info.target, Target::Object(_)));
        self.dirty.every_prefix |= !by_objects.is_empty();
        let by_it = self.infos_where(|info| info.target == Target::Object(id));
        if !by_it.is_empty() {
            for (table, prefix, id) in self.routes_of(&by_it) {
                self.remove_route(table, prefix, id);
            }
        }
    }

    fn rule(&mut self, rule: Rule) {
        if !self.rules.contains(&rule) {
            let place = self
                .rules
                .partition_point(|other| other.priority <= rule.priority);
            self.rules.insert(place, rule);
            self.rules_changed();
        }
    }

    /// What they come to is found out with the pods' addresses.
    fn rules_changed(&mut self) {
        self.dirty.node = true;
        self.dirty.underlays = true;
    }

    fn node_changed(&mut self) {
        self.dirty.node = true;
        self.dirty.ways = true;
        self.dirty.underlays = true;
    }

    /// The kernel forgets a neighbour that it does not send to itself, which is the better the more
    /// is forwarded beneath it: a pod is known for as long as it is there.
    fn neighbour_gone(&mut self, index: u32, address: Ipv4Addr) {
        if !self.is_pod(index, address) && self.neighbours.remove(&(index, address)).is_some() {
            self.neighbour_changed(index);
        }
    }

    fn is_pod(&self, index: u32, address: Ipv4Addr) -> bool {
        let prefixes = self.on_link.get(&index);
        let is_there = prefixes.is_some_and(|prefixes| prefixes.contains(&address.into()));
        is_there && self.is_workload(index)
    }

    fn neighbour_changed(&mut self, index: u32) {
        let link = self.links.get(&index);
        self.dirty.ways |= link.is_none_or(|link| link.vxlan.is_some());
        self.dirty.node |= link.is_none_or(|_| self.is_workload(index));
    }

    /// A route of `prefix` has come to table `of`, or gone: it, and what lies in it in other tables, may now lead
    /// elsewhere.
    fn touch(&mut self, of: u32, prefix: Ipv4Net) {
        self.dirty.prefixes.insert(prefix);
        // By the interfaces of default routes the world comes in.
        self.dirty.node |= prefix.prefix_len() == 0;
        for (number, table) in &self.tables {
            // In its own table those are longer.
            if *number != of {
                self.dirty.prefixes.extend(table.inside(prefix));
            }
        }
        let of_rules = self.stages.iter().filter_map(|stage| stage.within);
        let inside = of_rules.filter(|within| prefix.contains(within));
        self.dirty.prefixes.extend(inside);
        let outer = self.underlays.range(prefix.network()..=prefix.broadcast());
        self.dirty.underlays |= outer.count() != 0;
    }

    fn is_in_multipath(&self, index: u32) -> bool {
        let by_route = self
            .infos
            .iter()
            .any(|(_, info)| info.hops().len() > 1 && info.has_hop_by(index));
        let is_group = |content: &Content| matches!(content, Content::Group(_));
        by_route || self.objects.values().any(is_group)
    }

    /// The interface that a route is on the link of.
    fn on_link_of(&self, id: InfoId) -> Option<u32> {
        let info = &self.infos[id];
        match info.hops() {
            [hop] if info.on_link && hop.gateway.is_none() => Some(hop.oif),
            _ => None,
        }
    }

    fn note_on_link(&mut self, prefix: Ipv4Net, id: InfoId) {
        if let Some(index) = self.on_link_of(id) {
            self.on_link.entry(index).or_default().insert(prefix);
            self.dirty.node |= self.is_workload(index);
        }
    }

    /// The same prefix may be on the same link by another route still; what is noted is looked up
    /// before it is used.
    fn forget_on_link(&mut self, prefix: Ipv4Net, id: InfoId) {
        let Some(index) = self.on_link_of(id) else {
            return;
        };
        let remains = self.tables.values().any(|table| {
            table
                .routes(prefix)
                .any(|other| self.on_link_of(other) == Some(index))
        });
        if !remains && let Some(prefixes) = self.on_link.get_mut(&index) {
            prefixes.remove(&prefix);
            if prefixes.is_empty() {
                self.on_link.remove(&index);
            }
        }
        self.dirty.node |= self.is_workload(index);
    }
}
