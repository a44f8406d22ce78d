//! The routes of one table.

use std::collections::BTreeMap;

use ipnet::Ipv4Net;

use super::infos::{InfoId, Infos};

/// The routes of one table, in the order in which the kernel takes them.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// The first route of each prefix.
    first: BTreeMap<Ipv4Net, InfoId>,
    /// The routes after it, of the few prefixes that have several.
    rest: BTreeMap<Ipv4Net, Vec<InfoId>>,
    /// How many prefixes there are of each length.
    lengths: Lengths,
}

/// How many prefixes there are of each length.
#[derive(Debug)]
struct Lengths([u32; 33]);

impl Default for Lengths {
    fn default() -> Self {
        Self([0; 33])
    }
}

/// Where a route goes among others of its prefix, TOS and metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Before them.
    Before,
    /// After them.
    After,
    /// In the place of the first.
    Instead,
}

/// What came of adding a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Added {
    /// There was the same already: a list was ahead of the change.
    pub(super) was_there: bool,
    /// The route that is there no longer.
    pub(super) displaced: Option<InfoId>,
}

impl Table {
    /// Adds a route, unless there is the same already.
    pub(super) fn insert(
        &mut self,
        prefix: Ipv4Net,
        id: InfoId,
        place: Place,
        infos: &Infos,
    ) -> Added {
        let Some(first) = self.first.get_mut(&prefix) else {
            self.first.insert(prefix, id);
            self.lengths.0[usize::from(prefix.prefix_len())] += 1;
            return Added::default();
        };
        let mut routes = vec![*first];
        routes.extend(self.rest.remove(&prefix).unwrap_or_default());
        let added = if routes.contains(&id) {
            Added {
                was_there: true,
                displaced: first_besides(&mut routes, id, place, infos),
            }
        } else {
            Added {
                was_there: false,
                displaced: place_among(&mut routes, id, place, infos),
            }
        };
        *first = routes[0];
        if routes.len() > 1 {
            self.rest.insert(prefix, routes.split_off(1));
        }
        added
    }

    /// Removes a route; returns whether it was there.
    pub(super) fn remove(&mut self, prefix: Ipv4Net, id: InfoId) -> bool {
        let Some(first) = self.first.get_mut(&prefix) else {
            return false;
        };
        if let Some(rest) = self.rest.get_mut(&prefix) {
            if *first == id {
                *first = rest.remove(0);
            } else if let Some(place) = rest.iter().position(|other| *other == id) {
                rest.remove(place);
            } else {
                return false;
            }
            if rest.is_empty() {
                self.rest.remove(&prefix);
            }
            return true;
        }
        if *first != id {
            return false;
        }
        self.first.remove(&prefix);
        self.lengths.0[usize::from(prefix.prefix_len())] -= 1;
        true
    }

    /// The routes of `prefix`.
    pub(super) fn routes(&self, prefix: Ipv4Net) -> impl Iterator<Item = InfoId> {
        let rest = self.rest.get(&prefix).into_iter().flatten();
        self.first.get(&prefix).into_iter().chain(rest).copied()
    }

    /// The longest prefix that contains all of `prefix`.
    pub(super) fn longest(&self, prefix: Ipv4Net) -> Option<Ipv4Net> {
        (0..=prefix.prefix_len())
            .rev()
            .filter(|length| self.lengths.0[usize::from(*length)] != 0)
            .filter_map(|length| Ipv4Net::new(prefix.network(), length).ok())
            .map(|covering| covering.trunc())
            .find(|covering| self.first.contains_key(covering))
    }

    /// All prefixes.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = Ipv4Net> {
        self.first.keys().copied()
    }

    /// The prefixes inside `prefix`.
    pub(super) fn inside(&self, prefix: Ipv4Net) -> impl Iterator<Item = Ipv4Net> {
        let last = Ipv4Net::from(prefix.broadcast());
        self.first.range(prefix..=last).map(|(inside, _)| *inside)
    }

    /// Every route.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Ipv4Net, InfoId)> {
        let rest = self
            .rest
            .iter()
            .flat_map(|(prefix, ids)| ids.iter().map(|id| (*prefix, *id)));
        self.first
            .iter()
            .map(|(prefix, id)| (*prefix, *id))
            .chain(rest)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }
}

/// Where a route has taken the place of another, that one goes, although the route is there.
fn first_besides(
    routes: &mut Vec<InfoId>,
    id: InfoId,
    place: Place,
    infos: &Infos,
) -> Option<InfoId> {
    let rank = |id: &InfoId| (infos[*id].tos, infos[*id].metric);
    let first = routes.iter().position(|other| rank(other) == rank(&id))?;
    (place == Place::Instead && routes[first] != id).then(|| routes.remove(first))
}

/// The kernel's order: larger TOS first, then smaller metric (`fib_insert_alias`).
fn place_among(
    routes: &mut Vec<InfoId>,
    id: InfoId,
    place: Place,
    infos: &Infos,
) -> Option<InfoId> {
    let rank = |id: &InfoId| (u8::MAX - infos[*id].tos, infos[*id].metric);
    let first = routes.partition_point(|other| rank(other) < rank(&id));
    let after = routes.partition_point(|other| rank(other) <= rank(&id));
    match place {
        Place::Instead if first < after => return Some(std::mem::replace(&mut routes[first], id)),
        Place::Before | Place::Instead => routes.insert(first, id),
        Place::After => routes.insert(after, id),
    }
    None
}
