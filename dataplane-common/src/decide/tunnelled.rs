//! What may come out of a tunnel.

use crate::{
    abi::{Addr, Config, Endpoint, NextHopKind},
    parse::Ipv4,
    reason::Reason,
    tables::Tables,
};

/// Where a packet came from that the kernel's VXLAN device decapsulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelKey {
    /// Outer source address.
    pub remote: Addr,
    /// VXLAN network identifier.
    pub vni: u32,
    /// Outer destination address, where the kernel tells (Linux 6.0).
    pub local: Option<Addr>,
}

/// How a frame came to the carrier's ingress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A program let it arrive there.
    Program,
    /// The kernel's VXLAN device decapsulated it.
    Tunnel(TunnelKey),
    /// It came out of a tunnel that is not over IPv4.
    Foreign,
}

/// Checks an inner packet that node `peer` sent: its source is that node's, its destination ours.
/// Returns the local pod it is for, or `None` where it is for this node itself.
#[inline(always)]
pub(super) fn check<'t, T: Tables>(
    tables: &'t T,
    config: &Config,
    peer: Addr,
    inner: &Ipv4,
) -> Result<Option<&'t Endpoint>, Reason> {
    if !belongs_to(tables, peer, inner.source) {
        return Err(Reason::ForeignSource);
    }
    if let Some(endpoint) = tables.endpoint(inner.destination) {
        return Ok(Some(endpoint));
    }
    let is_local = inner.destination == config.node
        || tables
            .route(inner.destination)
            .is_some_and(|next_hop| next_hop.kind() == Some(NextHopKind::Local));
    if is_local {
        Ok(None)
    } else {
        Err(Reason::ForeignDestination)
    }
}

/// Whether `address` is node `peer`'s: its own, or one that we would route to it.
#[inline(always)]
fn belongs_to<T: Tables>(tables: &T, peer: Addr, address: Addr) -> bool {
    address == peer
        || tables.route(address).is_some_and(|next_hop| {
            next_hop.peer == peer && next_hop.kind().is_some_and(NextHopKind::is_remote)
        })
}
