//! Three nodes, each with pods in a pool of each mode, and what a node knows of the others.
//!
//! Node `n` is 192.168.0.n; its pods in the pool of mode `m` are 10.m.n.0/24.

use std::sync::LazyLock;

use dataplane_common::{
    abi::{Addr, Config, Endpoint, Mac, NextHop, NextHopKind, Peer, Workload},
    memory::MemoryTables,
    packet::Tunnel,
    reason::Reason,
};

/// The node whose decisions are looked at.
pub const HERE: u8 = 1;
/// The node it talks to.
pub const THERE: u8 = 2;
/// A third one.
pub const ELSEWHERE: u8 = 3;
/// An address of nobody in the cluster.
pub const OUTSIDE: Addr = [203, 0, 113, 9];
/// An address in a blackholed prefix.
pub const NOWHERE: Addr = [10, 9, 9, 9];
/// The gateway that Calico gives to pods.
pub const GATEWAY: Addr = [169, 254, 1, 1];
/// Another that this node answers for.
pub const OTHER_GATEWAY: Addr = [169, 254, 1, 2];

pub const VNI: u32 = 4096;
pub const VXLAN_PORT: u16 = 4789;
pub const CARRIER: u32 = 7;
pub const UPLINK: u32 = 2;
pub const UPLINK_MTU: u16 = 1500;
pub const POD_MTU: u16 = 1450;

/// How a pool's packets travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    Direct = 1,
    Ipip = 2,
    Vxlan = 3,
}

impl Mode {
    pub const ALL: [Self; 3] = [Self::Direct, Self::Ipip, Self::Vxlan];

    pub fn tunnel(self) -> Option<Tunnel> {
        match self {
            Self::Direct => None,
            Self::Ipip => Some(Tunnel::Ipip),
            Self::Vxlan => Some(Tunnel::Vxlan),
        }
    }

    /// Longest packet that this node can send in it.
    pub fn mtu(self) -> u16 {
        UPLINK_MTU - self.overhead()
    }

    /// Bytes it adds, counted by hand: IP 20; IP 20, UDP 8, VXLAN 8, Ethernet 14.
    pub fn overhead(self) -> u16 {
        match self {
            Self::Direct => 0,
            Self::Ipip => 20,
            Self::Vxlan => 50,
        }
    }

    pub fn sent(self) -> Reason {
        match self {
            Self::Direct => Reason::SentDirect,
            Self::Ipip => Reason::SentIpip,
            Self::Vxlan => Reason::SentVxlan,
        }
    }

    pub fn received(self) -> Reason {
        match self {
            Self::Direct => Reason::ReceivedDirect,
            Self::Ipip => Reason::ReceivedIpip,
            Self::Vxlan => Reason::ReceivedVxlan,
        }
    }

    fn kind(self) -> NextHopKind {
        match self {
            Self::Direct => NextHopKind::Direct,
            Self::Ipip => NextHopKind::Ipip,
            Self::Vxlan => NextHopKind::Vxlan,
        }
    }
}

/// The pods of a node in each pool: two that can be reached, and one whose Ethernet address is not
/// known yet.
pub const FIRST: u8 = 2;
pub const SECOND: u8 = 3;
pub const UNRESOLVED: u8 = 4;

pub fn pod(mode: Mode, node: u8, number: u8) -> Addr {
    [10, mode as u8, node, number]
}

pub fn node(n: u8) -> Addr {
    [192, 168, 0, n]
}

/// The node's own address inside tunnels.
pub fn tunnel_address(n: u8) -> Addr {
    [10, Mode::Vxlan as u8, n, 1]
}

pub fn vtep_mac(n: u8) -> Mac {
    [0x66, 0, 0, 0, 0, n]
}

pub fn pod_mac(pod: Addr) -> Mac {
    let [a, b, c, d] = pod;
    [0x02, 0, a, b, c, d]
}

/// Index of the host side of the pod's veth.
pub fn veth(pod: Addr) -> u32 {
    u32::from(pod[1]) * 10 + u32::from(pod[3])
}

/// Ethernet address of the host side of the pod's veth. In Calico all are alike; here they are not,
/// so that one cannot pass for another.
pub fn veth_mac(pod: Addr) -> Mac {
    let [a, b, c, d] = pod;
    [0xee, 0xee, a, b, c, d]
}

/// What node `HERE` knows.
pub static TABLES: LazyLock<MemoryTables> = LazyLock::new(|| tables(HERE));

/// What node `n` knows.
pub fn tables(n: u8) -> MemoryTables {
    let mut tables = MemoryTables {
        config: Some(config(n)),
        ..MemoryTables::default()
    };
    let blackhole = NextHop {
        kind: NextHopKind::Blackhole as u8,
        ..NextHop::default()
    };
    tables.routes.insert((24, [10, 9, 9, 0]), blackhole);
    for mode in Mode::ALL {
        for other in [HERE, THERE, ELSEWHERE] {
            let hop = next_hop(n, mode, other);
            tables.routes.insert((24, pod(mode, other, 0)), hop);
        }
        for number in [FIRST, SECOND, UNRESOLVED] {
            let address = pod(mode, n, number);
            tables.endpoints.insert(address, endpoint(address));
            let workload = Workload {
                mac: veth_mac(address),
                ..Workload::default()
            };
            tables.workloads.insert(veth(address), workload);
        }
    }
    for other in [HERE, THERE, ELSEWHERE] {
        if other != n {
            let peer = Peer {
                tunnel: tunnel_address(other),
                vtep_mac: vtep_mac(other),
                ..Peer::default()
            };
            tables.peers.insert(node(other), peer);
        }
    }
    tables
}

pub fn config(n: u8) -> Config {
    Config {
        node: node(n),
        vni: VNI,
        flags: 0,
        carrier: CARRIER,
        vxlan_port: VXLAN_PORT.to_be_bytes(),
        vtep_mac: vtep_mac(n),
        gateways: [GATEWAY, OTHER_GATEWAY, [0; 4], [0; 4]],
        dscp: 0,
        padding: [0; 3],
        reverify: 0,
    }
}

/// The way from node `from` to the pods of node `to`.
pub fn next_hop(from: u8, mode: Mode, to: u8) -> NextHop {
    if from == to {
        return NextHop {
            kind: NextHopKind::Local as u8,
            ..NextHop::default()
        };
    }
    NextHop {
        kind: mode.kind() as u8,
        mtu: mode.mtu(),
        ifindex: UPLINK,
        peer: node(to),
        gateway: node(to),
        source: node(from),
        vtep_mac: vtep_mac(to),
        ..NextHop::default()
    }
}

pub fn endpoint(pod: Addr) -> Endpoint {
    let is_resolved = pod[3] != UNRESOLVED;
    Endpoint {
        ifindex: veth(pod),
        mtu: POD_MTU.into(),
        mac: if is_resolved { pod_mac(pod) } else { [0; 6] },
        host_mac: veth_mac(pod),
        ..Endpoint::default()
    }
}
