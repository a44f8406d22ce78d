//! docs/limits.md: how much there is room for.

use dataplane_common::{
    abi::{MAX_ENDPOINTS, MAX_FLOWS, MAX_GATEWAYS, MAX_NEXT_HOPS, MAX_PEERS, MAX_WORKLOADS, WAYS},
    trie::{CHUNK, CHUNKS},
};

use super::{assert_has, table};

#[test]
fn it_says_how_much_there_is_room_for() {
    let stack = "the stack's";
    let rows = [
        ("pods' addresses on a node", MAX_ENDPOINTS as usize, stack),
        ("pods' interfaces on a node", MAX_WORKLOADS as usize, stack),
        ("other nodes", MAX_PEERS as usize, stack),
        (
            "next hops: one for each other node and pool, or for each gateway; some are reserved",
            MAX_NEXT_HOPS as usize,
            stack,
        ),
        (
            "lines of 64 bytes in the table of routes, of which many routes share one",
            (CHUNK * CHUNKS) as usize,
            stack,
        ),
        ("places for the ways of one route, by weight", WAYS, stack),
        (
            "flows that are remembered",
            MAX_FLOWS as usize,
            "those not seen for longest make room",
        ),
        (
            "gateways that proxy ARP answers for",
            MAX_GATEWAYS,
            "the configuration is refused",
        ),
    ];
    let rows = rows.map(|(of, most, beyond)| vec![of.to_owned(), grouped(most), beyond.to_owned()]);
    let made = table(&["what there is room for", "at most", "what is more"], rows);
    assert_has("docs/limits.md", "sizes", &made);
}

/// A number with commas between thousands.
fn grouped(number: usize) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1000), number % 1000),
    }
}
