//! A node without a carrier: what the stack treats stays in its tunnel, for the kernel's own devices.

use std::sync::LazyLock;

use dataplane_common::{
    abi::{Config, flags},
    decide::{self, Verdict},
    memory::{MemoryPacket, MemoryTables, carry_out, take_out},
    packet::Tunnel,
    reason::{Action, Reason},
};

use crate::{
    frames::{IP, IPIP_INNER, Ip, Tamper as _, VXLAN_INNER, Vxlan},
    programs::Program,
    robustness::samples,
    world::{
        ELSEWHERE, FIRST, HERE, Mode, OUTSIDE, POD_MTU, TABLES, THERE, UNRESOLVED, node, pod,
        tables, tunnel_address, veth,
    },
};

static BARE: LazyLock<MemoryTables> = LazyLock::new(|| with_flags(0));

fn with_flags(flags: u32) -> MemoryTables {
    let mut tables = tables(HERE);
    tables.config = tables.config.map(|config| Config {
        carrier: 0,
        flags,
        ..config
    });
    tables
}

const TUNNELS: [Tunnel; 2] = [Tunnel::Ipip, Tunnel::Vxlan];

/// From the other node, in a tunnel.
fn tunnelled(tunnel: Tunnel, inner: &Ip) -> MemoryPacket {
    match tunnel {
        Tunnel::Ipip => Ip::new(node(THERE), node(HERE))
            .ipip(&inner.packet())
            .frame(),
        Tunnel::Vxlan => Vxlan::new(THERE, HERE, inner).frame(),
    }
}

fn to_pod() -> Ip {
    Ip::new(
        pod(Mode::Vxlan, THERE, FIRST),
        pod(Mode::Vxlan, HERE, FIRST),
    )
}

/// What is right but for the stack, and why.
fn for_stack(tunnel: Tunnel) -> Vec<(MemoryPacket, Reason)> {
    let from = pod(Mode::Vxlan, THERE, FIRST);
    let unresolved = pod(Mode::Vxlan, HERE, UNRESOLVED);
    let inner = match tunnel {
        Tunnel::Ipip => IPIP_INNER,
        Tunnel::Vxlan => VXLAN_INNER,
    };
    let mut packets: Vec<_> = [
        (Ip::new(from, tunnel_address(HERE)), Reason::ForHost),
        (Ip::new(from, node(HERE)), Reason::ForHost),
        (Ip::new(from, unresolved), Reason::Unresolved),
        (to_pod().ttl(1), Reason::TtlExpired),
        (to_pod().fragment(0, true), Reason::Fragment),
        (to_pod().fragment(8, false), Reason::Fragment),
        (to_pod().options(&[1, 1, 1, 0]), Reason::Options),
        (to_pod().of_length(POD_MTU + 1), Reason::TooBig),
    ]
    .map(|(inner, reason)| (tunnelled(tunnel, &inner), reason))
    .into();
    let wrong = tunnelled(tunnel, &to_pod()).with(inner + 10, &[0, 0]);
    packets.push((wrong, Reason::HeaderChecksum));
    packets
}

#[test]
fn what_the_stack_treats_stays_in_its_tunnel() {
    for tunnel in TUNNELS {
        for (frame, reason) in for_stack(tunnel) {
            let injected = Program::Uplink.decide(&frame, &*TABLES);
            assert!(
                matches!(injected, Verdict::Inject(Some(_), ..)),
                "{reason:?}"
            );
            assert_eq!(injected.reason(), reason);

            let verdict = Program::Uplink.decide(&frame, &*BARE);
            assert_eq!(verdict, Verdict::Leave(reason, 0));
            let mut left = frame.clone();
            let outcome = carry_out(&mut left, &*BARE, &verdict);
            assert_eq!((outcome.action, outcome.reason), (Action::Stack, reason));
            assert_eq!(left, frame, "{reason:?}");
        }
    }
}

/// The peers are those that our tunnels lead to, the routes what the kernel's came to. What they do
/// not know is the kernel's device's; what they know to be another's is forged.
#[test]
fn what_is_not_known_is_left_and_what_is_known_to_be_forged_is_dropped() {
    let to = pod(Mode::Vxlan, HERE, FIRST);
    for tunnel in TUNNELS {
        let unrouted = tunnelled(tunnel, &Ip::new(OUTSIDE, to));
        let anothers = tunnelled(tunnel, &Ip::new(pod(Mode::Vxlan, ELSEWHERE, FIRST), to));
        let own = tunnelled(tunnel, &Ip::new(pod(Mode::Vxlan, HERE, FIRST), to));
        let peers_own = tunnelled(tunnel, &Ip::new(node(THERE), to));
        let mut unlisted = BARE.clone();
        unlisted.peers.remove(&node(THERE));
        for (frame, tables, reason) in [
            (&unrouted, &*BARE, Reason::OwnerUnknown),
            (&unrouted, &*TABLES, Reason::ForeignSource),
            (&anothers, &*BARE, Reason::ForeignSource),
            (&own, &*BARE, Reason::ForeignSource),
            (&peers_own, &unlisted, Reason::UnlistedPeer),
        ] {
            let verdict = Program::Uplink.decide(frame, tables);
            assert_eq!(verdict, Verdict::Leave(reason, 0));
            assert_eq!(decide::xdp_uplink(frame, tables), Err(reason));
        }
        let with_carrier = MemoryTables {
            config: TABLES.config,
            ..unlisted
        };
        let verdict = Program::Uplink.decide(&peers_own, &with_carrier);
        assert_eq!(verdict, Verdict::Leave(Reason::UnknownPeer, 0));
        // Our own tunnel leads to where this one comes from.
        let verdict = Program::Uplink.decide(&tunnelled(tunnel, &to_pod()), &with_carrier);
        assert!(matches!(verdict, Verdict::Deliver(..)), "{verdict:?}");
    }
    assert_eq!(Reason::UnlistedPeer.action(), Action::Stack);
}

