//! What the wire brings, before it becomes a socket buffer.
//!
//! Only tunnels are opened here: the kernel then aggregates the inner packets, and nothing of the
//! tunnel is left in the buffer. Whom they are delivered to is for [`super::from_uplink`], which
//! sees them next.

use super::{
    Decap, Verdict,
    from_uplink::received,
    open::{self, Opened},
};
use crate::{
    abi::Config,
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
    match open::tunnel(packet, config, &ip)? {
        Tunnel::Ipip => {
            let opened = open::open(packet, tables, config, &ip, Tunnel::Ipip)?;
            out_of_tunnel(packet, tables, config, &opened, Tunnel::Ipip)
        }
        Tunnel::Vxlan => {
            let opened = open::open(packet, tables, config, &ip, Tunnel::Vxlan)?;
            out_of_tunnel(packet, tables, config, &opened, Tunnel::Vxlan)
        }
    }
}

/// Without a carrier only what goes straight to a pod leaves its tunnel: the stack could not tell
/// the rest from what came without one.
#[inline(always)]
fn out_of_tunnel<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    config: &Config,
    opened: &Opened<'_>,
    tunnel: Tunnel,
) -> Result<Decap, Reason> {
    let decap = opened.decap;
    if config.carrier != 0 {
        opened.note(tables);
    } else if let Verdict::Leave(reason, _) = opened.to_pod(packet, tables, config, tunnel)? {
        return Err(reason);
    }
    Ok(decap)
}
