//! Forged packets never arrive: tunnel packets of strangers, peers that speak for others, and pods
//! that send from addresses which are not theirs.
//!
//! Nothing is proved by a packet that does not arrive unless its like would have. So every forgery
//! is followed by a packet that differs only in being right, and does arrive.

use std::cell::Cell;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dataplane_common::abi::Hook;
use dataplane_tests::{
    Agent, Counters, Ip, Lab, Mac, Mode, Node, PacketSocket, PingOptions, Pod, eventually, frames,
    ping,
    programs::{DROPPED, Programs, TO_STACK, kernel_is},
    require_root,
};
use etherparse::{Icmpv4Type, PacketBuilder, TcpHeader};

/// How long what is sent may take to arrive.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long what must not arrive is waited for, when all that was sent after it has.
const LATE: Duration = Duration::from_millis(10);

/// Every forgery's payload begins with this.
const FORGED: &[u8] = b"forged: ";

const VNI: u32 = 4096;
/// The types of a VLAN tag and of the tag around one (IEEE 802.1Q).
const C_TAG: u16 = 0x8100;
const S_TAG: u16 = 0x88a8;
const PROTOCOL_UDP: u8 = 17;

/// A hook and a reason.
type Counted = (&'static str, &'static str);

const UNKNOWN_PEER: &[Counted] = &[("from_uplink", "unknown-peer")];
const MARTIAN: &[Counted] = &[("from_uplink", "martian")];
const FOREIGN_SOURCE: &[Counted] = &[("from_uplink", "foreign-source")];
const FOREIGN_DESTINATION: &[Counted] = &[("from_uplink", "foreign-destination")];
const SPOOFED_SOURCE: &[Counted] = &[("from_workload", "spoofed-source")];

