//! State as its owners write it, and what it comes to.

use super::*;

fn leads(fib: &Fib, prefix: &str) -> Option<Destination> {
    fib.destination(net(prefix))
}

fn why(fib: &Fib, prefix: &str) -> String {
    let unmirrored = fib.unmirrored();
    let row = unmirrored.iter().find(|row| row.prefix == net(prefix));
    row.unwrap_or_else(|| panic!("{prefix} is mirrored: {unmirrored:?}"))
        .why
        .clone()
}

fn add(fib: &mut Fib, route: FibRoute) {
    fib.apply(Change::Route(route));
}

#[test]
fn of_several_routes_the_smallest_metric_is_taken_then_the_newest() {
    let mut fib = node();
    add(
        &mut fib,
        metric(20, via("10.1.0.0/16", ETH0, "192.168.1.20")),
    );
    add(
        &mut fib,
        metric(10, via("10.1.0.0/16", ETH0, "192.168.1.10")),
    );
    assert_eq!(leads(&fib, "10.1.0.0/16"), Some(to(ETH0, "192.168.1.10")));
    // `ip route append`, and `prepend`.
    fib.apply(Change::RouteAppended(metric(
        10,
        via("10.1.0.0/16", ETH0, "192.168.1.11"),
    )));
    assert_eq!(leads(&fib, "10.1.0.0/16"), Some(to(ETH0, "192.168.1.10")));
    add(
        &mut fib,
        metric(10, via("10.1.0.0/16", ETH0, "192.168.1.12")),
    );
    assert_eq!(leads(&fib, "10.1.0.0/16"), Some(to(ETH0, "192.168.1.12")));
    // `ip route replace`: the first of its metric.
    fib.apply(Change::RouteReplaced(metric(
        10,
        via("10.1.0.0/16", ETH0, "192.168.1.13"),
    )));
    assert_eq!(leads(&fib, "10.1.0.0/16"), Some(to(ETH0, "192.168.1.13")));
    for last in ["192.168.1.13", "192.168.1.10", "192.168.1.11"] {
        assert_eq!(leads(&fib, "10.1.0.0/16"), Some(to(ETH0, last)));
        fib.apply(Change::RouteGone(metric(
            10,
            via("10.1.0.0/16", ETH0, last),
        )));
    }
    assert_eq!(leads(&fib, "10.1.0.0/16"), Some(to(ETH0, "192.168.1.20")));
    fib.apply(Change::RouteGone(metric(
        20,
        via("10.1.0.0/16", ETH0, "192.168.1.20"),
    )));
    assert_eq!(leads(&fib, "10.1.0.0/16"), None);
}

#[test]
fn calicos_vxlan_is_resolved_through_neighbour_and_forwarding_entry() {
    let mut fib = node();
    add(&mut fib, via("10.244.2.0/26", VXLAN, "10.244.2.0"));
    let Some(Destination::Via(via)) = leads(&fib, "10.244.2.0/26") else {
        panic!("{:?}", leads(&fib, "10.244.2.0/26"));
    };
    assert_eq!(
        fib.way(&via).unwrap_err(),
        "vxlan.calico has no neighbour 10.244.2.0"
    );
    fib.apply(Change::Neighbour(Neighbour {
        index: VXLAN,
        address: PEER_VTEP,
        mac: Some(PEER_MAC),
        state: NeighbourState::Permanent,
    }));
    assert!(fib.take_dirty().ways);
    assert!(why(&fib, "10.244.2.0/26").contains("no forwarding entry for 66:00:00:00:00:02"));
    let entry = Fdb {
        index: VXLAN,
        mac: PEER_MAC,
        remote: Some(PEER),
        special: false,
    };
    fib.apply(Change::Fdb(entry));
    assert!(fib.take_dirty().ways);
    let next_hop = fib.way(&via).unwrap();
    assert_eq!(next_hop.kind, NextHopKind::Vxlan as u8);
    assert_eq!(
        (next_hop.peer, next_hop.gateway),
        (PEER.octets(), PEER.octets())
    );
    assert_eq!(
        (next_hop.source, next_hop.vtep_mac),
        (NODE.octets(), PEER_MAC)
    );
    assert_eq!((next_hop.ifindex, next_hop.mtu), (ETH0, 1450));
    // The node moves: the entry changes, the route does not.
    let moved = Ipv4Addr::new(192, 168, 1, 9);
    fib.apply(Change::Fdb(Fdb {
        remote: Some(moved),
        ..entry
    }));
    assert!(fib.take_dirty().ways);
    assert_eq!(fib.remotes([via].iter()), [moved].into());
    assert!(fib.way(&via).unwrap_err().contains("no way to 192.168.1.9"));
}

