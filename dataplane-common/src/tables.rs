//! The tables a decision looks into.

use core::ops::Deref;

use crate::abi::{Addr, Config, Endpoint, Flow, FlowKey, NextHop, Peer, Workload};

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

    /// Whether the workload interface that had index `ifindex` when its endpoint was written is there
    /// still. Another may have the index by now.
    fn is_present(&self, ifindex: u32) -> bool;

    /// The node that has `address`.
    fn peer(&self, address: Addr) -> Option<&Peer>;

    /// What is remembered of a flow.
    fn flow(&self, key: FlowKey) -> Option<impl Deref<Target = Flow> + use<'_, Self>>;

    /// As [`Tables::flow`], of one that there may be none of yet.
    fn flow_or_new(&self, key: FlowKey) -> Option<impl Deref<Target = Flow> + use<'_, Self>>;

    /// Forgets a flow.
    fn forget(&self, key: FlowKey);

    /// The generation that holds now.
    fn generation(&self) -> u16;

    /// Now, in [ticks](crate::abi::TICK_SHIFT).
    fn now(&self) -> u64;
}
