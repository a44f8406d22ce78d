//! The bytes that leave, as etherparse reads them.

use dataplane_common::{
    abi::{Config, Mac, flags},
    decide::{Arrival, Decap, Verdict},
    headers::Header,
    memory::{self, MemoryPacket, MemoryTables},
    packet::{Packet, Tunnel},
    reason::{Action, Reason},
    rewrite,
};
use etherparse::{EtherType, Ethernet2Header, IpNumber, Ipv4Header, SlicedPacket, TransportSlice};

use crate::{
    frames::{IP, IPIP_INNER, Ip, PAYLOAD, Tamper, VXLAN_INNER, Vxlan},
    programs::{Program, carry_out},
    world::{
        FIRST, HERE, Mode, SECOND, TABLES, THERE, VNI, config, next_hop, node, pod, pod_mac,
        tunnel_address, veth, veth_mac, vtep_mac,
    },
};

/// A packet from the first pod of a pool to the first there.
fn out(mode: Mode) -> Ip {
    Ip::new(pod(mode, HERE, FIRST), pod(mode, THERE, FIRST))
}

/// The program of the packet's hook, carried out.
#[track_caller]
fn run(program: Program, frame: &MemoryPacket) -> Vec<u8> {
    let mut frame = frame.clone();
    let verdict = program.decide(&frame, &*TABLES);
    assert!(!matches!(verdict, Verdict::Leave(..)), "{verdict:?}");
    carry_out(&mut frame, &*TABLES, &verdict);
    frame.bytes
}

#[track_caller]
fn forward(mode: Mode, ip: &Ip) -> Vec<u8> {
    let veth = veth(pod(mode, HERE, FIRST));
    run(Program::Workload(veth), &ip.frame())
}

#[track_caller]
fn originate(ip: &Ip) -> Vec<u8> {
    run(Program::Stack, &ip.frame())
}

/// The IP header there, whose checksum is right.
#[track_caller]
fn ip_at(bytes: &[u8], offset: usize) -> Ipv4Header {
    let (header, _) = Ipv4Header::from_slice(&bytes[offset..]).unwrap();
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    header
}

fn tos(header: &Ipv4Header) -> u8 {
    header.dscp.value() << 2 | header.ecn.value()
}

/// What a router makes of a packet: a TTL less by one.
fn routed(ip: &Ip, ttl: u8) -> Vec<u8> {
    ip.clone().ttl(ttl - 1).packet()
}

#[test]
fn a_direct_packet_is_only_counted_down() {
    let bytes = forward(Mode::Direct, &out(Mode::Direct));
    assert_eq!(bytes[IP..], routed(&out(Mode::Direct), 64));
}

#[test]
fn ipip_puts_one_header_before_the_packet() {
    let ip = out(Mode::Ipip).id(0x1234);
    let bytes = forward(Mode::Ipip, &ip);
    assert_eq!(
        ip_at(&bytes, IP),
        Ipv4Header {
            dscp: 0.try_into().unwrap(),
            ecn: 0.try_into().unwrap(),
            total_len: 20 + 36,
            identification: 0x1234,
            dont_fragment: false,
            more_fragments: false,
            time_to_live: 63,
            protocol: IpNumber::IPV4,
            header_checksum: ip_at(&bytes, IP).header_checksum,
            source: node(HERE),
            destination: node(THERE),
            ..Ipv4Header::default()
        }
    );
    assert_eq!(bytes[IPIP_INNER..], routed(&ip, 64));
}

