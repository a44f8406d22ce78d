//! The tables a decision looks into.

use crate::{
    abi::{Addr, Config, Endpoint, NextHop, Peer, Workload},
    flows::Standing,
    tuple::Tuple,
};

/// Lookups, answered by BPF maps in a program and by memory on the host.
pub trait Tables {
    /// What to know about this node; `None` before the agent has written it.
    fn config(&self) -> Option<&Config>;

    /// The next hop of the longest prefix that covers `destination`.
    fn route(&self, destination: Addr) -> Option<&NextHop>;

    /// The next hop with this [number](NextHop::number).
    fn next_hop(&self, number: u16) -> Option<&NextHop>;

    /// The next hop at `place`, below [`crate::abi::WAYS`], of `multipath`, which has many ways.
    fn way(&self, multipath: &NextHop, place: usize) -> Option<&NextHop>;

    /// The local pod that has `address`.
    fn endpoint(&self, address: Addr) -> Option<&Endpoint>;

    /// The workload interface `ifindex`.
    fn workload(&self, ifindex: u32) -> Option<&Workload>;

    /// The local pod with this [number](Endpoint::number).
    fn numbered_endpoint(&self, number: u16) -> Option<&Endpoint>;

    /// Whether the workload interface that had index `ifindex` when its endpoint was written is there
    /// still. Another may have the index by now.
    fn is_present(&self, ifindex: u32) -> bool;

    /// The node that has `address`.
    fn peer(&self, address: Addr) -> Option<&Peer>;

    /// See [`flows::standing`](crate::flows::standing).
    fn standing(&self, tuple: Tuple, from: u64, reverify: u32) -> Standing;

    /// See [`flows::remember`](crate::flows::remember).
    fn remember(&self, tuple: Tuple, generation: u16, from_and_way: u64, to: u16);

    /// See [`flows::enter`](crate::flows::enter).
    fn enter(&self, tuple: Tuple, begins: bool) -> u16;

    /// See [`flows::leave`](crate::flows::leave).
    fn leave(&self, tuple: Tuple, mark: u16) -> bool;

    /// Forgets the flow of a packet.
    fn forget(&self, tuple: Tuple);
}
