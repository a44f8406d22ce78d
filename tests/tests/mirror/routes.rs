//! One node's routes, one by one.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use anyhow::Result;
use dataplane_tests::{
    Agent, Counters, Lab, Mac, Network, Node, PingOptions, calico, eventually,
    mirror::{Route, left_to_the_stack, route_to, unmirrored, wait_for_route, wait_without_drift},
    ping, require_root,
};

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn of_routes_to_one_prefix_that_of_the_lowest_metric_wins() -> Result<()> {
    let mirror = Mirror::new()?;
    mirror.ip(&[
        "route add 10.9.0.0/24 via 192.168.1.21 metric 100",
        "route add 10.9.0.0/24 via 192.168.1.22 metric 10",
    ])?;
    mirror.expect("10.9.0.1", &by("192.168.1.22"))?;
    mirror.ip(&["route add blackhole 10.9.0.0/24 metric 5"])?;
    mirror.expect("10.9.0.1", &Goes::Nowhere)?;
    mirror.ip(&["route delete blackhole 10.9.0.0/24 metric 5"])?;
    mirror.expect("10.9.0.1", &by("192.168.1.22"))?;
    mirror.ip(&["route delete 10.9.0.0/24 metric 10"])?;
    mirror.expect("10.9.0.1", &by("192.168.1.21"))?;
    mirror.ip(&["route delete 10.9.0.0/24 metric 100"])?;
    mirror.expect("10.9.0.1", &Goes::ByTheStack)
}

/// As with Calico: a pool, a block that has another home, and an address borrowed from that.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_longest_prefix_wins() -> Result<()> {
    let mirror = Mirror::new()?;
    mirror.ip(&[
        "route add 10.9.0.0/16 via 192.168.1.21",
        "route add 10.9.0.0/26 via 192.168.1.22",
        "route add 10.9.0.5/32 via 192.168.1.23",
    ])?;
    for (address, gateway) in [
        ("10.9.0.5", "192.168.1.23"),
        ("10.9.0.6", "192.168.1.22"),
        ("10.9.0.64", "192.168.1.21"),
    ] {
        mirror.expect(address, &by(gateway))?;
    }
    mirror.ip(&["route delete 10.9.0.5/32"])?;
    mirror.expect("10.9.0.5", &by("192.168.1.22"))?;
    mirror.ip(&["route delete 10.9.0.0/26"])?;
    mirror.expect("10.9.0.5", &by("192.168.1.21"))
}

/// A pod whose address is of a block that is another node's.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_pod_with_a_borrowed_address_is_local() -> Result<()> {
    let mut mirror = Mirror::new()?;
    let borrowed = Ipv4Addr::new(10, 244, 1, 99);
    mirror
        .lab
        .node_mut("node-0")
        .add_pod_at("borrower", borrowed)?;
    let node = mirror.node();
    calico::serve_pod(node, node.pod("borrower"))?;
    mirror.expect("10.244.1.99", &Goes::ToAPod)?;
    mirror.expect("10.244.1.98", &by("192.168.1.11"))?;
    let before = Counters::read(node)?;
    let report = ping(node.pod("p0").ns(), borrowed, &PingOptions::default())?;
    assert!(report.is_lossless(), "{report:?}");
    let since = Counters::read(node)?.since(&before);
    assert_eq!(since.get("from_workload", "delivered-local").packets, 10);

    let other = mirror.lab.node("node-1");
    other
        .ns()
        .exec(&format!("ip route add {borrowed} via 192.168.1.10"))?;
    let far = other.pod("p0").address();
    let report = ping(node.pod("borrower").ns(), far, &PingOptions::default())?;
    assert!(report.is_lossless(), "{report:?}");
    Ok(())
}

