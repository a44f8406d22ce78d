//! The flow that a packet is of, for acceleration beside netfilter.

use crate::{
    abi::{Asker, Direction, Flow, FlowKey},
    headers::IPV4_LEN,
    packet::Packet,
    parse::{Ipv4, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP},
    reason::Reason,
};

/// IP protocol number of ICMP.
const PROTOCOL_ICMP: u8 = 1;
/// Where in a TCP header its length lies, in 32-bit words in the upper half of a byte, and behind it the
/// flags: those that open, close or reset a connection, and that an acknowledgement has.
const TCP_LENGTH_AND_FLAGS: usize = 12;
const TCP_FIN_SYN_RST: u8 = 0x01 | TCP_SYN | 0x04;
const TCP_SYN: u8 = 0x02;
const TCP_ACK: u8 = 0x10;
/// Where in an SCTP packet its first chunk begins (RFC 9260, section 3).
const SCTP_CHUNK: usize = 12;
const SCTP_DATA: u8 = 0;
const SCTP_SACK: u8 = 3;
/// Types of ICMP echo (RFC 792), and where the identifier lies.
const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
const ECHO_ID: usize = 4;

/// The value of a [`Tuple::mark`] that is none: `skb->tc_index` of what the carrier cuts up on its
/// way to itself. Two letters of our name.
pub const CUT_UP: u16 = 0x7570;

/// What a packet is to its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It opens, closes or resets the connection, which connection tracking must see.
    Handshake,
    /// So it does, and it answers: the second of a handshake.
    Answer,
    /// It acknowledges, and brings nothing itself: the last of a handshake, and the last of all.
    Acknowledgement,
    /// Anything else.
    Data,
}

/// The flow of a packet, and which way the packet goes, as numbers: that is what functions of BPF
/// take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuple {
    /// The lower address in the upper half, and the higher one.
    pub addresses: u64,
    /// From below: the lower one's port and the higher one's, 16 bits each; 8 of the protocol, 8 of who
    /// [asks](Asker); and one that is set on the way from the higher address.
    pub rest: u64,
}

/// Set on the way from the higher address.
const BACK: u64 = 1 << 48;

impl Tuple {
    /// The flow of the packet `ip`, whose header is at `offset`, and what the packet is to it.
    ///
    /// # Errors
    ///
    /// [`Reason::NotAFlow`]: what belongs to no flow by itself, such as a fragment or an ICMP error.
    #[inline(always)]
    pub fn of<P: Packet>(packet: &P, ip: &Ipv4, offset: usize) -> Result<(Self, Role), Reason> {
        if ip.fragment || ip.options {
            return Err(Reason::NotAFlow);
        }
        let transport = offset + IPV4_LEN;
        let source = u64::from(u32::from_be_bytes(ip.source));
        let destination = u64::from(u32::from_be_bytes(ip.destination));
        // What a pod sends to itself has no direction, and is the stack's anyway.
        if source == destination {
            return Err(Reason::NotAFlow);
        }
        let is_back = source > destination;
        let (ports, asks, role) = match ip.protocol {
            PROTOCOL_TCP => {
                let role = tcp_role(ip, read(packet, transport + TCP_LENGTH_AND_FLAGS)?);
                (read(packet, transport)?, Asker::Either, role)
            }
            PROTOCOL_UDP => (read(packet, transport)?, Asker::Either, Role::Data),
            PROTOCOL_SCTP => {
                let role = sctp_role(packet, ip, transport)?;
                (read(packet, transport)?, Asker::Either, role)
            }
            PROTOCOL_ICMP => {
                let [a, b] = read(packet, transport + ECHO_ID)?;
                (
                    [a, b, a, b],
                    echo_asker(read(packet, transport)?, is_back)?,
                    Role::Data,
                )
            }
            _ => return Err(Reason::NotAFlow),
        };
        let [a, b, c, d] = ports;
        let (from, to) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let (from, to) = (u64::from(from), u64::from(to));
        let (lower_port, higher_port) = if is_back { (to, from) } else { (from, to) };
        let tuple = Self {
            addresses: if is_back {
                destination << 32 | source
            } else {
                source << 32 | destination
            },
            rest: lower_port
                | higher_port << 16
                | u64::from(ip.protocol) << 32
                | (asks as u64) << 40
                | if is_back { BACK } else { 0 },
        };
        Ok((tuple, role))
    }

