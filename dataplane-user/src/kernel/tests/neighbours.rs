//! The neighbour table, and having it filled.

use std::net::Ipv4Addr;

use super::namespace::{Namespace, add_veth_into, eventually, in_new_namespace, index_of, ip};
use crate::kernel::{Neighbour, NeighbourState, Netlink};

const THERE: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 2);
const NOBODY: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 3);
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_neighbour_is_resolved_on_request() {
    in_new_namespace(async |netlink, _| {
        let (index, _there) = add_neighbour(&netlink).await;
        assert_eq!(entry(&netlink, THERE).await, None);

        netlink.resolve_neighbour(index, THERE).await.unwrap();
        let resolved = eventually(async || entry(&netlink, THERE).await).await;
        assert_eq!(
            resolved,
            Neighbour {
                index,
                address: THERE,
                mac: Some(MAC),
                state: NeighbourState::Reachable,
            }
        );
        netlink.resolve_neighbour(index, THERE).await.unwrap();
        assert_eq!(entry(&netlink, THERE).await.unwrap().mac, Some(MAC));
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn one_that_does_not_answer_is_not_listed() {
    in_new_namespace(async |netlink, _| {
        let (index, _there) = add_neighbour(&netlink).await;
        netlink.resolve_neighbour(index, NOBODY).await.unwrap();
        assert!(ip("neigh show 192.168.0.3").contains("INCOMPLETE"));
        assert_eq!(entry(&netlink, NOBODY).await, None);
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_permanent_neighbour_stays_permanent() {
    in_new_namespace(async |netlink, _| {
        let (index, _there) = add_neighbour(&netlink).await;
        ip("neigh add 192.168.0.3 lladdr 02:00:00:00:00:03 dev uplink nud permanent");
        netlink.resolve_neighbour(index, NOBODY).await.unwrap();
        let neighbour = entry(&netlink, NOBODY).await.unwrap();
        assert_eq!(neighbour.mac, Some([2, 0, 0, 0, 0, 3]));
        assert_eq!(neighbour.state, NeighbourState::Permanent);
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_stale_neighbour_is_listed() {
    in_new_namespace(async |netlink, _| {
        let (_, _there) = add_neighbour(&netlink).await;
        ip("neigh add 192.168.0.3 lladdr 02:00:00:00:00:03 dev uplink nud stale");
        let neighbour = entry(&netlink, NOBODY).await.unwrap();
        assert_eq!(neighbour.state, NeighbourState::Stale);
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn resolving_on_a_link_that_is_gone_names_neighbour_and_link() {
    in_new_namespace(async |netlink, _| {
        let error = netlink.resolve_neighbour(99, THERE).await.unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("192.168.0.2"), "{text}");
        assert!(text.contains("no interface with index 99"), "{text}");
    });
}

/// Creates the link `uplink` to another namespace, which has the address [`THERE`].
async fn add_neighbour(netlink: &Netlink) -> (u32, Namespace) {
    let there = Namespace::new();
    add_veth_into(netlink, "uplink", "peer", &there).await;
    there.ip("link set peer address 02:00:00:00:00:02");
    there.ip("addr add 192.168.0.2/24 dev peer");
    ip("addr add 192.168.0.1/24 dev uplink");
    (index_of(netlink, "uplink").await, there)
}

async fn entry(netlink: &Netlink, address: Ipv4Addr) -> Option<Neighbour> {
    let neighbours = netlink.neighbours().await.unwrap();
    neighbours
        .into_iter()
        .find(|neighbour| neighbour.address == address)
}
