//! Putting the node back as it was.

use anyhow::Result;
use dataplane_common::abi::Hook;
use tracing::info;

use crate::{
    dataplane::{self, Pins},
    kernel::{CARRIER_NAME, Netlink},
};

/// Takes off every program, removes the carrier and the routes to it, and unpins the maps. What is
/// not there is no error; what is not ours is not touched.
///
/// # Errors
///
/// An agent is running, or something resists; what was done until then is done.
pub async fn detach(pins: &Pins) -> Result<()> {
    let lock = if pins.exist_in_any_version()? {
        // Our directories may be missing where another version has run.
        pins.create()?;
        Some(pins.lock()?)
    } else {
        None
    };
    dataplane::adopt(pins)?;
    let (netlink, _events) = Netlink::connect()?;
    // First: without `from_uplink` nobody would look at what comes out of a tunnel.
    let xdp = dataplane::detach_xdp(pins)?;
    netlink.wait_without_xdp(&xdp).await?;
    for ifindex in xdp {
        info!("detached {}-{ifindex}", Hook::XdpUplink.name());
    }
    for name in dataplane::detach_all(pins)? {
        info!("detached {name}");
    }
    for ifindex in dataplane::take_owned_qdiscs(pins)? {
        netlink.delete_empty_clsact(ifindex).await?;
    }
    for route in netlink.own_routes().await? {
        netlink.delete_route(&route).await?;
        info!("removed the route {route}");
    }
    if netlink.delete_carrier(CARRIER_NAME).await?.is_some() {
        info!("removed {CARRIER_NAME}");
    }
    if lock.is_some() {
        pins.remove_others()?;
        pins.remove()?;
        info!("removed the pins in {}", pins.base().display());
    }
    Ok(())
}
