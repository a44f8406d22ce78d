//! From where to where is measured.

use std::{fmt, net::Ipv4Addr};

use crate::{Lab, NetNs, Node, Pod};

/// From where to where. All but the last are from the first node to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    HostToHost,
    PodToPod,
    HostToPod,
    /// From a pod to another of the same node.
    OnOneNode,
}

/// The two ends of a path in a lab.
pub(crate) struct Ends<'a> {
    pub(crate) client: &'a NetNs,
    pub(crate) server: &'a NetNs,
    /// The server's.
    pub(crate) address: Ipv4Addr,
}

impl Path {
    pub(crate) fn ends(self, lab: &Lab) -> Ends<'_> {
        let (near, far) = (lab.node("node-0"), lab.node("node-1"));
        let host = |node: &Node| node.address().addr();
        let (client, server, address) = match self {
            Self::HostToHost => (near.ns(), far.ns(), host(far)),
            Self::PodToPod => (near.pod("p0").ns(), far.pod("p0").ns(), pod(far.pod("p0"))),
            Self::HostToPod => (near.ns(), far.pod("p0").ns(), pod(far.pod("p0"))),
            Self::OnOneNode => (
                near.pod("p0").ns(),
                near.pod("p1").ns(),
                pod(near.pod("p1")),
            ),
        };
        Ends {
            client,
            server,
            address,
        }
    }
}

fn pod(pod: &Pod) -> Ipv4Addr {
    pod.address()
}

impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::HostToHost => "host to host",
            Self::PodToPod => "pod to pod across nodes",
            Self::HostToPod => "host to pod",
            Self::OnOneNode => "pod to pod on one node",
        })
    }
}