    /// What the flow is found by.
    #[inline(always)]
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // fields
    pub const fn key(self) -> FlowKey {
        FlowKey {
            lower: ((self.addresses >> 32) as u32).to_be_bytes(),
            higher: (self.addresses as u32).to_be_bytes(),
            lower_port: (self.rest as u16).to_be_bytes(),
            higher_port: ((self.rest >> 16) as u16).to_be_bytes(),
            protocol: (self.rest >> 32) as u8,
            asker: (self.rest >> 40) as u8,
            padding: [0; 2],
        }
    }

    /// Whether it is on the way from the higher address.
    #[inline(always)]
    #[must_use]
    pub const fn is_back(self) -> bool {
        self.rest & BACK != 0
    }

    /// What is remembered of this way of its flow.
    #[inline(always)]
    #[must_use]
    pub const fn direction(self, flow: &Flow) -> &Direction {
        let [there, back] = &flow.directions;
        if self.is_back() { back } else { there }
    }

    /// The other way.
    #[inline(always)]
    #[must_use]
    pub const fn back(self) -> Self {
        Self {
            rest: self.rest ^ BACK,
            ..self
        }
    }

    /// What a packet bears through the stack, to be known at its other end for the one that came in:
    /// a hash of the flow, the way, the generation that it came in, and what the flow's entry is known
    /// by ([`Flow::incarnation`]), never 0 nor [`CUT_UP`]. So one that has been in the stack since before
    /// the rules changed, or before the connection was opened anew, says nothing of now.
    #[inline(always)]
    #[must_use]
    pub const fn mark(self, generation: u16, incarnation: u64) -> u16 {
        // The upper bits of a product depend on all bits of its factors. (Knuth, TAOCP 6.4; the
        // constant is 2^64 over the golden ratio.)
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let rest = self.rest | (generation as u64) << 49;
        let hash = (self.addresses ^ incarnation).wrapping_mul(GOLDEN);
        let hash = (hash.rotate_left(32) ^ rest).wrapping_mul(GOLDEN);
        match (hash >> 48) as u16 {
            0 | CUT_UP => 1,
            mark => mark,
        }
    }
}

/// One step of a multiplicative hash (Knuth, TAOCP 6.4; the constant is 2^32 over the golden ratio).
#[inline(always)]
pub(crate) fn mix(hash: u32, bytes: [u8; 4]) -> u32 {
    (hash ^ u32::from_ne_bytes(bytes))
        .wrapping_mul(0x9e37_79b1)
        .rotate_left(15)
}

#[inline(always)]
fn read<P: Packet, const N: usize>(packet: &P, offset: usize) -> Result<[u8; N], Reason>
where
    [u8; N]: crate::headers::Header,
{
    packet.header(offset).copied().ok_or(Reason::NotAFlow)
}

#[inline(always)]
fn tcp_role(ip: &Ipv4, [length, flags]: [u8; 2]) -> Role {
    let headers = IPV4_LEN + usize::from(length >> 4) * 4;
    if flags & TCP_FIN_SYN_RST != 0 {
        if flags & (TCP_FIN_SYN_RST | TCP_ACK) == TCP_SYN | TCP_ACK {
            Role::Answer
        } else {
            Role::Handshake
        }
    } else if usize::from(ip.total_length) == headers {
        Role::Acknowledgement
    } else {
        Role::Data
    }
}

/// User data comes after all other chunks (RFC 9260, section 6.10): where it is first, there is nothing
/// else. An acknowledgement of it is none where anything follows.
#[inline(always)]
fn sctp_role<P: Packet>(packet: &P, ip: &Ipv4, transport: usize) -> Result<Role, Reason> {
    let [kind, _, high, low]: [u8; 4] = read(packet, transport + SCTP_CHUNK)?;
    let payload = usize::from(ip.total_length) - IPV4_LEN;
    let chunk = usize::from(u16::from_be_bytes([high, low]));
    Ok(match kind {
        SCTP_DATA => Role::Data,
        SCTP_SACK if SCTP_CHUNK + chunk == payload => Role::Acknowledgement,
        _ => Role::Handshake,
    })
}

/// Who of both asks, by which way a request goes.
#[inline(always)]
fn echo_asker([kind, code]: [u8; 2], is_back: bool) -> Result<Asker, Reason> {
    match (kind, code) {
        (ECHO_REQUEST, 0) if is_back => Ok(Asker::Higher),
        (ECHO_REQUEST, 0) => Ok(Asker::Lower),
        (ECHO_REPLY, 0) if is_back => Ok(Asker::Lower),
        (ECHO_REPLY, 0) => Ok(Asker::Higher),
        _ => Err(Reason::NotAFlow),
    }
}
