//! Packets of every kind, cut off at every byte and with every byte of their headers changed, at
//! every program: it does what the host's implementation does, which passes nothing on that is cut
//! off (`dataplane-common/tests/packets/robustness.rs`).

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use dataplane_common::{
    abi::{Addr, Config, Endpoint, Hook, NextHop, NextHopKind, Peer, Workload},
    decide::Origin,
    memory::{MemoryPacket, MemoryTables},
    reason::Reason,
};
use dataplane_fuzz::{Case, Surroundings};
use dataplane_tests::{Ip, Lab, Mac, differential::Differential, frames, require_root};
use etherparse::{EtherType, TcpHeader};

/// To the end of a TCP header in VXLAN.
const HEADERS: usize = 14 + 50 + 20 + 20;
const VNI: u32 = 4096;
const DATA: &[u8] = b"what the pod has to say";

const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 10);
const PEER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 11);
const VTEP: Mac = Mac([0x66, 0, 0, 0, 0, 1]);
const PEER_VTEP: Mac = Mac([0x66, 0, 0, 0, 0, 2]);
const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 3);
const TUNNEL_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
const DIRECT: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
const IPIP: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 2);
const VXLAN: Ipv4Addr = Ipv4Addr::new(10, 244, 3, 2);
/// On the same link as [`PEER`], but nobody knows where.
const WAITING: Ipv4Addr = Ipv4Addr::new(10, 244, 4, 2);

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn programs_do_to_cut_packets_what_the_host_does() -> Result<()> {
    each_kind(|name, packet, hook, check| {
        for length in 14..packet.len() {
            check(&packet[..length])
                .with_context(|| format!("{name} at {hook:?}, {length} bytes"))?;
        }
        Ok(())
    })
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn programs_do_to_changed_packets_what_the_host_does() -> Result<()> {
    each_kind(|name, packet, hook, check| {
        let mut changed = packet.to_vec();
        for offset in 0..packet.len().min(HEADERS) {
            let bits = (0..8).map(|bit| packet[offset] ^ 1 << bit);
            for value in bits.chain([0, u8::MAX]) {
                changed[offset] = value;
                check(&changed)
                    .with_context(|| format!("{name} at {hook:?}, byte {offset} is {value:#x}"))?;
            }
            changed[offset] = packet[offset];
        }
        Ok(())
    })
}

/// Hands every kind of packet at every hook to `vary`, with what compares the host and the program.
fn each_kind(
    vary: impl Fn(&str, &[u8], Hook, &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>,
) -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 2)?;
    let mut differential = Differential::new(lab.node("node-0"))?;
    let around = differential.around().clone();
    differential.set_tables(tables(&around))?;
    for Kind(name, at, reason, packet) in kinds(&around) {
        let counted = differential.compare(&case(at, &packet, &around));
        let counted = counted.context(name)?;
        assert_eq!(counted, Some(reason), "{name}");
        for hook in Hook::DECIDING {
            vary(name, &packet, hook, &mut |bytes| {
                differential
                    .compare(&case(hook, bytes, &around))
                    .map(|_| ())
            })?;
        }
    }
    differential.compare_counters()
}

fn case(hook: Hook, bytes: &[u8], around: &Surroundings) -> Case {
    let interface = match hook {
        Hook::FromWorkload => around.workloads[0],
        _ => around.uplink,
    };
    Case {
        hook,
        ifindex: interface.index,
        origin: Origin::Program,
        packet: MemoryPacket::new(bytes.to_vec()),
    }
}