#[test]
fn a_borrowed_tunnel_address_is_its_own_gateway() {
    let mut fib = node();
    add(&mut fib, pod("10.244.2.7/32", VXLAN));
    assert_eq!(leads(&fib, "10.244.2.7/32"), Some(to(VXLAN, "10.244.2.7")));
}

#[test]
fn ipip_goes_to_the_gateway_or_to_the_devices_own_end() {
    let mut fib = node();
    add(&mut fib, via("10.244.2.0/26", TUNL0, "192.168.1.2"));
    add(&mut fib, route("10.244.3.0/26", &[hop(PEER1, None)]));
    for prefix in ["10.244.2.0/26", "10.244.3.0/26"] {
        let Some(Destination::Via(via)) = leads(&fib, prefix) else {
            panic!("{prefix}");
        };
        let next_hop = fib.way(&via).unwrap();
        assert_eq!(next_hop.kind, NextHopKind::Ipip as u8, "{prefix}");
        assert_eq!(next_hop.peer, PEER.octets(), "{prefix}");
        assert_eq!(
            (next_hop.source, next_hop.mtu),
            (NODE.octets(), 1480),
            "{prefix}"
        );
    }
}

#[test]
fn pods_are_local_and_what_is_on_another_link_is_the_stacks() {
    let mut fib = node();
    add(&mut fib, pod("10.244.1.5/32", CALI1));
    add(&mut fib, of_kind("10.244.1.0/26", RouteKind::Blackhole));
    add(&mut fib, pod("192.168.1.0/24", ETH0));
    add(&mut fib, via("0.0.0.0/0", ETH0, "192.168.1.254"));
    add(
        &mut fib,
        in_table(LOCAL, of_kind("192.168.1.1/32", RouteKind::Local)),
    );
    assert_eq!(leads(&fib, "10.244.1.5/32"), Some(Destination::Local));
    assert_eq!(fib.pod_interface(net("10.244.1.5/32")), Some(CALI1));
    assert_eq!(leads(&fib, "10.244.1.0/26"), Some(Destination::Blackhole));
    assert_eq!(leads(&fib, "192.168.1.1/32"), Some(Destination::Local));
    assert_eq!(leads(&fib, "192.168.1.0/24"), Some(Destination::Stack));
    assert_eq!(
        why(&fib, "192.168.1.0/24"),
        "on the link of eth0, where no pods are"
    );
    assert!(why(&fib, "0.0.0.0/0").contains("default route"));
}

#[test]
fn what_cannot_be_represented_is_the_stacks_and_says_why() {
    let mut fib = node();
    let special = |why| Hop {
        special: Some(why),
        ..hop(ETH0, None)
    };
    add(
        &mut fib,
        route("10.1.0.0/16", &[special("its gateway is an IPv6 address")]),
    );
    add(&mut fib, of_kind("10.2.0.0/16", RouteKind::Unreachable));
    add(&mut fib, of_kind("10.3.0.0/16", RouteKind::Prohibit));
    let mut tos = via("10.4.0.0/16", ETH0, "192.168.1.2");
    tos.info.tos = 0x10;
    add(&mut fib, tos);
    add(&mut fib, via("10.4.0.0/16", ETH0, "192.168.1.3"));
    for (prefix, reason) in [
        ("10.1.0.0/16", "IPv6"),
        ("10.2.0.0/16", "unreachable"),
        ("10.3.0.0/16", "prohibited"),
        ("10.4.0.0/16", "TOS"),
    ] {
        assert_eq!(leads(&fib, prefix), Some(Destination::Stack), "{prefix}");
        assert!(
            why(&fib, prefix).contains(reason),
            "{prefix}: {}",
            why(&fib, prefix)
        );
    }
    // A second VXLAN device: the programs know one network.
    fib.apply(Change::Link(Box::new(Link {
        vxlan: Some(Vxlan {
            vni: 1,
            port: 8472,
            ..Vxlan::default()
        }),
        ..link(20, "flannel.1")
    })));
    add(&mut fib, via("10.5.0.0/16", 20, "10.5.0.0"));
    assert_eq!(
        why(&fib, "10.5.0.0/16"),
        "flannel.1 is not the VXLAN device that is carried"
    );
}