/// What is nobody's the programs drop; what is refused the stack refuses, in a hole of a route that
/// the programs have.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn what_is_unreachable_is_answered_and_what_is_in_a_black_hole_is_not() -> Result<()> {
    let mirror = Mirror::new()?;
    mirror.ip(&[
        "route add 10.9.0.0/16 via 192.168.1.11",
        "route add blackhole 10.9.1.0/24",
        "route add unreachable 10.9.2.0/24",
        "route add prohibit 10.9.3.0/24",
    ])?;
    mirror.expect("10.9.0.1", &by("192.168.1.11"))?;
    mirror.expect("10.9.1.1", &Goes::Nowhere)?;
    let pod = mirror.node().pod("p0");
    for (address, answer) in [
        ("10.9.1.1", None),
        ("10.9.2.1", Some("Destination Host Unreachable")),
        ("10.9.3.1", Some("Packet filtered")),
    ] {
        let before = Counters::read(mirror.node())?;
        let once = PingOptions {
            count: 1,
            ..PingOptions::default()
        };
        let report = ping(pod.ns(), address.parse()?, &once)?;
        assert!(report.is_silent(), "{address}: {report:?}");
        let since = Counters::read(mirror.node())?.since(&before);
        let dropped = since.get("from_workload", "blackhole").packets;
        let counted = (dropped, left_to_the_stack(&since));
        match answer {
            None => assert_eq!((report.errors.len(), counted), (0, (1, 0)), "{report:?}"),
            Some(answer) => {
                assert!(report.errors[0].contains(answer), "{report:?}");
                assert_eq!(counted, (0, 1), "{address}: {since:?}");
            }
        }
    }
    wait_without_drift(mirror.node())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_gateway_need_not_be_in_a_connected_subnet() -> Result<()> {
    let mirror = Mirror::new()?;
    mirror.ip(&["route add 10.9.0.0/24 via 172.16.0.1 dev eth0 onlink"])?;
    mirror.expect("10.9.0.1", &by("172.16.0.1"))
}

/// The stack tells whoever sends more than a route's own MTU, as it does for an interface's.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_route_may_be_narrower_than_its_interface() -> Result<()> {
    let mirror = Mirror::new()?;
    let (node, far) = (mirror.node(), mirror.lab.pod("node-1", "p0").address());
    let mtu = || -> Result<Option<u16>> {
        let route = route_to(node, far)?;
        Ok(route.and_then(|route| route.way.mtu))
    };
    assert_eq!(mtu()?, Some(1500));
    let send = |length: u16| {
        let once = PingOptions {
            count: 1,
            payload: length - 28,
            dont_fragment: true,
            ..PingOptions::default()
        };
        ping(node.pod("p0").ns(), far, &once)
    };
    assert!(send(1400)?.is_lossless());

    mirror.ip(&["route replace 10.244.1.0/24 via 192.168.1.11 mtu 1300 proto bird"])?;
    eventually("the route is narrow", || Ok(mtu()? == Some(1300)))?;
    assert!(send(1300)?.is_lossless());
    let report = send(1301)?;
    assert!(
        report.is_silent() && report.errors[0].contains("mtu = 1300"),
        "{report:?}"
    );
    wait_without_drift(node)
}

/// Of changes to next hop objects the kernel announces the object alone, not the routes by it.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn next_hop_objects_are_followed() -> Result<()> {
    let mirror = Mirror::new()?;
    mirror.ip(&[
        "nexthop add id 1 via 192.168.1.21 dev eth0",
        "nexthop add id 2 via 192.168.1.22 dev eth0",
        "nexthop add id 3 via 192.168.1.23 dev eth0",
        "nexthop add id 9 blackhole",
        "nexthop add id 10 group 1/2",
        "route add 10.9.1.0/24 nhid 1",
        "route add 10.9.9.0/24 nhid 9",
        "route add 10.9.10.0/24 nhid 10",
    ])?;
    mirror.expect("10.9.1.1", &by("192.168.1.21"))?;
    mirror.expect("10.9.9.1", &Goes::Nowhere)?;
    mirror.expect("10.9.10.1", &by_either("192.168.1.21", "192.168.1.22"))?;

    mirror.ip(&["nexthop replace id 1 via 192.168.1.24 dev eth0"])?;
    mirror.expect("10.9.1.1", &by("192.168.1.24"))?;
    mirror.expect("10.9.10.1", &by_either("192.168.1.24", "192.168.1.22"))?;

    mirror.ip(&["nexthop replace id 10 group 2/3"])?;
    mirror.expect("10.9.10.1", &by_either("192.168.1.22", "192.168.1.23"))?;

    mirror.ip(&["nexthop delete id 3"])?;
    mirror.expect("10.9.10.1", &by("192.168.1.22"))?;

    mirror.ip(&["nexthop delete id 1"])?;
    mirror.expect("10.9.1.1", &Goes::ByTheStack)?;
    mirror.ip(&["nexthop delete id 2"])?;
    mirror.expect("10.9.10.1", &Goes::ByTheStack)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn routes_with_many_ways_have_them_by_their_weights() -> Result<()> {
    let mirror = Mirror::new()?;
    mirror.ip(&[
        "route add 10.9.0.0/24 nexthop via 192.168.1.21 weight 1 nexthop via 192.168.1.22 weight 3",
    ])?;
    mirror.expect("10.9.0.1", &by_either("192.168.1.21", "192.168.1.22"))?;
    let route = route_to(mirror.node(), Ipv4Addr::new(10, 9, 0, 1))?;
    let ways = route.map(|route| route.ways).unwrap_or_default();
    let shares: Vec<usize> = ways.iter().map(|way| way.share).collect();
    assert_eq!(shares, [8, 24], "{ways:?}");
    mirror.ip(&["route replace 10.9.0.0/24 via 192.168.1.22"])?;
    mirror.expect("10.9.0.1", &by("192.168.1.22"))
}

