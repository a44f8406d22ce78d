//! Packet case 51: a map is full. What found no room is the stack's, and nothing is lost.

use std::{
    fmt::Write as _,
    os::fd::{AsFd as _, AsRawFd as _},
    time::Duration,
};

use anyhow::{Context as _, Result};
use aya::maps::MapData;
use dataplane_common::{abi::maps, trie::CHUNK};
use dataplane_tests::{
    Counters, Lab, Mode, Node, PingOptions, cluster_yaml, eventually, ping, require_root,
};
use dataplane_user::dataplane::Pins;
use nix::{errno::Errno, libc};

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn routes_without_room_are_left_to_the_stack_without_loss_until_there_is_room() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let (near, far) = (lab.node("node-0"), lab.node("node-1"));
    let small = cluster_yaml(&lab, Mode::None.ipip_mode(), Mode::None.vxlan_mode());
    // The pods of node-1 have a route only when there is no room for it any more.
    let mut agents = lab.start_agents_with(&small.replace("10.244.1.", "10.244.77."))?;
    lab.wait_resolved()?;
    refuse_more(near)?;
    let [entries, _] = fill(near)?;
    let free = u32::try_from(u64::from(CHUNK) - entries)?;
    lab.write_cluster(&crowded(&small, free))?;
    let log = agents[0].process();
    log.wait_for_line("find no room", Duration::from_secs(10))?;
    let [entries, _] = fill(near)?;
    // All but the line that node-1's other prefix has left.
    assert_eq!(entries, u64::from(CHUNK) - 1);

    let before = Counters::read(near)?;
    reaches(near, far)?;
    let rise = Counters::read(near)?.since(&before);
    assert_eq!(rise.get("from_workload", "next-hop-unset").packets, 10);
    assert_eq!(rise.get("from_workload", "sent-direct").packets, 0);

    eventually("there is room for every route", || {
        lab.write_cluster(&small)?;
        let before = Counters::read(near)?;
        reaches(near, far)?;
        let rise = Counters::read(near)?.since(&before);
        Ok(rise.get("from_workload", "sent-direct").packets == 10)
    })?;
    let log = agents[0].process();
    log.wait_for_line("room for everything again", Duration::from_secs(10))?;
    let [entries, _] = fill(near)?;
    assert!(entries < u64::from(CHUNK) / 2 + 100, "{entries}");
    Ok(())
}

/// Has the kernel refuse more arrays for the routes of `node`, by freezing the map that they are in.
fn refuse_more(node: &Node) -> Result<()> {
    const BPF_MAP_FREEZE: i32 = 22;
    let map = MapData::from_pin(Pins::new(node.pins()).map(maps::ROUTES))?;
    let fd = map.fd().as_fd().as_raw_fd();
    // SAFETY: of its attributes, the kernel reads the first field alone, the map's descriptor.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_MAP_FREEZE,
            &raw const fd,
            size_of_val(&fd),
        )
    };
    Errno::result(result).context("freeze the map")?;
    Ok(())
}

/// The same cluster with routes that take as many lines as are free: 33 for one in a /16 with nothing
/// else, and one for another /24 there. They come before the nodes' own, which are as long.
fn crowded(cluster: &str, free: u32) -> String {
    let mut cluster =
        cluster.replace("pools:\n", "pools:\n  - { cidr: 9.0.0.0/8 }\n") + "routes:\n";
    let apart = (free - 200) / 33;
    for second in 0..apart {
        let _ = writeln!(cluster, "  - {{ cidr: 9.{second}.0.0/24, node: node-1 }}");
    }
    for third in 1..=free - apart * 33 {
        let _ = writeln!(cluster, "  - {{ cidr: 9.0.{third}.0/24, node: node-1 }}");
    }
    cluster
}

fn reaches(near: &Node, far: &Node) -> Result<()> {
    let options = PingOptions {
        count: 10,
        ..PingOptions::default()
    };
    let report = ping(near.pod("p0").ns(), far.pod("p0").address(), &options)?;
    assert!(report.is_lossless(), "{report:?}");
    Ok(())
}

/// How many lines the routes take, and how many there can be, as `underpass status` says.
fn fill(node: &Node) -> Result<[u64; 2]> {
    let output = node.underpass(&["status", "-o", "json"])?;
    let status: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let maps = status["maps"].as_array().context("no maps")?;
    let routes = maps.iter().find(|map| map["map"] == maps::ROUTES);
    let routes = routes.context("no routes")?;
    let number = |field: &str| routes[field].as_u64().context("no number");
    Ok([number("entries")?, number("maxEntries")?])
}
