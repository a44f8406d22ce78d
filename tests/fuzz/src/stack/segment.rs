//! Packets, as netfilter sees them.

use std::{fmt, net::Ipv4Addr};

use dataplane_common::abi::Addr;

pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const ACK: u8 = 0x10;

/// A protocol that connections are tracked of; of ICMP echo, which half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Protocol {
    Tcp,
    Udp,
    Request,
    Reply,
}

/// One end: a port is ICMP's identifier, too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct End {
    pub(super) address: Addr,
    pub(super) port: u16,
}

/// One way of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tuple {
    pub(super) protocol: Protocol,
    pub(super) source: End,
    pub(super) destination: End,
}

impl Tuple {
    /// The other way of it.
    pub(super) const fn inverse(self) -> Self {
        Self {
            protocol: match self.protocol {
                Protocol::Request => Protocol::Reply,
                Protocol::Reply => Protocol::Request,
                protocol => protocol,
            },
            source: self.destination,
            destination: self.source,
        }
    }

    /// The same from another port, or with another identifier.
    pub(super) const fn with_source_port(mut self, port: u16) -> Self {
        self.source.port = port;
        if matches!(self.protocol, Protocol::Request | Protocol::Reply) {
            self.destination.port = port;
        }
        self
    }
}

/// A packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) tuple: Tuple,
    /// TCP's.
    pub(super) flags: u8,
}

impl Segment {
    pub(super) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether connection tracking must see it.
    pub(super) fn is_handshake(&self) -> bool {
        self.tuple.protocol == Protocol::Tcp && self.has(SYN | FIN | RST)
    }
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", Ipv4Addr::from(self.address), self.port)
    }
}

impl fmt::Debug for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            protocol,
            source,
            destination,
        } = self;
        write!(f, "{protocol:?} {source:?} > {destination:?}")
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.tuple)?;
        for (flag, name) in [(SYN, "SYN"), (FIN, "FIN"), (RST, "RST"), (ACK, "ACK")] {
            if self.has(flag) {
                write!(f, " {name}")?;
            }
        }
        Ok(())
    }
}
