//! How each peer is reached.

use std::collections::{BTreeMap, BTreeSet};

use dataplane_common::{
    abi::{NextHop, NextHopKind},
    packet::Tunnel,
};
use ipnet::Ipv4Net;

use super::{
    LeftOut, Model, NextHopKey,
    prefixes::{Owner, Prefixes},
};
use crate::{
    cluster::{Cluster, Mode, Node},
    kernel::Link,
};

/// The next hops, and the peers that have none.
pub(super) struct NextHops {
    pub(super) next_hops: BTreeMap<NextHopKey, NextHop>,
    pub(super) left_out: Vec<LeftOut>,
}

/// A next hop for every owner, as far as the kernel knows a way over an uplink.
pub(super) fn next_hops(
    model: &Model,
    local: &Node,
    uplinks: &[&Link],
    prefixes: &Prefixes,
) -> NextHops {
    let mut next_hops = BTreeMap::new();
    let mut left_out = BTreeSet::new();
    for (prefix, owner) in prefixes {
        let key = key(model.cluster, *prefix, *owner);
        if next_hops.contains_key(&key) {
            continue;
        }
        let next_hop = match owner {
            Owner::Local | Owner::Pod => Ok(of_kind(NextHopKind::Local)),
            Owner::Blackhole => Ok(of_kind(NextHopKind::Blackhole)),
            Owner::Peer(id) => {
                let peer = &model.cluster[*id];
                let mode = model.cluster.encapsulation(local, peer, *prefix);
                remote(model, local, uplinks, peer, mode).map_err(|why| LeftOut {
                    peer: format!("{} ({})", peer.name, peer.address),
                    why,
                })
            }
        };
        match next_hop {
            Ok(next_hop) => {
                next_hops.insert(key, next_hop);
            }
            Err(reason) => {
                left_out.insert(reason);
            }
        }
    }
    NextHops {
        next_hops,
        left_out: left_out.into_iter().collect(),
    }
}

/// The next hop that `prefix` of `owner` has.
pub(super) fn key(cluster: &Cluster, prefix: Ipv4Net, owner: Owner) -> NextHopKey {
    match owner {
        Owner::Local | Owner::Pod => NextHopKey::Local,
        Owner::Blackhole => NextHopKey::Blackhole,
        Owner::Peer(id) => NextHopKey::Peer {
            address: cluster[id].address,
            // A prefix outside every pool is its own.
            pool: cluster.pool_of(prefix).map_or(prefix, |pool| pool.cidr),
        },
    }
}

pub(super) fn of_kind(kind: NextHopKind) -> NextHop {
    NextHop {
        kind: kind as u8,
        ..NextHop::default()
    }
}

fn remote(
    model: &Model,
    local: &Node,
    uplinks: &[&Link],
    peer: &Node,
    mode: Mode,
) -> Result<NextHop, String> {
    let underlay = model
        .node
        .underlays
        .get(&peer.address)
        .ok_or("the kernel has no route to it")?;
    let Some(uplink) = uplinks.iter().find(|link| link.index == underlay.oif) else {
        let name = model
            .node
            .links
            .get(&underlay.oif)
            .map_or("an interface that is gone", |link| &link.name);
        return Err(format!("it is reached by {name}, which is no uplink"));
    };
    let path_mtu = underlay.mtu.map_or(uplink.mtu, |mtu| mtu.min(uplink.mtu));
    let (kind, overhead) = match mode {
        Mode::Direct => (NextHopKind::Direct, 0),
        Mode::Ipip => (NextHopKind::Ipip, Tunnel::Ipip.overhead()),
        Mode::Vxlan => (NextHopKind::Vxlan, Tunnel::Vxlan.overhead()),
    };
    // IPv4 cannot say more than 65,535 anyway; loopback and some virtual links have more.
    let mtu = u16::try_from(path_mtu).unwrap_or(u16::MAX);
    Ok(NextHop {
        mtu: mtu.saturating_sub(overhead),
        ifindex: uplink.index,
        peer: peer.address.octets(),
        gateway: underlay.gateway.unwrap_or(peer.address).octets(),
        source: local.address.octets(),
        vtep_mac: peer.vtep_mac.0,
        ..of_kind(kind)
    })
}