/// Nobody in the cluster.
const STRANGER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 77);
/// Somewhere in the world.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
const MULTICAST: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn tunnel_packets_of_strangers_never_arrive() -> Result<()> {
    require_root();
    let scene = Scene::new(Mode::Vxlan)?;
    let inner = |payload: &[u8]| scene.right_inner(payload);
    for stranger in [
        STRANGER,
        OUTSIDE,
        scene.target().address().addr(),
        scene.lab.pod("node-1", "p0").address(),
        Ipv4Addr::LOCALHOST,
    ] {
        for tunnel in [Tunnel::Vxlan, Tunnel::Ipip] {
            scene.refuses(
                &format!("{tunnel:?} from {stranger}"),
                |payload| scene.outer(stranger).tunnelled(tunnel, &inner(payload)),
                UNKNOWN_PEER,
            )?;
        }
    }
    scene.ends_unharmed()
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_peer_cannot_speak_for_others() -> Result<()> {
    require_root();
    let scene = Scene::new(Mode::Vxlan)?;
    let (target, other) = (scene.target(), scene.lab.node("node-2"));
    let destinations = [
        target.pod("p0").address(),
        target.tunnel_address(),
        target.address().addr(),
    ];
    for source in [
        other.pod("p0").address(),
        other.tunnel_address(),
        other.address().addr(),
        target.pod("p0").address(),
        target.pod("p1").address(),
        target.tunnel_address(),
        target.address().addr(),
        OUTSIDE,
    ] {
        for tunnel in [Tunnel::Vxlan, Tunnel::Ipip] {
            scene.refuses(
                &format!("{source} in {tunnel:?} from node-1"),
                |payload| scene.peer_sends(tunnel, &udp(source, destinations[0], payload)),
                FOREIGN_SOURCE,
            )?;
        }
    }
    // Nor to the node itself.
    for destination in &destinations[1..] {
        scene.refuses(
            &format!("node-2's pod to {destination} in VXLAN from node-1"),
            |payload| {
                let inner = udp(other.pod("p0").address(), *destination, payload);
                scene.peer_sends(Tunnel::Vxlan, &inner)
            },
            FOREIGN_SOURCE,
        )?;
    }
    scene.ends_unharmed()
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_peer_cannot_send_through_a_node() -> Result<()> {
    require_root();
    let scene = Scene::new(Mode::Vxlan)?;
    let source = scene.lab.pod("node-1", "p0").address();
    let elsewhere = scene.lab.node("node-2");
    let ears = [
        PacketSocket::open(elsewhere.pod("p0").ns(), "eth0")?,
        PacketSocket::open(elsewhere.ns(), "eth0")?,
    ];
    for destination in [
        elsewhere.pod("p0").address(),
        elsewhere.tunnel_address(),
        elsewhere.address().addr(),
        source,
        scene.peer().address().addr(),
        OUTSIDE,
    ] {
        for tunnel in [Tunnel::Vxlan, Tunnel::Ipip] {
            scene.refuses(
                &format!("to {destination} in {tunnel:?} from node-1"),
                |payload| scene.peer_sends(tunnel, &udp(source, destination, payload)),
                FOREIGN_DESTINATION,
            )?;
        }
    }
    for ear in &ears {
        assert_hears_nothing_forged(ear)?;
    }
    scene.ends_unharmed()
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn martians_come_out_of_no_tunnel() -> Result<()> {
    require_root();
    let scene = Scene::new(Mode::Vxlan)?;
    let (ours, theirs) = (
        scene.target().pod("p0").address(),
        scene.lab.pod("node-1", "p0").address(),
    );
    for martian in [
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::UNSPECIFIED,
        MULTICAST,
        Ipv4Addr::BROADCAST,
    ] {
        for (source, destination) in [(martian, ours), (theirs, martian)] {
            for tunnel in [Tunnel::Vxlan, Tunnel::Ipip] {
                scene.refuses(
                    &format!("{source} to {destination} in {tunnel:?}"),
                    |payload| scene.peer_sends(tunnel, &udp(source, destination, payload)),
                    MARTIAN,
                )?;
            }
        }
    }
    scene.ends_unharmed()
}

/// Not only must underpass leave it alone: the kernel's own VXLAN receiver, which sits on the
/// carrier and takes any network, must not let it in either.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn another_vxlan_network_never_enters() -> Result<()> {
    require_root();
    let scene = Scene::new(Mode::Vxlan)?;
    let outer = scene.outer(scene.peer().address().addr());
    for vni in [0, 1, VNI - 1, VNI + 1, VNI << 8, 0xff_ffff] {
        scene.refuses(
            &format!("VNI {vni}"),
            |payload| {
                let inner = scene.inner_frame(&scene.right_inner(payload));
                outer.framed(&outer.ip.vxlan(vni, &inner, false))
            },
            &[
                ("from_uplink", "not-our-tunnel"),
                ("from_carrier", "wrong-network"),
            ],
        )?;
    }
    scene.refuses(
        "no VNI",
        |payload| {
            let mut header = frames::vxlan_header(VNI);
            header[0] = 0;
            let inner = scene.inner_frame(&scene.right_inner(payload));
            let datagram = [&header[..], &inner].concat();
            outer.framed(&outer.ip.udp_unsummed(1, frames::VXLAN_PORT, &datagram))
        },
        &[("from_uplink", "not-our-tunnel")],
    )?;
    scene.ends_unharmed()
}

/// The carrier's UDP port is open over IPv6, too, and no peer has an address there.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn nothing_comes_out_of_a_tunnel_over_ipv6() -> Result<()> {
    require_root();
    let scene = Scene::new(Mode::Vxlan)?;
    let ours = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
    let theirs = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
    for interface in ["all", "eth0", "underpass0"] {
        let key = format!("net.ipv6.conf.{interface}.disable_ipv6");
        scene.target().ns().set_sysctl(&key, "0")?;
    }
    scene
        .target()
        .ns()
        .exec(&format!("ip address add {ours}/64 dev eth0 nodad"))?;
    for vni in [VNI, VNI + 1] {
        scene.refuses(
            &format!("VNI {vni} over IPv6"),
            |payload| {
                let inner = scene.inner_frame(&scene.right_inner(payload));
                let datagram = [&frames::vxlan_header(vni)[..], &inner].concat();
                let builder =
                    PacketBuilder::ethernet2(scene.peer().mac().0, scene.target().mac().0)
                        .ipv6(theirs.octets(), ours.octets(), 64)
                        .udp(50_000, frames::VXLAN_PORT);
                let mut frame = Vec::with_capacity(builder.size(datagram.len()));
                builder
                    .write(&mut frame, &datagram)
                    .expect("a vector takes everything");
                frame
            },
            &[("from_carrier", "wrong-network")],
        )?;
    }
    scene.ends_unharmed()
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn what_a_tunnel_holds_must_be_ipv4_for_this_node() -> Result<()> {
    require_root();
    let scene = Scene::new(Mode::Vxlan)?;
    let (target, peer) = (scene.target(), scene.peer());
    let outer = scene.outer(peer.address().addr());
    for mac in [
        scene.lab.node("node-2").vtep_mac(),
        peer.vtep_mac(),
        target.mac(),
        target.pod("p0").mac(),
        Mac::ZERO,
        Mac::BROADCAST,
        Mac([0x01, 0x00, 0x5e, 0, 0, 1]),
    ] {
        scene.refuses(
            &format!("inner destination {mac}"),
            |payload| {
                let inner = frames::ethernet(peer.vtep_mac(), mac, &scene.right_inner(payload));
                outer.framed(&outer.ip.vxlan(VNI, &inner, false))
            },
            &[("from_uplink", "inner-other-host")],
        )?;
    }
    for ether_type in [0x86dd, 0x8100, 0x0806, 0x0003] {
        scene.refuses(
            &format!("inner type {ether_type:#06x}"),
            |payload| {
                let packet = scene.right_inner(payload);
                let inner = frames::ethernet_with_type(
                    peer.vtep_mac(),
                    target.vtep_mac(),
                    ether_type,
                    &packet,
                );
                outer.framed(&outer.ip.vxlan(VNI, &inner, false))
            },
            &[("from_uplink", "inner-not-ipv4")],
        )?;
    }
    for tunnel in [Tunnel::Vxlan, Tunnel::Ipip] {
        scene.refuses(
            &format!("a packet longer than the {tunnel:?} packet it is in"),
            |payload| {
                let mut inner = scene.right_inner(payload);
                let length = u16::try_from(inner.len() + 1).expect("a short packet");
                inner[2..4].copy_from_slice(&length.to_be_bytes());
                // It would end in what follows the outer packet in the frame.
                [&*scene.peer_sends(tunnel, &inner), b"padding"].concat()
            },
            &[("from_uplink", "inner-malformed")],
        )?;
    }
    scene.ends_unharmed()
}

/// The tunnel in the tunnel is the peer's own and right in every way but being where it is: without
/// the check, the kernel's receiver would open it.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_tunnel_in_a_tunnel_is_not_opened() -> Result<()> {
    require_root();
    let scene = Scene::new(Mode::Vxlan)?;
    let outer = scene.outer(scene.peer().address().addr());
    for inside in [Tunnel::Vxlan, Tunnel::Ipip] {
        for outside in [Tunnel::Vxlan, Tunnel::Ipip] {
            scene.refuses(
                &format!("{inside:?} in {outside:?}"),
                |payload| {
                    let inner = outer.tunnelled(inside, &scene.right_inner(payload));
                    outer.tunnelled(outside, &inner[14..])
                },
                &[("from_uplink", "nested-tunnel")],
            )?;
        }
    }
    scene.ends_unharmed()
}

/// What `from_uplink` does not look into, the kernel reassembles or reads, and hands up by the
/// carrier.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn fragments_and_options_hide_nothing() -> Result<()> {
    require_root();
    let scene = Scene::new(Mode::Vxlan)?;
    let fragmented = |source: Ipv4Addr, inner: &[u8]| {
        let outer = scene.outer(source);
        let packet = outer.ip.vxlan(VNI, &scene.inner_frame(inner), false);
        let (first, rest) = packet[20..].split_at(64);
        let ip = outer.ip.clone().identification(scene.next());
        [
            outer.framed(&ip.clone().fragment(0, true).packet(PROTOCOL_UDP, first)),
            outer.framed(&ip.fragment(64, false).packet(PROTOCOL_UDP, rest)),
        ]
    };
    let with_options = |source: Ipv4Addr, inner: &[u8]| {
        let mut outer = scene.outer(source);
        outer.ip = outer.ip.options(&[1, 1, 1, 0]);
        [outer.tunnelled(Tunnel::Vxlan, inner)]
    };
    let other = scene.lab.node("node-2").pod("p0").address();
    let pod = scene.target().pod("p0").address();
    let peer = scene.peer().address().addr();

    let right = scene.right_inner(b"right: in fragments");
    scene.arrives(&fragmented(peer, &right), b"right: in fragments")?;
    let right = scene.right_inner(b"right: behind options");
    scene.arrives(&with_options(peer, &right), b"right: behind options")?;

    scene.refuses_all(
        "fragments of a stranger",
        |payload| fragmented(STRANGER, &scene.right_inner(payload)),
        &[
            ("from_uplink", "fragment"),
            ("from_carrier", "unknown-peer"),
        ],
    )?;
    scene.refuses_all(
        "fragments with another node's pod in them",
        |payload| fragmented(peer, &udp(other, pod, payload)),
        &[("from_carrier", "foreign-source")],
    )?;
    scene.refuses_all(
        "options of a stranger",
        |payload| with_options(STRANGER, &scene.right_inner(payload)),
        &[
            ("from_uplink", "ip-options"),
            ("from_carrier", "unknown-peer"),
        ],
    )?;
    scene.refuses_all(
        "options before another node's pod",
        |payload| with_options(peer, &udp(other, pod, payload)),
        &[("from_carrier", "foreign-source")],
    )?;
    scene.ends_unharmed()
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_wrong_outer_checksum_is_never_delivered() -> Result<()> {
    require_root();
    let scene = Scene::new(Mode::Vxlan)?;
    let outer = scene.outer(scene.peer().address().addr());
    let summed = |inner: &[u8]| outer.ip.vxlan(VNI, &scene.inner_frame(inner), true);

    let right = summed(&scene.right_inner(b"right: summed"));
    scene.arrives(&[outer.framed(&right)], b"right: summed")?;

    let errors = || scene.target().ns().snmp_counter("Udp", "InCsumErrors");
    let rejected = errors()?;
    scene.refuses(
        "a wrong UDP checksum",
        |payload| {
            let mut packet = summed(&scene.right_inner(payload));
            packet[27] ^= 1;
            outer.framed(&packet)
        },
        &[("from_uplink", "outer-checksum")],
    )?;
    eventually("the kernel finds the checksum wrong", || {
        Ok(errors()? == rejected + 1)
    })?;

    scene.refuses(
        "a wrong outer IP checksum",
        |payload| {
            let mut packet = summed(&scene.right_inner(payload));
            packet[11] ^= 1;
            outer.framed(&packet)
        },
        &[("from_uplink", "header-checksum")],
    )?;
    scene.ends_unharmed()
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_tunnel_ends_only_at_the_nodes_own_address() -> Result<()> {
    require_root();
    let scene = Scene::new(Mode::Vxlan)?;
    let other_address = Ipv4Addr::new(192, 168, 1, 99);
    let target = scene.target();
    target
        .ns()
        .exec(&format!("ip address add {other_address}/32 dev eth0"))?;
    let peer = scene.peer().address().addr();
    for (destination, mac) in [
        (other_address, target.mac()),
        (target.tunnel_address(), target.mac()),
        (Ipv4Addr::new(192, 168, 1, 255), Mac::BROADCAST),
        (Ipv4Addr::BROADCAST, Mac::BROADCAST),
    ] {
        for tunnel in [Tunnel::Vxlan, Tunnel::Ipip] {
            let outer = Outer {
                ip: Ip::new(peer, destination),
                destination: mac,
                ..scene.outer(peer)
            };
            let what = format!("{tunnel:?} to {destination}");
            let frame = |payload: &[u8]| outer.tunnelled(tunnel, &scene.right_inner(payload));
            if tunnel == Tunnel::Vxlan && !kernel_is(6, 0)? {
                // Where the kernel's receiver found it to end, programs cannot know.
                let payload = format!("opened: {what}").into_bytes();
                scene.arrives(&[frame(&payload)], &payload)?;
            } else {
                scene.refuses(&what, frame, &[])?;
            }
        }
    }
    scene.ends_unharmed()
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_pods_tunnel_is_not_opened_by_its_own_node() -> Result<()> {
    require_root();
    let scene = Scene::new(Mode::Vxlan)?;
    let (target, attacker) = (scene.target(), scene.target().pod("p1"));
    let from_pod = PacketSocket::open(attacker.ns(), "eth0")?;
    let outer = |source| scene.pods_outer(attacker, source, target.address().addr());

    for (what, inner_source) in [
        ("a remote pod", scene.lab.pod("node-1", "p0").address()),
        ("itself", attacker.address()),
    ] {
        let forge = |tunnel, outer_source| {
            let payload = forged(&format!("{tunnel:?} with {what} in it"));
            let inner = udp(inner_source, target.pod("p0").address(), &payload);
            outer(outer_source).tunnelled(tunnel, &inner)
        };
        let before = scene.counters()?;
        from_pod.send(&forge(Tunnel::Vxlan, attacker.address()))?;
        from_pod.send(&forge(Tunnel::Ipip, attacker.address()))?;
        // Once more in the name of the peer.
        let peer = scene.peer().address().addr();
        from_pod.send(&forge(Tunnel::Vxlan, peer))?;
        from_pod.send(&forge(Tunnel::Ipip, peer))?;
        eventually("the spoofed ones are counted", || {
            let since = scene.counters()?.since(&before);
            Ok(since.get("from_workload", "spoofed-source").packets == 2)
        })?;
        scene.hears_only_the_right_ones(what)?;
        let since = scene.counters()?.since(&before);
        assert_eq!(since.get("from_carrier", "accepted").packets, 0);
    }
    scene.ends_unharmed()
}

/// Behind masquerading it would seem to come from the node, and so from a known peer.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_pods_tunnel_never_leaves_its_node() -> Result<()> {
    require_root();
    let scene = Scene::new(Mode::Vxlan)?;
    let attacker = scene.target().pod("p1");
    let from_pod = PacketSocket::open(attacker.ns(), "eth0")?;
    let wire = PacketSocket::open(scene.peer().ns(), "eth0")?;
    let victim = scene.lab.pod("node-1", "p0");
    let outer = scene.pods_outer(attacker, attacker.address(), scene.peer().address().addr());
    let other_pod = scene.target().pod("p0").address();
    for tunnel in [Tunnel::Vxlan, Tunnel::Ipip] {
        // A first fragment holds all of this but the padding.
        let forge = |what: &str| {
            let payload = [forged(&format!("{tunnel:?} {what}")), vec![b'.'; 64]].concat();
            outer.tunnelled(tunnel, &udp(other_pod, victim.address(), &payload))[14..].to_vec()
        };
        let ip = outer.ip.clone().identification(scene.next());
        let with = |ip: &Ip, packet: &[u8], body: &[u8]| outer.framed(&ip.packet(packet[9], body));
        let whole = forge("by a pod");
        let optional = forge("behind options");
        let tagged = forge("behind a priority tag");
        let pieces = forge("in fragments");
        let (first, last) = pieces[20..].split_at((pieces.len() - 20 - 32) / 8 * 8);
        let offset = u16::try_from(first.len())?;
        for frame in [
            with(&ip, &whole, &whole[20..]),
            in_vlan(0, with(&ip, &tagged, &tagged[20..])),
            with(
                &ip.clone().options(&[1, 1, 1, 0]),
                &optional,
                &optional[20..],
            ),
            with(&ip.clone().fragment(0, true), &pieces, first),
            with(&ip.clone().fragment(offset, false), &pieces, last),
        ] {
            from_pod.send(&frame)?;
        }
    }
    // What it may send to that node does arrive.
    let right = b"right: not a tunnel";
    from_pod.send(&outer.framed(&outer.ip.udp(4789, 4000, right)))?;
    hears_only(&wire, right)?;
    scene.ends_unharmed()
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_pod_sends_only_from_its_own_address() -> Result<()> {
    require_root();
    for mode in [Mode::Vxlan, Mode::Ipip, Mode::None] {
        let scene = Scene::new(mode)?;
        let spoofing = Spoofing::new(&scene)?;
        for source in spoofing.sources() {
            for destination in spoofing.destinations() {
                let what = format!("{source} to {destination} ({mode})");
                let ip = Ip::new(source, destination);
                let payload = forged(&what);
                let packets = [
                    ip.udp(4000, 5000, &payload),
                    ip.icmp(
                        Icmpv4Type::Unknown {
                            type_u8: 8,
                            code_u8: 0,
                            bytes5to8: [0; 4],
                        },
                        &payload,
                    ),
                    ip.clone().options(&[1, 1, 1, 0]).udp(4000, 5000, &payload),
                    ip.clone().ttl(1).udp(4000, 5000, &payload),
                    ip.clone()
                        .fragment(0, true)
                        .packet(PROTOCOL_UDP, &[&[0; 8], &*payload].concat()),
                ];
                let before = scene.counters()?;
                for packet in &packets {
                    spoofing.send(packet)?;
                }
                let expected = packets.len() as u64;
                eventually(&format!("{what} is counted"), || {
                    let (hook, reason) = SPOOFED_SOURCE[0];
                    Ok(scene.counters()?.since(&before).get(hook, reason).packets == expected)
                })?;
            }
        }
        spoofing.hear_only_the_right_ones()?;
        scene.ends_unharmed()?;
    }
    Ok(())
}

/// To the kernel, a frame with priority tags (VLAN 0) is as one without.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_vlan_tag_hides_no_spoofed_source() -> Result<()> {
    require_root();
    let scene = Scene::new(Mode::Vxlan)?;
    let spoofing = Spoofing::new(&scene)?;
    for tags in [
        &[(C_TAG, 0)][..],
        &[(C_TAG, 7 << 13)],
        &[(C_TAG, 1)],
        &[(C_TAG, 4095)],
        &[(S_TAG, 0)],
        &[(C_TAG, 0), (C_TAG, 0)],
        &[(S_TAG, 0), (C_TAG, 0)],
        &[(S_TAG, 0), (S_TAG, 0), (C_TAG, 0)],
    ] {
        for source in spoofing.sources() {
            for destination in spoofing.destinations() {
                let what = format!("{source} to {destination} in VLAN {tags:x?}");
                let packet = udp(source, destination, &forged(&what));
                spoofing.send_tagged(tags, &packet)?;
            }
        }
    }
    spoofing.hear_only_the_right_ones()?;
    scene.ends_unharmed()
}

/// The kernel takes the length of an offloaded packet that says 0 from elsewhere (BIG TCP), and any
/// process that has packet sockets can send one.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_length_of_zero_hides_no_spoofed_source() -> Result<()> {
    require_root();
    let scene = Scene::new(Mode::Vxlan)?;
    let (target, peer) = (scene.target(), scene.peer());
    let pod = target.pod("p0");
    let mut programs = Programs::load(target)?;
    let mut run = |source: Ipv4Addr| -> Result<i32> {
        let header = TcpHeader::new(4000, 5000, 1, 1000);
        let mut packet = Ip::new(source, peer.pod("p0").address()).tcp(header, &[0; 2000]);
        packet[2..4].fill(0);
        let frame = frames::ethernet(pod.mac(), Mac::CALICO, &packet);
        let ran = programs.run_offloaded(Hook::FromWorkload, pod.host_ifname(), &frame, 1000)?;
        Ok(ran.action)
    };
    assert_eq!(run(pod.address())?, TO_STACK);
    let before = scene.counters()?;
    assert_eq!(run(target.pod("p1").address())?, DROPPED, "another pod's");
    assert_eq!(run(OUTSIDE)?, DROPPED, "an outside address");
    let (hook, reason) = SPOOFED_SOURCE[0];
    let spoofed = scene.counters()?.since(&before).get(hook, reason);
    assert_eq!(spoofed.packets, 2);
    scene.ends_unharmed()
}

/// A tunnel whose packets are judged is no protection if the same packets may come without it. With
/// strict reverse-path filters the kernel's own path refuses them: the way to the source is another.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn where_all_is_tunnelled_nothing_arrives_without_a_tunnel() -> Result<()> {
    require_root();
    for mode in [Mode::Vxlan, Mode::Ipip] {
        let scene = Scene::new(mode)?;
        scene.target().strict_rp_filter()?;
        let pod = scene.target().pod("p0").address();
        for source in [
            scene.lab.pod("node-1", "p0").address(),
            scene.lab.pod("node-2", "p0").address(),
            scene.peer().tunnel_address(),
            scene.target().pod("p1").address(),
            OUTSIDE,
        ] {
            for sender in [scene.peer().mac(), Mac::of(STRANGER, 0)] {
                scene.refuses(
                    &format!("{source} from {sender} without a tunnel ({mode})"),
                    |payload| {
                        frames::ethernet(sender, scene.target().mac(), &udp(source, pod, payload))
                    },
                    &[],
                )?;
            }
        }
        scene.ends_unharmed()?;
    }
    Ok(())
}

