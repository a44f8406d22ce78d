//! The routes of ours.

use std::net::Ipv4Addr;

use super::{
    namespace::{in_new_namespace, ip},
    reading::add_uplink,
};
use crate::kernel::{CARRIER_NAME, CarrierSpec, Netlink, OwnRoute, OwnTarget, difference};

const BLOCK: &str = "10.1.0.0/26";
const TUNNEL_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 0);

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_route_to_the_carrier_is_what_ip_shows() {
    in_new_namespace(async |netlink, _| {
        let route = to(BLOCK, carrier(&netlink, 1450).await);
        netlink.add_route(&route).await.unwrap();
        assert_eq!(
            shown(),
            ["10.1.0.0/26 dev underpass0 scope link src 10.2.0.0 metric 1117 mtu 1450"]
        );
        assert_eq!(netlink.own_routes().await.unwrap(), [route]);
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_route_to_another_node_is_what_ip_shows() {
    in_new_namespace(async |netlink, _| {
        let oif = add_uplink(&netlink).await;
        let gateway = Ipv4Addr::new(192, 168, 0, 2);
        let plain = to(
            BLOCK,
            OwnTarget::Via {
                gateway,
                oif,
                onlink: false,
                source: None,
            },
        );
        netlink.add_route(&plain).await.unwrap();
        assert_eq!(
            shown(),
            ["10.1.0.0/26 via 192.168.0.2 dev uplink metric 1117"]
        );
        assert_eq!(netlink.own_routes().await.unwrap(), [plain]);
        netlink.delete_route(&plain).await.unwrap();

        let gateway = Ipv4Addr::new(172, 16, 0, 2);
        let source = Some(Ipv4Addr::new(192, 168, 0, 1));
        let onlink = to(
            BLOCK,
            OwnTarget::Via {
                gateway,
                oif,
                onlink: true,
                source,
            },
        );
        netlink.add_route(&onlink).await.unwrap();
        assert_eq!(
            shown(),
            ["10.1.0.0/26 via 172.16.0.2 dev uplink src 192.168.0.1 metric 1117 onlink"]
        );
        assert_eq!(netlink.own_routes().await.unwrap(), [onlink]);
        netlink.delete_route(&onlink).await.unwrap();
        assert_eq!(shown(), [""; 0]);
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_blackhole_is_what_ip_shows() {
    in_new_namespace(async |netlink, _| {
        let blackhole = to(BLOCK, OwnTarget::Blackhole);
        netlink.add_route(&blackhole).await.unwrap();
        assert_eq!(shown(), ["blackhole 10.1.0.0/26 metric 1117"]);
        assert_eq!(netlink.own_routes().await.unwrap(), [blackhole]);
        netlink.delete_route(&blackhole).await.unwrap();
        assert_eq!(shown(), [""; 0]);
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn adding_and_deleting_twice_is_the_same_as_once() {
    in_new_namespace(async |netlink, _| {
        let route = to(BLOCK, carrier(&netlink, 1450).await);
        netlink.add_route(&route).await.unwrap();
        netlink.add_route(&route).await.unwrap();
        assert_eq!(shown().len(), 1);
        netlink.delete_route(&route).await.unwrap();
        netlink.delete_route(&route).await.unwrap();
        assert_eq!(shown(), [""; 0]);
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_route_is_changed_without_a_gap() {
    in_new_namespace(async |netlink, _| {
        let oif = add_uplink(&netlink).await;
        let gateway = Ipv4Addr::new(192, 168, 0, 2);
        let by_carrier = carrier(&netlink, 1450).await;
        let targets = [
            by_carrier,
            carrier(&netlink, 1430).await,
            OwnTarget::Via {
                gateway,
                oif,
                onlink: false,
                source: None,
            },
            OwnTarget::Via {
                gateway,
                oif,
                onlink: true,
                source: None,
            },
            OwnTarget::Blackhole,
            by_carrier,
        ];
        netlink.add_route(&to(BLOCK, targets[0])).await.unwrap();
        for pair in targets.windows(2) {
            let (old, new) = (to(BLOCK, pair[0]), to(BLOCK, pair[1]));
            let actual = netlink.own_routes().await.unwrap();
            let (to_add, to_delete) = difference(&[new], &actual);
            assert_eq!((&to_add[..], &to_delete[..]), (&[new][..], &[old][..]));

            netlink.add_route(&new).await.unwrap();
            assert_eq!(netlink.own_routes().await.unwrap(), [old, new]);
            netlink.delete_route(&old).await.unwrap();
            assert_eq!(netlink.own_routes().await.unwrap(), [new]);
        }
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn routes_of_others_are_neither_read_nor_displaced_nor_deleted() {
    in_new_namespace(async |netlink, _| {
        let route = to(BLOCK, carrier(&netlink, 1450).await);
        ip("route add 10.1.0.0/26 dev underpass0 proto 80");
        ip("route add 10.1.0.0/26 dev underpass0 proto 80 mtu 1450 metric 1117 src 10.2.0.0");
        ip("route append 10.1.0.0/26 dev underpass0 proto 117 mtu 1450");
        ip("route add 10.1.0.0/26 dev underpass0 proto 117 mtu 1450 metric 1117 table 77");
        let theirs = all_routes();
        assert_eq!(netlink.own_routes().await.unwrap(), []);
        netlink.delete_route(&route).await.unwrap();
        assert_eq!(all_routes(), theirs);

        netlink.add_route(&route).await.unwrap();
        assert_eq!(netlink.own_routes().await.unwrap(), [route]);
        let best_first = ip("route show 10.1.0.0/26 metric 1117");
        let owners: Vec<_> = best_first
            .lines()
            .map(|line| line.contains("proto 80"))
            .collect();
        assert_eq!(owners, [true, false], "{best_first}");
        netlink.delete_route(&route).await.unwrap();
        assert_eq!(all_routes(), theirs);
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_refused_route_says_why_and_what_to_do() {
    in_new_namespace(async |netlink, _| {
        let oif = add_uplink(&netlink).await;
        let gateway = Ipv4Addr::new(172, 16, 0, 2);
        let off_link = OwnTarget::Via {
            gateway,
            oif,
            onlink: false,
            source: None,
        };
        assert_eq!(
            refusal(&netlink, off_link).await,
            "cannot add the route 10.1.0.0/26 via 172.16.0.2 dev uplink: Nexthop has invalid \
             gateway (ENETUNREACH: Network is unreachable); the gateway has to be in a subnet of \
             the interface, or the route on-link"
        );
        let source = Some(Ipv4Addr::new(10, 9, 9, 9));
        let foreign_source = OwnTarget::Carrier {
            ifindex: oif,
            source,
            mtu: 1450,
        };
        assert_eq!(
            refusal(&netlink, foreign_source).await,
            "cannot add the route 10.1.0.0/26 dev uplink src 10.9.9.9 mtu 1450: Invalid prefsrc \
             address (EINVAL: Invalid argument); the source has to be an address of this host, \
             and the destination without bits beyond its prefix length"
        );
        ip("link set uplink down");
        let down = OwnTarget::Carrier {
            ifindex: oif,
            source: None,
            mtu: 1450,
        };
        let error = refusal(&netlink, down).await;
        assert!(error.ends_with("; the interface has to be up"), "{error}");
        let gone = OwnTarget::Carrier {
            ifindex: 99,
            source: None,
            mtu: 1450,
        };
        let error = refusal(&netlink, gone).await;
        assert!(
            error.contains("dev (no interface with index 99)"),
            "{error}"
        );
    });
}

fn to(destination: &str, target: OwnTarget) -> OwnRoute {
    OwnRoute {
        destination: destination.parse().unwrap(),
        target,
    }
}

/// A target on the carrier, which is created if need be.
async fn carrier(netlink: &Netlink, mtu: u32) -> OwnTarget {
    let spec = CarrierSpec {
        name: CARRIER_NAME.into(),
        mac: [2, 0, 0, 0, 0, 1],
        mtu: 1450,
        vxlan_port: 4789,
        addresses: vec![TUNNEL_ADDRESS],
        up: true,
    };
    let ifindex = netlink.ensure_carrier(&spec).await.unwrap();
    OwnTarget::Carrier {
        ifindex,
        source: Some(TUNNEL_ADDRESS),
        mtu,
    }
}

async fn refusal(netlink: &Netlink, target: OwnTarget) -> String {
    format!(
        "{:#}",
        netlink.add_route(&to(BLOCK, target)).await.unwrap_err()
    )
}

/// The routes of our protocol in the main table as `ip` shows them.
fn shown() -> Vec<String> {
    ip("route show proto 117")
        .lines()
        .map(|line| line.trim().to_owned())
        .collect()
}

fn all_routes() -> String {
    ip("-4 route show table all")
}