/// Rules are followed where they send pods' packets.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn tables_that_rules_lead_to_are_mirrored() -> Result<()> {
    let mirror = Mirror::new()?;
    mirror.ip(&[
        "route add 10.9.0.0/24 via 192.168.1.21",
        "route add 10.9.0.0/24 via 192.168.1.22 table 77",
    ])?;
    mirror.expect("10.9.0.1", &by("192.168.1.21"))?;
    mirror.ip(&["rule add from 10.244.0.0/24 lookup 77"])?;
    mirror.expect("10.9.0.1", &by("192.168.1.22"))?;
    mirror.ip(&["rule delete from 10.244.0.0/24 lookup 77"])?;
    mirror.expect("10.9.0.1", &by("192.168.1.21"))
}

/// What the programs cannot do as the kernel does is the stack's, in full and by name.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn what_cannot_be_mirrored_is_listed_and_left_to_the_stack() -> Result<()> {
    let mirror = Mirror::new()?;
    let node = mirror.node();
    node.ns()
        .set_sysctl("net.ipv6.conf.eth0.disable_ipv6", "0")?;
    mirror.ip(&[
        "link add vxlan0 up type vxlan external dstport 4790 local 192.168.1.10",
        "route add 10.8.0.0/13 via 192.168.1.11",
        "route add 10.9.1.0/24 encap ip id 7 dst 192.168.1.11 dev vxlan0",
        "route add 10.9.2.0/24 via 192.168.1.11 tos 0x10",
        "route add 10.9.3.0/24 via 10.9.3.1 dev vxlan0 onlink",
        "route add 10.9.4.0/24 dev eth0",
        "route add 10.9.5.0/24 via inet6 fe80::1 dev eth0",
    ])?;
    mirror.expect("10.9.9.1", &by("192.168.1.11"))?;
    let listed = unmirrored(node)?;
    for prefix in [
        "0.0.0.0/0",
        "192.168.1.0/24",
        "10.9.1.0/24",
        "10.9.2.0/24",
        "10.9.3.0/24",
        "10.9.4.0/24",
        "10.9.5.0/24",
    ] {
        let row = listed.iter().find(|row| row.prefix.to_string() == prefix);
        assert!(
            row.is_some_and(|row| !row.why.is_empty()),
            "{prefix} is not listed with a reason: {listed:?}"
        );
    }
    // Not by the wider route either.
    for index in 1..=5 {
        let address = format!("10.9.{index}.1");
        mirror.expect(&address, &Goes::ByTheStack)?;
    }
    Ok(())
}

/// What goes by the default route goes by the stack.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_world_outside_is_the_stacks() -> Result<()> {
    let mirror = Mirror::new()?;
    let (node, other) = (mirror.node(), mirror.lab.node("node-1"));
    let outside = Ipv4Addr::new(198, 51, 100, 1);
    node.ns()
        .exec("ip route replace default via 192.168.1.11 dev eth0")?;
    other
        .ns()
        .exec(&format!("ip address add {outside}/32 dev lo"))?;
    mirror.expect("198.51.100.1", &Goes::ByTheStack)?;
    let before = Counters::read(node)?;
    let report = ping(node.pod("p0").ns(), outside, &PingOptions::default())?;
    assert!(report.is_lossless(), "{report:?}");
    let since = Counters::read(node)?.since(&before);
    assert_eq!(left_to_the_stack(&since), 5, "{since:?}");
    Ok(())
}

