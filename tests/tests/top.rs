//! `underpass top` shows rates, on a terminal and off it.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use dataplane_tests::{
    Lab, Mode, Node, PingOptions, Pinging, Terminal, eventually, ping, require_root,
};
use dataplane_user::inspect::schema;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const LINES: u16 = 24;
const COLUMNS: u16 = 100;

const INTERRUPT: &str = "\x03";
const ESCAPE: &str = "\x1b";

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn once_has_rates_where_there_is_traffic_and_nowhere_else() -> Result<()> {
    require_root();
    for (mode, word) in Mode::ON_ONE_SUBNET {
        let lab = Lab::flat(2, 2)?;
        let _agents = lab.start_agents(mode)?;
        lab.wait_resolved()?;
        let node = lab.node("node-0");
        let _pinging = pings(&lab)?;
        let top = once(node)?;
        for row in rows(&top, "traffic")? {
            let carried = ["from_workload", "from_uplink"].map(|hook| json!(hook));
            if carried.contains(&row["hook"]) && row["mode"] == word {
                assert_ne!(row["packetsPerSecond"], 0.0, "{top}");
                assert_ne!(row["bytesPerSecond"], 0.0, "{top}");
            } else if row["mode"] != "none" {
                assert_eq!(row["packetsPerSecond"], 0.0, "{top}");
            }
        }
        assert_eq!(top["acceleration"]["mode"], "all");
        assert_eq!(top["acceleration"]["carriedPercent"], 100.0, "{top}");
        let [busy, idle] = ["p0", "p1"].map(|pod| json!(node.pod(pod).host_ifname()));
        for endpoint in rows(&top, "endpoints")? {
            if endpoint["interface"] == busy {
                assert_ne!(endpoint["sent"]["packetsPerSecond"], 0.0, "{top}");
            } else {
                assert_eq!(endpoint["interface"], idle);
            }
        }
        // Nobody counts packets by peer then, and nothing is made up.
        let peer = &rows(&top, "peers")?[0];
        assert_eq!(peer["address"], "192.168.1.11");
        assert_eq!(peer["modes"], json!([word]));
        assert_eq!(peer["sentPerSecond"], Value::Null);
        assert!(top["peersUncounted"].is_string(), "{top}");
    }
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn peers_have_the_packets_of_their_flows() -> Result<()> {
    require_root();
    for mode in [Mode::None, Mode::Vxlan] {
        let lab = Lab::flat(2, 1)?;
        let _agents = lab.start_established(mode)?;
        lab.wait_resolved()?;
        let node = lab.node("node-0");
        let _pinging = pings(&lab)?;
        eventually("packets are carried both ways", || {
            let top = once(node)?;
            let peer = &rows(&top, "peers")?[0];
            assert_eq!(top["peersUncounted"], Value::Null);
            Ok(["sentPerSecond", "receivedPerSecond"]
                .iter()
                .all(|way| peer[way].as_f64() > Some(0.0)))
        })?;
    }
    Ok(())
}

/// The kernel counts at a pod's interface what a program hands to it, or does not; and `top` knows which.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn what_a_pod_received_is_told_where_the_kernel_counts_it() -> Result<()> {
    const PINGS: u32 = 50;
    require_root();
    let lab = Lab::flat(2, 1)?;
    let _agents = lab.start_agents(Mode::Vxlan)?;
    lab.wait_resolved()?;
    let node = lab.node("node-0");
    let (pod, far) = (node.pod("p0"), lab.pod("node-1", "p0"));
    let received = || -> Result<u64> {
        let links = pod.ns().exec("ip -j -s link show eth0")?;
        let links: Value = serde_json::from_str(&links)?;
        let packets = &links[0]["stats64"]["rx"]["packets"];
        packets.as_u64().context("ip shows no statistics")
    };
    let before = received()?;
    let options = PingOptions {
        count: PINGS,
        ..PingOptions::default()
    };
    assert!(ping(pod.ns(), far.address(), &options)?.is_lossless());
    let is_counted = received()? - before >= u64::from(PINGS);

    let _pinging = pings(&lab)?;
    let top = once(node)?;
    println!("counted: {is_counted}");
    assert_eq!(top["receivedUncounted"] == Value::Null, is_counted, "{top}");
    let packets = &rows(&top, "endpoints")?[0]["received"]["packetsPerSecond"];
    assert_eq!(packets.as_f64() > Some(0.0), is_counted, "{top}");
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn off_a_terminal_it_says_what_there_is_and_without_pins_that_there_are_none() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 1)?;
    let node = lab.node("node-0");
    let refused = |arguments: &[&str]| -> Result<(Option<i32>, String)> {
        let output = node.underpass(&[&["top"], arguments].concat())?;
        assert!(output.stdout.is_empty(), "words are not data");
        let words = String::from_utf8(output.stderr)?;
        Ok((output.status.code(), words))
    };
    node.write_config(&node.agent_config())?;
    let (status, words) = refused(&["--once"])?;
    assert_eq!(status, Some(4), "{words}");
    let _agents = lab.start_agents(Mode::Vxlan)?;
    let (status, words) = refused(&[])?;
    assert_eq!(status, Some(1), "{words}");
    assert!(words.contains("underpass top --once"), "{words}");
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn keys_act_and_the_terminal_is_given_back() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let _agents = lab.start_agents(Mode::Vxlan)?;
    lab.wait_resolved()?;
    let _pinging = pings(&lab)?;
    let mut terminal = dashboard(lab.node("node-0"))?;
    terminal.wait_until("there is a rate of VXLAN", |screen| {
        let mut rows = screen.lines().filter(|line| line.contains("vxlan"));
        rows.any(|row| row.contains(['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█']))
    })?;

    terminal.press("p")?;
    terminal.wait_for("PAUSED")?;
    let held = terminal.screen()?;
    terminal.press("p")?;
    terminal.wait_until("it goes on", |screen| {
        !screen.contains("PAUSED") && screen != held
    })?;

    terminal.press("s")?;
    terminal.wait_for("sort: bytes")?;

    terminal.press("/uplink")?;
    terminal.wait_until("rows are filtered while the filter is typed", |screen| {
        !screen.contains("from_workload") && screen.contains("from_uplink")
    })?;
    terminal.press("\r")?;
    terminal.wait_for("filter: uplink")?;
    terminal.press(ESCAPE)?;
    terminal.wait_for("from_workload")?;

    terminal.press("3")?;
    terminal.wait_for("192.168.1.11")?;
    terminal.press("?")?;
    terminal.wait_for("pause, and go on")?;
    terminal.press("x")?;
    terminal.wait_until("the help is gone", |screen| {
        !screen.contains("pause, and go on")
    })?;

    terminal.resize(50, 180)?;
    terminal.wait_until("there is room for every panel", |screen| {
        ["1 Traffic", "2 Dropped", "3 Peers", "4 Pods", "5 Maps"]
            .iter()
            .all(|title| screen.contains(title))
    })?;

    terminal.press("q")?;
    ended_well(&mut terminal)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn however_it_ends_the_terminal_is_as_it_was() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 1)?;
    let _agents = lab.start_agents(Mode::Vxlan)?;
    let node = lab.node("node-0");
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut terminal = dashboard(node)?;
        terminal.process().signal(signal)?;
        ended_well(&mut terminal).with_context(|| signal.to_string())?;
    }
    let mut terminal = dashboard(node)?;
    terminal.press(INTERRUPT)?;
    ended_well(&mut terminal)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn while_it_is_suspended_the_terminal_is_the_shells() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 1)?;
    let _agents = lab.start_agents(Mode::Vxlan)?;
    let mut terminal = dashboard(lab.node("node-0"))?;
    terminal.process().signal(Signal::SIGTSTP)?;
    let status = format!("/proc/{}/stat", terminal.process().pid());
    eventually("it is stopped", || {
        let status = fs::read_to_string(&status).context(status.clone())?;
        Ok(status.contains(") T "))
    })?;
    assert!(terminal.is_as_before()?, "the terminal is given back");
    terminal.process().signal(Signal::SIGCONT)?;
    eventually("the terminal is taken again", || terminal.is_taken())?;
    terminal.wait_for("1 Traffic")?;
    terminal.press("q")?;
    ended_well(&mut terminal)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn what_is_detached_meanwhile_is_said_and_looked_for_again() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 1)?;
    let agents = lab.start_agents(Mode::Vxlan)?;
    let node = lab.node("node-0");
    let mut terminal = dashboard(node)?;
    terminal.wait_for("the agent is running")?;
    drop(agents);
    terminal.wait_for("no agent is running")?;
    ensure!(node.underpass(&["detach"])?.status.success());
    terminal.wait_for("nothing is pinned")?;
    let _agents = lab.start_agents(Mode::Vxlan)?;
    terminal.wait_for("1 Traffic")?;
    terminal.press("q")?;
    ended_well(&mut terminal)
}

