//! `underpass monitor` tells of packets as they come, while somebody listens.

use std::{
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use dataplane_common::abi::{Monitor, maps};
use dataplane_tests::{
    Agent, Background, Counters, Dialogue, Lab, Mode, Node, PingOptions, eventually, ping,
    require_root,
};
use dataplane_user::{
    dataplane::{BpfArray, Pins},
    inspect::schema,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const NEAR: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
const ECHOES: u32 = 3;

/// How long it may take until somebody listens.
const SOON: Duration = Duration::from_secs(5);

/// How long it may take to print a buffer full of packets.
const RENDERED: Duration = Duration::from_mins(1);

/// Two nodes with a pod each, which know them, and their agents.
fn lab(mode: Mode) -> Result<(Lab, Vec<Agent>)> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let agents = lab.start_agents(mode)?;
    lab.wait_resolved()?;
    Ok((lab, agents))
}

/// A monitor that listens.
fn listen(node: &Node, arguments: &[&str]) -> Result<Background> {
    let monitor = node.start_underpass("monitor", &[&["monitor"], arguments].concat())?;
    eventually("the monitor listens", || Ok(session(node)? != 0))?;
    Ok(monitor)
}

/// Who listens, as the programs see it.
fn session(node: &Node) -> Result<u64> {
    let pins = Pins::new(node.pins());
    Ok(BpfArray::<Monitor>::open_array(&pins, maps::MONITOR)?
        .get(0)?
        .session)
}

/// What a monitor that prints JSON has printed by its end: packets, and its last words.
fn told(mut monitor: Background) -> Result<(Vec<Value>, String)> {
    let status = monitor.terminate()?;
    let log = monitor.log()?;
    ensure!(status.success(), "{status}: {log}");
    let (packets, words): (Vec<_>, Vec<_>) = log.lines().partition(|line| line.starts_with('{'));
    let schema = jsonschema::validator_for(&schema())?;
    let packets = packets.into_iter().map(|line| {
        let packet: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let errors: Vec<_> = schema.iter_errors(&packet).collect();
        ensure!(
            errors.is_empty(),
            "{packet} is not as the schema says: {errors:?}"
        );
        Ok(packet)
    });
    Ok((packets.collect::<Result<_>>()?, words.join("\n")))
}

fn echo(lab: &Lab) -> Result<()> {
    let options = PingOptions {
        count: ECHOES,
        ..PingOptions::default()
    };
    let report = ping(lab.pod("node-0", "p0").ns(), FAR, &options)?;
    ensure!(report.is_lossless(), "{report:?}");
    Ok(())
}

/// A filter, and whether a packet is one that it asks for.
type Check<'c> = (&'c [&'c str], &'c dyn Fn(&Value) -> bool);

/// Those of a hook, without what varies.
fn at(packets: &[Value], hook: &str) -> Vec<Value> {
    let of_hook = packets.iter().filter(|packet| packet["hook"] == hook);
    let constant = of_hook.cloned().map(|mut packet| {
        if let Some(fields) = packet.as_object_mut() {
            fields.remove("time");
        }
        packet
    });
    constant.collect()
}

fn heading(source: &str, destination: &str, protocol: &str) -> Value {
    json!({
        "source": { "address": source },
        "destination": { "address": destination },
        "protocol": protocol,
    })
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn what_leaves_in_ipip_and_what_comes_back_is_told() -> Result<()> {
    let (lab, _agents) = lab(Mode::Ipip)?;
    let node = lab.node("node-0");
    let veth = node.pod("p0").host_ifname();
    let monitor = listen(node, &["-o", "json", "--protocol", "icmp"])?;
    echo(&lab)?;
    let (packets, words) = told(monitor)?;

    let request = json!({
        "apiVersion": "underpass/v1",
        "kind": "Packet",
        "hook": "from_workload",
        "interface": veth,
        "length": 98,
        "packet": heading("10.244.0.2", "10.244.1.2", "icmp"),
        "outer": heading("192.168.1.10", "192.168.1.11", "ipip"),
        "verdict": "forward",
        "reason": "sent-ipip",
        "meaning": "to another node by IPIP",
        "encapsulation": "ipip",
        "towards": { "peer": "192.168.1.11", "interface": "eth0" },
    });
    let reply = json!({
        "apiVersion": "underpass/v1",
        "kind": "Packet",
        "hook": "from_uplink",
        "interface": "eth0",
        "length": 118,
        "packet": heading("10.244.1.2", "10.244.0.2", "icmp"),
        "outer": heading("192.168.1.11", "192.168.1.10", "ipip"),
        "verdict": "forward",
        "reason": "received-ipip",
        "meaning": "from another node by IPIP, to a pod",
        "towards": { "interface": veth },
    });
    assert_eq!(
        at(&packets, "from_workload"),
        vec![request; ECHOES as usize]
    );
    assert_eq!(at(&packets, "from_uplink"), vec![reply; ECHOES as usize]);
    // XDP only looks at what it leaves alone, and where it took it out, says so itself.
    assert!(
        words.ends_with(&format!("{} packets", packets.len())),
        "{words}"
    );
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn of_vxlan_both_tuples_are_told_and_filters_look_at_both() -> Result<()> {
    let (lab, _agents) = lab(Mode::Vxlan)?;
    let node = lab.node("node-0");
    let (client, server) = (lab.pod("node-0", "p0"), lab.pod("node-1", "p0"));
    let is_tcp = |packet: &Value| packet["packet"]["protocol"] == "tcp";
    let all = listen(node, &["-o", "json"])?;
    let mut talk = Dialogue::start(client.ns(), server.ns(), server.address())?;
    talk.exchange(1000)?;
    echo(&lab)?;
    let (packets, _) = told(all)?;
    assert!(packets.iter().any(is_tcp) && !packets.iter().all(is_tcp));
    let begins = packets
        .iter()
        .find(|packet| packet["packet"]["tcpFlags"] == "S");
    assert!(begins.is_some(), "{packets:?}");

    let (number, _) = talk.ports()?;
    let port = number.to_string();
    let is_echo = |packet: &Value| packet["packet"]["protocol"] == "icmp";
    let to_pod = |packet: &Value| packet["packet"]["destination"]["address"] == "10.244.0.2";
    let from_wire = |packet: &Value| packet["hook"] == "from_uplink";
    let with_port = |packet: &Value| {
        let ends = [
            &packet["packet"]["source"],
            &packet["packet"]["destination"],
        ];
        ends.iter().any(|end| end["port"] == number)
    };
    let outside =
        |packet: &Value| packet["outer"]["destination"]["port"] == 4789 && from_wire(packet);
    let received = |packet: &Value| packet["reason"] == "received-vxlan" && to_pod(packet);
    let checks: &[Check] = &[
        (&["--protocol", "icmp"], &is_echo),
        (&["--protocol", "tcp"], &is_tcp),
        (&["--port", &port], &with_port),
        (
            &["--address", "10.244.0.2", "--address", "10.244.1.0/24"],
            &|_| true,
        ),
        (&["--hook", "from_uplink"], &from_wire),
        (&["--interface", "eth0"], &|packet| {
            packet["interface"] == "eth0"
        }),
        (&["--reason", "received-vxlan"], &received),
        (&["--port", "4789"], &outside),
        (
            &["--address", "192.168.1.11", "--hook", "from_uplink"],
            &outside,
        ),
        (&["--direction", "in", "--verdict", "forward"], &|packet| {
            packet["verdict"] == "forward"
        }),
    ];
    for (filter, is_meant) in checks {
        let monitor = listen(node, &[&["-o", "json"], *filter].concat())?;
        talk.exchange(1000)?;
        echo(&lab)?;
        let (packets, _) = told(monitor)?;
        assert!(!packets.is_empty(), "{filter:?}");
        for packet in &packets {
            assert!(is_meant(packet), "{filter:?}: {packet}");
        }
    }
    for nothing in [
        &["--port", "9"][..],
        &["--address", "10.99.0.0/16"],
        &["--protocol", "sctp"],
        &["--verdict", "drop"],
        &["--reason", "blackhole"],
    ] {
        let monitor = listen(node, &[&["-o", "json"], nothing].concat())?;
        talk.exchange(1000)?;
        echo(&lab)?;
        assert_eq!(told(monitor)?.0, Vec::<Value>::new(), "{nothing:?}");
    }
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_table_has_a_line_a_packet_and_an_end() -> Result<()> {
    let (lab, _agents) = lab(Mode::None)?;
    let node = lab.node("node-0");
    let mut monitor = listen(node, &["--reason", "sent-direct", "--limit", "2"])?;
    echo(&lab)?;
    let status = monitor.wait(SOON)?;
    let log = monitor.log()?;
    assert!(status.success(), "{log}");
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 4, "{log}");
    assert!(lines[0].starts_with("TIME"), "{log}");
    let cells: Vec<_> = lines[1].split_whitespace().skip(1).collect();
    let veth = node.pod("p0").host_ifname();
    let wanted = format!(
        "from_workload {veth} 98 10.244.0.2 > 10.244.1.2 icmp - forward sent-direct 192.168.1.11 on eth0"
    );
    assert_eq!(cells.join(" "), wanted);
    assert_eq!(lines[3], "2 packets");
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_drop_is_told_with_its_reason_and_arp_in_words() -> Result<()> {
    let (lab, _agents) = lab(Mode::None)?;
    let node = lab.node("node-0");
    let pod = node.pod("p0");
    let monitor = listen(node, &["-o", "json", "--verdict", "drop"])?;
    pod.ns()
        .command("ip")
        .args(["address", "add", "10.66.0.1/32", "dev", "eth0"])
        .run()?;
    let forged =
        pod.ns()
            .command("ping")
            .args(["-c", "1", "-W", "1", "-I", "10.66.0.1", "10.244.1.2"]);
    forged.output()?;
    let (packets, _) = told(monitor)?;
    assert_eq!(packets.len(), 1, "{packets:?}");
    assert_eq!(packets[0]["reason"], "spoofed-source");
    assert_eq!(packets[0]["packet"]["source"]["address"], "10.66.0.1");
    assert!(packets[0].get("towards").is_none());

    let monitor = listen(
        node,
        &[
            "-o",
            "json",
            "--reason",
            "arp-answered",
            "--address",
            "169.254.1.1",
        ],
    )?;
    pod.ns()
        .command("ip")
        .args(["neigh", "flush", "dev", "eth0"])
        .run()?;
    echo(&lab)?;
    let (packets, _) = told(monitor)?;
    assert!(!packets.is_empty());
    assert_eq!(packets[0]["other"], "ARP: 10.244.0.2 asks for 169.254.1.1");
    Ok(())
}

/// It is stopped for a while: the programs neither wait for it nor lose count.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn packets_wait_for_nobody_and_what_is_lost_is_counted() -> Result<()> {
    const ATTEMPTS: usize = 5;
    let (lab, _agents) = lab(Mode::None)?;
    echo(&lab)?;
    // When it is stopped for too long, the programs take it for dead.
    let flooded = (0..ATTEMPTS).find_map(|_| flooded_while_stopped(&lab).transpose());
    let (datagrams, packets, words) = flooded.context("sending takes too long here")??;
    let lost = words
        .rsplit("and ")
        .next()
        .and_then(|words| words.split_once(' '));
    let lost: u64 = lost.with_context(|| words.clone())?.0.parse()?;
    assert_eq!(packets.len() as u64 + lost, datagrams, "{words}");
    assert!(lost > 0 && !packets.is_empty(), "{words}");
    Ok(())
}

/// How many datagrams were sent while a monitor was stopped, and what it told of them once it went on;
/// nothing if the programs told it nothing any more.
fn flooded_while_stopped(lab: &Lab) -> Result<Option<(u64, Vec<Value>, String)>> {
    let received = || -> Result<u64> {
        let counters = Counters::read(lab.node("node-1"))?;
        Ok(counters.get("from_uplink", "received-direct").packets)
    };
    let node = lab.node("node-0");
    let received_before = received()?;
    let mut monitor = listen(
        node,
        &["-o", "json", "--protocol", "udp", "--hook", "from_workload"],
    )?;
    monitor.signal(Signal::SIGSTOP)?;
    let datagrams = flood_far(lab)?;
    let was_told = session(node)? != 0;
    monitor.signal(Signal::SIGCONT)?;
    eventually("all that was sent has come", || {
        Ok(received()? - received_before == datagrams)
    })?;
    if !was_told {
        return Ok(None);
    }
    monitor.wait_for_line("were lost", RENDERED)?;
    let (packets, words) = told(monitor)?;
    Ok(Some((datagrams, packets, words)))
}

/// How many packets were sent to the other node.
fn sent(lab: &Lab) -> Result<u64> {
    let counters = Counters::read(lab.node("node-0"))?;
    Ok(counters.get("from_workload", "sent-direct").packets)
}

/// Sends datagrams to the far pod; returns how many.
fn flood_far(lab: &Lab) -> Result<u64> {
    /// More than there is room for in the buffer.
    const AT_LEAST: u64 = 25_000;
    const DISCARD: u16 = 9;
    let (near, far) = (lab.pod("node-0", "p0"), lab.pod("node-1", "p0"));
    // Else it would be answered that there is none.
    let _receiver = far.ns().run(|| Ok(UdpSocket::bind((FAR, DISCARD))?))?;
    let socket = near.ns().run(|| Ok(UdpSocket::bind((NEAR, 0))?))?;
    socket.connect((FAR, DISCARD))?;
    let before = sent(lab)?;
    for _ in 0..AT_LEAST {
        socket.send(&[0])?;
    }
    Ok(sent(lab)? - before)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_sample_is_about_one_of_so_many() -> Result<()> {
    let (lab, _agents) = lab(Mode::None)?;
    let node = lab.node("node-0");
    let arguments = [
        "-o",
        "json",
        "--protocol",
        "udp",
        "--hook",
        "from_workload",
        "--sample",
        "100",
    ];
    let monitor = listen(node, &arguments)?;
    let datagrams = flood_far(&lab)?;
    let (packets, words) = told(monitor)?;
    let told = f64::from(u32::try_from(packets.len())?);
    let wanted = f64::from(u32::try_from(datagrams)?) / 100.0;
    // Six times what such a number varies by.
    assert!(
        (told - wanted).abs() < 6.0 * wanted.sqrt() + 1.0,
        "{told} of {datagrams}: {words}"
    );
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn who_was_killed_listens_no_longer_and_one_listens_at_a_time() -> Result<()> {
    let (lab, agents) = lab(Mode::None)?;
    let node = lab.node("node-0");
    let mut monitor = listen(node, &[])?;
    let second = node.underpass(&["monitor"])?;
    assert_eq!(second.status.code(), Some(1));
    let words = String::from_utf8(second.stderr)?;
    assert!(
        words.contains("another `underpass monitor` listens"),
        "{words}"
    );

    monitor.kill()?;
    eventually("the programs have found out", || {
        echo(&lab)?;
        Ok(session(node)? == 0)
    })?;

    let mut monitor = listen(node, &[])?;
    drop(agents);
    let output = node.underpass(&["detach"])?;
    assert!(output.status.success(), "{output:?}");
    let status = monitor.wait(SOON)?;
    let log = monitor.log()?;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("start `underpass monitor` again"), "{log}");
    Ok(())
}
