//! Pods on two machines talk over a real network driver, virtio-net, through the programs.
//!
//! Each test runs on both machines at once; only `cargo xtask pair` has two, which `cargo xtask
//! test` says.

use anyhow::Result;
use dataplane_tests::{
    Counters, Mode, Pair, PingOptions, Side, TcpOptions, iperf_server, ping, require_root,
    tcp_throughput_to,
};

#[test]
#[ignore = "needs two machines: cargo xtask pair"]
fn two_machines_talk_without_encapsulation() -> Result<()> {
    talk(Mode::None, "direct")
}

#[test]
#[ignore = "needs two machines: cargo xtask pair"]
fn two_machines_talk_by_ipip() -> Result<()> {
    talk(Mode::Ipip, "ipip")
}

#[test]
#[ignore = "needs two machines: cargo xtask pair"]
fn two_machines_talk_by_vxlan() -> Result<()> {
    talk(Mode::Vxlan, "vxlan")
}

fn talk(mode: Mode, word: &str) -> Result<()> {
    require_root();
    let pair = Pair::join(1)?;
    let driver = pair.node().ns().exec("ethtool --driver eth0")?;
    assert!(driver.starts_with("driver: virtio_net\n"), "{driver}");
    let _agent = pair.start_agent(mode, "")?;
    pair.meet("the agents are in sync")?;
    pings(&pair, word)?;
    tcp(&pair, word)
}

/// Every packet, both ways, is the programs'.
fn pings(pair: &Pair, word: &str) -> Result<()> {
    let node = pair.node();
    let options = PingOptions::default();
    let before = Counters::read(node)?;
    for turn in Side::BOTH {
        if pair.side() == turn {
            let report = ping(node.pod("p0").ns(), pair.remote_pod("p0"), &options)?;
            assert!(report.is_lossless(), "{report:?}");
            assert_eq!(report.reply_ttl, Some(62), "two routers");
        }
        pair.meet("pinged")?;
    }
    let counted = Counters::read(node)?.since(&before);
    let both_turns = u64::from(options.count) * 2;
    for (hook, reason) in [("from_workload", "sent"), ("from_uplink", "received")] {
        let count = counted.get(hook, &format!("{reason}-{word}"));
        assert_eq!(count.packets, both_turns, "{reason}: {counted:?}");
    }
    pair.meet("counted")
}

fn tcp(pair: &Pair, word: &str) -> Result<()> {
    let node = pair.node();
    let (pod, options) = (node.pod("p0"), TcpOptions::default());
    for turn in Side::BOTH {
        let before = Counters::read(node)?;
        if pair.side() == turn {
            pair.meet("the server listens")?;
            let tcp = tcp_throughput_to(pod.ns(), pair.remote_pod("p0"), 1, &options)?;
            assert!(tcp.bits_per_second > 0.0, "{tcp:?}");
            println!("{turn:?} sends by {word}: {:.0} bit/s", tcp.bits_per_second);
            pair.meet("sent")?;
        } else {
            let _server = iperf_server(pod.ns(), options.port)?;
            pair.meet("the server listens")?;
            pair.meet("sent")?;
        }
        let counted = Counters::read(node)?.since(&before);
        for (hook, reason) in [("from_workload", "sent"), ("from_uplink", "received")] {
            let count = counted.get(hook, &format!("{reason}-{word}"));
            assert!(count.packets > 100, "{reason}: {counted:?}");
        }
    }
    Ok(())
}
