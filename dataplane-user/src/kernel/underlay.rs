//! The way to another node: what `ip route get` says.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteType},
};
use nix::errno::Errno;

use super::{Netlink, route::mtu};

/// How this host reaches an address outside itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Underlay {
    /// Index of the interface that packets leave by.
    pub oif: u32,
    /// The router they are sent to; without one, the destination is on the link.
    pub gateway: Option<Ipv4Addr>,
    /// The source address they get.
    pub source: Ipv4Addr,
    /// Path MTU in bytes where the route sets it or path MTU discovery has found it; otherwise the
    /// interface's applies.
    pub mtu: Option<u32>,
}

impl Netlink {
    /// Has the kernel route a packet of this host to `destination`, by all its tables and rules.
    ///
    /// `None` if no unicast route leads there: it is unreachable, prohibited, blackholed or
    /// missing, an address of this host, or reached by way of an IPv6 router.
    pub async fn route_to(&self, destination: Ipv4Addr) -> Result<Option<Underlay>> {
        let mut request = RouteMessage::default();
        request.header.address_family = AddressFamily::Inet;
        request.header.destination_prefix_length = 32;
        request
            .attributes
            .push(RouteAttribute::Destination(RouteAddress::Inet(destination)));

        match self.get(RouteNetlinkMessage::GetRoute(request)).await {
            Ok(Some(RouteNetlinkMessage::NewRoute(message))) => Ok(underlay(&message)),
            Ok(_) => Ok(None),
            Err(error) if error.errno().is_some_and(is_no_route) => Ok(None),
            Err(error) => {
                Err(error).with_context(|| format!("cannot look up the route to {destination}"))
            }
        }
    }
}

/// The errors that route types answer a lookup with (`fib_props`), and that of no route at all.
fn is_no_route(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL
    )
}

fn underlay(message: &RouteMessage) -> Option<Underlay> {
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let mut oif = None;
    let mut gateway = None;
    let mut source = None;
    let mut path_mtu = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => oif = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(*address),
            RouteAttribute::PrefSource(RouteAddress::Inet(address)) => source = Some(*address),
            RouteAttribute::Metrics(metrics) => path_mtu = mtu(metrics),
            RouteAttribute::Via(_) => return None,
            _ => {}
        }
    }
    Some(Underlay {
        oif: oif?,
        gateway,
        source: source?,
        mtu: path_mtu,
    })
}
