//! The paths that are shown.

use std::{fmt, net::Ipv4Addr};

use dataplane_common::reason::Reason;
use dataplane_tests::{Lab, NetNs};

use crate::scenario::Scenario;

const NODE_0: &str = "node-0";
const NODE_1: &str = "node-1";

/// From where to where packets go.
#[derive(Debug)]
pub(crate) struct Path {
    name: &'static str,
    from: Place,
    to: Place,
}

/// Who sends or receives.
#[derive(Debug)]
enum Place {
    /// A node's host, by the node's address.
    Host(&'static str),
    /// A node's host, by its address inside the tunnel.
    Tunnel(&'static str),
    /// A pod.
    Pod(&'static str, &'static str),
}

impl Path {
    /// What the others are compared with: no pod takes part.
    pub(crate) const HOST_TO_HOST: Self = Self {
        name: "host to host",
        from: Place::Host(NODE_0),
        to: Place::Host(NODE_1),
    };

    /// The paths of pods.
    pub(crate) const OF_PODS: [Self; 5] = [
        Self {
            name: "pod to pod on one node",
            from: Place::Pod(NODE_0, "p0"),
            to: Place::Pod(NODE_0, "p1"),
        },
        Self {
            name: "pod to pod across nodes",
            from: Place::Pod(NODE_0, "p0"),
            to: Place::Pod(NODE_1, "p0"),
        },
        Self {
            name: "host to remote pod",
            from: Place::Host(NODE_0),
            to: Place::Pod(NODE_1, "p0"),
        },
        Self {
            name: "pod to remote host",
            from: Place::Pod(NODE_0, "p0"),
            to: Place::Host(NODE_1),
        },
        Self {
            name: "pod to remote host's tunnel address",
            from: Place::Pod(NODE_0, "p0"),
            to: Place::Tunnel(NODE_1),
        },
    ];

    /// Where the packets come from.
    pub(crate) fn client<'a>(&self, lab: &'a Lab) -> &'a NetNs {
        self.from.ns(lab)
    }

    /// Where they go to.
    pub(crate) fn server<'a>(&self, lab: &'a Lab) -> &'a NetNs {
        self.to.ns(lab)
    }

    /// The address they are sent to.
    pub(crate) fn destination(&self, lab: &Lab) -> Ipv4Addr {
        self.to.address(lab)
    }

    /// What its packets are counted as, if they have to be carried by programs from end to end.
    /// Where a host is an end, its stack has a part in it.
    pub(crate) fn carried(&self, scenario: Scenario) -> Option<Vec<Reason>> {
        match (&self.from, &self.to) {
            (Place::Pod(from, _), Place::Pod(to, _)) if from == to => {
                Some(vec![Reason::DeliveredLocal])
            }
            (Place::Pod(..), Place::Pod(..)) => Some(scenario.carried().to_vec()),
            _ => None,
        }
    }

    /// The nodes it touches, by name.
    pub(crate) fn nodes(&self) -> Vec<&'static str> {
        let mut nodes = vec![self.from.node(), self.to.node()];
        nodes.dedup();
        nodes
    }
}

impl Place {
    fn ns<'a>(&self, lab: &'a Lab) -> &'a NetNs {
        match self {
            Self::Host(node) | Self::Tunnel(node) => lab.node(node).ns(),
            Self::Pod(node, pod) => lab.pod(node, pod).ns(),
        }
    }

    fn address(&self, lab: &Lab) -> Ipv4Addr {
        match self {
            Self::Host(node) => lab.node(node).address().addr(),
            Self::Tunnel(node) => lab.node(node).tunnel_address(),
            Self::Pod(node, pod) => lab.pod(node, pod).address(),
        }
    }

    fn node(&self) -> &'static str {
        match self {
            Self::Host(node) | Self::Tunnel(node) | Self::Pod(node, _) => node,
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name)
    }
}
