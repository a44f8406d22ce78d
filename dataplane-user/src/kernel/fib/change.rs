//! One message of the kernel, about one object.

use std::net::Ipv4Addr;

use netlink_packet_core::{NLM_F_APPEND, NLM_F_REPLACE, NetlinkBuffer, Parseable};
use netlink_packet_route::{
    AddressFamily,
    address::AddressMessage,
    link::LinkMessage,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage},
    rule::RuleMessage,
};

use super::{
    info::{self, FibRoute},
    object::{self, NextHopObject},
    rule::{self, Rule},
};
use crate::kernel::{
    Address, Link, Neighbour,
    address::address,
    link::link,
    neighbour::{is_usable, neighbour},
};

const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;

/// What is there, or is no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An interface is there, or has changed.
    Link(Box<Link>),
    /// The interface with this index is gone.
    LinkGone(u32),
    /// An interface has an address.
    Address(Address),
    /// It has it no longer.
    AddressGone(Address),
    /// A route was added, before others of its TOS and metric.
    Route(FibRoute),
    /// A route was added, after others of its TOS and metric.
    RouteAppended(FibRoute),
    /// A route has taken the place of the first of its TOS and metric.
    RouteReplaced(FibRoute),
    /// A route is gone.
    RouteGone(FibRoute),
    /// A rule is there.
    Rule(Rule),
    /// A rule is gone.
    RuleGone(Rule),
    /// A nexthop object is there, or has changed.
    Object(NextHopObject),
    /// The nexthop object with this number is gone, and the routes by it, which are not announced.
    ObjectGone(u32),
    /// A neighbour's Ethernet address is known.
    Neighbour(Neighbour),
    /// The neighbour of this interface and address is not, or no longer, known.
    NeighbourGone(u32, Ipv4Addr),
    /// A VXLAN device knows where an Ethernet address is.
    Fdb(Fdb),
    /// It no longer does.
    FdbGone(Fdb),
}

impl Change {
    /// The word for it in the metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Link(_) | Self::LinkGone(_) => "link",
            Self::Address(_) | Self::AddressGone(_) => "address",
            Self::Route(_)
            | Self::RouteAppended(_)
            | Self::RouteReplaced(_)
            | Self::RouteGone(_) => "route",
            Self::Rule(_) | Self::RuleGone(_) => "rule",
            Self::Object(_) | Self::ObjectGone(_) => "nexthop",
            Self::Neighbour(_) | Self::NeighbourGone(..) => "neighbour",
            Self::Fdb(_) | Self::FdbGone(_) => "fdb",
        }
    }
}

/// Where a VXLAN device sends what is for an Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fdb {
    /// Index of the VXLAN device.
    pub index: u32,
    /// The Ethernet address.
    pub mac: [u8; 6],
    /// The VTEP's address; none where it is not over IPv4, or a nexthop object's.
    pub remote: Option<Ipv4Addr>,
    /// Whether network, port or interface differ from the device's own.
    pub special: bool,
}

/// Reads a message; `None` for what has nothing to do with forwarding IPv4.
pub(super) fn change(message: &NetlinkBuffer<&[u8]>) -> Option<Change> {
    let payload = message.payload();
    let flags = message.flags();
    Some(match message.message_type() {
        libc::RTM_NEWLINK => of_link(payload, |link| Change::Link(Box::new(link)))?,
        libc::RTM_DELLINK => of_link(payload, |link| Change::LinkGone(link.index))?,
        libc::RTM_NEWADDR => Change::Address(of_address(payload)?),
        libc::RTM_DELADDR => Change::AddressGone(of_address(payload)?),
        libc::RTM_NEWROUTE if flags & NLM_F_REPLACE != 0 => {
            Change::RouteReplaced(info::route(payload)?)
        }
        libc::RTM_NEWROUTE if flags & NLM_F_APPEND != 0 => {
            Change::RouteAppended(info::route(payload)?)
        }
        libc::RTM_NEWROUTE => Change::Route(info::route(payload)?),
        libc::RTM_DELROUTE => Change::RouteGone(info::route(payload)?),
        libc::RTM_NEWRULE => Change::Rule(of_rule(payload)?),
        libc::RTM_DELRULE => Change::RuleGone(of_rule(payload)?),
        RTM_NEWNEXTHOP => Change::Object(object::object(payload)?),
        RTM_DELNEXTHOP => Change::ObjectGone(object::object(payload)?.id),
        libc::RTM_NEWNEIGH => of_neighbour(payload, true)?,
        libc::RTM_DELNEIGH => of_neighbour(payload, false)?,
        _ => return None,
    })
}

/// A bridge's ports are told of in messages of another family, which are no interfaces that come
/// or go.
fn of_link(payload: &[u8], change: fn(Link) -> Change) -> Option<Change> {
    let message = LinkMessage::parse(payload).ok()?;
    let is_plain = message.header.interface_family == AddressFamily::Unspec;
    is_plain.then(|| change(link(message)))
}

fn of_address(payload: &[u8]) -> Option<Address> {
    let message = AddressMessage::parse(payload).ok()?;
    address(&message)
}

fn of_rule(payload: &[u8]) -> Option<Rule> {
    let message = RuleMessage::parse(payload).ok()?;
    (message.header.family == AddressFamily::Inet).then(|| rule::rule(&message))
}

fn of_neighbour(payload: &[u8], is_new: bool) -> Option<Change> {
    let message = NeighbourMessage::parse(payload).ok()?;
    match message.header.family {
        AddressFamily::Inet => {
            let neighbour = neighbour(&message)?;
            let is_known = is_new && neighbour.mac.is_some() && is_usable(neighbour.state);
            Some(if is_known {
                Change::Neighbour(neighbour)
            } else {
                Change::NeighbourGone(neighbour.index, neighbour.address)
            })
        }
        AddressFamily::Bridge if message.header.flags.contains(NeighbourFlags::Own) => {
            let fdb = fdb(&message)?;
            Some(if is_new {
                Change::Fdb(fdb)
            } else {
                Change::FdbGone(fdb)
            })
        }
        _ => None,
    }
}

fn fdb(message: &NeighbourMessage) -> Option<Fdb> {
    let mut mac = None;
    let mut fdb = Fdb {
        index: message.header.ifindex,
        mac: [0; 6],
        remote: None,
        special: false,
    };
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => {
                fdb.remote = Some(*address);
            }
            // In this family the crate leaves the address as bytes.
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
                fdb.remote = info::address(bytes);
            }
            NeighbourAttribute::Vni(_)
            | NeighbourAttribute::Port(_)
            | NeighbourAttribute::IfIndex(_)
            | NeighbourAttribute::SourceVni(_) => fdb.special = true,
            _ => {}
        }
    }
    fdb.mac = mac?;
    Some(fdb)
}
