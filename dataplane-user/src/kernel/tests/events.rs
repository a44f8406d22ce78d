//! Being woken by changes.

use std::time::Duration;

use rtnetlink::sys::AsyncSocket;
use tokio::time::timeout;

use super::{
    namespace::{Namespace, add_veth, add_veth_into, in_new_namespace, index_of, ip},
    reading::{add_many_routes, add_uplink},
};
use crate::kernel::Events;

/// Longer than the kernel takes to report a change that it has carried out.
const MOMENT: Duration = Duration::from_millis(300);

/// Longer than the kernel waits before it reports that a link has come up or gone (linkwatch).
const LINKWATCH: Duration = Duration::from_millis(1500);

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn every_kind_of_change_wakes() {
    in_new_namespace(async |netlink, mut events| {
        add_veth(&netlink, "uplink", "peer").await;
        settle(&mut events).await;
        for change in [
            "link set uplink mtu 1400",
            "link set uplink address 02:00:00:00:00:01",
            "link add other type veth peer name another",
            "link delete other",
            "addr add 192.168.0.1/24 dev uplink",
            "route add 10.1.0.0/26 via 192.168.0.2",
            "route add 10.2.0.0/26 via 192.168.0.2 table 77",
            "route delete 10.1.0.0/26",
            "neigh add 192.168.0.2 lladdr 02:00:00:00:00:02 dev uplink nud permanent",
            "neigh delete 192.168.0.2 dev uplink",
            "nexthop add id 1 via 192.168.0.2 dev uplink",
            "nexthop delete id 1",
            "addr delete 192.168.0.1/24 dev uplink",
            "link set uplink down",
        ] {
            ip(change);
            assert!(!is_quiet(&mut events).await, "`ip {change}` does not wake");
            while !is_quiet(&mut events).await {}
        }
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_neighbour_that_answers_wakes() {
    in_new_namespace(async |netlink, mut events| {
        let there = Namespace::new();
        add_veth_into(&netlink, "uplink", "peer", &there).await;
        there.ip("addr add 192.168.0.2/24 dev peer");
        ip("addr add 192.168.0.1/24 dev uplink");
        settle(&mut events).await;

        let index = index_of(&netlink, "uplink").await;
        netlink
            .resolve_neighbour(index, [192, 168, 0, 2].into())
            .await
            .unwrap();
        assert!(!is_quiet(&mut events).await);
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_burst_is_one_event() {
    in_new_namespace(async |netlink, mut events| {
        add_uplink(&netlink).await;
        settle(&mut events).await;
        // Few enough for one turn of the runtime and for the socket's buffer.
        add_many_routes(50);
        events.changed(|_| {}).await.unwrap();
        assert!(is_quiet(&mut events).await);
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn ipv6_neighbours_do_not_wake() {
    in_new_namespace(async |netlink, mut events| {
        add_veth(&netlink, "uplink", "peer").await;
        settle(&mut events).await;
        ip("-6 neigh add fd00::2 lladdr 02:00:00:00:00:02 dev uplink nud permanent");
        assert!(is_quiet(&mut events).await);
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn an_overrun_is_a_change_and_not_the_end() {
    in_new_namespace(async |netlink, mut events| {
        add_uplink(&netlink).await;
        settle(&mut events).await;
        let smallest: libc::c_int = 1;
        events.socket.socket_ref().set_rx_buf_sz(smallest).unwrap();

        add_many_routes(2000);
        events.changed(|_| {}).await.unwrap();
        settle(&mut events).await;
        ip("route add 172.16.0.0/16 dev uplink");
        assert!(!is_quiet(&mut events).await, "deaf after the overrun");
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_wait_that_is_given_up_can_be_begun_again() {
    in_new_namespace(async |netlink, mut events| {
        add_uplink(&netlink).await;
        settle(&mut events).await;
        assert!(is_quiet(&mut events).await);
        ip("route add 10.1.0.0/26 dev uplink");
        assert!(!is_quiet(&mut events).await);
    });
}

/// Takes in changes until there are none any more, not even late ones.
pub(super) async fn settle(events: &mut Events) {
    while is_changed_within(LINKWATCH, events).await {}
}

/// Whether nothing has changed.
pub(super) async fn is_quiet(events: &mut Events) -> bool {
    !is_changed_within(MOMENT, events).await
}

async fn is_changed_within(time: Duration, events: &mut Events) -> bool {
    match timeout(time, events.changed(|_| {})).await {
        Ok(result) => result.map(|()| true).expect("the events go on"),
        Err(_) => false,
    }
}
