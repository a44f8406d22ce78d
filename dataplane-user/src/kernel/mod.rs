//! What the Linux network stack knows, and what this node adds to it, by rtnetlink.
//!
//! The lower half of the agent's conversation with the stack: reading links, addresses, routes and
//! neighbours, and keeping two things of our own there, the carrier device and the routes that lead
//! to it. What they should be is decided elsewhere; nothing here touches BPF.
//!
//! Bird's-eye view, from the top:
//!
//! - [`Netlink`] is the connection; its methods are spread over the files by what they are about.
//! - [`Events`] says *that* the stack's state changed, never what: whoever is woken reads it again. So does
//!   [`RuleEvents`] of the rules of nftables.
//! - [`Link`], [`Address`], [`Route`], [`Neighbour`], [`Underlay`] and [`VethTraffic`] are what is read.
//! - [`CarrierSpec`] and [`OwnRoute`] are what is written.
//! - [`Conntrack`] and [`Sysctl`] are netfilter's half of it, and wait for their answers.
//! - [`Offloads`] and [`has_native_xdp`] are what devices can do, by generic netlink.
//!
//! Invariant: only what identifies itself as ours is ever changed or removed. The carrier carries
//! [`CARRIER_ALIAS`]; a route of ours has both [`PROTOCOL`] and [`METRIC`].
//!
//! Deliberately absent: IPv6, policy rules, and retries. Every call is one attempt, and its error
//! says what was attempted, on what, why it failed and, where that is known, what to do.

mod address;
mod carrier;
mod connection;
mod conntrack;
mod events;
pub mod fib;
mod link;
mod neighbour;
mod netdev;
mod nftables;
mod offloads;
mod own_route;
mod qdisc;
mod request;
mod route;
mod sysctl;
mod traffic;
mod underlay;

#[cfg(test)]
mod tests;

pub use netlink_packet_route::{
    neighbour::NeighbourState,
    route::{RouteScope, RouteType},
};

pub use self::{
    address::Address,
    carrier::{CARRIER_ALIAS, CARRIER_NAME, CarrierSpec, check_carrier},
    connection::Netlink,
    conntrack::{ConnTuple, ConnectionEntry, Conntrack, Detail, TCP_ESTABLISHED},
    events::Events,
    link::{Ipip, Link, Vxlan, interface_name},
    neighbour::Neighbour,
    netdev::has_native_xdp,
    nftables::RuleEvents,
    offloads::Offloads,
    own_route::{METRIC, OwnRoute, OwnTarget, PROTOCOL, difference},
    qdisc::Filter,
    route::{Route, TABLE_MAIN},
    sysctl::Sysctl,
    traffic::{VethTraffic, Volume},
    underlay::Underlay,
};

/// What to do about `EPERM`, whoever of the network stack says it.
pub(crate) const NEEDS_NET_ADMIN: &str = "run as root or with CAP_NET_ADMIN";
