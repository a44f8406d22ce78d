//! What a route says beside its prefix and its table (the kernel's `struct fib_info`, with the TOS and
//! the type of its `struct fib_alias`).
//!
//! Read attribute by attribute rather than as the message of a crate: a route with an attribute
//! that no crate knows yet is still a route, and a million of them are read at a time.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use netlink_packet_core::{NlaBuffer, NlasIterator};

/// Length in bytes of `struct rtmsg`, which precedes the attributes.
const RTMSG_LEN: usize = 12;
/// Length in bytes of `struct rtnexthop`.
const RTNEXTHOP_LEN: usize = 8;
/// `RTAX_MTU`, a metric.
const RTAX_MTU: u16 = 2;
/// `RTNH_F_ONLINK`, of the flags of a route or of one of its hops.
const RTNH_F_ONLINK: u32 = 4;
/// `RTM_F_CLONED`: an exception that the kernel has cached, no route of a table.
const RTM_F_CLONED: u32 = 0x200;
/// `RTA_NH_ID`: the nexthop object that stands for the hops.
const RTA_NH_ID: u16 = 30;

/// A route of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FibRoute {
    /// The table it is in.
    pub table: u32,
    /// The prefix it is for.
    pub prefix: Ipv4Net,
    /// All else.
    pub info: FibInfo,
}

/// What a route says beside its prefix and its table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FibInfo {
    /// What becomes of a packet that takes it.
    pub kind: RouteKind,
    /// Whether the destination is on the link (`RT_SCOPE_LINK`).
    pub on_link: bool,
    /// Who made it (`RTPROT_*`).
    pub protocol: u8,
    /// The TOS it is for; zero for all.
    pub tos: u8,
    /// Of several for a prefix, the smallest is taken (`RTA_PRIORITY`).
    pub metric: u32,
    /// Source address for packets of this host that have none yet (`RTA_PREFSRC`).
    pub source: Option<Ipv4Addr>,
    /// Path MTU in bytes, where the route sets it (`mtu` of `RTA_METRICS`).
    pub mtu: Option<u32>,
    /// Where it leads.
    pub target: Target,
}

/// What becomes of a packet that takes a route (`RTN_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RouteKind {
    /// It is sent to a next hop.
    #[default]
    Unicast,
    /// It is for this host.
    Local,
    /// It is dropped in silence.
    Blackhole,
    /// It is dropped, and its sender told that the host is unreachable.
    Unreachable,
    /// It is dropped, and its sender told that that is forbidden.
    Prohibit,
    /// The lookup goes on in the next table.
    Throw,
    /// Broadcast, multicast and their kin.
    Other,
}

/// Where a route leads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Target {
    /// Nowhere: it has no hops.
    #[default]
    Nowhere,
    /// To one hop, or to one of several.
    Hops(Vec<Hop>),
    /// To what a nexthop object says (`ip nexthop`).
    Object(u32),
}

/// One hop of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hop {
    /// Index of the interface it leaves by.
    pub oif: u32,
    /// The router; without one, the destination is on the link.
    pub gateway: Option<Ipv4Addr>,
    /// The gateway is taken to be on the link, whatever the interface's addresses say.
    pub onlink: bool,
    /// Its share among several, 1 to 256.
    pub weight: u16,
    /// What of it IPv4 routing alone cannot say.
    pub special: Option<&'static str>,
}

impl FibInfo {
    /// The hops it names itself.
    #[must_use]
    pub fn hops(&self) -> &[Hop] {
        match &self.target {
            Target::Hops(hops) => hops,
            Target::Nowhere | Target::Object(_) => &[],
        }
    }

    /// Whether a hop that it names itself is by the interface with this index.
    #[must_use]
    pub fn has_hop_by(&self, index: u32) -> bool {
        self.hops().iter().any(|hop| hop.oif == index)
    }
}