/// A packet, with what the program of a hook counts it as.
struct Kind(&'static str, Hook, Reason, Vec<u8>);

fn kinds(around: &Surroundings) -> Vec<Kind> {
    let mut kinds = from_pod();
    kinds.extend(from_wire(Mac(around.uplink.mac)));
    kinds.extend(from_host());
    kinds
}

fn from_pod() -> Vec<Kind> {
    let mac = Mac::of(POD, 0);
    let kind = |name, reason, frame| Kind(name, Hook::FromWorkload, reason, frame);
    let ip = |name, reason, packet: Vec<u8>| {
        kind(name, reason, frames::ethernet(mac, Mac::CALICO, &packet))
    };
    let to = |destination| Ip::new(POD, destination);
    let tagged = |ether_type| {
        frames::ethernet_with_type(mac, Mac::CALICO, ether_type, &to(NEIGHBOUR).udp(1, 2, DATA))
    };
    vec![
        kind(
            "ARP",
            Reason::ArpAnswered,
            frames::arp_gateway_request(mac, POD),
        ),
        kind(
            "a probe",
            Reason::ArpOther,
            frames::arp_duplicate_probe(mac, POD),
        ),
        kind("IPv6", Reason::NotIpv4, tagged(EtherType::IPV6.0)),
        kind(
            "VLAN",
            Reason::SpoofedSource,
            tagged(EtherType::VLAN_TAGGED_FRAME.0),
        ),
        ip(
            "local, UDP",
            Reason::DeliveredLocal,
            to(NEIGHBOUR).udp(1, 2, DATA),
        ),
        ip(
            "local, TCP",
            Reason::DeliveredLocal,
            to(NEIGHBOUR).tcp(tcp(), DATA),
        ),
        ip(
            "direct, ICMP",
            Reason::SentDirect,
            to(DIRECT).echo_request(1, 1, DATA),
        ),
        ip(
            "IPIP, UDP",
            Reason::SentIpip,
            to(IPIP).dont_fragment(true).udp(1, 2, DATA),
        ),
        ip(
            "IPIP, TCP",
            Reason::SentIpip,
            to(IPIP).tos(0xbb).tcp(tcp(), DATA),
        ),
        ip("VXLAN, UDP", Reason::SentVxlan, to(VXLAN).udp(1, 2, DATA)),
        ip(
            "VXLAN, SCTP",
            Reason::SentVxlan,
            to(VXLAN).tos(1).packet(132, DATA),
        ),
        ip(
            "VXLAN, nothing",
            Reason::SentVxlan,
            to(VXLAN).packet(6, &[]),
        ),
        ip(
            "a fragment",
            Reason::Fragment,
            to(VXLAN).fragment(1480, true).packet(17, DATA),
        ),
        ip(
            "options",
            Reason::Options,
            to(IPIP).options(&[1; 8]).packet(17, DATA),
        ),
        ip(
            "a tunnel",
            Reason::WorkloadTunnel,
            to(VXLAN).ipip(&to(IPIP).udp(1, 2, DATA)),
        ),
    ]
}

fn from_wire(mac: Mac) -> Vec<Kind> {
    let kind = |name, reason, packet: Vec<u8>| {
        Kind(
            name,
            Hook::FromUplink,
            reason,
            frames::ethernet(PEER_VTEP, mac, &packet),
        )
    };
    let outer = Ip::new(PEER, NODE);
    let ipip = |name, reason, inner: Vec<u8>| kind(name, reason, outer.ipip(&inner));
    let vxlan = |name, reason, inner: Vec<u8>| {
        let frame = frames::ethernet(PEER_VTEP, VTEP, &inner);
        kind(name, reason, outer.vxlan(VNI, &frame, false))
    };
    let by_ipip = |to| Ip::new(IPIP, to);
    let by_vxlan = |to| Ip::new(VXLAN, to);
    let frame = frames::ethernet(PEER_VTEP, VTEP, &by_vxlan(POD).udp(1, 2, DATA));
    let cut = by_vxlan(POD).fragment(0, true).packet(17, DATA);
    let optional = by_vxlan(POD).options(&[1; 8]).packet(17, DATA);
    vec![
        kind(
            "direct in",
            Reason::ReceivedDirect,
            Ip::new(DIRECT, POD).udp(1, 2, DATA),
        ),
        ipip(
            "IPIP in",
            Reason::ReceivedIpip,
            by_ipip(POD).tos(2).udp(1, 2, DATA),
        ),
        ipip(
            "IPIP in, ICMP",
            Reason::ReceivedIpip,
            by_ipip(POD).echo_reply(1, 1, DATA),
        ),
        ipip(
            "IPIP in, for the host",
            Reason::ForHost,
            by_ipip(TUNNEL_ADDRESS).udp(1, 2, DATA),
        ),
        vxlan(
            "VXLAN in",
            Reason::ReceivedVxlan,
            by_vxlan(POD).udp(1, 2, DATA),
        ),
        vxlan(
            "VXLAN in, TCP",
            Reason::ReceivedVxlan,
            by_vxlan(POD).tos(1).tcp(tcp(), DATA),
        ),
        vxlan(
            "VXLAN in, for the host",
            Reason::ForHost,
            by_vxlan(TUNNEL_ADDRESS).udp(1, 2, DATA),
        ),
        vxlan("VXLAN in, options", Reason::Options, optional),
        vxlan("VXLAN in, a fragment", Reason::Fragment, cut),
        kind(
            "another network",
            Reason::NotOurTunnel,
            outer.vxlan(1, &frame, false),
        ),
        kind(
            "with a checksum",
            Reason::OuterChecksum,
            outer.vxlan(VNI, &frame, true),
        ),
    ]
}

fn from_host() -> Vec<Kind> {
    let kind = |name, reason, packet: Vec<u8>| {
        Kind(
            name,
            Hook::FromStack,
            reason,
            frames::ethernet(VTEP, VTEP, &packet),
        )
    };
    let to = |destination| Ip::new(TUNNEL_ADDRESS, destination);
    let cut = to(VXLAN).fragment(1480, false).packet(17, DATA);
    vec![
        kind("host, IPIP", Reason::SentIpip, to(IPIP).udp(1, 2, DATA)),
        kind("host, VXLAN, a fragment", Reason::SentVxlan, cut),
        kind(
            "host, VXLAN, options",
            Reason::SentVxlan,
            to(VXLAN).options(&[7; 8]).packet(17, DATA),
        ),
        kind(
            "host, by the detour",
            Reason::Detour,
            to(WAITING).udp(1, 2, DATA),
        ),
    ]
}

fn tcp() -> TcpHeader {
    TcpHeader::new(40_000, 80, 1, 1000)
}

fn tables(around: &Surroundings) -> MemoryTables {
    let config = Config {
        node: NODE.octets(),
        vni: VNI,
        flags: 0,
        carrier: 7,
        vxlan_port: frames::VXLAN_PORT.to_be_bytes(),
        vtep_mac: VTEP.0,
        gateways: [frames::GATEWAY.octets(), [0; 4], [0; 4], [0; 4]],
        ..Config::default()
    };
    let local = NextHop {
        kind: NextHopKind::Local as u8,
        ..NextHop::default()
    };
    let to = |kind, gateway| NextHop {
        kind: kind as u8,
        mtu: 1450,
        ifindex: around.uplink.index,
        peer: PEER.octets(),
        gateway,
        source: NODE.octets(),
        vtep_mac: PEER_VTEP.0,
        ..NextHop::default()
    };
    let routes = [
        (POD, local),
        (DIRECT, to(NextHopKind::Direct, around.resolved)),
        (IPIP, to(NextHopKind::Ipip, around.resolved)),
        (VXLAN, to(NextHopKind::Vxlan, around.resolved)),
        (WAITING, to(NextHopKind::Ipip, around.unresolved)),
    ];
    let pods = [POD, NEIGHBOUR].into_iter().zip(&around.workloads).zip(0..);
    MemoryTables {
        config: Some(config),
        routes: routes.map(|(pod, hop)| ((24, block(pod)), hop)).into(),
        multipaths: [].into(),
        endpoints: pods
            .map(|((address, interface), number)| {
                let endpoint = Endpoint {
                    ifindex: interface.index,
                    mtu: 1450,
                    mac: Mac::of(address, 0).0,
                    host_mac: interface.mac,
                    number,
                    ..Endpoint::default()
                };
                (address.octets(), endpoint)
            })
            .collect(),
        workloads: around
            .workloads
            .iter()
            .map(|interface| {
                let workload = Workload {
                    mac: interface.mac,
                    ..Workload::default()
                };
                (interface.index, workload)
            })
            .collect(),
        peers: [(PEER.octets(), Peer::default())].into(),
        ..MemoryTables::default()
    }
}

/// The /24 of a pod.
fn block(pod: Ipv4Addr) -> Addr {
    let [a, b, c, _] = pod.octets();
    [a, b, c, 0]
}
