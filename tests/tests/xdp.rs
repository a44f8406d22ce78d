//! XDP opens tunnels before there is a socket buffer, where it can, and says where it cannot.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::programs::XdpMode;
use dataplane_common::abi::Hook;
use dataplane_tests::{
    Agent, Counters, Ip, Lab, Mac, Mode, Node, NodeSpec, PacketSocket, PingOptions, cluster_yaml,
    eventually, frames,
    paths::{assert_tcp, every_path_works},
    ping,
    programs::{Programs, XDP_DROPPED, XDP_PASSED, test_runs_show_metadata},
    require_root,
};
use dataplane_user::dataplane::{self, Pins};
use serde_json::{Value, json};

const NATIVE: &str = "xdp: native\n";
const GENERIC: &str = "xdp: generic\n";
const VNI: u32 = 4096;

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn every_path_works_with_native_xdp() -> Result<()> {
    require_root();
    every_path(Mode::Ipip, "ipip", NATIVE)?;
    every_path(Mode::Vxlan, "vxlan", NATIVE)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn every_path_works_with_generic_xdp() -> Result<()> {
    require_root();
    every_path(Mode::Ipip, "ipip", GENERIC)?;
    every_path(Mode::Vxlan, "vxlan", GENERIC)
}

/// What is for the host comes in by the carrier, as reverse-path filters would have it.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn strict_reverse_path_filters_hold() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let (node, peer) = (lab.node("node-0"), lab.node("node-1"));
    node.strict_rp_filter()?;
    let _agents = start_agents(&lab, Mode::Vxlan, NATIVE)?;
    node.ns()
        .set_sysctl("net.ipv4.conf.underpass0.rp_filter", "1")?;
    for (from, to) in [
        (node.ns(), peer.pod("p0").address()),
        (peer.pod("p0").ns(), node.tunnel_address()),
    ] {
        let report = ping(from, to, &PingOptions::default())?;
        assert!(report.is_lossless(), "to {to}: {report:?}");
    }
    Ok(())
}

fn every_path(mode: Mode, word: &str, xdp: &str) -> Result<()> {
    let lab = Lab::flat(2, 1)?;
    let node = lab.node("node-0");
    let _agents = start_agents(&lab, mode, xdp)?;
    let before = Counters::read(node)?;
    every_path_works(&lab)?;
    assert_tcp(lab.pod("node-1", "p0").ns(), node.pod("p0"))?;
    assert_tcp(node.pod("p0").ns(), lab.pod("node-1", "p0"))?;

    let since = Counters::read(node)?.since(&before);
    let count = |hook, reason: &str| since.get(hook, reason).packets;
    let taken_out = count("xdp_uplink", "taken-out");
    let received = count("from_uplink", &format!("received-{word}"));
    let for_host = count("from_uplink", "for-host");
    assert!(received > 0 && for_host > 0, "{since:?}");
    // What GRO has made one of several counts once.
    assert!(taken_out >= received + for_host, "{since:?}");
    Ok(())
}

/// The inner packet comes out of XDP as it comes out of `from_uplink` that has nothing before it,
/// but for what is done to it later.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn what_xdp_takes_out_is_the_inner_packet() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let _agents = lab.start_agents(Mode::Vxlan)?;
    let (target, peer) = (lab.node("node-0"), lab.node("node-1"));
    let mut programs = Programs::load(target)?;
    let inner = |tos| {
        Ip::new(peer.pod("p0").address(), target.pod("p0").address())
            .tos(tos)
            .udp(4000, 5000, b"what is inside")
    };
    // DSCP 46; ECT(0), and congestion on the way: RFC 6040.
    let (ect_0, congestion) = (46 << 2 | 0b10, 0b11);
    for tunnelled in [
        outer(&lab).tos(congestion).ipip(&inner(ect_0)),
        outer(&lab)
            .tos(congestion)
            .vxlan(VNI, &inner_frame(target, &inner(ect_0)), false),
    ] {
        let frame = frames::ethernet(peer.mac(), target.mac(), &tunnelled);
        let ran = programs.run_xdp(&frame)?;
        assert_eq!(ran.action, XDP_PASSED);
        let expected = frames::ethernet(peer.mac(), target.mac(), &inner(ect_0 | congestion));
        // The mark for from_uplink is in front.
        let mark = if test_runs_show_metadata()? { 8 } else { 0 };
        assert_eq!(ran.frame[mark..], expected);
    }
    Ok(())
}

