//! The tables a decision looks into.

use crate::abi::{Addr, Config, Endpoint, NextHop, Peer, Workload};

/// Lookups, answered by BPF maps in a program and by memory on the host.
pub trait Tables {
    /// What to know about this node; `None` before the agent has written it.
    fn config(&self) -> Option<&Config>;

    /// The next hop of the longest prefix that covers `destination`.
    fn route(&self, destination: Addr) -> Option<&NextHop>;

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
}