#[test]
fn xdp_opens_only_what_goes_straight_to_a_pod() {
    for tunnel in TUNNELS {
        for (frame, reason) in for_stack(tunnel) {
            let opened = decide::xdp_uplink(&frame, &*TABLES);
            assert!(opened.is_ok(), "with a carrier: {opened:?}");
            assert_eq!(decide::xdp_uplink(&frame, &*BARE), Err(reason));
        }
        let frame = tunnelled(tunnel, &to_pod());
        let found = decide::xdp_uplink(&frame, &*BARE);
        let mut opened = frame.clone();
        assert_eq!(take_out(&mut opened, found).reason, Reason::TakenOut);
        let delivered = Program::Uplink.decide(&opened, &*BARE);
        assert!(matches!(delivered, Verdict::Deliver(..)), "{delivered:?}");
    }
}

/// Between XDP and traffic control a pod may go, or its MTU change.
#[test]
fn what_xdp_opened_in_vain_goes_to_the_stack_as_it_then_is() {
    let gone = MemoryTables {
        endpoints: [].into(),
        ..BARE.clone()
    };
    let mut smaller = BARE.clone();
    for endpoint in smaller.endpoints.values_mut() {
        endpoint.mtu = 27;
    }
    for tunnel in TUNNELS {
        let mut opened = to_pod().frame();
        opened.taken_out_of = Some(tunnel);
        for (tables, reason) in [(&gone, Reason::ForHost), (&smaller, Reason::TooBig)] {
            let verdict = Program::Uplink.decide(&opened, tables);
            assert_eq!(verdict, Verdict::Leave(reason, 0));
        }
    }
}

/// Whatever is decided of packets like these, and of every one with a byte of its headers wrong, is
/// never what takes a carrier.
#[test]
fn nothing_is_handed_to_a_carrier() {
    let programs = [
        Program::Workload(veth(pod(Mode::Vxlan, HERE, FIRST))),
        Program::Uplink,
        Program::Stack,
        Program::StackUnresolved,
    ];
    for sample in samples() {
        for offset in IP..sample.frame.bytes.len().min(IP + 70) {
            let mut frame = sample.frame.clone();
            frame.bytes[offset] ^= 1;
            for frame in [&sample.frame, &frame] {
                for program in programs {
                    let verdict = program.decide(frame, &*BARE);
                    assert!(
                        !matches!(verdict, Verdict::Inject(..) | Verdict::Detour),
                        "{} at {program:?}: {verdict:?}",
                        sample.name
                    );
                }
            }
        }
    }
}

#[test]
fn what_would_wait_on_the_carrier_is_left() {
    let frame = Ip::new(tunnel_address(HERE), pod(Mode::Vxlan, THERE, FIRST)).frame();
    let verdict = Program::StackUnresolved.decide(&frame, &*BARE);
    assert_eq!(verdict, Verdict::Leave(Reason::NoCarrier, 0));
    let verdict = Program::Stack.decide(&frame, &*BARE);
    assert_eq!(verdict.reason(), Reason::SentVxlan);
}

#[test]
fn outer_checksums_are_the_kernels_devices_to_compute() {
    let tables = with_flags(flags::VXLAN_CHECKSUM);
    let from = pod(Mode::Vxlan, HERE, FIRST);
    let frame = Ip::new(from, pod(Mode::Vxlan, THERE, FIRST)).frame();
    let verdict = Program::Workload(veth(from)).decide(&frame, &tables);
    assert_eq!(verdict, Verdict::Leave(Reason::KernelEncap, 0));
}

#[test]
fn what_is_forged_is_dropped_all_the_same() {
    let foreign = Ip::new(
        pod(Mode::Vxlan, HERE, UNRESOLVED),
        pod(Mode::Vxlan, HERE, FIRST),
    );
    for tunnel in TUNNELS {
        let frame = tunnelled(tunnel, &foreign);
        let verdict = Program::Uplink.decide(&frame, &*BARE);
        assert_eq!(verdict, Verdict::Leave(Reason::ForeignSource, 0));
        let found = decide::xdp_uplink(&frame, &*BARE);
        assert_eq!(found, Err(Reason::ForeignSource));
    }
}
