//! Where a prefix leads, or why that is the stack's business.

use std::{collections::BTreeSet, net::Ipv4Addr};

use dataplane_common::abi::WAYS;
use ipnet::Ipv4Net;

use super::{Fib, lookup::Found};
use crate::kernel::fib::{Content, FibInfo, Hop, RouteKind, Target};

/// Where packets go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// To this node: its pods and its own addresses.
    Local,
    /// Nowhere, in silence.
    Blackhole,
    /// Wherever the stack sends them.
    Stack,
    /// To a next hop.
    Via(Via),
    /// To one of several, each with its share.
    Multipath(Vec<(Via, u16)>),
}

/// A next hop as the routes name it; [`Fib::way`] finds out how it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Via {
    /// Index of the interface.
    pub oif: u32,
    /// The router or tunnel address; none on an interface that has but one other end.
    pub gateway: Option<Ipv4Addr>,
    /// Path MTU in bytes, where the route sets it.
    pub mtu: Option<u32>,
}

/// A prefix whose packets stay with the stack, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unmirrored {
    /// The prefix.
    pub prefix: Ipv4Net,
    /// Why.
    pub why: String,
}

type Answer = Result<Destination, String>;

impl Fib {
    /// Where packets to `prefix` go that no longer prefix takes; `None` where no table and no rule
    /// has it. One that the kernel has no answer for must not have that of a shorter one.
    #[must_use]
    pub fn destination(&self, prefix: Ipv4Net) -> Option<Destination> {
        self.answer(prefix)
            .map(|answer| answer.unwrap_or(Destination::Stack))
    }

    /// The prefixes whose packets stay with the stack.
    #[must_use]
    pub fn unmirrored(&self) -> Vec<Unmirrored> {
        let prefixes: BTreeSet<Ipv4Net> = self.prefixes().collect();
        let rows = prefixes.into_iter().filter_map(|prefix| {
            let why = self.why_unmirrored(prefix)?;
            Some(Unmirrored { prefix, why })
        });
        rows.collect()
    }

    fn why_unmirrored(&self, prefix: Ipv4Net) -> Option<String> {
        match self.answer(prefix)? {
            Err(why) => Some(why),
            Ok(Destination::Via(via)) => self.way(&via).err(),
            Ok(Destination::Multipath(vias)) => {
                vias.iter().find_map(|(via, _)| self.way(via).err())
            }
            Ok(_) => None,
        }
    }

    fn answer(&self, prefix: Ipv4Net) -> Option<Answer> {
        if !self.has_prefix(prefix) {
            return None;
        }
        Some(match self.lookup(prefix) {
            Found::Nothing => Ok(Destination::Stack),
            Found::Blackhole => Ok(Destination::Blackhole),
            Found::Doubt(why) => Err(why.to_owned()),
            Found::Route(longest, id) => self.by(longest, &self.infos[id]),
        })
    }

    /// Where the route `info` of `prefix` leads.
    fn by(&self, prefix: Ipv4Net, info: &FibInfo) -> Answer {
        match info.kind {
            RouteKind::Unicast => self.unicast(prefix, info),
            RouteKind::Local => Ok(Destination::Local),
            RouteKind::Blackhole => Ok(Destination::Blackhole),
            RouteKind::Unreachable => Err("unreachable: the stack answers".to_owned()),
            RouteKind::Prohibit => Err("prohibited: the stack answers".to_owned()),
            RouteKind::Throw | RouteKind::Other => Err("broadcast or multicast".to_owned()),
        }
    }

    fn unicast(&self, prefix: Ipv4Net, info: &FibInfo) -> Answer {
        let hops = match &info.target {
            Target::Nowhere => Vec::new(),
            Target::Hops(hops) => hops.clone(),
            Target::Object(id) => match self.objects.get(id) {
                None => return Err(format!("nexthop object {id} is not known")),
                Some(Content::Blackhole) => return Ok(Destination::Blackhole),
                Some(Content::Hop(hop)) => vec![hop.clone()],
                Some(Content::Group(members)) => self.members(members),
            },
        };
        if let Some(why) = hops.iter().find_map(|hop| hop.special) {
            return Err(why.to_owned());
        }
        if let [hop] = hops.as_slice()
            && hop.gateway.is_none()
            && self.is_workload(hop.oif)
        {
            return self.to_workload(prefix, hop);
        }
        if prefix.prefix_len() == 0 {
            return Err("the default route leads out of the cluster".to_owned());
        }
        if !self.only.is_empty() && !self.only.iter().any(|net| net.contains(&prefix)) {
            return Err("it is in none of the networks of source.kernel.only".to_owned());
        }
        let vias = hops
            .iter()
            .map(|hop| Ok((self.via(prefix, info, hop)?, hop.weight)))
            .collect::<Result<Vec<_>, String>>()?;
        let alive: Vec<_> = vias
            .iter()
            .filter(|(via, _)| self.links.get(&via.oif).is_some_and(|link| link.up))
            .copied()
            .collect();
        match (alive.as_slice(), vias.as_slice()) {
            // Of several, the kernel takes those whose interface is up.
            ([(via, _)], _) | ([], [(via, _), ..]) => Ok(Destination::Via(*via)),
            ([], []) => Err("it has no next hop".to_owned()),
            _ if alive.len() > WAYS => Err(format!("it has more than {WAYS} next hops")),
            _ => Ok(Destination::Multipath(alive)),
        }
    }

    /// The hops of a group of objects, whose weights are the members'.
    fn members(&self, members: &[(u32, u16)]) -> Vec<Hop> {
        let hops = members.iter().filter_map(|(id, weight)| {
            let Some(Content::Hop(hop)) = self.objects.get(id) else {
                return None;
            };
            Some(Hop {
                weight: *weight,
                ..hop.clone()
            })
        });
        hops.collect()
    }

    fn to_workload(&self, prefix: Ipv4Net, hop: &Hop) -> Answer {
        if prefix.prefix_len() == 32 {
            return Ok(Destination::Local);
        }
        let name = &self.links[&hop.oif].name;
        Err(format!("a network behind the pod interface {name}"))
    }

    fn via(&self, prefix: Ipv4Net, info: &FibInfo, hop: &Hop) -> Result<Via, String> {
        let link = self.links.get(&hop.oif);
        let has_one_end =
            link.is_some_and(|link| link.ipip.is_some_and(|ipip| ipip.remote.is_some()));
        let is_vxlan = link.is_some_and(|link| link.vxlan.is_some());
        let gateway = match hop.gateway {
            _ if has_one_end => None,
            Some(gateway) => Some(gateway),
            // A tunnel address: it is its own gateway.
            None if is_vxlan && prefix.prefix_len() == 32 => Some(prefix.addr()),
            None => {
                let name = link.map_or("an interface that is gone", |link| &link.name);
                return Err(format!("on the link of {name}, where no pods are"));
            }
        };
        Ok(Via {
            oif: hop.oif,
            gateway,
            mtu: info.mtu,
        })
    }
}
