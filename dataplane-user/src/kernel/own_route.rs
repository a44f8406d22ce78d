//! The routes that this node adds to the stack, so that it can forward what the fast path leaves.
//!
//! They are told from everybody else's by [`PROTOCOL`] together with [`METRIC`], and never displace
//! one: the metric keeps them behind a route of a routing daemon for the same prefix, and they are
//! added behind any other of that very metric (`NLM_F_APPEND`).
//!
//! A route is changed without a gap by adding the new one and then deleting the old one: the old
//! one is in force until it is gone. Hence the order in which [`difference`] is to be applied.

use std::{collections::BTreeSet, fmt, net::Ipv4Addr};

use anyhow::{Context, Error, Result, anyhow};
use ipnet::Ipv4Net;
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric,
        RouteProtocol, RouteScope, RouteType,
    },
};
use nix::errno::Errno;

use super::{Netlink, Route, link::name_of, request::RequestError};

/// Routing protocol number of our routes. Assigned neither in the kernel's `rtnetlink.h` nor in
/// iproute2's `rt_protos`; Calico's Felix is 80, kube-router 17, BIRD 12.
pub const PROTOCOL: u8 = 117;

/// Metric of our routes. Routing daemons use none, which is zero, or (BIRD) 32.
pub const METRIC: u32 = 1117;

/// A route of ours in the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnRoute {
    /// The prefix it is for, without bits beyond its length.
    pub destination: Ipv4Net,
    /// Where packets for the prefix go.
    pub target: OwnTarget,
}

/// Where a route of ours leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OwnTarget {
    /// To the carrier, whose egress program encapsulates.
    Carrier {
        /// Interface index of the carrier.
        ifindex: u32,
        /// Source address for this host's own packets: the node's tunnel address.
        source: Option<Ipv4Addr>,
        /// Path MTU in bytes, before encapsulation; not zero.
        mtu: u32,
    },
    /// To another node, as it is.
    Via {
        /// The node's address.
        gateway: Ipv4Addr,
        /// Index of the interface the node is reached on.
        oif: u32,
        /// The node is on the link even if no address of the interface says so.
        onlink: bool,
        /// Source address for this host's own packets.
        source: Option<Ipv4Addr>,
    },
    /// Nowhere: for what no more specific route claims of the addresses given to this node.
    Blackhole,
}

/// The routes to add and those to delete, in that order, for `actual` to become `desired`.
#[must_use]
pub fn difference(desired: &[OwnRoute], actual: &[OwnRoute]) -> (Vec<OwnRoute>, Vec<OwnRoute>) {
    let desired: BTreeSet<_> = desired.iter().copied().collect();
    let actual: BTreeSet<_> = actual.iter().copied().collect();
    let to_add = desired.difference(&actual).copied().collect();
    let to_delete = actual.difference(&desired).copied().collect();
    (to_add, to_delete)
}

impl Netlink {
    /// The routes of ours that the stack holds.
    pub async fn own_routes(&self) -> Result<Vec<OwnRoute>> {
        let routes = self
            .routes_by(RouteProtocol::Other(PROTOCOL))
            .await
            .context("cannot list the IPv4 routes of underpass")?;
        Ok(routes.iter().filter_map(OwnRoute::recognise).collect())
    }

    /// Adds a route of ours behind whatever there is for its destination. One that is there
    /// already, to the last detail, is left as it is.
    pub async fn add_route(&self, route: &OwnRoute) -> Result<()> {
        let request = RouteNetlinkMessage::NewRoute(route.message());
        match self.change(request, NLM_F_CREATE | NLM_F_APPEND).await {
            Err(error) if error.errno() != Some(Errno::EEXIST) => Err(route.refused(&error)),
            _ => Ok(()),
        }
    }

    /// Deletes a route of ours. One that is gone already, as with its interface, is no error.
    pub async fn delete_route(&self, route: &OwnRoute) -> Result<()> {
        let request = RouteNetlinkMessage::DelRoute(route.message());
        match self.change(request, 0).await {
            Err(error) if error.errno() != Some(Errno::ESRCH) => {
                Err(error).with_context(|| format!("cannot delete the route {route}"))
            }
            _ => Ok(()),
        }
    }
}

impl OwnRoute {
    /// The message that adds it, and that deletes it and no other: the kernel deletes the first
    /// route that has all that the message states (`fib_table_delete`).
    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: AddressFamily::Inet,
            destination_prefix_length: self.destination.prefix_len(),
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: RouteProtocol::Other(PROTOCOL),
            kind: RouteType::Unicast,
            ..RouteHeader::default()
        };
        message.attributes = vec![
            RouteAttribute::Destination(RouteAddress::Inet(self.destination.addr())),
            RouteAttribute::Priority(METRIC),
        ];
        self.target.complete(&mut message);
        message
    }

    /// Reads a route as one of ours; `None` if it is somebody else's.
    fn recognise(route: &Route) -> Option<Self> {
        let is_ours = route.protocol == PROTOCOL
            && route.metric == Some(METRIC)
            && route.is_in_main()
            && !route.opaque;
        let target = match (route.kind, route.gateway, route.oif, route.mtu) {
            (RouteType::BlackHole, None, None, None) => OwnTarget::Blackhole,
            (RouteType::Unicast, None, Some(ifindex), Some(mtu)) => OwnTarget::Carrier {
                ifindex,
                source: route.source,
                mtu,
            },
            (RouteType::Unicast, Some(gateway), Some(oif), None) => OwnTarget::Via {
                gateway,
                oif,
                onlink: route.onlink,
                source: route.source,
            },
            _ => return None,
        };
        is_ours.then_some(Self {
            destination: route.destination,
            target,
        })
    }

    /// Says why the route cannot be added and, by the checks the kernel makes, what helps.
    fn refused(&self, error: &RequestError) -> Error {
        let advice = match error.errno() {
            Some(Errno::ENETUNREACH) => {
                "; the gateway has to be in a subnet of the interface, or the route on-link"
            }
            Some(Errno::ENETDOWN) => "; the interface has to be up",
            Some(Errno::ENODEV) => "; the interface has been removed since it was looked up",
            Some(Errno::EINVAL) => {
                "; the source has to be an address of this host, and the destination without bits \
                 beyond its prefix length"
            }
            _ => "",
        };
        anyhow!("cannot add the route {self}: {error}{advice}")
    }
}

