//! What a router says about packets that it does not forward (RFC 792, RFC 1812 section 4.3).

use std::net::Ipv4Addr;

use etherparse::{
    Icmpv4Type,
    icmpv4::{DestUnreachableHeader, ParameterProblemHeader, TimeExceededCode},
};

use crate::Ip;

/// Precedence "internetwork control" (RFC 1812 section 4.3.2.5).
const INTERNETWORK_CONTROL: u8 = 0xc0;
/// As much as Linux makes an error long, RFC 1812 section 4.3.2.3, less IP and ICMP header, in
/// bytes.
const QUOTED: usize = 576 - 20 - 8;

/// The TTL has run out.
pub(super) fn ttl_exceeded(from: Ipv4Addr, to: Ipv4Addr, about: &[u8]) -> Vec<u8> {
    let kind = Icmpv4Type::TimeExceeded(TimeExceededCode::TtlExceededInTransit);
    error(from, to, kind, about)
}

/// It does not fit, and may not be fragmented.
pub(super) fn too_big(from: Ipv4Addr, to: Ipv4Addr, next_hop_mtu: u16, about: &[u8]) -> Vec<u8> {
    let why = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu };
    unreachable(from, to, why, about)
}

/// There is no way to its destination.
pub(super) fn unreachable(
    from: Ipv4Addr,
    to: Ipv4Addr,
    why: DestUnreachableHeader,
    about: &[u8],
) -> Vec<u8> {
    error(from, to, Icmpv4Type::DestinationUnreachable(why), about)
}

/// There is something wrong at this byte of its header.
pub(super) fn parameter_problem(from: Ipv4Addr, to: Ipv4Addr, at: u8, about: &[u8]) -> Vec<u8> {
    let pointer = ParameterProblemHeader::PointerIndicatesError(at);
    error(from, to, Icmpv4Type::ParameterProblem(pointer), about)
}

fn error(from: Ipv4Addr, to: Ipv4Addr, kind: Icmpv4Type, about: &[u8]) -> Vec<u8> {
    let quoted = &about[..about.len().min(QUOTED)];
    Ip::new(from, to)
        .tos(INTERNETWORK_CONTROL)
        .icmp(kind, quoted)
}
