//! The routes of the slow path, in the kernel's own table.

use std::{collections::BTreeMap, mem::take};

use dataplane_common::abi::{NextHop, NextHopKind};

use super::{
    Model, NextHopKey, next_hops,
    prefixes::{Owner, Prefixes},
};
use crate::{
    cluster::Node,
    kernel::{OwnRoute, OwnTarget},
};

/// The stack's routes for all prefixes: like the fast path's for packets that it leaves, and for the
/// host's own.
pub(super) fn routes(
    model: &Model,
    local: &Node,
    carrier: u32,
    prefixes: &Prefixes,
    hops: &BTreeMap<NextHopKey, NextHop>,
) -> Vec<OwnRoute> {
    let routes = prefixes
        .iter()
        .filter_map(|(prefix, owner)| {
            let target = match owner {
                // The CNI has routed to it.
                Owner::Pod => return None,
                // What is not a pod's /32 inside our own prefixes is nobody's, as in Calico: by the
                // default route it would leave the cluster.
                Owner::Local | Owner::Blackhole => OwnTarget::Blackhole,
                Owner::Peer(_) => {
                    let key = next_hops::key(model.cluster, *prefix, *owner);
                    match hops.get(&key) {
                        Some(hop) => remote(local, carrier, hop),
                        // No way there: nowhere is better than the default route.
                        None => OwnTarget::Blackhole,
                    }
                }
            };
            Some(OwnRoute {
                destination: *prefix,
                target,
            })
        })
        .filter(|route| !is_tunnel_address(local, route))
        .collect();
    aggregated(routes)
}

/// The fewest routes by which every address leads where it does by `routes`, which are in the order
/// of their destinations: most blocks lead to the carrier alike, and the kernel takes longer for a
/// route than everybody else together.
fn aggregated(routes: Vec<OwnRoute>) -> Vec<OwnRoute> {
    /// Two halves are put together down to this length, not to a default route.
    const SHORTEST: usize = 1;

    let mut of_length: [Vec<OwnRoute>; 33] = [const { Vec::new() }; 33];
    for route in routes {
        of_length[usize::from(route.destination.prefix_len())].push(route);
    }
    for length in (SHORTEST + 1..=32).rev() {
        let (apart, whole) = put_together(take(&mut of_length[length]));
        of_length[length] = apart;
        // What covers exactly these two halves is of no use any more.
        let covering = take(&mut of_length[length - 1])
            .into_iter()
            .filter(|route| {
                whole
                    .binary_search_by_key(&route.destination, |whole| whole.destination)
                    .is_err()
            });
        let mut shorter: Vec<_> = covering.collect();
        shorter.extend(whole);
        shorter.sort_unstable();
        of_length[length - 1] = shorter;
    }
    let mut routes: Vec<_> = of_length.into_iter().flatten().collect();
    routes.sort_unstable();
    drop_covered(&mut routes);
    routes
}

/// Of routes of one length: those that stay, and those whose halves lead to the same.
fn put_together(routes: Vec<OwnRoute>) -> (Vec<OwnRoute>, Vec<OwnRoute>) {
    let mut apart: Vec<OwnRoute> = Vec::new();
    let mut whole = Vec::new();
    for route in routes {
        let before = apart.last().filter(|before| {
            before.target == route.target
                && before.destination.supernet() == route.destination.supernet()
        });
        if let Some(destination) = before.and_then(|before| before.destination.supernet()) {
            apart.pop();
            whole.push(OwnRoute {
                destination,
                ..route
            });
        } else {
            apart.push(route);
        }
    }
    (apart, whole)
}

/// Removes the routes that lead to the same as the longest one that covers them; in the order of
/// destinations, that comes before them.
fn drop_covered(routes: &mut Vec<OwnRoute>) {
    let mut covering: Vec<OwnRoute> = Vec::new();
    routes.retain(|route| {
        while covering
            .last()
            .is_some_and(|last| !last.destination.contains(&route.destination))
        {
            covering.pop();
        }
        let is_new = covering
            .last()
            .is_none_or(|last| last.target != route.target);
        covering.push(*route);
        is_new
    });
}

fn remote(local: &Node, carrier: u32, hop: &NextHop) -> OwnTarget {
    if hop.kind() == Some(NextHopKind::Direct) {
        OwnTarget::Via {
            gateway: hop.gateway.into(),
            oif: hop.ifindex,
            onlink: true,
            source: None,
        }
    } else {
        OwnTarget::Carrier {
            ifindex: carrier,
            source: local.tunnel_address,
            mtu: u32::from(hop.mtu),
        }
    }
}

/// This node's own tunnel address is on the carrier, which routes it already.
fn is_tunnel_address(local: &Node, route: &OwnRoute) -> bool {
    local
        .tunnel_address
        .is_some_and(|address| route.destination == address.into())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use fastrand::Rng;
    use ipnet::Ipv4Net;

    use super::*;

    fn to(destination: &str, oif: u32) -> OwnRoute {
        let target = OwnTarget::Carrier {
            ifindex: oif,
            source: None,
            mtu: 1450,
        };
        OwnRoute {
            destination: destination.parse().unwrap(),
            target,
        }
    }

    #[test]
    fn halves_that_lead_to_the_same_are_one_route() {
        let routes = vec![
            to("10.0.0.0/26", 1),
            to("10.0.0.64/26", 1),
            to("10.0.0.128/25", 1),
            to("10.0.1.0/25", 2),
            to("10.0.1.7/32", 2),
            to("10.0.1.128/25", 1),
        ];
        assert_eq!(
            aggregated(routes),
            [
                to("10.0.0.0/24", 1),
                to("10.0.1.0/25", 2),
                to("10.0.1.128/25", 1)
            ]
        );
        let apart = vec![to("10.0.0.64/26", 1), to("10.0.0.128/26", 1)];
        assert_eq!(aggregated(apart.clone()), apart, "halves of two");
        let all = vec![to("0.0.0.0/1", 1), to("128.0.0.0/1", 1)];
        assert_eq!(aggregated(all.clone()), all, "no default route");
    }

    #[test]
    fn every_address_leads_where_it_did() {
        let mut random = Rng::with_seed(1);
        for _ in 0..300 {
            let mut routes = BTreeMap::new();
            for _ in 0..random.usize(0..40) {
                let length = random.u8(24..=32);
                let prefix = Ipv4Net::new_assert([10, 0, 0, random.u8(..)].into(), length);
                routes.insert(prefix.trunc(), to("0.0.0.0/0", random.u32(1..4)).target);
            }
            let routes = routes.into_iter().map(|(destination, target)| OwnRoute {
                destination,
                target,
            });
            let routes: Vec<_> = routes.collect();
            let fewer = aggregated(routes.clone());
            for last in 0..=255 {
                let address = Ipv4Addr::new(10, 0, 0, last);
                assert_eq!(leads_to(&fewer, address), leads_to(&routes, address));
            }
            assert!(fewer.len() <= routes.len());
        }
    }

    fn leads_to(routes: &[OwnRoute], address: Ipv4Addr) -> Option<OwnTarget> {
        let covering = routes
            .iter()
            .filter(|route| route.destination.contains(&address));
        let longest = covering.max_by_key(|route| route.destination.prefix_len());
        longest.map(|route| route.target)
    }
}