#[test]
fn vxlan_puts_four_headers_before_the_packet() {
    let ip = out(Mode::Vxlan).id(0x1234);
    let bytes = forward(Mode::Vxlan, &ip);
    assert_eq!(
        ip_at(&bytes, IP),
        Ipv4Header {
            dscp: 0.try_into().unwrap(),
            ecn: 0.try_into().unwrap(),
            total_len: 50 + 36,
            identification: 0x1234,
            dont_fragment: false,
            more_fragments: false,
            time_to_live: 64,
            protocol: IpNumber::UDP,
            header_checksum: ip_at(&bytes, IP).header_checksum,
            source: node(HERE),
            destination: node(THERE),
            ..Ipv4Header::default()
        }
    );
    // The whole is one consistent datagram.
    let parsed = SlicedPacket::from_ethernet(&bytes).unwrap();
    let Some(TransportSlice::Udp(udp)) = parsed.transport else {
        panic!("not UDP")
    };
    assert_eq!(udp.destination_port(), 4789);
    assert!(udp.source_port() >= 49152);
    assert_eq!(udp.length(), 8 + 8 + 14 + 36);
    assert_eq!(udp.checksum(), 0);
    let [_, a, b, c] = VNI.to_be_bytes();
    assert_eq!(udp.payload()[..8], [0x08, 0, 0, 0, a, b, c, 0]);

    let (ethernet, inner) = Ethernet2Header::from_slice(&udp.payload()[8..]).unwrap();
    assert_eq!(
        ethernet,
        Ethernet2Header {
            destination: vtep_mac(THERE),
            source: vtep_mac(HERE),
            ether_type: EtherType::IPV4,
        }
    );
    assert_eq!(inner, routed(&ip, 64));
    assert_eq!(bytes.len(), VXLAN_INNER + 36);
}

#[test]
fn the_outer_ttl_of_ipip_is_the_inner_one_and_that_of_vxlan_is_64() {
    for ttl in 2..=255 {
        let of = |mode| {
            let bytes = forward(mode, &out(mode).ttl(ttl));
            ip_at(&bytes, IP).time_to_live
        };
        assert_eq!(of(Mode::Ipip), ttl - 1);
        assert_eq!(of(Mode::Vxlan), 64);
    }
}

#[test]
fn the_inner_ttl_is_counted_down_by_the_router_but_not_by_the_origin() {
    for ttl in 2..=255 {
        for (mode, inner) in [
            (Mode::Direct, IP),
            (Mode::Ipip, IPIP_INNER),
            (Mode::Vxlan, VXLAN_INNER),
        ] {
            let ip = out(mode).ttl(ttl);
            assert_eq!(forward(mode, &ip)[inner..], routed(&ip, ttl));
            assert_eq!(originate(&ip)[inner..], ip.packet());
        }
    }
    // The stack's own packet may have a TTL of 1: the next node is its destination.
    let bytes = originate(&out(Mode::Ipip).ttl(1));
    assert_eq!(ip_at(&bytes, IP).time_to_live, 1);
    assert_eq!(ip_at(&bytes, IPIP_INNER).time_to_live, 1);
}

#[test]
fn dont_fragment_goes_on_to_the_outer_header_of_ipip_only() {
    for set in [false, true] {
        let of = |mode| {
            let bytes = forward(mode, &out(mode).dont_fragment(set));
            let header = ip_at(&bytes, IP);
            assert!(!header.more_fragments);
            assert_eq!(header.fragment_offset.value(), 0);
            header.dont_fragment
        };
        assert_eq!(of(Mode::Ipip), set);
        assert!(!of(Mode::Vxlan));
    }
}

/// `INET_ECN_encapsulate` with a tunnel TOS of 0: the outer ECN is the inner one, but congestion
/// that was marked before the tunnel is not told twice.
#[test]
fn the_outer_tos_is_the_inner_ecn_alone() {
    for dscp in [0, 0xb8, 0xfc] {
        for (inner, outer) in [(0, 0), (1, 1), (2, 2), (3, 2)] {
            for (mode, offset) in [(Mode::Ipip, IPIP_INNER), (Mode::Vxlan, VXLAN_INNER)] {
                let bytes = forward(mode, &out(mode).tos(dscp | inner));
                assert_eq!(tos(&ip_at(&bytes, IP)), outer);
                assert_eq!(tos(&ip_at(&bytes, offset)), dscp | inner);
            }
        }
    }
}

