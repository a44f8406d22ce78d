//! Pods on two machines talk over a real network driver, virtio-net, through the programs.
//!
//! Each test runs on both machines at once; only `cargo xtask pair` has two, which `cargo xtask
//! test` says.

use anyhow::Result;
use dataplane_tests::{
    Counters, Mode, Pair, PingOptions, Side, TcpOptions, iperf_server, ping, require_root,
    tcp_throughput_to,
};

/// Configuration: packets stay in their tunnels up to traffic control.
const WITHOUT_XDP: &str = "xdp: off\n";

#[test]
#[ignore = "needs two machines: cargo xtask pair"]
fn two_machines_talk_without_encapsulation() -> Result<()> {
    talk(Mode::None, "direct", WITHOUT_XDP)?;
    Ok(())
}

#[test]
#[ignore = "needs two machines: cargo xtask pair"]
fn two_machines_talk_by_ipip() -> Result<()> {
    talk(Mode::Ipip, "ipip", WITHOUT_XDP)?;
    Ok(())
}

#[test]
#[ignore = "needs two machines: cargo xtask pair"]
fn two_machines_talk_by_vxlan() -> Result<()> {
    talk(Mode::Vxlan, "vxlan", WITHOUT_XDP)?;
    Ok(())
}

/// With the configuration that is everybody's unless said otherwise, this driver opens tunnels.
#[test]
#[ignore = "needs two machines: cargo xtask pair"]
fn two_machines_talk_by_the_drivers_xdp() -> Result<()> {
    for (mode, word) in [(Mode::Ipip, "ipip"), (Mode::Vxlan, "vxlan")] {
        let counted = talk(mode, word, "")?;
        let opened = counted.get("xdp_uplink", "taken-out");
        assert!(opened.packets > 0, "{word}: {counted:?}");
    }
    Ok(())
}

/// What is counted meanwhile.
fn talk(mode: Mode, word: &str, config: &str) -> Result<Counters> {
    require_root();
    let pair = Pair::join(1)?;
    let driver = pair.node().ns().exec("ethtool --driver eth0")?;
    assert!(driver.starts_with("driver: virtio_net\n"), "{driver}");
    let _agent = pair.start_agent(mode, config)?;
    pair.meet("the agents are in sync")?;
    pings(&pair, word)?;
    tcp(&pair, word)?;
    Counters::read(pair.node())
}

/// Every packet, both ways, is the programs'.
fn pings(pair: &Pair, word: &str) -> Result<()> {
    let node = pair.node();
    let options = PingOptions::default();
    let before = Counters::read(node)?;
    pair.meet("counted before")?;
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
    pair.meet("counted behind")
}

/// What arrives, the sender's programs have sent; and the receiver's have seen it.
fn tcp(pair: &Pair, word: &str) -> Result<()> {
    const SECONDS: u16 = 1;
    let node = pair.node();
    let (pod, options) = (node.pod("p0"), TcpOptions::default());
    let counted = || -> Result<_> {
        let counters = Counters::read(node)?;
        let sent = counters.get("from_workload", &format!("sent-{word}"));
        let received = counters.get("from_uplink", &format!("received-{word}"));
        Ok((sent.bytes, received.bytes))
    };
    for turn in Side::BOTH {
        let before = counted()?;
        if pair.side() == turn {
            pair.meet("the server listens")?;
            let tcp = tcp_throughput_to(pod.ns(), pair.remote_pod("p0"), SECONDS, &options)?;
            let arrived = tcp.bits_per_second / 8.0 * f64::from(SECONDS);
            let sent = f64::from(u32::try_from(counted()?.0 - before.0)?);
            assert!(
                arrived > 0.0 && sent >= arrived,
                "{sent} are {word}: {tcp:?}"
            );
            pair.meet("sent")?;
        } else {
            let _server = iperf_server(pod.ns(), options.port)?;
            pair.meet("the server listens")?;
            pair.meet("sent")?;
        }
        let after = counted()?;
        assert!(
            before.0 < after.0 && before.1 < after.1,
            "{before:?} {after:?}"
        );
    }
    Ok(())
}
