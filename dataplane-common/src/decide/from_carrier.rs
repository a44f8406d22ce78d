//! What the kernel's VXLAN receiver hands up: the packets that `from_uplink` could not judge (an
//! unverified checksum, outer fragments), and whatever reaches the UDP port by another interface.

use super::{TunnelKey, Verdict, tunnelled};
use crate::{headers::ETHERTYPE_IPV4, packet::Packet, parse, reason::Reason, tables::Tables};

/// Decides on a frame that arrived on the carrier with tunnel metadata `key`; `None` is a packet
/// that `from_uplink` judged and injected. The stack gets what is right.
#[inline(always)]
pub fn from_carrier<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    key: Option<TunnelKey>,
) -> Verdict<'static> {
    Verdict::Leave(match key {
        None => Reason::Accepted,
        Some(key) => {
            decide(packet, tables, key).map_or_else(|reason| reason, |()| Reason::Accepted)
        }
    })
}

#[inline(always)]
fn decide<P: Packet, T: Tables>(packet: &P, tables: &T, key: TunnelKey) -> Result<(), Reason> {
    // Nothing comes out of a tunnel before there is something to judge it by.
    let config = tables.config().ok_or(Reason::WrongNetwork)?;
    if key.vni != config.vni {
        return Err(Reason::WrongNetwork);
    }
    if tables.peer(key.remote).is_none() {
        return Err(Reason::UnknownPeer);
    }
    let ethernet = parse::ethernet(packet).map_err(|_| Reason::InnerMalformed)?;
    if ethernet.ethertype != ETHERTYPE_IPV4 {
        return Err(Reason::InnerMalformed);
    }
    let inner = parse::ipv4(packet, parse::IP).map_err(|_| Reason::InnerMalformed)?;
    tunnelled::check(tables, config, key.remote, &inner).map(|_| ())
}