/// Reads an IPv4 route of a table from the payload of its message; `None` for what is none.
pub(in crate::kernel) fn route(payload: &[u8]) -> Option<FibRoute> {
    let header = payload.get(..RTMSG_LEN)?;
    let flags = u32::from_ne_bytes(header[8..12].try_into().ok()?);
    if i32::from(header[0]) != libc::AF_INET || flags & RTM_F_CLONED != 0 {
        return None;
    }
    let mut table = u32::from(header[4]);
    let mut destination = Ipv4Addr::UNSPECIFIED;
    let mut info = FibInfo {
        kind: kind(header[7]),
        on_link: header[6] == libc::RT_SCOPE_LINK,
        protocol: header[5],
        tos: header[3],
        ..FibInfo::default()
    };
    let mut hop = Hop::new(flags);
    for attribute in attributes(&payload[RTMSG_LEN..]) {
        let value = attribute.value();
        match attribute.kind() {
            libc::RTA_DST => destination = address(value)?,
            libc::RTA_TABLE => table = number(value)?,
            libc::RTA_PRIORITY => info.metric = number(value)?,
            libc::RTA_PREFSRC => info.source = address(value),
            libc::RTA_METRICS => info.mtu = mtu(value),
            // The hops of an object's group are listed besides, and change without the route.
            libc::RTA_MULTIPATH if info.target == Target::Nowhere => {
                info.target = Target::Hops(hops(value));
            }
            RTA_NH_ID => info.target = Target::Object(number(value)?),
            _ => hop.read(&attribute),
        }
    }
    if info.target == Target::Nowhere && hop.oif != 0 {
        info.target = Target::Hops(vec![hop]);
    }
    let prefix = Ipv4Net::new(destination, header[1]).ok()?;
    Some(FibRoute {
        table,
        prefix,
        info,
    })
}

impl Hop {
    pub(super) fn new(flags: u32) -> Self {
        Self {
            oif: 0,
            gateway: None,
            onlink: flags & RTNH_F_ONLINK != 0,
            weight: 1,
            special: None,
        }
    }

    fn read(&mut self, attribute: &NlaBuffer<&[u8]>) {
        let value = attribute.value();
        match attribute.kind() {
            libc::RTA_OIF => self.oif = number(value).unwrap_or_default(),
            libc::RTA_GATEWAY => self.gateway = address(value),
            libc::RTA_VIA => self.special = Some("its gateway is an IPv6 address"),
            libc::RTA_ENCAP => self.special = Some("the route itself encapsulates (lwtunnel)"),
            _ => {}
        }
    }
}

/// Reads the hops of a multipath route: `struct rtnexthop`, each with attributes of its own.
fn hops(mut value: &[u8]) -> Vec<Hop> {
    let mut hops = Vec::new();
    while let Some(header) = value.get(..RTNEXTHOP_LEN) {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let Some(attributes_of_hop) = value.get(RTNEXTHOP_LEN..length) else {
            break;
        };
        let mut hop = Hop::new(u32::from(header[2]));
        // `rtnh_hops` is the weight less one.
        hop.weight = u16::from(header[3]) + 1;
        hop.oif = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
        for attribute in attributes(attributes_of_hop) {
            hop.read(&attribute);
        }
        hops.push(hop);
        value = value.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    hops
}

fn mtu(metrics: &[u8]) -> Option<u32> {
    attributes(metrics)
        .find(|metric| metric.kind() == RTAX_MTU)
        .and_then(|metric| number(metric.value()))
}

fn kind(byte: u8) -> RouteKind {
    match byte {
        libc::RTN_UNICAST => RouteKind::Unicast,
        libc::RTN_LOCAL => RouteKind::Local,
        libc::RTN_BLACKHOLE => RouteKind::Blackhole,
        libc::RTN_UNREACHABLE => RouteKind::Unreachable,
        libc::RTN_PROHIBIT => RouteKind::Prohibit,
        libc::RTN_THROW => RouteKind::Throw,
        _ => RouteKind::Other,
    }
}

/// The attributes in `bytes`, up to the first that is none.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(bytes).map_while(Result::ok)
}

pub(super) fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.try_into().ok()?))
}

pub(super) fn address(value: &[u8]) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = value.try_into().ok()?;
    Some(octets.into())
}
