//! The flow that a packet is of, for acceleration beside netfilter.

use crate::{
    abi::{Addr, Asker, FlowKey},
    headers::IPV4_LEN,
    packet::Packet,
    parse::{Ipv4, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP},
    reason::Reason,
};

/// IP protocol number of ICMP.
const PROTOCOL_ICMP: u8 = 1;
/// Where in a TCP header the flags lie, and those that open, close or reset a connection: FIN, SYN,
/// RST.
const TCP_FLAGS: usize = 13;
const TCP_HANDSHAKE: u8 = 0x01 | 0x02 | 0x04;
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

/// The flow of a packet, and which way the packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// The same for both ways.
    pub key: FlowKey,
    /// 0 from the lower address, 1 from the higher one.
    pub direction: usize,
    /// Whether the packet opens, closes or resets a connection, which connection tracking must see.
    pub is_handshake: bool,
}

impl Tuple {
    /// The flow of the packet `ip`, whose header is at `offset`.
    ///
    /// # Errors
    ///
    /// [`Reason::NotAFlow`]: what belongs to no flow by itself, such as a fragment or an ICMP error.
    #[inline(always)]
    pub fn of<P: Packet>(packet: &P, ip: &Ipv4, offset: usize) -> Result<Self, Reason> {
        if ip.fragment || ip.options {
            return Err(Reason::NotAFlow);
        }
        let transport = offset + IPV4_LEN;
        let direction = direction(ip.source, ip.destination)?;
        let (ports, asks, is_handshake) = match ip.protocol {
            PROTOCOL_TCP => {
                let [flags] = read(packet, transport + TCP_FLAGS)?;
                let is_handshake = flags & TCP_HANDSHAKE != 0;
                (read(packet, transport)?, Asker::Either, is_handshake)
            }
            PROTOCOL_UDP => (read(packet, transport)?, Asker::Either, false),
            PROTOCOL_SCTP => {
                let is_handshake = !is_sctp_data(packet, ip, transport)?;
                (read(packet, transport)?, Asker::Either, is_handshake)
            }
            PROTOCOL_ICMP => {
                let [a, b] = read(packet, transport + ECHO_ID)?;
                (
                    [a, b, a, b],
                    echo_asker(read(packet, transport)?, direction)?,
                    false,
                )
            }
            _ => return Err(Reason::NotAFlow),
        };
        let [a, b, c, d] = ports;
        let (from, to) = ([a, b], [c, d]);
        let (lower, higher, lower_port, higher_port) = if direction == 0 {
            (ip.source, ip.destination, from, to)
        } else {
            (ip.destination, ip.source, to, from)
        };
        Ok(Self {
            key: FlowKey {
                lower,
                higher,
                lower_port,
                higher_port,
                protocol: ip.protocol,
                asker: asks as u8,
                padding: [0; 2],
            },
            direction,
            is_handshake,
        })
    }

    /// What a packet bears through the stack, to be known at its other end for the one that came in:
    /// a hash of the flow, the way, and the generation that it came in, never 0 nor [`CUT_UP`]. So one
    /// that has been in the stack since before the rules changed says nothing of the new ones.
    #[inline(always)]
    #[must_use]
    pub fn mark(&self, generation: u16) -> u16 {
        let FlowKey {
            lower,
            higher,
            lower_port: [a, b],
            higher_port: [c, d],
            protocol,
            asker,
            ..
        } = self.key;
        #[allow(clippy::cast_possible_truncation)] // 0 or 1
        let asker_and_way = asker << 1 | self.direction as u8;
        let [high, low] = generation.to_be_bytes();
        let rest = [protocol, asker_and_way, high, low];
        let hash = [higher, [a, b, c, d], rest]
            .into_iter()
            .fold(mix(0, lower), mix);
        // The upper bits of a product depend on all bits of its factors.
        #[allow(clippy::cast_possible_truncation)] // 16 bits
        let mark = (hash.wrapping_mul(0x9e37_79b1) >> 16) as u16;
        match mark {
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

/// What a pod sends to itself has no direction, and is the stack's anyway.
#[inline(always)]
fn direction(source: Addr, destination: Addr) -> Result<usize, Reason> {
    let (source, destination) = (u32::from_be_bytes(source), u32::from_be_bytes(destination));
    if source == destination {
        return Err(Reason::NotAFlow);
    }
    Ok(usize::from(source > destination))
}

#[inline(always)]
fn read<P: Packet, const N: usize>(packet: &P, offset: usize) -> Result<[u8; N], Reason>
where
    [u8; N]: crate::headers::Header,
{
    packet.header(offset).copied().ok_or(Reason::NotAFlow)
}

/// Whether there is nothing but user data, which comes after all other chunks (RFC 9260, section
/// 6.10), or nothing but an acknowledgement of it.
#[inline(always)]
fn is_sctp_data<P: Packet>(packet: &P, ip: &Ipv4, transport: usize) -> Result<bool, Reason> {
    let [kind, _, high, low]: [u8; 4] = read(packet, transport + SCTP_CHUNK)?;
    let payload = usize::from(ip.total_length) - IPV4_LEN;
    let chunk = usize::from(u16::from_be_bytes([high, low]));
    Ok(kind == SCTP_DATA || kind == SCTP_SACK && SCTP_CHUNK + chunk == payload)
}

/// Who of both asks, by which way a request goes.
#[inline(always)]
fn echo_asker([kind, code]: [u8; 2], direction: usize) -> Result<Asker, Reason> {
    let from_lower = direction == 0;
    match (kind, code) {
        (ECHO_REQUEST, 0) if from_lower => Ok(Asker::Lower),
        (ECHO_REQUEST, 0) => Ok(Asker::Higher),
        (ECHO_REPLY, 0) if from_lower => Ok(Asker::Higher),
        (ECHO_REPLY, 0) => Ok(Asker::Lower),
        _ => Err(Reason::NotAFlow),
    }
}
