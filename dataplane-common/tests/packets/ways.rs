//! Routes whose next hop has many ways.

use std::collections::BTreeSet;

use dataplane_common::{
    abi::{Addr, NextHop, NextHopKind, WAYS},
    decide::{Send, Verdict},
    memory::{MemoryPacket, MemoryTables},
    reason::Reason,
};

use crate::{
    frames::{Ip, Tamper as _, Vxlan},
    programs::Program,
    world::{ELSEWHERE, FIRST, HERE, Mode, SECOND, THERE, VNI, next_hop, node, pod, tables, veth},
};

/// What is in many places at once.
const ANYCAST: Addr = [10, 8, 8, 8];

/// What `HERE` knows, and that the next hops given are the ways to `ANYCAST`, each at as many places.
fn with_ways(hops: &[NextHop]) -> MemoryTables {
    const ENTRY: u16 = 9;
    let mut tables = tables(HERE);
    let multipath = NextHop {
        kind: NextHopKind::Multipath as u8,
        entry: ENTRY,
        ..NextHop::default()
    };
    tables.routes.insert((32, ANYCAST), multipath);
    let ways = std::array::from_fn(|place| hops[place * hops.len() / WAYS]);
    tables.multipaths.insert(ENTRY, ways);
    tables
}

/// By both other nodes.
fn by_both(mode: Mode) -> MemoryTables {
    with_ways(&[THERE, ELSEWHERE].map(|other| next_hop(HERE, mode, other)))
}

fn from_pod(mode: Mode) -> Ip {
    Ip::new(pod(mode, HERE, FIRST), ANYCAST)
}

/// The packet as it is sent from the pod that its source is.
#[track_caller]
fn sent<'t>(mode: Mode, frame: &MemoryPacket, tables: &'t MemoryTables) -> Send<'t> {
    let program = Program::Workload(veth(pod(mode, HERE, FIRST)));
    match program.decide(frame, tables) {
        Verdict::Send(send) => send,
        other => panic!("not sent: {other:?}"),
    }
}

#[test]
fn a_flow_takes_one_way_whatever_else_its_packets_are() {
    for mode in Mode::ALL {
        let tables = by_both(mode);
        let mut peers = BTreeSet::new();
        for port in 40_000..40_064 {
            let udp = |length| from_pod(mode).udp(port, 80, &vec![0; length]);
            let way = sent(mode, &udp(8).frame(), &tables).next_hop;
            assert_eq!(way.kind(), next_hop(HERE, mode, THERE).kind());
            for same in [udp(8).ttl(2), udp(1000), udp(9).id(7).tos(0xb8)] {
                assert_eq!(sent(mode, &same.frame(), &tables).next_hop, way, "{port}");
            }
            peers.insert(way.peer);
        }
        assert_eq!(peers, [node(THERE), node(ELSEWHERE)].into());
    }
}

/// The kernel's default is by addresses alone; ours is its `fib_multipath_hash_policy` 1.
#[test]
fn what_has_no_ports_goes_by_its_addresses_and_protocol() {
    let tables = by_both(Mode::Vxlan);
    let from = |last| {
        let mut ip = from_pod(Mode::Vxlan).payload(1, &[8, 0, 0, 0, 0, last]);
        ip = ip.id(last.into());
        sent(Mode::Vxlan, &ip.frame(), &tables).next_hop.peer
    };
    let peers: BTreeSet<_> = (0..64).map(from).collect();
    assert_eq!(peers.len(), 1, "an echo has no ports");
}

/// Only the stack's are carried; a pod's are left to the stack.
#[test]
fn all_fragments_of_a_packet_take_one_way() {
    let tables = by_both(Mode::Vxlan);
    for port in 0..64 {
        let whole = from_pod(Mode::Vxlan).udp(port, 80, &[0; 64]);
        let pieces = [
            whole.clone().fragment(0, true),
            whole.clone().fragment(8, true),
            whole.fragment(16, false),
        ];
        let peers = pieces.map(|piece| {
            let program = Program::Workload(veth(pod(Mode::Vxlan, HERE, FIRST)));
            let by_pod = program.decide(&piece.frame(), &tables);
            assert_eq!(by_pod, Verdict::Leave(Reason::Fragment, 0));
            match Program::Stack.decide(&piece.frame(), &tables) {
                Verdict::Send(send) => send.next_hop.peer,
                other => panic!("not sent: {other:?}"),
            }
        });
        assert!(peers.iter().all(|peer| *peer == peers[0]), "{port}");
    }
}

#[test]
fn the_mtu_is_the_ways_own() {
    let short = NextHop {
        mtu: 1000,
        ..next_hop(HERE, Mode::Direct, ELSEWHERE)
    };
    let tables = with_ways(&[next_hop(HERE, Mode::Direct, THERE), short]);
    let program = Program::Workload(veth(pod(Mode::Direct, HERE, FIRST)));
    let mut reasons = BTreeSet::new();
    for port in 0..64 {
        let small = from_pod(Mode::Direct).udp(port, 80, &[0; 8]).frame();
        let is_short = sent(Mode::Direct, &small, &tables).next_hop == &short;
        let large = from_pod(Mode::Direct).udp(port, 80, &[0; 1200]).frame();
        let reason = program.decide(&large, &tables).reason();
        assert_eq!(reason == Reason::TooBig, is_short, "{port}");
        reasons.insert(reason);
    }
    assert_eq!(reasons, [Reason::SentDirect, Reason::TooBig].into());
}