/// Three nodes, of which `node-0` is the target, `node-1` its peer, from whose wire is forged, and
/// `node-2` another.
struct Scene {
    lab: Lab,
    agents: Vec<Agent>,
    /// `node-1`'s interface.
    wire: PacketSocket,
    /// In the pod `p0` of `node-0`.
    ear: PacketSocket,
    /// In its pod `p1`.
    other_ear: PacketSocket,
    tables: [String; 3],
    number: Cell<u16>,
}

impl Scene {
    fn new(mode: Mode) -> Result<Self> {
        let lab = Lab::flat(3, 2)?;
        let agents = lab.start_agents(mode)?;
        let (target, peer) = (lab.node("node-0"), lab.node("node-1"));
        target.wait_resolved()?;
        // From here on the switch knows who is where, and sends nobody another's frames.
        pods_talk(target, peer)?;
        Ok(Self {
            wire: PacketSocket::open(lab.node("node-1").ns(), "eth0")?,
            ear: PacketSocket::open(target.pod("p0").ns(), "eth0")?,
            other_ear: PacketSocket::open(target.pod("p1").ns(), "eth0")?,
            tables: tables(target)?,
            number: Cell::new(0),
            agents,
            lab,
        })
    }

    fn target(&self) -> &Node {
        self.lab.node("node-0")
    }

