//! The node that a case happens on, as far as the kernel knows it.

use dataplane_common::abi::{Addr, Mac, NextHop};

/// An interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its index.
    pub index: u32,
    /// Its Ethernet address: frames for others are not for this node.
    pub mac: Mac,
}

/// Interfaces and neighbours.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Where the wire comes in.
    pub uplink: Interface,
    /// The host sides of pods.
    pub workloads: Vec<Interface>,
    /// Neighbour on the uplink whose Ethernet address is known.
    pub resolved: Addr,
    /// Neighbour on the uplink whose Ethernet address is not known.
    pub unresolved: Addr,
}

impl Surroundings {
    /// A node that is nowhere.
    #[must_use]
    pub fn imaginary() -> Self {
        let pod = |index| Interface {
            index,
            mac: [0xee; 6],
        };
        Self {
            uplink: Interface {
                index: 2,
                mac: [0x02, 0, 192, 168, 1, 10],
            },
            workloads: [3, 4, 5].map(pod).to_vec(),
            resolved: [192, 168, 1, 11],
            unresolved: [192, 168, 1, 12],
        }
    }

    /// The interface with this index.
    #[must_use]
    pub fn interface(&self, index: u32) -> Option<Interface> {
        let interfaces = [&self.uplink].into_iter().chain(&self.workloads);
        interfaces
            .copied()
            .find(|interface| interface.index == index)
    }

    /// Whether there is nothing to wait for before a packet to `next_hop` can be sent.
    #[must_use]
    pub fn is_resolved(&self, next_hop: &NextHop) -> bool {
        next_hop.ifindex != self.uplink.index || next_hop.gateway != self.unresolved
    }
}