/// What has to be left alone is passed on without a mark and without a change.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn what_xdp_does_not_understand_it_leaves_alone() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let _agents = lab.start_agents(Mode::Vxlan)?;
    let (target, peer) = (lab.node("node-0"), lab.node("node-1"));
    let mut programs = Programs::load(target)?;
    let inner = Ip::new(peer.pod("p0").address(), target.pod("p0").address()).udp(1, 2, b"x");
    let inner_frame = inner_frame(target, &inner);
    let ipip = outer(&lab).ipip(&inner);
    let frame = |packet: &[u8]| frames::ethernet(peer.mac(), target.mac(), packet);
    let cases = [
        ("not-for-host", frame(&inner)),
        (
            "ip-options",
            frame(&outer(&lab).options(&[1, 1, 1, 0]).packet(4, &inner)),
        ),
        (
            "fragment",
            frame(&outer(&lab).fragment(0, true).packet(4, &inner)),
        ),
        (
            "not-our-tunnel",
            frame(&outer(&lab).vxlan(VNI + 1, &inner_frame, false)),
        ),
        (
            "outer-checksum",
            frame(&outer(&lab).vxlan(VNI, &inner_frame, true)),
        ),
        ("not-for-pod", frame(&outer(&lab).udp(1, 2, b"to the host"))),
        (
            "not-ipv4",
            frames::arp_gateway_request(peer.mac(), peer.address().addr()),
        ),
        (
            "other-host",
            frames::ethernet(peer.mac(), Mac::BROADCAST, &ipip),
        ),
    ];
    for (reason, frame) in cases {
        let before = Counters::read(target)?;
        let ran = programs.run_xdp(&frame)?;
        assert_eq!((ran.action, &ran.frame), (XDP_PASSED, &frame), "{reason}");
        let since = Counters::read(target)?.since(&before);
        assert_eq!(since.get("xdp_uplink", reason).packets, 1, "{since:?}");
    }
    Ok(())
}

