//! The routes of the slow path, in the kernel's own table.

use std::collections::BTreeMap;

use dataplane_common::abi::{NextHop, NextHopKind};

use super::{
    Model, NextHopKey, next_hops,
    prefixes::{Owner, Prefixes},
};
use crate::{
    cluster::Node,
    kernel::{OwnRoute, OwnTarget},
};

/// The stack's route for every prefix: like the fast path's for packets that it leaves, and for the
/// host's own.
pub(super) fn routes(
    model: &Model,
    local: &Node,
    carrier: u32,
    prefixes: &Prefixes,
    hops: &BTreeMap<NextHopKey, NextHop>,
) -> Vec<OwnRoute> {
    prefixes
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
        .collect()
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
