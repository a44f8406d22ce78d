//! Two pods that talk, one of them on this node, and what netfilter might make of it.

use dataplane_common::{
    abi::{Addr, Config, flags},
    decide::{self, Mark, Verdict},
    memory::{MemoryPacket, MemoryTables},
    packet::Tunnel,
    reason::Reason,
};

use crate::{
    frames::{Ip, Vxlan},
    programs::Program,
    world::{FIRST, HERE, Mode, SECOND, THERE, node, pod, tables, veth},
};

pub(super) const CLIENT_PORT: u16 = 40_000;
pub(super) const SERVER_PORT: u16 = 80;
pub(super) const ECHO_ID: u16 = 0x0102;

/// The re-verification period, in ticks.
pub(super) const PERIOD: u32 = 100;

/// What the node knows under `established`: its next hops and pods have numbers, as an agent gives them.
pub(super) fn established() -> MemoryTables {
    let mut tables = tables(HERE);
    tables.config = tables.config.map(|config| Config {
        flags: flags::ESTABLISHED,
        reverify: PERIOD,
        ..config
    });
    for (number, next_hop) in (1..).zip(tables.routes.values_mut()) {
        next_hop.entry = number << 1;
    }
    for (number, endpoint) in (1..).zip(tables.endpoints.values_mut()) {
        endpoint.number = number;
    }
    tables.generation = 7;
    tables.now = 10_000;
    tables
}

pub(super) fn without_carrier(mut tables: MemoryTables) -> MemoryTables {
    tables.config = tables.config.map(|config| Config {
        carrier: 0,
        ..config
    });
    tables
}

/// Without anything that could be asked but the next hops and the pods, by other addresses.
pub(super) fn blind(tables: &MemoryTables) -> MemoryTables {
    let mut blind = tables.clone();
    blind.peers.clear();
    let next_hops = blind.routes.values().copied().collect::<Vec<_>>();
    blind.routes = (0..)
        .zip(next_hops)
        .map(|(n, next_hop)| ((32, [172, 16, 0, n]), next_hop))
        .collect();
    let endpoints = blind.endpoints.values().copied().collect::<Vec<_>>();
    blind.endpoints = (0..)
        .zip(endpoints)
        .map(|(n, endpoint)| ([172, 16, 1, n], endpoint))
        .collect();
    blind
}

/// What they say.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A TCP segment with these flags.
    Tcp(u8),
    Udp,
    /// An SCTP packet with these chunks.
    Sctp(Vec<u8>),
    /// The client asks, the server replies.
    Echo,
    /// Another protocol's.
    Other(u8),
}

pub(super) const ACK: u8 = 0x10;

/// A chunk of SCTP, with four bytes in it.
pub(super) fn chunk(kind: u8) -> Vec<u8> {
    vec![kind, 3, 0, 8, 0xa, 0xb, 0xc, 0xd]
}

/// Of each protocol whose flows are followed, what may be carried.
pub(super) fn kinds() -> [Kind; 4] {
    [Kind::Tcp(ACK), Kind::Udp, Kind::Sctp(chunk(0)), Kind::Echo]
}

impl Kind {
    /// The protocol and what is in the packet, from the client or from the server.
    pub(super) fn payload(&self, from_client: bool) -> (u8, Vec<u8>) {
        let (source, destination) = if from_client {
            (CLIENT_PORT, SERVER_PORT)
        } else {
            (SERVER_PORT, CLIENT_PORT)
        };
        let ports = [source.to_be_bytes(), destination.to_be_bytes()].concat();
        match self {
            Self::Tcp(flags) => {
                let rest = [0, 0, 0, 1, 0, 0, 0, 1, 0x50, *flags, 1, 0, 0, 0, 0, 0];
                (6, [&ports[..], &rest, b"data"].concat())
            }
            Self::Udp => (17, [&ports[..], &[0, 12, 0, 0], b"data"].concat()),
            Self::Sctp(chunks) => (132, [&ports[..], &[0; 8], chunks].concat()),
            Self::Echo => {
                let kind = if from_client { 8 } else { 0 };
                let [a, b] = ECHO_ID.to_be_bytes();
                (1, vec![kind, 0, 0, 0, a, b, 0, 1])
            }
            Self::Other(protocol) => (*protocol, ports),
        }
    }
}

/// Where a packet leaves the stack.
#[derive(Clone, Copy, Debug)]
pub(super) enum Exit {
    Workload,
    Uplink,
}

/// One way of a conversation, past this node.
#[derive(Clone, Debug)]
pub(super) struct Leg {
    /// The packet itself.
    pub(super) ip: Ip,
    /// In what it comes and goes on the wire, if that is where.
    pub(super) tunnel: Option<Tunnel>,
    pub(super) entry: Program,
    pub(super) exit: Exit,
    /// What it counts as when it is carried.
    pub(super) carried_as: Reason,
}

impl Leg {
    pub(super) fn frame(&self) -> MemoryPacket {
        match self.entry {
            Program::Uplink => self.on_wire(THERE, HERE),
            _ => self.ip.frame(),
        }
    }

    fn on_wire(&self, from: u8, to: u8) -> MemoryPacket {
        in_tunnel(self.tunnel, from, to, &self.ip)
    }