/// `tos` of the kernel's devices: a value for all, or `inherit`.
#[test]
fn the_outer_dscp_is_set_or_inherited() {
    let fixed = Config {
        dscp: 46,
        ..config(HERE)
    };
    let inherits = Config {
        flags: flags::INHERIT_DSCP,
        ..fixed
    };
    for (config, inner, outer) in [
        (fixed, 0x00, 0xb8),
        (fixed, 0x2a, 0xba),
        (inherits, 0x00, 0x00),
        (inherits, 0x2a, 0x2a),
        (inherits, 0xff, 0xfe),
    ] {
        for (mode, offset) in [(Mode::Ipip, IPIP_INNER), (Mode::Vxlan, VXLAN_INNER)] {
            let mut frame = out(mode).tos(inner).frame();
            let veth = veth(pod(mode, HERE, FIRST));
            let tables = MemoryTables {
                config: Some(config),
                ..TABLES.clone()
            };
            let verdict = Program::Workload(veth).decide(&frame, &tables);
            carry_out(&mut frame, &tables, &verdict);
            assert_eq!(tos(&ip_at(&frame.bytes, IP)), outer);
            assert_eq!(tos(&ip_at(&frame.bytes, offset)), inner);
        }
    }
}

#[test]
fn the_outer_id_is_the_inner_one() {
    for mode in [Mode::Ipip, Mode::Vxlan] {
        for id in [0, 1, 0x00ff, 0xff00, 0xffff] {
            let bytes = forward(mode, &out(mode).id(id));
            assert_eq!(ip_at(&bytes, IP).identification, id);
        }
    }
}

/// Every length, so that every carry in the checksum is met, and the longest there is.
#[test]
fn lengths_and_checksums_are_right_for_every_packet() {
    for mode in Mode::ALL {
        let overhead = mode.overhead();
        for length in 28..=mode.mtu() {
            let bytes = forward(mode, &out(mode).of_length(length));
            assert_eq!(bytes.len(), IP + usize::from(length + overhead));
            assert_eq!(ip_at(&bytes, IP).total_len, length + overhead);
        }
        let data = 65_535 - usize::from(overhead) - 40;
        let aggregate = out(mode).tcp(20, data).frame().of_segments(1400);
        let program = Program::Workload(veth(pod(mode, HERE, FIRST)));
        let bytes = run(program, &aggregate);
        assert_eq!(ip_at(&bytes, IP).total_len, 65_535);
        if mode == Mode::Vxlan {
            assert_eq!(bytes[PAYLOAD + 4..PAYLOAD + 6], 65_515_u16.to_be_bytes());
        }
    }
}

#[test]
fn ethernet_padding_stays_outside_the_outer_packet() {
    for mode in [Mode::Ipip, Mode::Vxlan] {
        let program = Program::Workload(veth(pod(mode, HERE, FIRST)));
        let ip = out(mode).payload(1, &[1]);
        let bytes = run(program, &ip.frame().padded(25));
        assert_eq!(ip_at(&bytes, IP).total_len, 21 + mode.overhead());
        if mode == Mode::Vxlan {
            assert_eq!(bytes[PAYLOAD + 4..PAYLOAD + 6], [0, 30 + 21]);
        }
    }
}

#[test]
fn a_flow_keeps_its_outer_port_and_other_flows_have_others() {
    let port = |ip: &Ip| {
        let bytes = forward(Mode::Vxlan, ip);
        u16::from_be_bytes([bytes[PAYLOAD], bytes[PAYLOAD + 1]])
    };
    let flow = out(Mode::Vxlan).udp(1000, 53, b"a");
    assert_eq!(port(&flow), port(&flow.clone().udp(1000, 53, b"longer")));
    assert_eq!(port(&flow), port(&flow.clone().ttl(9).id(7).tos(3)));
    assert_ne!(port(&flow), port(&flow.clone().udp(1001, 53, b"a")));
    assert_ne!(port(&flow), port(&flow.clone().tcp(20, 1)));
}

/// The frame as the other node sends it, the packet in it unchanged.
fn received(mode: Mode, ip: &Ip, outer_tos: u8) -> MemoryPacket {
    let outer = Ip::new(node(THERE), node(HERE)).tos(outer_tos);
    match mode {
        Mode::Direct => ip.frame(),
        Mode::Ipip => outer.ipip(&ip.packet()).frame(),
        Mode::Vxlan => Vxlan {
            outer,
            ..Vxlan::new(THERE, HERE, ip)
        }
        .frame(),
    }
}

fn ethernet(bytes: &[u8]) -> Ethernet2Header {
    Ethernet2Header::from_slice(bytes).unwrap().0
}

