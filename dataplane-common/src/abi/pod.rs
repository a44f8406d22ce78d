//! `aya::Pod` for what userspace reads and writes.

use super::{
    flows::FlowKey,
    monitor::{Monitor, Observed},
    values::{Config, Counter, Endpoint, Multipath, NextHop, Peer, Workload},
};

macro_rules! pod {
    ($($type:ty),+) => {
        $(
            // SAFETY: zerocopy derived that every bit pattern is a value (`FromBytes`) and that
            // there is no padding (`IntoBytes`); the types are `Copy` and hold no pointers.
            unsafe impl aya::Pod for $type {}
        )+
    };
}

pod!(
    Config, Counter, Endpoint, FlowKey, Monitor, Multipath, NextHop, Observed, Peer, Workload
);