    /// What leaves the stack, where it has not changed.
    pub(super) fn left(&self) -> MemoryPacket {
        match self.exit {
            Exit::Workload => self.ip.frame(),
            Exit::Uplink => self.on_wire(HERE, THERE),
        }
    }

    pub(super) fn enters<'t>(&self, tables: &'t MemoryTables) -> Verdict<'t> {
        self.entry.decide(&self.frame(), tables)
    }

    /// What is learned from it with this mark, as it leaves.
    pub(super) fn leaves(&self, tables: &MemoryTables, mark: Mark) -> Reason {
        let mark = mark.try_into().unwrap();
        match self.exit {
            Exit::Workload => decide::to_workload(&self.left(), tables, mark),
            Exit::Uplink => decide::to_uplink(&self.left(), tables, mark),
        }
    }

    /// Passes through the stack, which does not change it.
    #[track_caller]
    pub(super) fn is_verified(&self, tables: &MemoryTables) {
        let verdict = self.enters(tables);
        assert_ne!(verdict.mark(), 0, "{verdict:?}");
        assert_eq!(self.leaves(tables, verdict.mark()), Reason::Verified);
    }

    #[track_caller]
    pub(super) fn is_carried(&self, tables: &MemoryTables) {
        let verdict = self.enters(tables);
        assert_eq!(verdict.reason(), self.carried_as);
        assert!(matches!(verdict, Verdict::Deliver(..) | Verdict::Send(_)));
    }

    /// It opens the connection from the other end: it goes to the stack, and verifies its own way.
    #[track_caller]
    pub(super) fn answers(&self, tables: &MemoryTables) {
        let verdict = self.enters(tables);
        assert_eq!(verdict.reason(), Reason::Handshake);
        for flow in tables.flows().values() {
            let verified = flow.directions.each_ref().map(|way| way.verified.parts().1);
            assert_eq!(verified, [0, 0], "what was known is forgotten");
        }
        assert_eq!(self.leaves(tables, verdict.mark()), Reason::Verified);
    }

    /// It goes to the stack with a mark, or, where a flow is not begun by it, without.
    #[track_caller]
    pub(super) fn is_left(&self, tables: &MemoryTables, reason: Reason) {
        let verdict = self.enters(tables);
        assert_eq!(verdict.reason(), reason);
        let is_marked = matches!(reason, Reason::NotEstablished | Reason::Reverify);
        assert_eq!(verdict.mark() != 0, is_marked, "{verdict:?}");
    }
}

/// `inner` from one node to another.
pub(super) fn in_tunnel(tunnel: Option<Tunnel>, from: u8, to: u8, inner: &Ip) -> MemoryPacket {
    match tunnel {
        None => inner.frame(),
        Some(Tunnel::Ipip) => Ip::new(node(from), node(to)).ipip(&inner.packet()).frame(),
        Some(Tunnel::Vxlan) => Vxlan::new(from, to, inner).frame(),
    }
}

/// Between which pods, and how their packets travel.
#[derive(Clone, Copy, Debug)]
pub(super) enum Between {
    /// Two on this node.
    Local,
    /// One here, the client, and one on the other node.
    Nodes(Mode),
}

pub(super) const ALL: [Between; 4] = [
    Between::Local,
    Between::Nodes(Mode::Direct),
    Between::Nodes(Mode::Ipip),
    Between::Nodes(Mode::Vxlan),
];

impl Between {
    pub(super) fn client(self) -> Addr {
        match self {
            Self::Local => pod(Mode::Direct, HERE, FIRST),
            Self::Nodes(mode) => pod(mode, HERE, FIRST),
        }
    }

    pub(super) fn server(self) -> Addr {
        match self {
            Self::Local => pod(Mode::Direct, HERE, SECOND),
            Self::Nodes(mode) => pod(mode, THERE, FIRST),
        }
    }

    /// From the client to the server, and back.
    pub(super) fn legs(self, kind: &Kind) -> [Leg; 2] {
        let ip = |from_client| {
            let (protocol, payload) = kind.payload(from_client);
            let (source, destination) = if from_client {
                (self.client(), self.server())
            } else {
                (self.server(), self.client())
            };
            Ip::new(source, destination).payload(protocol, &payload)
        };
        let there = Leg {
            ip: ip(true),
            tunnel: None,
            entry: Program::Workload(veth(self.client())),
            exit: Exit::Workload,
            carried_as: Reason::DeliveredLocal,
        };
        match self {
            Self::Local => {
                let back = Leg {
                    ip: ip(false),
                    entry: Program::Workload(veth(self.server())),
                    ..there.clone()
                };
                [there, back]
            }
            Self::Nodes(mode) => {
                let there = Leg {
                    tunnel: mode.tunnel(),
                    exit: Exit::Uplink,
                    carried_as: mode.sent(),
                    ..there
                };
                let back = Leg {
                    ip: ip(false),
                    entry: Program::Uplink,
                    exit: Exit::Workload,
                    carried_as: mode.received(),
                    ..there.clone()
                };
                [there, back]
            }
        }
    }

    /// The same, when the stack has just let both through.
    #[track_caller]
    pub(super) fn verified_legs(self, kind: &Kind, tables: &MemoryTables) -> [Leg; 2] {
        let legs = self.legs(kind);
        for leg in &legs {
            leg.is_verified(tables);
        }
        legs
    }
}