fn addressed(destination: Mac, source: Mac) -> Ethernet2Header {
    Ethernet2Header {
        destination,
        source,
        ether_type: EtherType::IPV4,
    }
}

#[test]
fn a_pod_gets_the_packet_that_was_sent_counted_down_and_from_its_own_veth() {
    for mode in Mode::ALL {
        let to = pod(mode, HERE, FIRST);
        for (ttl, tos) in [(64, 0), (2, 0xff), (255, 0x2a)] {
            let ip = Ip::new(pod(mode, THERE, FIRST), to)
                .ttl(ttl)
                .tos(tos)
                .id(0xbeef)
                .dont_fragment(true);
            let bytes = run(Program::Uplink, &received(mode, &ip, 0));
            assert_eq!(ethernet(&bytes), addressed(pod_mac(to), veth_mac(to)));
            assert_eq!(bytes[IP..], routed(&ip, ttl), "{mode:?}");
        }
    }
    let to = pod(Mode::Ipip, HERE, SECOND);
    let ip = Ip::new(pod(Mode::Ipip, HERE, FIRST), to);
    let bytes = forward(Mode::Ipip, &ip);
    assert_eq!(ethernet(&bytes), addressed(pod_mac(to), veth_mac(to)));
    assert_eq!(bytes[IP..], routed(&ip, 64));
}

#[test]
fn congestion_is_written_into_the_packet_that_the_pod_gets() {
    for mode in [Mode::Ipip, Mode::Vxlan] {
        for (outer, inner, after) in [(3, 0xb9, 0xbb), (3, 0xba, 0xbb), (1, 0xba, 0xb9)] {
            let ip = Ip::new(pod(mode, THERE, FIRST), pod(mode, HERE, FIRST));
            let frame = received(mode, &ip.clone().tos(inner), outer);
            let bytes = run(Program::Uplink, &frame);
            assert_eq!(bytes[IP..], routed(&ip.tos(after), 64));
        }
    }
}

#[test]
fn the_stack_gets_the_packet_that_was_sent_on_the_carrier() {
    for mode in [Mode::Ipip, Mode::Vxlan] {
        let host = Ip::new(pod(mode, THERE, FIRST), tunnel_address(HERE));
        let pod = Ip::new(pod(mode, THERE, FIRST), pod(mode, HERE, FIRST));
        for ip in [
            host.clone(),
            host.options(&[1, 1, 1, 0]),
            pod.clone().ttl(1),
            pod.clone().fragment(185, false),
            pod.options(&[7; 40]),
        ] {
            let bytes = run(Program::Uplink, &received(mode, &ip.clone().tos(2), 0));
            let vtep = vtep_mac(HERE);
            assert_eq!(ethernet(&bytes), addressed(vtep, vtep));
            assert_eq!(bytes[IP..], ip.clone().tos(2).packet());

            let bytes = run(Program::Uplink, &received(mode, &ip.clone().tos(2), 3));
            assert_eq!(bytes[IP..], ip.tos(3).packet());
        }
    }
}

#[test]
fn what_the_carrier_encapsulates_is_addressed_to_the_peers_vtep() {
    let mut frame = out(Mode::Vxlan).frame();
    let hop = next_hop(HERE, Mode::Vxlan, THERE);
    carry_out(&mut frame, &*TABLES, &Verdict::CarrierEncap(&hop, 0));
    assert_eq!(
        ethernet(&frame.bytes),
        addressed(vtep_mac(THERE), vtep_mac(HERE))
    );
    assert_eq!(frame.bytes[IP..], out(Mode::Vxlan).packet());
}

