//! An entry of connection tracking.

use std::{fmt, net::Ipv4Addr};

use netlink_packet_core::{DefaultNla, Nla as _};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, IPTuple, ProtoInfo, ProtoInfoTCP, ProtoTuple, Protocol, Status, TCPFlags,
    Tuple,
};

use super::ipv4;

/// TCP as conntrack has it once both ends have said that they are there
/// (`TCP_CONNTRACK_ESTABLISHED`).
pub const TCP_ESTABLISHED: u8 = 3;

/// `IP_CT_TCP_FLAG_BE_LIBERAL`, alone of the flags.
pub(super) const BE_LIBERAL: u8 = 8;

/// Attributes that the crate has no names for (`enum ctattr_type`, `enum ctattr_l4proto`).
const CTA_ZONE: u16 = 18;
const CTA_PROTO_ICMP_ID: u16 = 4;
const CTA_PROTO_ICMP_TYPE: u16 = 5;
const CTA_PROTO_ICMP_CODE: u16 = 6;

/// What a packet has by which conntrack finds its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnTuple {
    /// Where it is from.
    pub source: Ipv4Addr,
    /// Where it goes.
    pub destination: Ipv4Addr,
    /// IP protocol number.
    pub protocol: u8,
    /// What tells it from others of the same ends.
    pub detail: Detail,
}

/// What tells connections of the same ends from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Ports, of the source and of the destination.
    Ports(u16, u16),
    /// An ICMP message's identifier and type.
    Icmp(u16, u8),
}

/// An entry of connection tracking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionEntry {
    /// What packets of its first one's way come with.
    pub original: ConnTuple,
    /// What packets of the other way come with. Where it is not the first turned around, addresses
    /// or ports are translated.
    pub reply: ConnTuple,
    /// In how many seconds it is forgotten, unless a packet comes.
    pub timeout: Option<u32>,
    /// Whether a packet of the other way has come.
    pub has_reply: bool,
    /// Whether nothing but itself changes that time.
    pub is_fixed: bool,
    /// The state of a TCP connection, such as [`TCP_ESTABLISHED`].
    pub tcp_state: Option<u8>,
    /// In a zone of its own, which.
    zone: Option<DefaultNla>,
}

impl ConnectionEntry {
    /// An entry of which no more than this is known.
    #[must_use]
    pub fn new(original: ConnTuple, reply: ConnTuple) -> Self {
        Self {
            original,
            reply,
            timeout: None,
            has_reply: false,
            is_fixed: false,
            tcp_state: None,
            zone: None,
        }
    }

    /// The entry that these attributes tell of, if it is an IPv4 one.
    pub(super) fn from_attributes(attributes: &[ConntrackAttribute]) -> Option<Self> {
        let (mut original, mut reply) = (None, None);
        for attribute in attributes {
            match attribute {
                ConntrackAttribute::CtaTupleOrig(tuple) => original = ConnTuple::parse(tuple),
                ConntrackAttribute::CtaTupleReply(tuple) => reply = ConnTuple::parse(tuple),
                _ => {}
            }
        }
        let mut entry = Self::new(original?, reply?);
        for attribute in attributes {
            entry.take(attribute);
        }
        Some(entry)
    }

    fn take(&mut self, attribute: &ConntrackAttribute) {
        match attribute {
            ConntrackAttribute::CtaTimeout(seconds) => self.timeout = Some(*seconds),
            ConntrackAttribute::CtaStatus(status) => {
                self.has_reply = status.contains(Status::SeenReply);
                self.is_fixed = status.intersects(Status::FixedTimeout | Status::Offload);
            }
            ConntrackAttribute::CtaProtoInfo(info) => self.tcp_state = state(info),
            ConntrackAttribute::Other(other) if other.kind() == CTA_ZONE => {
                self.zone = Some(other.clone());
            }
            _ => {}
        }
    }

    /// What the kernel knows it by.
    pub(super) fn identity(&self) -> Vec<ConntrackAttribute> {
        let zone = self.zone.clone().map(ConntrackAttribute::Other);
        [self.original.attribute()]
            .into_iter()
            .chain(zone)
            .collect()
    }

    /// What a packet that comes with `tuple`, which is of this entry, leaves with.
    #[must_use]
    pub fn leaves_as(&self, tuple: &ConnTuple) -> ConnTuple {
        if *tuple == self.reply {
            self.original.turned_around()
        } else {
            self.reply.turned_around()
        }
    }

    /// The state of a TCP connection, as conntrack(8) writes it.
    #[must_use]
    pub fn tcp_state_name(&self) -> Option<&'static str> {
        const NAMES: [&str; 10] = [
            "NONE",
            "SYN_SENT",
            "SYN_RECV",
            "ESTABLISHED",
            "FIN_WAIT",
            "CLOSE_WAIT",
            "LAST_ACK",
            "TIME_WAIT",
            "CLOSE",
            "SYN_SENT2",
        ];
        NAMES.get(usize::from(self.tcp_state?)).copied()
    }
}