    fn peer(&self) -> &Node {
        self.lab.node("node-1")
    }

    fn counters(&self) -> Result<Counters> {
        Counters::read(self.target())
    }

    fn next(&self) -> u16 {
        self.number.replace(self.number.get() + 1) + 1
    }

    /// A packet that node-1 may send to node-0 by its tunnel.
    fn right_inner(&self, payload: &[u8]) -> Vec<u8> {
        let (source, destination) = (self.peer().pod("p0"), self.target().pod("p0"));
        udp(source.address(), destination.address(), payload)
    }

    /// A frame in VXLAN, from VTEP to VTEP.
    fn inner_frame(&self, packet: &[u8]) -> Vec<u8> {
        frames::ethernet(self.peer().vtep_mac(), self.target().vtep_mac(), packet)
    }

    /// The outer headers of what comes over the wire to the target.
    fn outer(&self, source: Ipv4Addr) -> Outer {
        Outer {
            source: self.peer().mac(),
            destination: self.target().mac(),
            ip: Ip::new(source, self.target().address().addr()),
            vteps: (self.peer().vtep_mac(), self.target().vtep_mac()),
        }
    }

    /// The outer headers of what a pod sends.
    fn pods_outer(&self, pod: &Pod, source: Ipv4Addr, destination: Ipv4Addr) -> Outer {
        let is_target = destination == self.target().address().addr();
        let vtep = if is_target {
            self.target()
        } else {
            self.peer()
        };
        Outer {
            source: pod.mac(),
            destination: Mac::CALICO,
            ip: Ip::new(source, destination),
            vteps: (self.peer().vtep_mac(), vtep.vtep_mac()),
        }
    }