/// Pings from a pod to one on another node, a hundred a second.
fn pings(lab: &Lab) -> Result<Pinging> {
    let (near, far) = (lab.pod("node-0", "p0"), lab.pod("node-1", "p0"));
    Pinging::start(near.ns(), far.address(), &PingOptions::default())
}

/// What `top --once` prints as JSON, which is as the schema says.
fn once(node: &Node) -> Result<Value> {
    let words = ["top", "--once", "--interval", "300ms", "-o", "json"];
    let output = node.underpass(&words)?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{error}");
    let top = serde_json::from_slice(&output.stdout)?;
    let schema = jsonschema::validator_for(&schema())?;
    ensure!(schema.is_valid(&top), "{top} is not as the schema says");
    Ok(top)
}

fn rows<'t>(top: &'t Value, of: &str) -> Result<&'t Vec<Value>> {
    top[of]
        .as_array()
        .with_context(|| format!("no {of}: {top}"))
}

/// The dashboard, on a terminal that it has taken.
fn dashboard(node: &Node) -> Result<Terminal> {
    let arguments = ["top", "--interval", "50ms"];
    let mut terminal = node.underpass_on_terminal(&arguments, LINES, COLUMNS)?;
    terminal.wait_for("1 Traffic")?;
    ensure!(terminal.is_taken()?, "keys come line by line");
    Ok(terminal)
}

/// The process ends without an error, and leaves the terminal as it was.
fn ended_well(terminal: &mut Terminal) -> Result<()> {
    let status = terminal.wait_for_end()?;
    ensure!(status.success(), "{status}: {}", terminal.screen()?);
    ensure!(terminal.is_as_before()?, "the terminal is not as it was");
    Ok(())
}
