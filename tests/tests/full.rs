//! Packet case 51: a map is full. What found no room is the stack's, and nothing is lost.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context as _, Result};
use aya::EbpfLoader;
use dataplane_common::{abi::maps, trie::CHUNK};
use dataplane_tests::{
    Counters, Lab, Mode, Node, PingOptions, cluster_yaml, eventually, ping, require_root,
};
use dataplane_user::dataplane::{Pins, bpf_object, claim};

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn routes_without_room_are_left_to_the_stack_without_loss_until_there_is_room() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let (near, far) = (lab.node("node-0"), lab.node("node-1"));
    allow_one_array(near)?;
    let small = cluster_yaml(&lab, Mode::None.ipip_mode(), Mode::None.vxlan_mode());
    let mut agents = lab.start_agents_with(&crowded(&small))?;
    lab.wait_resolved()?;
    let log = agents[0].process();
    log.wait_for_line("find no room", Duration::from_secs(10))?;
    let [entries, most] = fill(near)?;
    assert!(
        most == u64::from(CHUNK) && most - entries < 33,
        "{entries} of {most}"
    );

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
    assert!(most - entries > 8000, "{entries} of {most}");
    Ok(())
}

/// Has the agent of `node` find a map for its routes that takes one array.
fn allow_one_array(node: &Node) -> Result<()> {
    let pins = Pins::new(node.pins());
    // Makes the directories, and lets go of them at the end.
    let _lock = claim(&pins)?;
    EbpfLoader::new()
        .map_max_entries(maps::ROUTES, 1)
        .map_pin_path(maps::ROUTES, pins.map(maps::ROUTES))
        .load(bpf_object()?)?;
    Ok(())
}

/// The same cluster with a route in each of 256 /16s, of which 248 find room in one array. They come
/// before the nodes' own, which are as long.
fn crowded(cluster: &str) -> String {
    let mut cluster =
        cluster.replace("pools:\n", "pools:\n  - { cidr: 9.0.0.0/8 }\n") + "routes:\n";
    for second in 0..=255 {
        let _ = writeln!(cluster, "  - {{ cidr: 9.{second}.0.0/24, node: node-1 }}");
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
