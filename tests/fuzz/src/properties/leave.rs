//! What no program touches.

use dataplane_common::{
    abi::{Hook, flags},
    decide::Origin,
    reason::{Action, Reason},
};
use etherparse::{EtherType, IpNumber, Ipv4Header};

use super::{
    Run,
    reading::{self, ETHERNET},
    same,
};

/// It is as it was, and goes where its reason says: never further by a program.
pub(super) fn holds(run: &Run) {
    is_untouched(run);
    assert_eq!(run.outcome.action, run.outcome.reason.action());
    if run.outcome.action == Action::Stack {
        match run.case.hook {
            Hook::FromWorkload => may_come_from_pod(run),
            Hook::FromCarrier => may_come_from_tunnel(run),
            Hook::FromUplink | Hook::FromStack | Hook::XdpUplink => {}
            Hook::ToWorkload | Hook::ToUplink => unreachable!("decides nothing"),
        }
    }
}

/// Whatever the program thought of doing, it did nothing.
pub(super) fn is_untouched(run: &Run) {
    same(run.after, run.before);
    assert_ne!(run.outcome.action, Action::Forward, "left, but redirected");
}

/// The stack gets no IPv4 from a pod but from its own address, and no tunnel's, unless that is
/// allowed. Until there is a configuration, nothing of the dataplane holds yet.
fn may_come_from_pod(run: &Run) {
    let Some(config) = run.tables.config else {
        return assert_eq!(run.outcome.reason, Reason::NoConfig);
    };
    let Some(packet) = run.before.get(ETHERNET..) else {
        return;
    };
    let (_, _, ether_type) = reading::ethernet(run.before);
    let is_tag = [EtherType::VLAN_TAGGED_FRAME, EtherType::PROVIDER_BRIDGING].contains(&ether_type);
    assert!(!is_tag, "nobody has looked behind the tag");
    if ether_type != EtherType::IPV4 {
        return;
    }
    let source = packet.get(12..16).and_then(|bytes| bytes.try_into().ok());
    let source = source.expect("an IPv4 packet without a source");
    assert!(
        reading::is_on(run.tables, run.case.ifindex, source),
        "the stack got a source that is not the pod's"
    );
    if config.flags & flags::WORKLOAD_TUNNELS != 0 {
        return;
    }
    let Ok((header, _)) = Ipv4Header::from_slice(packet) else {
        return;
    };
    assert!(
        !is_read_by_stack(run, &header, packet) || !is_tunnel(&header, packet, config.vxlan_port),
        "the stack got a pod's tunnel"
    );
}

/// Whether the stack does not drop the packet at once (`ip_rcv_core`). It takes the length of the
/// frame for that of an aggregate which says none (`iph_totlen`).
fn is_read_by_stack(run: &Run, header: &Ipv4Header, packet: &[u8]) -> bool {
    let length = usize::from(header.total_len);
    let is_whole = (header.header_len()..=packet.len()).contains(&length);
    is_whole || length == 0 && run.case.packet.gso_size != 0
}

/// Later fragments are nothing without the first; behind options nobody looks.
fn is_tunnel(header: &Ipv4Header, packet: &[u8], vxlan_port: [u8; 2]) -> bool {
    let is_vxlan = header.options.is_empty()
        && header.fragment_offset.value() == 0
        && reading::udp_port(header, packet) == Some(vxlan_port);
    header.protocol == IpNumber::IPV4 || is_vxlan
}

/// The stack gets nothing out of a tunnel but from a peer, from an address of that peer's, to an
/// address here.
fn may_come_from_tunnel(run: &Run) {
    let key = match run.case.origin {
        Origin::Program => return,
        Origin::Tunnel(key) => key,
        Origin::Foreign => panic!("the stack got what came in a tunnel over IPv6"),
    };
    assert_eq!(run.outcome.reason, Reason::Accepted);
    let config = run.config();
    assert_eq!(key.vni, config.vni, "another network");
    assert!(
        key.local.is_none_or(|local| local == config.node),
        "another end"
    );
    assert!(run.tables.peers.contains_key(&key.remote), "no peer");
    let (_, _, ether_type) = reading::ethernet(run.before);
    assert_eq!(ether_type, EtherType::IPV4);
    let (header, _) = reading::ipv4(&run.before[ETHERNET..]);
    assert!(
        reading::belongs_to(run.tables, key.remote, header.source),
        "a foreign source"
    );
    assert!(
        reading::is_here(run.tables, header.destination),
        "a foreign destination"
    );
    assert!(reading::is_unicast(header.source) && reading::is_unicast(header.destination));
}