impl OwnTarget {
    /// Adds to a unicast route where it leads.
    fn complete(self, message: &mut RouteMessage) {
        let attributes = &mut message.attributes;
        match self {
            Self::Carrier {
                ifindex,
                source,
                mtu,
            } => {
                message.header.scope = RouteScope::Link;
                attributes.push(RouteAttribute::Oif(ifindex));
                attributes.extend(source.map(preferred_source));
                attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
            }
            Self::Via {
                gateway,
                oif,
                onlink,
                source,
            } => {
                message.header.flags.set(RouteFlags::Onlink, onlink);
                attributes.push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
                attributes.push(RouteAttribute::Oif(oif));
                attributes.extend(source.map(preferred_source));
            }
            Self::Blackhole => message.header.kind = RouteType::BlackHole,
        }
    }
}

fn preferred_source(address: Ipv4Addr) -> RouteAttribute {
    RouteAttribute::PrefSource(RouteAddress::Inet(address))
}

/// As `ip route` writes it.
impl fmt::Display for OwnRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let destination = self.destination;
        match self.target {
            OwnTarget::Carrier {
                ifindex,
                source,
                mtu,
            } => {
                write!(f, "{destination} dev {}", name_of(ifindex))?;
                write_source(f, source)?;
                write!(f, " mtu {mtu}")
            }
            OwnTarget::Via {
                gateway,
                oif,
                onlink,
                source,
            } => {
                write!(f, "{destination} via {gateway} dev {}", name_of(oif))?;
                write_source(f, source)?;
                f.write_str(if onlink { " onlink" } else { "" })
            }
            OwnTarget::Blackhole => write!(f, "blackhole {destination}"),
        }
    }
}

fn write_source(f: &mut fmt::Formatter<'_>, source: Option<Ipv4Addr>) -> fmt::Result {
    match source {
        Some(source) => write!(f, " src {source}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::route::route;

    const CARRIER: OwnTarget = OwnTarget::Carrier {
        ifindex: 7,
        source: Some(Ipv4Addr::new(10, 1, 0, 0)),
        mtu: 1450,
    };
    const VIA: OwnTarget = OwnTarget::Via {
        gateway: Ipv4Addr::new(192, 168, 0, 2),
        oif: 3,
        onlink: true,
        source: None,
    };

    fn to(destination: &str, target: OwnTarget) -> OwnRoute {
        OwnRoute {
            destination: destination.parse().unwrap(),
            target,
        }
    }

    #[test]
    fn nothing_differs_between_equal_sets_in_any_order() {
        let here = [to("10.1.0.0/26", CARRIER), to("10.2.0.0/26", VIA)];
        let there = [here[1], here[0], here[0]];
        assert_eq!(difference(&here, &there), (vec![], vec![]));
    }

    #[test]
    fn what_is_missing_is_added_and_what_is_left_over_deleted() {
        let missing = to("10.1.0.0/26", CARRIER);
        let common = to("10.2.0.0/26", VIA);
        let left_over = to("10.3.0.0/26", OwnTarget::Blackhole);
        assert_eq!(
            difference(&[missing, common], &[left_over, common]),
            (vec![missing], vec![left_over])
        );
    }

    #[test]
    fn a_changed_target_is_an_addition_and_a_deletion() {
        let new = to("10.1.0.0/26", CARRIER);
        let old = to("10.1.0.0/26", VIA);
        assert_eq!(difference(&[new], &[old]), (vec![new], vec![old]));
    }

    #[test]
    fn a_route_is_recognised_from_its_own_message() {
        for target in [CARRIER, VIA, OwnTarget::Blackhole] {
            let own = to("10.1.0.0/26", target);
            let parsed = route(&own.message()).unwrap();
            assert_eq!(OwnRoute::recognise(&parsed), Some(own));
        }
    }

    #[test]
    fn a_route_of_another_owner_is_not_recognised() {
        let ours = route(&to("10.1.0.0/26", VIA).message()).unwrap();
        for theirs in [
            Route {
                protocol: 80,
                ..ours
            },
            Route {
                metric: None,
                ..ours
            },
            Route {
                metric: Some(32),
                ..ours
            },
            Route { table: 77, ..ours },
            Route {
                opaque: true,
                ..ours
            },
            Route {
                gateway: None,
                ..ours
            },
        ] {
            assert_eq!(OwnRoute::recognise(&theirs), None, "{theirs:?}");
        }
    }

    #[test]
    fn a_route_reads_as_in_iproute2() {
        assert_eq!(
            to("10.1.0.0/26", OwnTarget::Blackhole).to_string(),
            "blackhole 10.1.0.0/26"
        );
        let via = OwnTarget::Via {
            gateway: Ipv4Addr::new(192, 168, 0, 2),
            oif: 1,
            onlink: true,
            source: Some(Ipv4Addr::LOCALHOST),
        };
        assert_eq!(
            to("10.1.0.0/26", via).to_string(),
            "10.1.0.0/26 via 192.168.0.2 dev lo src 127.0.0.1 onlink"
        );
    }
}