fn state(info: &[ProtoInfo]) -> Option<u8> {
    info.iter().find_map(|info| match info {
        ProtoInfo::TCP(info) => info.iter().find_map(|info| match info {
            ProtoInfoTCP::State(state) => Some(*state),
            _ => None,
        }),
        _ => None,
    })
}

/// The flags that have a direction of a TCP connection be judged liberally.
pub(super) fn liberal() -> TCPFlags {
    let mut flags = TCPFlags::parse(&[0, 0]).expect("two bytes are flags and mask");
    flags.flags = BE_LIBERAL;
    flags.mask = BE_LIBERAL;
    flags
}

impl ConnTuple {
    /// The tuple of what goes the other way, untranslated.
    #[must_use]
    pub fn turned_around(&self) -> Self {
        const ECHO_REPLY: u8 = 0;
        const ECHO_REQUEST: u8 = 8;
        Self {
            source: self.destination,
            destination: self.source,
            protocol: self.protocol,
            detail: match self.detail {
                Detail::Ports(from, to) => Detail::Ports(to, from),
                Detail::Icmp(id, ECHO_REQUEST) => Detail::Icmp(id, ECHO_REPLY),
                Detail::Icmp(id, ECHO_REPLY) => Detail::Icmp(id, ECHO_REQUEST),
                other @ Detail::Icmp(..) => other,
            },
        }
    }

    /// As the attribute of a request.
    pub(super) fn attribute(&self) -> ConntrackAttribute {
        let mut proto = vec![ProtoTuple::Protocol(Protocol::from(self.protocol))];
        match self.detail {
            Detail::Ports(from, to) => proto.extend([
                ProtoTuple::SourcePort(from),
                ProtoTuple::DestinationPort(to),
            ]),
            Detail::Icmp(id, kind) => proto.extend(
                [
                    (CTA_PROTO_ICMP_ID, id.to_be_bytes().to_vec()),
                    (CTA_PROTO_ICMP_TYPE, vec![kind]),
                    (CTA_PROTO_ICMP_CODE, vec![0]),
                ]
                .map(|(kind, value)| ProtoTuple::Other(DefaultNla::new(kind, value))),
            ),
        }
        ConntrackAttribute::CtaTupleOrig(vec![
            Tuple::Ip(vec![
                IPTuple::SourceAddress(self.source.into()),
                IPTuple::DestinationAddress(self.destination.into()),
            ]),
            Tuple::Proto(proto),
        ])
    }

    fn parse(tuple: &[Tuple]) -> Option<Self> {
        let (mut source, mut destination) = (None, None);
        let (mut protocol, mut ports, mut icmp) = (None, (0, 0), None);
        for part in tuple {
            match part {
                Tuple::Ip(addresses) => {
                    for address in addresses {
                        match address {
                            IPTuple::SourceAddress(address) => source = ipv4(*address),
                            IPTuple::DestinationAddress(address) => destination = ipv4(*address),
                            _ => {}
                        }
                    }
                }
                Tuple::Proto(details) => {
                    for part in details {
                        match part {
                            ProtoTuple::Protocol(number) => protocol = Some(u8::from(*number)),
                            ProtoTuple::SourcePort(port) => ports.0 = *port,
                            ProtoTuple::DestinationPort(port) => ports.1 = *port,
                            ProtoTuple::Other(other) => icmp_part(other, &mut icmp),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Some(Self {
            source: source?,
            destination: destination?,
            protocol: protocol?,
            detail: icmp.map_or(Detail::Ports(ports.0, ports.1), |(id, kind)| {
                Detail::Icmp(id, kind)
            }),
        })
    }
}

fn icmp_part(attribute: &DefaultNla, icmp: &mut Option<(u16, u8)>) {
    let mut value = vec![0; attribute.value_len()];
    attribute.emit_value(&mut value);
    let (id, kind) = icmp.get_or_insert_default();
    match (attribute.kind(), &*value) {
        (CTA_PROTO_ICMP_ID, [high, low]) => *id = u16::from_be_bytes([*high, *low]),
        (CTA_PROTO_ICMP_TYPE, [number]) => *kind = *number,
        _ => {}
    }
}

impl fmt::Display for ConnTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            source,
            destination,
            ..
        } = self;
        match self.detail {
            Detail::Ports(from, to) => write!(f, "{source}:{from} -> {destination}:{to}"),
            Detail::Icmp(id, _) => write!(f, "{source} -> {destination} (echo {id})"),
        }
    }
}