    /// A frame with `inner` in a tunnel of node-1.
    fn peer_sends(&self, tunnel: Tunnel, inner: &[u8]) -> Vec<u8> {
        let peer = self.peer().address().addr();
        self.outer(peer).tunnelled(tunnel, inner)
    }

    /// Sends the frame that `forge` makes around a payload. It must be counted, once by each of
    /// `counted`, and must not arrive in a pod of the target.
    fn refuses(
        &self,
        what: &str,
        forge: impl FnOnce(&[u8]) -> Vec<u8>,
        counted: &[Counted],
    ) -> Result<()> {
        self.refuses_all(what, |payload| [forge(payload)], counted)
    }

    fn refuses_all<const N: usize>(
        &self,
        what: &str,
        forge: impl FnOnce(&[u8]) -> [Vec<u8>; N],
        counted: &[Counted],
    ) -> Result<()> {
        let before = self.counters()?;
        for frame in forge(&forged(what)) {
            self.wire.send(&frame)?;
        }
        let count = |(hook, reason): &Counted| -> Result<u64> {
            Ok(self.counters()?.since(&before).get(hook, reason).packets)
        };
        for counter in counted {
            eventually(&format!("{what} is counted as {counter:?}"), || {
                Ok(count(counter)? > 0)
            })?;
        }
        self.hears_only_the_right_ones(what)?;
        for counter in counted {
            let frames = if counter.1 == "fragment" { N as u64 } else { 1 };
            assert_eq!(count(counter)?, frames, "{what} is counted as {counter:?}");
        }
        Ok(())
    }