#[test]
fn only_the_networks_that_are_named_are_mirrored() {
    let mut fib = node_for(vec![net("10.244.0.0/16")]);
    add(&mut fib, via("10.244.2.0/26", ETH0, "192.168.1.2"));
    add(&mut fib, via("10.9.0.0/16", ETH0, "192.168.1.2"));
    add(&mut fib, via("10.0.0.0/8", ETH0, "192.168.1.2"));
    assert_eq!(leads(&fib, "10.244.2.0/26"), Some(to(ETH0, "192.168.1.2")));
    for prefix in ["10.9.0.0/16", "10.0.0.0/8"] {
        assert!(why(&fib, prefix).contains("source.kernel.only"), "{prefix}");
    }
}

#[test]
fn of_several_hops_those_are_taken_whose_interface_is_up() {
    let mut fib = node();
    let two = [
        hop(ETH0, Some("192.168.1.2")),
        hop(ETH1, Some("192.168.2.2")),
    ];
    add(&mut fib, route("10.1.0.0/16", &two));
    let Some(Destination::Multipath(ways)) = leads(&fib, "10.1.0.0/16") else {
        panic!("{:?}", leads(&fib, "10.1.0.0/16"));
    };
    assert_eq!(ways.len(), 2);
    fib.take_dirty();
    fib.apply(Change::Link(Box::new(Link {
        up: false,
        ..link(ETH1, "eth1")
    })));
    let dirty = fib.take_dirty();
    assert!(dirty.every_prefix && dirty.suspects.contains(&ETH1));
    assert_eq!(leads(&fib, "10.1.0.0/16"), Some(to(ETH0, "192.168.1.2")));
}

#[test]
fn nexthop_objects_stand_for_hops_and_take_their_routes_with_them() {
    let mut fib = node();
    let object = |id, content| Change::Object(NextHopObject { id, content });
    let by = |prefix: &str, id| {
        let mut route = route(prefix, &[]);
        route.info.target = Target::Object(id);
        route
    };
    fib.apply(object(1, Content::Hop(hop(ETH0, Some("192.168.1.2")))));
    fib.apply(object(2, Content::Hop(hop(ETH0, Some("192.168.1.3")))));
    fib.apply(object(10, Content::Group(vec![(1, 3), (2, 1)])));
    add(&mut fib, by("10.1.0.0/16", 1));
    add(&mut fib, by("10.2.0.0/16", 10));
    assert_eq!(leads(&fib, "10.1.0.0/16"), Some(to(ETH0, "192.168.1.2")));
    let Some(Destination::Multipath(ways)) = leads(&fib, "10.2.0.0/16") else {
        panic!("{:?}", leads(&fib, "10.2.0.0/16"));
    };
    assert_eq!(
        ways.iter().map(|(_, weight)| *weight).collect::<Vec<_>>(),
        [3, 1]
    );
    // Replaced: no route is told of.
    fib.take_dirty();
    fib.apply(object(1, Content::Hop(hop(ETH0, Some("192.168.1.4")))));
    assert!(fib.take_dirty().every_prefix);
    assert_eq!(leads(&fib, "10.1.0.0/16"), Some(to(ETH0, "192.168.1.4")));
    // Removed: neither.
    fib.apply(Change::ObjectGone(1));
    assert!(fib.take_dirty().prefixes.contains(&net("10.1.0.0/16")));
    assert_eq!(leads(&fib, "10.1.0.0/16"), None);
    assert_eq!(leads(&fib, "10.2.0.0/16"), Some(to(ETH0, "192.168.1.3")));
}

#[test]
fn routes_go_with_their_interface_before_another_has_its_index() {
    let mut fib = node();
    add(&mut fib, pod("10.244.1.5/32", CALI1));
    fib.apply(Change::Neighbour(Neighbour {
        index: CALI1,
        address: address("10.244.1.5"),
        mac: Some([2, 0, 0, 0, 0, 5]),
        state: NeighbourState::Reachable,
    }));
    // The kernel forgets it, we do not.
    fib.apply(Change::NeighbourGone(CALI1, address("10.244.1.5")));
    assert_eq!(
        fib.neighbour(CALI1, address("10.244.1.5")),
        Some([2, 0, 0, 0, 0, 5])
    );
    add(&mut fib, via("10.9.0.0/16", ETH1, "192.168.2.2"));

    fib.apply(Change::LinkGone(CALI1));
    fib.apply(Change::LinkGone(ETH1));
    fib.apply(Change::Link(Box::new(Link {
        kind: Some("veth".to_owned()),
        ..link(CALI1, "cali9")
    })));
    fib.apply(Change::Link(Box::new(link(ETH1, "eth9"))));
    assert_eq!(leads(&fib, "10.244.1.5/32"), None);
    assert_eq!(fib.pod_interface(net("10.244.1.5/32")), None);
    assert_eq!(fib.neighbour(CALI1, address("10.244.1.5")), None);
    assert_eq!(leads(&fib, "10.9.0.0/16"), None);
}