/// Forged tunnel packets end in the driver; their like that are right arrive.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn forged_tunnel_packets_are_dropped_early() -> Result<()> {
    require_root();
    let lab = Lab::flat(3, 1)?;
    let _agents = start_agents(&lab, Mode::Vxlan, NATIVE)?;
    let [target, peer, other] = ["node-0", "node-1", "node-2"].map(|name| lab.node(name));
    let pod = target.pod("p0");
    let mut programs = Programs::load(target)?;
    let wire = PacketSocket::open(peer.ns(), "eth0")?;
    let listener = PacketSocket::open(pod.ns(), "eth0")?;
    let udp =
        |source, destination, payload: &[u8]| Ip::new(source, destination).udp(4000, 5000, payload);
    let (ours, theirs) = (pod.address(), peer.pod("p0").address());
    let stranger = [192, 168, 1, 77].into();
    let from = |source| Ip::new(source, target.address().addr());
    let peers = || from(peer.address().addr());
    let inner = |packet: &[u8]| inner_frame(target, packet);
    let forged = b"forged";
    let mut broken = udp(theirs, ours, forged);
    broken[3] = 200;
    let cases = [
        (
            "unknown-peer",
            from(stranger).ipip(&udp(theirs, ours, forged)),
        ),
        (
            "unknown-peer",
            from(stranger).vxlan(VNI, &inner(&udp(theirs, ours, forged)), false),
        ),
        (
            "foreign-source",
            peers().ipip(&udp(other.pod("p0").address(), ours, forged)),
        ),
        (
            "foreign-source",
            peers().vxlan(
                VNI,
                &inner(&udp(other.address().addr(), ours, forged)),
                false,
            ),
        ),
        (
            "foreign-destination",
            peers().ipip(&udp(theirs, other.pod("p0").address(), forged)),
        ),
        ("inner-malformed", peers().ipip(&broken)),
        (
            "congestion",
            peers().tos(0b11).ipip(&udp(theirs, ours, forged)),
        ),
    ];
    for (index, (reason, packet)) in cases.iter().enumerate() {
        let frame = frames::ethernet(peer.mac(), target.mac(), packet);
        let before = Counters::read(target)?;
        assert_eq!(programs.run_xdp(&frame)?.action, XDP_DROPPED, "{reason}");
        wire.send(&frame)?;
        eventually(&format!("{index}, {reason}, is dropped early"), || {
            let since = Counters::read(target)?.since(&before);
            Ok(since.get("xdp_uplink", reason).packets == 2)
        })?;
    }
    let right = udp(theirs, ours, b"right");
    wire.send(&frames::ethernet(
        peer.mac(),
        target.mac(),
        &peers().ipip(&right),
    ))?;
    let is_of_the_test = |frame: &[u8]| frame.ends_with(b"right") || frame.ends_with(b"forged");
    let heard = listener.recv_matching(Duration::from_secs(5), is_of_the_test)?;
    assert!(heard.is_some_and(|frame| frame.ends_with(b"right")));
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn status_says_how_it_is_and_why() -> Result<()> {
    require_root();
    for (config, state, why) in [
        (
            "",
            "off",
            Some("a veth: with native XDP its peer would lose"),
        ),
        ("xdp: off\n", "off", Some("`xdp: off` in the configuration")),
        (NATIVE, "native", None),
        (GENERIC, "generic", None),
    ] {
        let lab = Lab::flat(2, 1)?;
        let node = lab.node("node-0");
        let agents = start_agents(&lab, Mode::Vxlan, config)?;
        let shown = status(node)?;
        assert_eq!(shown["agentRunning"], json!(true));
        assert_xdp(&shown, state, why);
        drop(agents);
        let shown = status(node)?;
        assert_eq!(shown["agentRunning"], json!(false));
        assert_xdp(&shown, state, why);
        assert_eq!(has_program(node)?, state != "off");
    }
    Ok(())
}

/// A veth takes no XDP program at an MTU that does not fit into a page.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_driver_that_refuses_is_no_error() -> Result<()> {
    require_root();
    let jumbo = |name, address, cidr| NodeSpec::new(name, address, cidr).pods(1).mtu(9000);
    let lab = Lab::new(&[
        jumbo("node-0", "192.168.1.10/24", "10.244.0.0/24"),
        jumbo("node-1", "192.168.1.11/24", "10.244.1.0/24"),
    ])?;
    let node = lab.node("node-0");
    let mut agents = start_agents(&lab, Mode::Vxlan, NATIVE)?;
    let log = agents[0].process().log()?;
    assert!(
        log.contains("tunnels are opened on traffic control"),
        "{log}"
    );
    assert_xdp(
        &status(node)?,
        "off",
        Some("the MTU may be too long for it"),
    );
    assert_ping(&lab)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn another_program_is_left_where_it_is() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let node = lab.node("node-0");
    let mut foreign = dataplane::load(&Pins::new(&node.pins().with_file_name("foreign")))?;
    node.ns()
        .run(|| Ok(foreign.xdp()?.attach("eth0", XdpMode::Driver)?))?;
    let shown = || node.ns().exec("ip link show eth0");
    let before = shown()?;
    assert!(has_program(node)?);
    let agents = start_agents(&lab, Mode::Vxlan, NATIVE)?;
    assert_xdp(
        &status(node)?,
        "off",
        Some("another XDP program is on the interface"),
    );
    assert_ping(&lab)?;
    assert_eq!(shown()?, before);

    // What was refused is tried again when the MTU is another, and that was what others had to
    // change.
    drop(foreign);
    eventually("the other is gone", || Ok(!has_program(node)?))?;
    node.ns().exec("ip link set eth0 mtu 1490")?;
    eventually("the program is attached", || {
        let status = status(node)?;
        Ok(xdp(&status).is_ok_and(|xdp| xdp["state"] == json!("native")))
    })?;
    assert_ping(&lab)?;
    drop(agents);
    ensure!(node.underpass(&["detach"])?.status.success());
    assert!(!has_program(node)?);
    Ok(())
}