    /// Sends right packets to the pod `p0`, before which nothing forged arrives in either pod.
    fn hears_only_the_right_ones(&self, what: &str) -> Result<()> {
        for tunnel in [Tunnel::Vxlan, Tunnel::Ipip] {
            let right = format!("right: {tunnel:?} {}.", self.next()).into_bytes();
            let frame = self.peer_sends(tunnel, &self.right_inner(&right));
            self.arrives(&[frame], &right)
                .with_context(|| format!("after {what}"))?;
        }
        assert_hears_nothing_forged(&self.other_ear)
    }

    /// Sends right frames, which must arrive as one packet with `payload` in it.
    fn arrives(&self, frames: &[Vec<u8>], payload: &[u8]) -> Result<()> {
        frames.iter().try_for_each(|frame| self.wire.send(frame))?;
        hears_only(&self.ear, payload)
    }

    /// Nothing forged has arrived late, the agent lives, its tables are as they were, and pods talk.
    fn ends_unharmed(mut self) -> Result<()> {
        pods_talk(self.target(), self.peer())?;
        assert_eq!(tables(self.target())?, self.tables);
        assert_hears_nothing_forged(&self.ear)?;
        assert_hears_nothing_forged(&self.other_ear)?;
        for agent in &mut self.agents {
            assert_eq!(agent.process().exit_status()?, None);
        }
        Ok(())
    }
}

