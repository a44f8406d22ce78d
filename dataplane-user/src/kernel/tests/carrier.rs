//! The carrier device.

use std::{net::Ipv4Addr, net::UdpSocket};

use super::namespace::{in_new_namespace, index_of, ip};
use crate::kernel::{CARRIER_NAME, CarrierSpec, Netlink};

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_carrier_is_created_as_specified() {
    in_new_namespace(async |netlink, _| {
        let index = netlink.ensure_carrier(&spec()).await.unwrap();
        assert_eq!(index, index_of(&netlink, CARRIER_NAME).await);

        let shown = show();
        for part in [
            "NOARP,UP,LOWER_UP",
            "mtu 1450",
            "link/ether 02:00:00:00:00:01",
            "vxlan external",
            "dstport 4789",
            "nolearning",
            "alias underpass carrier",
            "inet 10.1.0.0/32 scope global",
        ] {
            assert!(shown.contains(part), "{part} is not in:\n{shown}");
        }
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_carrier_that_is_as_specified_is_not_touched() {
    in_new_namespace(async |netlink, mut events| {
        let index = netlink.ensure_carrier(&spec()).await.unwrap();
        super::events::settle(&mut events).await;

        assert_eq!(netlink.ensure_carrier(&spec()).await.unwrap(), index);
        assert!(super::events::is_quiet(&mut events).await);
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn what_differs_is_changed_on_the_same_device() {
    in_new_namespace(async |netlink, _| {
        let index = netlink.ensure_carrier(&spec()).await.unwrap();
        let changed = CarrierSpec {
            mac: [2, 0, 0, 0, 0, 9],
            mtu: 8950,
            ..spec()
        };
        assert_eq!(netlink.ensure_carrier(&changed).await.unwrap(), index);
        let shown = show();
        assert!(shown.contains("link/ether 02:00:00:00:00:09"), "{shown}");
        assert!(shown.contains("mtu 8950"), "{shown}");

        ip("link set underpass0 down arp on");
        assert_eq!(netlink.ensure_carrier(&changed).await.unwrap(), index);
        assert!(show().contains("NOARP,UP"), "{}", show());
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn another_port_takes_another_device() {
    in_new_namespace(async |netlink, _| {
        let index = netlink.ensure_carrier(&spec()).await.unwrap();
        let moved = CarrierSpec {
            vxlan_port: 8472,
            ..spec()
        };
        assert_ne!(netlink.ensure_carrier(&moved).await.unwrap(), index);
        let shown = show();
        assert!(
            shown.contains("dstport 8472") && shown.contains("inet 10.1.0.0/32"),
            "{shown}"
        );
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_addresses_are_exactly_the_wanted_ones() {
    in_new_namespace(async |netlink, _| {
        netlink.ensure_carrier(&spec()).await.unwrap();
        ip("addr add 10.9.0.1/24 dev underpass0");
        ip("addr add 10.9.0.2/24 dev underpass0");
        ip("addr add 10.3.0.0/24 dev underpass0");

        let wanted = [Ipv4Addr::new(10, 2, 0, 0), Ipv4Addr::new(10, 3, 0, 0)];
        let moved = CarrierSpec {
            addresses: wanted.into(),
            up: true,
            ..spec()
        };
        netlink.ensure_carrier(&moved).await.unwrap();
        assert_eq!(carrier_addresses(), ["10.2.0.0/32", "10.3.0.0/32"]);

        let bare = CarrierSpec {
            addresses: vec![],
            up: true,
            ..spec()
        };
        netlink.ensure_carrier(&bare).await.unwrap();
        assert_eq!(carrier_addresses(), [""; 0]);
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_device_that_is_not_ours_is_refused_and_left_alone() {
    for foreign in [
        &["link add underpass0 type veth peer name other"][..],
        &["link add underpass0 up type vxlan external dstport 4789"],
        &["link add underpass0 type vxlan id 1 dstport 4789"],
        &[
            "link add underpass0 type vxlan external dstport 4789",
            "link set underpass0 alias theirs",
        ],
    ] {
        in_new_namespace(async move |netlink, _| {
            for step in foreign {
                ip(step);
            }
            let before = show();
            let error = refusal(&netlink, &spec()).await;
            assert!(error.contains("underpass0 is not ours"), "{error}");
            assert!(error.contains("ip link delete underpass0"), "{error}");
            assert_eq!(netlink.delete_carrier(CARRIER_NAME).await.unwrap(), None);
            assert_eq!(show(), before);
        });
    }
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_carrier_left_half_made_is_completed() {
    in_new_namespace(async |netlink, _| {
        ip("link add underpass0 type vxlan external dstport 4789 nolearning");
        let index = index_of(&netlink, CARRIER_NAME).await;
        assert_eq!(netlink.ensure_carrier(&spec()).await.unwrap(), index);
        assert!(show().contains("alias underpass carrier"), "{}", show());
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_device_that_holds_the_port_is_named() {
    for holder in [
        "link add vxlan.calico up type vxlan id 4096 dstport 4789",
        "link add vxlan.calico up type vxlan external dstport 4789",
        "link add vxlan.calico type vxlan external dstport 4789",
    ] {
        in_new_namespace(async move |netlink, _| {
            ip(holder);
            let error = refusal(&netlink, &spec()).await;
            assert!(error.contains("UDP port 4789"), "{error}");
            assert!(
                error.contains("held by the VXLAN interface vxlan.calico"),
                "{error}"
            );
            assert!(
                !ip("link show").contains(CARRIER_NAME),
                "{}",
                ip("link show")
            );
        });
    }
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_device_that_is_down_does_not_hold_the_port() {
    in_new_namespace(async |netlink, _| {
        ip("link add vxlan.calico type vxlan id 4096 dstport 4789");
        netlink.ensure_carrier(&spec()).await.unwrap();
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_old_carrier_outlives_a_taken_port() {
    in_new_namespace(async |netlink, _| {
        let index = netlink.ensure_carrier(&spec()).await.unwrap();
        ip("link add flannel.1 up type vxlan id 1 dstport 8472");
        let moved = CarrierSpec {
            vxlan_port: 8472,
            ..spec()
        };
        let error = refusal(&netlink, &moved).await;
        assert!(error.contains("flannel.1"), "{error}");
        assert_eq!(index_of(&netlink, CARRIER_NAME).await, index);
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_socket_that_holds_the_port_is_told_how_to_find() {
    in_new_namespace(async |netlink, _| {
        let _holder = UdpSocket::bind("0.0.0.0:4789").unwrap();
        let error = refusal(&netlink, &spec()).await;
        assert!(error.contains("`ss -lunp sport = :4789`"), "{error}");
        assert!(
            !ip("link show").contains(CARRIER_NAME),
            "{}",
            ip("link show")
        );
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn an_impossible_mtu_is_the_kernels_refusal() {
    in_new_namespace(async |netlink, _| {
        let error = refusal(&netlink, &CarrierSpec { mtu: 20, ..spec() }).await;
        assert!(
            error.starts_with("cannot create the carrier underpass0: "),
            "{error}"
        );
        assert!(error.contains("EINVAL"), "{error}");
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_carrier_is_deleted_once() {
    in_new_namespace(async |netlink, _| {
        let index = netlink.ensure_carrier(&spec()).await.unwrap();
        assert_eq!(
            netlink.delete_carrier(CARRIER_NAME).await.unwrap(),
            Some(index)
        );
        assert_eq!(netlink.delete_carrier(CARRIER_NAME).await.unwrap(), None);
        assert!(
            !ip("link show").contains(CARRIER_NAME),
            "{}",
            ip("link show")
        );
    });
}

fn spec() -> CarrierSpec {
    CarrierSpec {
        name: CARRIER_NAME.into(),
        mac: [2, 0, 0, 0, 0, 1],
        mtu: 1450,
        vxlan_port: 4789,
        addresses: vec![Ipv4Addr::new(10, 1, 0, 0)],
        up: true,
    }
}

async fn refusal(netlink: &Netlink, spec: &CarrierSpec) -> String {
    format!("{:#}", netlink.ensure_carrier(spec).await.unwrap_err())
}

fn show() -> String {
    ip("-d addr show underpass0")
}

fn carrier_addresses() -> Vec<String> {
    let shown = ip("-4 -brief addr show underpass0");
    let mut addresses: Vec<_> = shown.split_whitespace().skip(2).map(String::from).collect();
    addresses.sort();
    addresses
}
