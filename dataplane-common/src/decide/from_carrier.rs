//! What the kernel's VXLAN receiver hands up: the packets that `from_uplink` could not judge (an
//! unverified checksum, outer fragments), and whatever reaches the UDP port by another interface.
//! And what the other programs let arrive there.

use super::{
    Origin, TunnelKey, Verdict, established,
    from_stack::to_peer,
    tunnelled::{self, Owner},
};
use crate::{headers::ETHERTYPE_IPV4, packet::Packet, parse, reason::Reason, tables::Tables};

/// Decides on a frame that arrived on the carrier. What a program let arrive is either what
/// `from_uplink` judged and injected, for this node, or what `from_stack` sent on the detour, for
/// another.
#[inline(always)]
pub fn from_carrier<'t, P: Packet, T: Tables>(
    packet: &P,
    tables: &'t T,
    origin: Origin,
) -> Verdict<'t> {
    match origin {
        Origin::Program => to_peer(packet, tables).unwrap_or(Reason::Accepted.into()),
        Origin::Tunnel(key) => {
            if is_cut_up_here(tables, key)
                && let Ok(sent @ Verdict::Send(_)) = to_peer(packet, tables)
            {
                return sent;
            }
            judge(packet, tables, key).unwrap_or_else(Verdict::from)
        }
        Origin::Foreign => Reason::WrongNetwork.into(),
    }
}

/// Whether a packet is back from the carrier that cut it up. The mark alone is not enough: a pod that
/// may send tunnels could set it.
#[inline(always)]
fn is_cut_up_here<T: Tables>(tables: &T, key: TunnelKey) -> bool {
    key.cut_up
        && tables
            .config()
            .is_some_and(|config| config.node == key.remote)
}

#[inline(always)]
fn judge<'t, P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    key: TunnelKey,
) -> Result<Verdict<'t>, Reason> {
    // Nothing comes out of a tunnel before there is something to judge it by.
    let config = tables.config().ok_or(Reason::WrongNetwork)?;
    if key.vni != config.vni {
        return Err(Reason::WrongNetwork);
    }
    if key.local.is_some_and(|local| local != config.node) {
        return Err(Reason::WrongEndpoint);
    }
    if tables.peer(key.remote).is_none() {
        return Err(Reason::UnknownPeer);
    }
    if parse::ethertype(packet) != Ok(ETHERTYPE_IPV4) || packet.has_vlan_tag() {
        return Err(Reason::NotInner);
    }
    let inner = parse::ipv4(packet, parse::IP).map_err(|_| Reason::InnerMalformed)?;
    let owner = Owner::of(tables, inner.source);
    match tunnelled::check(
        packet,
        tables,
        config,
        key.remote,
        &inner,
        parse::IP,
        &owner,
    ) {
        Ok(None) => Ok(Reason::Accepted.into()),
        Ok(Some(_)) => {
            let mark = established::entering(packet, tables, config, &inner);
            Ok(Verdict::Leave(Reason::Accepted, mark))
        }
        // Behind the carrier there is nobody else to judge it.
        Err(Reason::OwnerUnknown) => Err(Reason::ForeignSource),
        Err(reason) => Err(reason),
    }
}