fn pods_talk(one: &Node, other: &Node) -> Result<()> {
    for (from, to) in [(one, other), (other, one)] {
        let destination = to.pod("p0").address();
        let report = ping(from.pod("p0").ns(), destination, &PingOptions::default())?;
        assert!(report.is_lossless(), "{report:?}");
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tunnel {
    Vxlan,
    Ipip,
}

/// The headers around a packet in a tunnel.
struct Outer {
    source: Mac,
    destination: Mac,
    ip: Ip,
    vteps: (Mac, Mac),
}

impl Outer {
    fn tunnelled(&self, tunnel: Tunnel, inner: &[u8]) -> Vec<u8> {
        self.framed(&match tunnel {
            Tunnel::Ipip => self.ip.ipip(inner),
            Tunnel::Vxlan => {
                let (source, destination) = self.vteps;
                let inner = frames::ethernet(source, destination, inner);
                self.ip.vxlan(VNI, &inner, false)
            }
        })
    }

    fn framed(&self, packet: &[u8]) -> Vec<u8> {
        frames::ethernet(self.source, self.destination, packet)
    }
}

/// The pod `p0` of `node-0`, about to send what is not its own, and everybody who would hear it.
struct Spoofing<'a> {
    scene: &'a Scene,
    pod: &'a Pod,
    from_pod: PacketSocket,
    ears: Vec<(&'static str, PacketSocket)>,
}

impl<'a> Spoofing<'a> {
    fn new(scene: &'a Scene) -> Result<Self> {
        let (target, peer) = (scene.target(), scene.peer());
        let pod = target.pod("p0");
        Ok(Self {
            scene,
            pod,
            from_pod: PacketSocket::open(pod.ns(), "eth0")?,
            ears: vec![
                (
                    "its node's uplink",
                    PacketSocket::open_both_ways(target.ns(), "eth0")?,
                ),
                (
                    "its node's carrier",
                    PacketSocket::open_both_ways(target.ns(), "underpass0")?,
                ),
                (
                    "the other node's uplink",
                    PacketSocket::open(peer.ns(), "eth0")?,
                ),
                (
                    "a pod beside it",
                    PacketSocket::open(target.pod("p1").ns(), "eth0")?,
                ),
                (
                    "a remote pod",
                    PacketSocket::open(peer.pod("p0").ns(), "eth0")?,
                ),
            ],
        })
    }

    fn sources(&self) -> [Ipv4Addr; 9] {
        let (target, peer) = (self.scene.target(), self.scene.peer());
        [
            target.pod("p1").address(),
            peer.pod("p0").address(),
            target.address().addr(),
            target.tunnel_address(),
            peer.address().addr(),
            OUTSIDE,
            frames::GATEWAY,
            Ipv4Addr::LOCALHOST,
            Ipv4Addr::UNSPECIFIED,
        ]
    }

    fn destinations(&self) -> [Ipv4Addr; 4] {
        let (target, peer) = (self.scene.target(), self.scene.peer());
        [
            target.pod("p1").address(),
            peer.pod("p0").address(),
            peer.address().addr(),
            OUTSIDE,
        ]
    }

    fn send(&self, packet: &[u8]) -> Result<()> {
        let frame = frames::ethernet(self.pod.mac(), Mac::CALICO, packet);
        self.from_pod.send(&frame)
    }

    fn send_tagged(&self, tags: &[(u16, u16)], packet: &[u8]) -> Result<()> {
        let mut frame = frames::ethernet(self.pod.mac(), Mac::CALICO, packet);
        for (ether_type, tag) in tags.iter().rev() {
            let bytes = [ether_type.to_be_bytes(), tag.to_be_bytes()].concat();
            frame.splice(12..12, bytes);
        }
        self.from_pod.send(&frame)
    }

    /// Sends right packets, which arrive, before which nothing forged is heard anywhere.
    fn hear_only_the_right_ones(&self) -> Result<()> {
        let right = b"right: of the pod itself";
        for pod in [self.scene.target().pod("p1"), self.scene.peer().pod("p0")] {
            self.send(&udp(self.pod.address(), pod.address(), right))?;
        }
        for (where_, ear) in &self.ears {
            if *where_ == "its node's carrier" {
                assert_hears_nothing_forged(ear)?;
            } else {
                hears_only(ear, right).with_context(|| format!("on {where_}"))?;
            }
        }
        Ok(())
    }
}

/// The frame with a VLAN tag. To the kernel, one in VLAN 0 is as one without.
fn in_vlan(vlan: u16, mut frame: Vec<u8>) -> Vec<u8> {
    frame.splice(12..12, [C_TAG, vlan].map(u16::to_be_bytes).concat());
    frame
}

/// Waits for a frame with `right` in it, before which there is none that is forged.
fn hears_only(ear: &PacketSocket, right: &[u8]) -> Result<()> {
    let mut forged = Vec::new();
    let heard = ear.recv_matching(PATIENCE, |frame| {
        forged.extend(forgery(frame));
        contains(frame, right)
    })?;
    ensure!(forged.is_empty(), "arrived: {forged:#?}");
    heard.with_context(|| format!("{} does not arrive", String::from_utf8_lossy(right)))?;
    Ok(())
}

fn assert_hears_nothing_forged(ear: &PacketSocket) -> Result<()> {
    let heard = ear.collect(LATE)?;
    let forged: Vec<_> = heard.iter().filter_map(|frame| forgery(frame)).collect();
    ensure!(forged.is_empty(), "arrived late: {forged:#?}");
    Ok(())
}

/// The payload of a forgery.
fn forged(what: &str) -> Vec<u8> {
    [FORGED, what.as_bytes(), b"."].concat()
}

/// What the forgery in a frame is, if there is one. An ICMP error that quotes it is none: there, who
/// sent it is told that it went no further.
fn forgery(frame: &[u8]) -> Option<String> {
    const IPV4: u8 = 0x45;
    const ICMP: u8 = 1;
    const DESTINATION_UNREACHABLE: u8 = 3;
    if (frame[14], frame[23], frame[34]) == (IPV4, ICMP, DESTINATION_UNREACHABLE) {
        return None;
    }
    let start = frame
        .windows(FORGED.len())
        .position(|window| window == FORGED)?;
    Some(String::from_utf8_lossy(&frame[start + FORGED.len()..]).into_owned())
}

fn contains(frame: &[u8], payload: &[u8]) -> bool {
    frame.windows(payload.len()).any(|window| window == payload)
}

fn udp(source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    Ip::new(source, destination).udp(4000, 5000, payload)
}

/// What the programs of a node go by.
fn tables(node: &Node) -> Result<[String; 3]> {
    let list = |table: &str| -> Result<String> {
        let output = node.underpass(&[table, "list", "-o", "json"])?;
        ensure!(output.status.success(), "{table} list: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    };
    Ok([list("routes")?, list("endpoints")?, list("peers")?])
}