#[test]
fn a_way_that_is_unset_or_has_many_itself_is_the_stacks() {
    let of_kind = |kind: u8| NextHop {
        kind,
        ..next_hop(HERE, Mode::Ipip, THERE)
    };
    for kind in [0, NextHopKind::Multipath as u8, 7] {
        let tables = with_ways(&[of_kind(kind)]);
        let program = Program::Workload(veth(pod(Mode::Ipip, HERE, FIRST)));
        assert_eq!(
            program.decide(&from_pod(Mode::Ipip).frame(), &tables),
            Verdict::Leave(Reason::NextHopUnset, 0),
            "{kind}"
        );
    }
    let tables = with_ways(&[of_kind(NextHopKind::Blackhole as u8)]);
    let program = Program::Workload(veth(pod(Mode::Ipip, HERE, FIRST)));
    let verdict = program.decide(&from_pod(Mode::Ipip).frame(), &tables);
    assert_eq!(verdict, Verdict::Leave(Reason::Blackhole, 0));
}

/// Of a route with many ways the first tells.
#[test]
fn what_comes_as_it_is_is_delivered_where_the_first_way_is_direct() {
    let frame = Ip::new(ANYCAST, pod(Mode::Direct, HERE, SECOND)).frame();
    let direct = next_hop(HERE, Mode::Direct, THERE);
    let ipip = next_hop(HERE, Mode::Ipip, ELSEWHERE);
    for (ways, reason) in [
        ([direct, direct], Reason::ReceivedDirect),
        ([direct, ipip], Reason::ReceivedDirect),
        ([ipip, direct], Reason::SourceOutside),
        ([ipip, ipip], Reason::SourceOutside),
        ([NextHop::default(); 2], Reason::SourceOutside),
    ] {
        let tables = with_ways(&ways);
        assert_eq!(Program::Uplink.decide(&frame, &tables).reason(), reason);
    }
}

mod of_the_inner_source {
    use dataplane_common::{
        abi::Config,
        decide::{self, Origin, TunnelKey},
    };

    use super::*;

    /// By a router, behind which anybody may be.
    fn by_a_router() -> MemoryTables {
        let mut tables = tables(HERE);
        let unknown = NextHop {
            peer: [0; 4],
            ..next_hop(HERE, Mode::Direct, THERE)
        };
        tables.routes.insert((32, ANYCAST), unknown);
        tables
    }

    fn inner() -> Ip {
        Ip::new(ANYCAST, pod(Mode::Vxlan, HERE, FIRST))
    }

    fn frames() -> [MemoryPacket; 2] {
        let outer = Ip::new(node(THERE), node(HERE));
        [
            outer.ipip(&inner().packet()).frame(),
            Vxlan::new(THERE, HERE, &inner()).frame(),
        ]
    }

    #[test]
    fn nobody_can_say_whose_it_is_so_the_packet_stays_in_its_tunnel() {
        for mut tables in [by_both(Mode::Vxlan), by_a_router()] {
            for carrier in [0, 7] {
                tables.config = tables.config.map(|config| Config { carrier, ..config });
                for frame in frames() {
                    let verdict = Program::Uplink.decide(&frame, &tables);
                    assert_eq!(verdict, Verdict::Leave(Reason::OwnerUnknown, 0));
                    let found = decide::xdp_uplink(&frame, &tables);
                    assert_eq!(found, Err(Reason::OwnerUnknown));
                }
            }
        }
    }

    #[test]
    fn behind_the_kernels_receiver_nobody_else_judges_so_it_is_dropped() {
        let key = TunnelKey {
            remote: node(THERE),
            vni: VNI,
            local: None,
            cut_up: false,
        };
        for tables in [by_both(Mode::Vxlan), by_a_router()] {
            let program = Program::Carrier(Origin::Tunnel(key));
            assert_eq!(
                program.decide(&inner().frame(), &tables),
                Verdict::Leave(Reason::ForeignSource, 0)
            );
        }
    }

    #[test]
    fn a_peers_own_address_is_its_own_whatever_its_route() {
        let mut tables = by_both(Mode::Vxlan);
        let multipath = tables.routes[&(32, ANYCAST)];
        tables.routes.insert((32, node(THERE)), multipath);
        let inner = Ip::new(node(THERE), pod(Mode::Vxlan, HERE, FIRST));
        let frame = Vxlan::new(THERE, HERE, &inner).frame();
        let reason = Program::Uplink.decide(&frame, &tables).reason();
        assert_eq!(reason, Reason::ReceivedVxlan);
    }
}

#[test]
fn an_aggregate_takes_the_way_of_its_flow() {
    let tables = by_both(Mode::Vxlan);
    let one = from_pod(Mode::Vxlan).tcp(32, 100).frame();
    let many = from_pod(Mode::Vxlan).tcp(32, 3000).frame();
    assert_eq!(
        sent(Mode::Vxlan, &one, &tables).next_hop,
        sent(Mode::Vxlan, &many.of_segments(1000), &tables).next_hop
    );
}
