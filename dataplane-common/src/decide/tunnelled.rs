//! What may come out of a tunnel.

use network_types::udp::UdpHdr;

use crate::{
    abi::{Addr, Config, Endpoint, NextHop, NextHopKind},
    headers::IPV4_LEN,
    packet::Packet,
    parse::{Ipv4, PROTOCOL_IPIP, PROTOCOL_UDP, is_unicast},
    reason::Reason,
    tables::Tables,
};

/// What a VXLAN device's metadata say of a packet: where it came from that the kernel decapsulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelKey {
    /// Outer source address.
    pub remote: Addr,
    /// VXLAN network identifier.
    pub vni: u32,
    /// Outer destination address, where the kernel tells (Linux 6.0).
    pub local: Option<Addr>,
    /// Whether it has the mark of what the carrier cuts up on its way to itself: see
    /// [`crate::rewrite::cut_up`].
    pub cut_up: bool,
}

/// How a frame came to the carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Without metadata: a program let it arrive there, or the stack sends it.
    Program,
    /// The kernel's VXLAN device decapsulated it, or has been told how to encapsulate it.
    Tunnel(TunnelKey),
    /// The metadata are of a tunnel that is not over IPv4.
    Foreign,
}

/// Where the source of a packet is, by our own routes.
pub(super) struct Owner<'t>(Option<&'t NextHop>);

impl<'t> Owner<'t> {
    /// Of what comes from `source`.
    #[inline(always)]
    pub(super) fn of<T: Tables>(tables: &'t T, source: Addr) -> Self {
        Self(tables.route(source))
    }

    /// Whether that is behind node `peer`, in a tunnel: such a node is one that we know.
    #[inline(always)]
    pub(super) fn is_behind_tunnel(&self, peer: Addr) -> bool {
        self.0.is_some_and(|next_hop| {
            let kind = next_hop.kind();
            let is_tunnel = kind == Some(NextHopKind::Ipip) || kind == Some(NextHopKind::Vxlan);
            is_tunnel && next_hop.peer == peer
        })
    }
}

/// Checks an inner packet that node `peer` sent, whose header is at `offset`: its source, which `owner`
/// is of, is that node's, its destination ours, and it is not another tunnel for this node to open. Returns the
/// local pod it is for, or `None` where it is for this node itself.
///
/// # Errors
///
/// Why it is dropped; or [`Reason::OwnerUnknown`], where nobody can say whose the source is.
#[inline(always)]
pub(super) fn check<'t, P: Packet, T: Tables>(
    packet: &P,
    tables: &'t T,
    config: &Config,
    peer: Addr,
    inner: &Ipv4,
    offset: usize,
    owner: &Owner<'_>,
) -> Result<Option<&'t Endpoint>, Reason> {
    if !is_unicast(inner.source) || !is_unicast(inner.destination) {
        return Err(Reason::Martian);
    }
    belongs_to(config, peer, inner.source, owner)?;
    if let Some(endpoint) = tables.endpoint(inner.destination) {
        return Ok(Some(endpoint));
    }
    if inner.destination != config.node {
        let next_hop = tables.route(inner.destination);
        match next_hop.ok_or(Reason::ForeignDestination)?.kind() {
            Some(NextHopKind::Local) => {}
            Some(_) => return Err(Reason::ForeignDestination),
            None => return Err(Reason::OwnerUnknown),
        }
    }
    if is_tunnel(packet, tables, config, inner, offset) {
        return Err(Reason::NestedTunnel);
    }
    Ok(None)
}

/// Whether the packet `ip`, whose header is at `offset`, is a tunnel's. Later fragments are nothing
/// without the first; behind IP options the port is not looked for, and what is for a node is taken
/// for the worst.
#[inline(always)]
pub(super) fn is_tunnel<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    config: &Config,
    ip: &Ipv4,
    offset: usize,
) -> bool {
    match ip.protocol {
        PROTOCOL_IPIP => true,
        PROTOCOL_UDP if ip.options => {
            ip.destination == config.node || tables.peer(ip.destination).is_some()
        }
        PROTOCOL_UDP => {
            let udp: Option<&UdpHdr> = packet.header(offset + IPV4_LEN);
            !ip.is_later_fragment && udp.is_some_and(|udp| udp.dst == config.vxlan_port)
        }
        _ => false,
    }
}

/// That `address`, which `owner` is of, is node `peer`'s: its own, or one that we would route to it.
///
/// Where the route has many ways, leads to a router and nobody knows what is behind it, or found no
/// room in the table, there is no telling, and the packet is not ours to drop. To look for the peer
/// among all of a multipath's ways would cost each such packet a lookup a way. Without a carrier the
/// routes are not the whole table of the cluster, but what the kernel's came to: what they do not know
/// is not forged either.
#[inline(always)]
fn belongs_to(config: &Config, peer: Addr, address: Addr, owner: &Owner<'_>) -> Result<(), Reason> {
    const UNKNOWN: Addr = [0; 4];
    if address == peer {
        return Ok(());
    }
    let unrouted = if config.carrier == 0 {
        Reason::OwnerUnknown
    } else {
        Reason::ForeignSource
    };
    let next_hop = owner.0.ok_or(unrouted)?;
    match next_hop.kind().ok_or(Reason::OwnerUnknown)? {
        NextHopKind::Multipath => Err(Reason::OwnerUnknown),
        NextHopKind::Direct if next_hop.peer == UNKNOWN => Err(Reason::OwnerUnknown),
        kind if kind.is_remote() && next_hop.peer == peer => Ok(()),
        _ => Err(Reason::ForeignSource),
    }
}
