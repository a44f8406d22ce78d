//! Nexthop objects (`ip nexthop`), which routes refer to by number.

use netlink_packet_core::NlaBuffer;

use super::info::{Hop, address, attributes, number};

/// Length in bytes of `struct nhmsg`, which precedes the attributes.
const NHMSG_LEN: usize = 8;
/// Length in bytes of `struct nexthop_grp`.
const NEXTHOP_GRP_LEN: usize = 8;

const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_ENCAP: u16 = 8;
const NHA_FDB: u16 = 11;

/// A nexthop object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHopObject {
    /// Its number.
    pub id: u32,
    /// What it stands for.
    pub content: Content,
}

/// What a nexthop object stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// One hop.
    Hop(Hop),
    /// Packets are dropped in silence.
    Blackhole,
    /// One of several objects, each with its weight.
    Group(Vec<(u32, u16)>),
}

/// Reads an object from the payload of its message; `None` for one that no IPv4 route can have.
pub(in crate::kernel) fn object(payload: &[u8]) -> Option<NextHopObject> {
    let header = payload.get(..NHMSG_LEN)?;
    let flags = u32::from_ne_bytes(header[4..8].try_into().ok()?);
    let mut id = None;
    let mut group = None;
    let mut is_blackhole = false;
    let mut hop = Hop::new(flags);
    if i32::from(header[0]) == libc::AF_INET6 {
        hop.special = Some("its gateway is an IPv6 address");
    }
    for attribute in attributes(&payload[NHMSG_LEN..]) {
        let value = attribute.value();
        match attribute.kind() {
            NHA_ID => id = number(value),
            NHA_GROUP => group = Some(members(&attribute)),
            NHA_BLACKHOLE => is_blackhole = true,
            NHA_OIF => hop.oif = number(value)?,
            NHA_GATEWAY => hop.gateway = address(value),
            NHA_ENCAP => hop.special = Some("the nexthop object itself encapsulates (lwtunnel)"),
            // A VXLAN device's, never a route's.
            NHA_FDB => return None,
            _ => {}
        }
    }
    let content = match group {
        Some(members) => Content::Group(members),
        None if is_blackhole => Content::Blackhole,
        None => Content::Hop(hop),
    };
    Some(NextHopObject { id: id?, content })
}

/// `struct nexthop_grp`: the number, and the weight less one, in two bytes since 6.12.
fn members(group: &NlaBuffer<&[u8]>) -> Vec<(u32, u16)> {
    let (members, _) = group.value().as_chunks::<NEXTHOP_GRP_LEN>();
    members
        .iter()
        .map(|member| {
            let id = u32::from_ne_bytes([member[0], member[1], member[2], member[3]]);
            let weight = u16::from(member[4]) | u16::from(member[5]) << 8;
            (id, weight.saturating_add(1))
        })
        .collect()
}
