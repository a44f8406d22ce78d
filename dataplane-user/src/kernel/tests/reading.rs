//! Links, addresses, routes and the way to another node.

use std::net::{Ipv4Addr, UdpSocket};

use super::namespace::{
    Namespace, add_veth, add_veth_into, eventually, in_new_namespace, index_of, ip,
};
use crate::kernel::{
    Address, Ipip, Link, Netlink, Route, RouteScope, RouteType, TABLE_MAIN, Underlay, Vxlan,
};

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_link_tells_what_it_is() {
    in_new_namespace(async |netlink, _| {
        add_veth(&netlink, "pod", "eth0").await;
        ip("link set pod address 02:00:00:00:00:01 mtu 1400 alias hello");
        ip("link set eth0 down arp off");

        let pod = link(&netlink, "pod").await;
        assert_eq!(
            pod,
            Link {
                index: pod.index,
                name: "pod".into(),
                mac: Some([2, 0, 0, 0, 0, 1]),
                mtu: 1400,
                up: true,
                // The other end is down.
                carrier: false,
                noarp: false,
                kind: Some("veth".into()),
                alias: Some("hello".into()),
                vxlan: None,
                ipip: None,
                xdp: None,
            }
        );
        let eth0 = link(&netlink, "eth0").await;
        assert!(!eth0.up && eth0.noarp && eth0.alias.is_none());
        ip("link set eth0 up");
        assert!(link(&netlink, "pod").await.carrier);
        assert_eq!(link(&netlink, "lo").await.kind, None);
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_vxlan_link_tells_its_vni_and_port() {
    in_new_namespace(async |netlink, _| {
        ip("link add flannel.1 type vxlan id 1 dstport 8472 local 192.168.1.1");
        ip("link add calico type vxlan external dstport 4789");

        let flannel = Vxlan {
            vni: 1,
            port: 8472,
            external: false,
            local: Some(Ipv4Addr::new(192, 168, 1, 1)),
            special: false,
        };
        assert_eq!(link(&netlink, "flannel.1").await.vxlan, Some(flannel));
        let calico = Vxlan {
            vni: 0,
            port: 4789,
            external: true,
            local: None,
            special: false,
        };
        assert_eq!(link(&netlink, "calico").await.vxlan, Some(calico));
        assert_eq!(
            link(&netlink, "calico").await.kind.as_deref(),
            Some("vxlan")
        );
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_kernels_ipip_device_tells_its_ends() {
    in_new_namespace(async |netlink, _| {
        ip("link add tunl type ipip local any remote any");
        ip("link add peer type ipip local 192.168.1.1 remote 192.168.1.2");
        ip("link add fou type ipip remote 192.168.1.3 encap fou encap-dport 5555");

        assert_eq!(link(&netlink, "tunl").await.ipip, Some(Ipip::default()));
        let peer = Ipip {
            local: Some(Ipv4Addr::new(192, 168, 1, 1)),
            remote: Some(Ipv4Addr::new(192, 168, 1, 2)),
            special: false,
        };
        assert_eq!(link(&netlink, "peer").await.ipip, Some(peer));
        assert!(
            link(&netlink, "fou")
                .await
                .ipip
                .is_some_and(|fou| fou.special)
        );
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn addresses_are_those_of_ipv4() {
    in_new_namespace(async |netlink, _| {
        add_veth(&netlink, "uplink", "peer").await;
        ip("addr add 192.168.0.1/24 dev uplink");
        ip("addr add 10.0.0.1 peer 10.0.0.2/30 dev uplink");
        ip("addr add fd00::1/64 dev uplink");

        let index = index_of(&netlink, "uplink").await;
        let mut addresses = netlink.addresses().await.unwrap();
        addresses.sort();
        assert_eq!(
            addresses,
            [
                Address {
                    index,
                    address: [10, 0, 0, 1].into(),
                    prefix_len: 30
                },
                Address {
                    index,
                    address: [192, 168, 0, 1].into(),
                    prefix_len: 24
                },
            ]
        );
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_route_tells_all_that_it_is_set_to() {
    in_new_namespace(async |netlink, _| {
        let oif = add_uplink(&netlink).await;
        ip(
            "route add 10.1.0.0/26 via 172.16.0.9 dev uplink onlink src 192.168.0.1 proto 80 \
            metric 7 mtu 1450",
        );

        assert_eq!(
            route(&netlink, "10.1.0.0/26").await,
            Route {
                destination: "10.1.0.0/26".parse().unwrap(),
                gateway: Some([172, 16, 0, 9].into()),
                oif: Some(oif),
                source: Some([192, 168, 0, 1].into()),
                mtu: Some(1450),
                scope: RouteScope::Universe,
                kind: RouteType::Unicast,
                protocol: 80,
                table: TABLE_MAIN,
                metric: Some(7),
                onlink: true,
                opaque: false,
            }
        );
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_plain_route_tells_nothing_more() {
    in_new_namespace(async |netlink, _| {
        let oif = add_uplink(&netlink).await;
        ip("route add 10.65.0.2 dev uplink scope link");

        let pod = route(&netlink, "10.65.0.2/32").await;
        assert_eq!(
            (pod.gateway, pod.oif, pod.source, pod.mtu, pod.metric),
            (None, Some(oif), None, None, None)
        );
        assert_eq!((pod.scope, pod.protocol), (RouteScope::Link, 3));
        assert_eq!(pod.effective_metric(), 0);
        assert!(pod.is_in_main() && !pod.onlink && !pod.opaque);
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn routes_are_of_every_kind_and_table() {
    in_new_namespace(async |netlink, _| {
        add_uplink(&netlink).await;
        ip("route add default via 192.168.0.254");
        ip("route add blackhole 10.1.0.0/26");
        ip("route add unreachable 10.2.0.0/26");
        ip("route add 10.3.0.0/26 dev uplink table 77");
        ip("route add 10.4.0.0/26 dev uplink table 1000");

        assert_eq!(
            route(&netlink, "0.0.0.0/0").await.gateway,
            Some([192, 168, 0, 254].into())
        );
        let blackhole = route(&netlink, "10.1.0.0/26").await;
        assert_eq!(
            (blackhole.kind, blackhole.oif),
            (RouteType::BlackHole, None)
        );
        assert_eq!(
            route(&netlink, "10.2.0.0/26").await.kind,
            RouteType::Unreachable
        );
        assert_eq!(route(&netlink, "10.3.0.0/26").await.table, 77);
        assert_eq!(route(&netlink, "10.4.0.0/26").await.table, 1000);
        let local = route(&netlink, "192.168.0.1/32").await;
        assert_eq!((local.kind, local.table), (RouteType::Local, 255));
        assert_eq!(
            route(&netlink, "192.168.0.255/32").await.kind,
            RouteType::Broadcast
        );
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_route_that_does_more_is_opaque() {
    in_new_namespace(async |netlink, _| {
        add_uplink(&netlink).await;
        ip("route add 10.1.0.0/26 nexthop via 192.168.0.2 nexthop via 192.168.0.3");
        ip("route add 10.2.0.0/26 via inet6 fe80::1 dev uplink");
        ip("route add 10.3.0.0/26 tos 0x10 dev uplink");
        ip("route add 10.4.0.0/26 encap ip id 5 dst 192.168.0.9 dev uplink");

        for destination in ["10.1.0.0/26", "10.2.0.0/26", "10.3.0.0/26", "10.4.0.0/26"] {
            assert!(route(&netlink, destination).await.opaque, "{destination}");
        }
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_route_over_a_next_hop_object_tells_the_next_hop() {
    in_new_namespace(async |netlink, _| {
        let oif = add_uplink(&netlink).await;
        ip("nexthop add id 1 via 192.168.0.2 dev uplink");
        ip("route add 10.1.0.0/26 nhid 1");

        let route = route(&netlink, "10.1.0.0/26").await;
        assert_eq!(route.gateway, Some([192, 168, 0, 2].into()));
        assert_eq!(route.oif, Some(oif));
        assert!(!route.opaque);
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn thousands_of_routes_are_read_whole() {
    const ROUTES: usize = 5000;
    in_new_namespace(async |netlink, _| {
        add_uplink(&netlink).await;
        add_many_routes(ROUTES);
        let routes = netlink.routes().await.unwrap();
        let many = routes.iter().filter(|route| route.protocol == 80).count();
        assert_eq!(many, ROUTES);
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_way_to_another_node_is_the_kernels() {
    in_new_namespace(async |netlink, _| {
        let oif = add_uplink(&netlink).await;
        ip("addr add 192.168.0.7/24 dev uplink");
        ip("route add 10.1.0.0/16 via 192.168.0.254 src 192.168.0.7 mtu 1400");

        let on_link = Underlay {
            oif,
            gateway: None,
            source: [192, 168, 0, 1].into(),
            mtu: None,
        };
        assert_eq!(way(&netlink, [192, 168, 0, 2]).await, Some(on_link));
        let routed = Underlay {
            oif,
            gateway: Some([192, 168, 0, 254].into()),
            source: [192, 168, 0, 7].into(),
            mtu: Some(1400),
        };
        assert_eq!(way(&netlink, [10, 1, 2, 3]).await, Some(routed));
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn there_is_no_way_where_no_unicast_route_leads() {
    in_new_namespace(async |netlink, _| {
        add_uplink(&netlink).await;
        ip("route add unreachable 10.1.0.0/16");
        ip("route add prohibit 10.2.0.0/16");
        ip("route add blackhole 10.3.0.0/16");
        ip("route add throw 10.4.0.0/16");
        ip("route add 10.5.0.0/16 via inet6 fe80::1 dev uplink");

        let missing = [172, 16, 0, 1];
        let own = [192, 168, 0, 1];
        let broadcast = [192, 168, 0, 255];
        assert_eq!(way(&netlink, missing).await, None);
        assert_eq!(way(&netlink, own).await, None);
        assert_eq!(way(&netlink, broadcast).await, None);
        for second in 1..=5 {
            assert_eq!(
                way(&netlink, [10, second, 0, 1]).await,
                None,
                "10.{second}/16"
            );
        }
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_path_mtu_that_was_discovered_is_no_route_but_known_of_the_way() {
    in_new_namespace(async |netlink, _| {
        let router = Namespace::new();
        add_veth_into(&netlink, "uplink", "near", &router).await;
        ip("addr add 192.168.0.1/24 dev uplink");
        ip("route add 10.1.0.0/16 via 192.168.0.2");
        router.ip("addr add 192.168.0.2/24 dev near");
        router.ip("link add far up type veth peer name end");
        router.ip("link set far mtu 1000");
        router.ip("link set end up");
        router.ip("addr add 10.1.0.1/16 dev far");
        router.forward();
        let before = netlink.routes().await.unwrap();

        let destination = [10, 1, 2, 3];
        let socket = UdpSocket::bind("192.168.0.1:0").unwrap();
        socket.connect((Ipv4Addr::from(destination), 9)).unwrap();
        socket.send(&[0; 1400]).unwrap();
        let learned = eventually(async || way(&netlink, destination).await?.mtu).await;
        assert_eq!(learned, 1000);
        assert_eq!(netlink.routes().await.unwrap(), before);
    });
}

/// Creates the interface `uplink` with the address 192.168.0.1/24 and returns its index.
pub(super) async fn add_uplink(netlink: &Netlink) -> u32 {
    add_veth(netlink, "uplink", "peer").await;
    ip("addr add 192.168.0.1/24 dev uplink");
    index_of(netlink, "uplink").await
}

/// Adds routes of protocol 80 over `uplink` to the /28s of 10/8 from its start.
pub(super) fn add_many_routes(count: usize) {
    use std::{fmt::Write, io::Write as _};

    let mut batch = String::new();
    let start = u32::from(Ipv4Addr::new(10, 0, 0, 0));
    for destination in (start..).step_by(16).take(count).map(Ipv4Addr::from) {
        writeln!(batch, "route add {destination}/28 dev uplink proto 80").unwrap();
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(batch.as_bytes()).unwrap();
    ip(&format!("-batch {}", file.path().display()));
}

async fn link(netlink: &Netlink, name: &str) -> Link {
    let links = netlink.links().await.unwrap();
    links.into_iter().find(|link| link.name == name).unwrap()
}

/// The only route to a destination.
async fn route(netlink: &Netlink, destination: &str) -> Route {
    let destination = destination.parse().unwrap();
    let routes = netlink.routes().await.unwrap();
    let mut found = routes
        .into_iter()
        .filter(|route| route.destination == destination);
    let route = found.next().expect("there is a route");
    assert_eq!(found.next(), None);
    route
}

async fn way(netlink: &Netlink, destination: [u8; 4]) -> Option<Underlay> {
    netlink.route_to(destination.into()).await.unwrap()
}