/// Two VXLAN networks: what the programs have one configuration for is carried by one of them, and
/// the other is the stack's.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn of_two_vxlan_networks_one_is_the_stacks() -> Result<()> {
    let mirror = Mirror::new()?;
    let node = mirror.node();
    node.ns().exec(
        "ip link add flannel.1 up type vxlan id 1 dev eth0 local 192.168.1.10 dstport 8472 nolearning",
    )?;
    calico::add_vxlan(node, "noudpcsum")?;
    for (prefix, gateway, device) in [
        ("10.9.1.0/24", "10.9.1.0", "flannel.1"),
        ("10.9.2.0/24", "10.9.2.1", "vxlan.calico"),
    ] {
        let mac = Mac::of(gateway.parse()?, 0);
        mirror.ip(&[
            &format!("neigh replace {gateway} lladdr {mac} dev {device} nud permanent"),
            &format!("route add {prefix} via {gateway} dev {device} onlink"),
        ])?;
        node.ns().exec(&format!(
            "bridge fdb append {mac} dev {device} dst 192.168.1.11 self permanent"
        ))?;
    }
    let by_vxlan = |address: &str| -> Result<bool> {
        let route = route_to(node, address.parse()?)?;
        Ok(route.is_some_and(|route| route.way.kind == "vxlan"))
    };
    eventually("one of them is mirrored", || {
        Ok(by_vxlan("10.9.1.5")? || by_vxlan("10.9.2.5")?)
    })?;
    wait_without_drift(node)?;
    let other = match (by_vxlan("10.9.1.5")?, by_vxlan("10.9.2.5")?) {
        (true, false) => "10.9.2.0/24",
        (false, true) => "10.9.1.0/24",
        both => panic!("one of them alone: {both:?}"),
    };
    let listed = unmirrored(node)?;
    assert!(
        listed.iter().any(|row| row.prefix.to_string() == other),
        "{other}: {listed:?}"
    );
    Ok(())
}

/// A Calico node that routes to another one directly, and mirrors whatever a test does to its routes.
struct Mirror {
    lab: Lab,
    _agent: Agent,
}

/// Where packets for an address go.
#[derive(Debug)]
enum Goes {
    /// To one of these neighbours.
    By(BTreeSet<Ipv4Addr>),
    /// Into a pod of this node.
    ToAPod,
    /// Into a black hole.
    Nowhere,
    /// Wherever the stack has them go.
    ByTheStack,
}

fn by(gateway: &str) -> Goes {
    by_either(gateway, gateway)
}

fn by_either(one: &str, other: &str) -> Goes {
    let gateways = [one, other].map(|gateway| gateway.parse().expect("an address"));
    Goes::By(gateways.into())
}

impl Mirror {
    fn new() -> Result<Self> {
        require_root();
        let lab = Lab::flat(2, 1)?;
        Network::Bird.set_up(&lab)?;
        let agent = Agent::mirror(lab.node("node-0"))?;
        Ok(Self { lab, _agent: agent })
    }

    fn node(&self) -> &Node {
        self.lab.node("node-0")
    }

    /// Runs these `ip` commands on the node.
    fn ip(&self, commands: &[&str]) -> Result<()> {
        let commands = commands.iter().map(|command| format!("ip {command}"));
        for command in commands {
            self.node().ns().exec(&command)?;
        }
        Ok(())
    }

    /// Waits until packets for an address go there, and until `underpass diff` finds nothing.
    fn expect(&self, address: &str, goes: &Goes) -> Result<()> {
        let what = format!("{goes:?}");
        wait_for_route(self.node(), address.parse()?, &what, |route| {
            let kind = route.map(|route| &*route.way.kind);
            match goes {
                Goes::By(gateways) => route.is_some_and(|route| route.gateways() == *gateways),
                Goes::ToAPod => kind == Some("local"),
                Goes::Nowhere => kind == Some("blackhole"),
                Goes::ByTheStack => route.is_none_or(Route::is_left_to_the_stack),
            }
        })?;
        wait_without_drift(self.node())
    }
}