/// For VXLAN it goes there from the carrier, for IPIP to this node, as if not from it.
#[test]
fn what_the_carrier_is_to_cut_up_is_addressed_to_the_vtep_it_goes_to() {
    for (mode, destination, source, remote) in [
        (Mode::Vxlan, vtep_mac(THERE), vtep_mac(HERE), node(THERE)),
        (Mode::Ipip, vtep_mac(HERE), vtep_mac(THERE), node(HERE)),
    ] {
        let ip = out(mode).tos(0x2a);
        let veth = veth(pod(mode, HERE, FIRST));
        for (program, ttl) in [(Program::Workload(veth), 63), (Program::Stack, 64)] {
            let mut frame = ip.frame();
            let Verdict::Send(send) = program.decide(&frame, &*TABLES) else {
                panic!("not sent")
            };
            let directions = rewrite::cut_up(&mut frame, &config(HERE), &send);
            assert_eq!(directions, Ok(remote));
            assert_eq!(ethernet(&frame.bytes), addressed(destination, source));
            assert_eq!(frame.bytes[IP..], ip.clone().ttl(ttl).packet());
        }
    }
}

/// A kernel that fills the room it makes with leftovers.
struct Kernel {
    packet: MemoryPacket,
}

impl Packet for Kernel {
    fn header<T: Header>(&self, offset: usize) -> Option<&T> {
        self.packet.header(offset)
    }

    fn header_mut<T: Header>(&mut self, offset: usize) -> Option<&mut T> {
        self.packet.header_mut(offset)
    }

    fn frame_length(&self) -> u32 {
        self.packet.frame_length()
    }

    fn is_to_interface(&self) -> bool {
        self.packet.is_to_interface()
    }

    fn has_vlan_tag(&self) -> bool {
        self.packet.has_vlan_tag()
    }

    fn gso_size(&self) -> u32 {
        self.packet.gso_size()
    }

    fn is_checksum_verified(&self) -> bool {
        self.packet.is_checksum_verified()
    }

    fn taken_out_of(&self) -> Option<Tunnel> {
        self.packet.taken_out_of()
    }

    fn forgets_tunnels(&self) -> bool {
        self.packet.forgets_tunnels()
    }

    fn encap_room(&mut self, tunnel: Tunnel) -> Result<(), Reason> {
        self.packet.encap_room(tunnel)?;
        self.packet.bytes[IP..IP + usize::from(tunnel.overhead())].fill(0xaa);
        Ok(())
    }

    fn decap_room(&mut self, tunnel: Tunnel) -> Result<(), Reason> {
        self.packet.decap_room(tunnel)
    }
}

#[test]
fn no_byte_of_the_new_room_is_left_as_it_was_found() {
    for mode in [Mode::Ipip, Mode::Vxlan] {
        let packet = out(mode).frame();
        let clean = forward(mode, &out(mode));
        let verdict = Program::Stack.decide(&packet, &*TABLES);
        let Verdict::Send(send) = verdict else {
            panic!("{verdict:?}")
        };
        let verdict = Verdict::Send(dataplane_common::decide::Send {
            forwarded: true,
            ..send
        });
        let mut kernel = Kernel { packet };
        carry_out(&mut kernel, &*TABLES, &verdict);
        assert_eq!(kernel.packet.bytes, clean, "{mode:?}");
    }
}

#[test]
fn a_packet_that_gets_no_room_is_left_as_it_was() {
    for tunnel in [Tunnel::Ipip, Tunnel::Vxlan] {
        let mode = match tunnel {
            Tunnel::Ipip => Mode::Ipip,
            Tunnel::Vxlan => Mode::Vxlan,
        };
        let decap = Decap { tunnel, tos: 0 };
        let to = crate::world::endpoint(pod(mode, HERE, FIRST));
        let inner = Ip::new(pod(mode, THERE, FIRST), pod(mode, HERE, FIRST));
        let outgoing = out(mode).frame();
        let incoming = received(mode, &inner, 0);
        for (verdict, packet) in [
            (Program::Stack.decide(&outgoing, &*TABLES), outgoing),
            (
                Verdict::Deliver(&to, Arrival::Tunnelled(decap)),
                incoming.clone(),
            ),
            (Verdict::Inject(Some(decap), Reason::ForHost, 0), incoming),
        ] {
            let mut cramped = MemoryPacket {
                makes_room: false,
                ..packet.clone()
            };
            let outcome = memory::carry_out(&mut cramped, &*TABLES, &verdict);
            assert_eq!(outcome.reason, Reason::NoRoom);
            assert_eq!(outcome.action, Action::Stack);
            assert_eq!(cramped.bytes, packet.bytes);
        }
    }
}