/// The mode can be changed by starting the agent anew; the link of the other mode goes.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn an_agent_takes_over_or_replaces() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let node = lab.node("node-0");
    drop(start_agents(&lab, Mode::Ipip, NATIVE)?);
    assert!(has_program(node)?);
    assert_ping(&lab)?;
    for (config, state) in [
        (NATIVE, "native"),
        (GENERIC, "generic"),
        ("xdp: off\n", "off"),
    ] {
        drop(start_agents(&lab, Mode::Ipip, config)?);
        assert_eq!(xdp(&status(node)?)?["state"], json!(state));
        assert_ping(&lab)?;
    }
    assert!(!has_program(node)?);
    Ok(())
}

/// Agents on all nodes, the first one with a line more in its configuration.
fn start_agents(lab: &Lab, mode: Mode, config: &str) -> Result<Vec<Agent>> {
    let cluster = cluster_yaml(lab, mode.ipip_mode(), mode.vxlan_mode());
    let agents = lab
        .nodes()
        .iter()
        .enumerate()
        .map(|(index, host)| {
            let extra = if index == 0 { config } else { "" };
            Agent::start(host, &(host.agent_config() + extra), &cluster)
        })
        .collect::<Result<_>>()?;
    lab.nodes().iter().try_for_each(Node::wait_resolved)?;
    Ok(agents)
}

fn assert_ping(lab: &Lab) -> Result<()> {
    let report = ping(
        lab.pod("node-0", "p0").ns(),
        lab.pod("node-1", "p0").address(),
        &PingOptions::default(),
    )?;
    assert!(report.is_lossless(), "{report:?}");
    Ok(())
}

fn status(node: &Node) -> Result<Value> {
    let output = node.underpass(&["status", "-o", "json"])?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What a status says of XDP on eth0.
fn xdp(status: &Value) -> Result<&Value> {
    let hooks = status["hooks"].as_array().context("hooks")?;
    let name = json!(Hook::XdpUplink.name());
    let is_xdp = |hook: &&Value| hook["hook"] == name && hook["interface"] == json!("eth0");
    hooks.iter().find(is_xdp).context("XDP on eth0")
}

fn assert_xdp(status: &Value, state: &str, why: Option<&str>) {
    let xdp = xdp(status).expect("XDP on eth0");
    assert_eq!(xdp["state"], json!(state), "{xdp}");
    match why {
        Some(why) => assert!(xdp["why"].to_string().contains(why), "{xdp}"),
        None => assert!(xdp["why"].is_null(), "{xdp}"),
    }
}

/// Whether there is an XDP program on eth0, as the kernel shows it.
fn has_program(node: &Node) -> Result<bool> {
    Ok(node.ns().exec("ip link show eth0")?.contains("prog/xdp"))
}

/// From the first peer to the first node.
fn outer(lab: &Lab) -> Ip {
    let [target, peer] = ["node-0", "node-1"].map(|name| lab.node(name).address().addr());
    Ip::new(peer, target)
}

fn inner_frame(target: &Node, packet: &[u8]) -> Vec<u8> {
    frames::ethernet(Mac::ZERO, target.vtep_mac(), packet)
}