#[test]
fn rules_by_source_hold_if_all_pods_are_of_one_mind() {
    let mut fib = node();
    add(&mut fib, pod("10.244.1.5/32", CALI1));
    add(&mut fib, pod("10.250.1.5/32", CALI2));
    add(
        &mut fib,
        in_table(77, via("10.9.0.0/16", ETH0, "192.168.1.77")),
    );
    add(&mut fib, via("10.9.0.0/16", ETH0, "192.168.1.2"));
    fib.apply(Change::Rule(Rule {
        from: Some(net("10.244.0.0/16")),
        ..Rule::lookup(100, 77)
    }));
    let pods = [address("10.244.1.5"), address("10.250.1.5")];
    fib.set_pods(&pods[..1]);
    assert_eq!(leads(&fib, "10.9.0.0/16"), Some(to(ETH0, "192.168.1.77")));
    fib.set_pods(&pods[1..]);
    assert_eq!(leads(&fib, "10.9.0.0/16"), Some(to(ETH0, "192.168.1.2")));
    fib.set_pods(&pods);
    assert_eq!(leads(&fib, "10.9.0.0/16"), Some(Destination::Stack));
    assert_eq!(
        why(&fib, "10.9.0.0/16"),
        "a rule that is for some packets only"
    );
}

/// The list of an interface's routes has a route before the change is heard that put it there.
#[test]
fn a_replacement_that_a_list_was_ahead_of_still_removes_what_it_replaced() {
    let mut fib = node();
    add(&mut fib, via("10.1.0.0/16", ETH0, "192.168.1.2"));
    let moved = via("10.1.0.0/16", ETH1, "192.168.2.2");
    assert!(fib.loaded_routes_by(ETH1, vec![moved.clone()]));
    assert_eq!(leads(&fib, "10.1.0.0/16"), Some(to(ETH0, "192.168.1.2")));
    fib.apply(Change::RouteReplaced(moved.clone()));
    assert_eq!(leads(&fib, "10.1.0.0/16"), Some(to(ETH1, "192.168.2.2")));
    // Heard again, it changes nothing; and it is there once only.
    fib.apply(Change::RouteReplaced(moved.clone()));
    fib.apply(Change::RouteGone(moved));
    assert_eq!(leads(&fib, "10.1.0.0/16"), None);
}

#[test]
fn lists_replace_what_was_heard_and_only_the_difference_is_dirty() {
    let mut fib = node();
    add(&mut fib, via("10.1.0.0/16", ETH0, "192.168.1.2"));
    add(&mut fib, via("10.2.0.0/16", ETH0, "192.168.1.2"));
    fib.take_dirty();
    let mut loading = Loading::default();
    for prefix in ["10.2.0.0/16", "10.3.0.0/16"] {
        fib.load(
            &mut loading,
            Change::Route(via(prefix, ETH0, "192.168.1.2")),
        );
    }
    assert!(fib.loaded_routes(loading));
    let dirty = fib.take_dirty();
    assert_eq!(
        dirty.prefixes,
        [net("10.1.0.0/16"), net("10.3.0.0/16")].into()
    );
    assert_eq!(leads(&fib, "10.1.0.0/16"), None);
    assert_eq!(leads(&fib, "10.3.0.0/16"), Some(to(ETH0, "192.168.1.2")));

    // What goes by an interface.
    assert!(fib.loaded_routes_by(ETH0, vec![via("10.3.0.0/16", ETH0, "192.168.1.2")]));
    assert_eq!(leads(&fib, "10.2.0.0/16"), None);
    assert!(!fib.loaded_routes_by(ETH0, vec![via("10.3.0.0/16", ETH0, "192.168.1.2")]));
}
