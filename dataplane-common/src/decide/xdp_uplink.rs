//! What the wire brings, before it becomes a socket buffer.
//!
//! Only tunnels are opened here: the kernel then aggregates the inner packets, and nothing of the
//! tunnel is left in the buffer. Whom they are delivered to is for [`super::from_uplink`], which
//! sees them next.

use super::{
    Decap,
    from_uplink::received,
    open::{self, Opened},
};
use crate::{
    packet::{Packet, Tunnel},
    reason::Reason,
    tables::Tables,
};

/// Decides on a frame that arrived on an uplink: how it is taken out of its tunnel, or why it is
/// left as it is, or dropped.
#[inline(always)]
pub fn xdp_uplink<P: Packet, T: Tables>(packet: &P, tables: &T) -> Result<Decap, Reason> {
    let ip = received(packet)?;
    let config = tables.config().ok_or(Reason::NoConfig)?;
    if ip.destination != config.node {
        return Err(Reason::NotForHost);
    }
    let Opened { decap, .. } = match open::tunnel(packet, config, &ip)? {
        Tunnel::Ipip => open::open(packet, tables, config, &ip, Tunnel::Ipip)?,
        Tunnel::Vxlan => open::open(packet, tables, config, &ip, Tunnel::Vxlan)?,
    };
    Ok(decap)
}
