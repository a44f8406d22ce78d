//! Pods find their gateway, which exists nowhere: underpass answers for it, exactly once, and for
//! nothing else.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use dataplane_tests::{
    Agent, Counters, Lab, Mac, Node, PacketSocket, PingOptions, Pod, cluster_yaml, eventually,
    frames::{self, GATEWAY},
    ping, require_root,
};
use etherparse::{ArpEthIpv4Packet, ArpOperation};

const SECOND: Duration = Duration::from_secs(1);

const ARP: u16 = 0x0806;

/// Where the fields of an ARP packet are in a frame.
const HARDWARE_TYPE: usize = 14;
const PROTOCOL_TYPE: usize = 16;
const HARDWARE_LENGTH: usize = 18;
const PROTOCOL_LENGTH: usize = 19;
const OPERATION: usize = 20;
const SENDER_MAC: usize = 22;
/// Where an ARP packet ends.
const END: usize = 42;

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_gateway_is_answered_where_the_kernel_would_not() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 2)?;
    let _agent = run_underpass(&lab, "")?;
    let node = lab.node("node-0");
    let pod = node.pod("p0");
    assert_eq!(node.ns().exec("ip route show default")?, "");
    let devices = ["all", "default", "eth0", "underpass0"];
    let veths = node.pods().iter().map(Pod::host_ifname);
    for device in devices.into_iter().chain(veths) {
        let proxy_arp = format!("net.ipv4.conf.{device}.proxy_arp");
        assert_eq!(node.ns().sysctl(&proxy_arp)?, "0", "{device}");
    }

    let station = Station::new(node, pod);
    let broadcast = frames::arp_gateway_request(pod.mac(), pod.address());
    let unicast = frames::arp_request(pod.mac(), pod.address(), Mac::CALICO, GATEWAY);
    let padded = [&*broadcast, &[0; 18]].concat();
    let before = Counters::read(node)?;
    for (what, request) in [
        ("broadcast", &broadcast),
        ("unicast", &unicast),
        ("padded", &padded),
    ] {
        let replies = station.ask(request)?;
        assert_eq!(replies, [reply(pod, GATEWAY)], "{what}");
    }
    let answered = Counters::read(node)?
        .since(&before)
        .get("from_workload", "arp-answered");
    assert_eq!(answered.packets, 3);

    // The pod's own stack is as content.
    let report = ping(pod.ns(), node.pod("p1").address(), &PingOptions::default())?;
    assert!(report.is_lossless(), "{report:?}");
    let neighbour = pod.ns().exec(&format!("ip neigh show {GATEWAY}"))?;
    assert!(neighbour.contains(&Mac::CALICO.to_string()), "{neighbour}");
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_gateway_is_answered_while_the_agent_is_dead() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let mut agent = run_underpass(&lab, "")?;
    let node = lab.node("node-0");
    let pod = node.pod("p0");
    agent.process().kill()?;

    let request = frames::arp_gateway_request(pod.mac(), pod.address());
    let replies = Station::new(node, pod).ask(&request)?;
    assert_eq!(replies, [reply(pod, GATEWAY)]);
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn nothing_but_a_question_for_the_gateway_is_answered() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 2)?;
    let _agent = run_underpass(&lab, "")?;
    let node = lab.node("node-0");
    let pod = node.pod("p0");
    let (mac, address) = (pod.mac(), pod.address());

    let mut frames = vec![
        ("a probe", frames::arp_duplicate_probe(mac, GATEWAY)),
        (
            "a probe for itself",
            frames::arp_duplicate_probe(mac, address),
        ),
        ("an announcement", frames::arp_gratuitous(mac, GATEWAY)),
        (
            "an announcement of itself",
            frames::arp_gratuitous(mac, address),
        ),
        ("a reply", reply(pod, GATEWAY)),
    ];
    for other in [
        node.pod("p1").address(),
        lab.pod("node-1", "p0").address(),
        lab.node("node-1").address().addr(),
        lab.node("node-1").tunnel_address(),
        Ipv4Addr::new(169, 254, 1, 2),
        Ipv4Addr::new(1, 1, 1, 1),
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::BROADCAST,
    ] {
        for destination in [Mac::BROADCAST, Mac::CALICO] {
            let request = frames::arp_request(mac, address, destination, other);
            frames.push(("another address", request));
        }
    }
    let question = frames::arp_gateway_request(mac, address);
    for (what, place, value) in [
        ("of another link layer", HARDWARE_TYPE, &[0, 6][..]),
        ("of another network layer", PROTOCOL_TYPE, &[0x86, 0xdd]),
        ("with long link-layer addresses", HARDWARE_LENGTH, &[8]),
        ("with long addresses", PROTOCOL_LENGTH, &[16]),
        ("that is a reply", OPERATION, &[0, 2]),
        ("that is nothing", OPERATION, &[0, 0]),
        ("that is RARP", OPERATION, &[0, 3]),
        ("by everybody", SENDER_MAC, &[0xff; 6]),
        ("by a group", SENDER_MAC, &[0x01, 0, 0x5e, 0, 0, 1]),
    ] {
        let mut changed = question.clone();
        changed[place..place + value.len()].copy_from_slice(value);
        frames.push((what, changed));
    }
    for end in HARDWARE_TYPE..END {
        frames.push(("cut off", question[..end].to_vec()));
    }

    let station = Station::new(node, pod);
    let before = Counters::read(node)?;
    for (what, frame) in &frames {
        assert_eq!(
            station.ask(frame)?,
            Vec::<Vec<u8>>::new(),
            "{what}: {frame:02x?}"
        );
    }
    let counted = Counters::read(node)?.since(&before);
    assert_eq!(counted.get("from_workload", "arp-answered").packets, 0);
    let left = counted.get("from_workload", "arp-other").packets;
    assert!(left >= frames.len() as u64, "{counted:?}");

    // And that was not for want of an answer.
    assert_eq!(station.ask(&question)?, [reply(pod, GATEWAY)]);
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_configured_gateways_are_answered_and_no_others() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let node = lab.node("node-0");
    let pod = node.pod("p0");
    let station = Station::new(node, pod);
    let others = [[10, 0, 0, 1], [169, 254, 169, 254], [192, 0, 2, 1]].map(Ipv4Addr::from);
    let [first, second, third] = others;
    for (gateways, answered) in [
        (vec![GATEWAY, first, second, third], "all"),
        (vec![second], "one"),
    ] {
        let list: Vec<_> = gateways.iter().map(Ipv4Addr::to_string).collect();
        let _agent = run_underpass(&lab, &format!("gateways: [{}]\n", list.join(", ")))?;
        for address in [GATEWAY, first, second, third] {
            let request = frames::arp_request(pod.mac(), pod.address(), Mac::BROADCAST, address);
            let replies = station.ask(&request)?;
            if gateways.contains(&address) {
                assert_eq!(replies, [reply(pod, address)], "{answered}: {address}");
            } else {
                assert_eq!(replies, Vec::<Vec<u8>>::new(), "{answered}: {address}");
            }
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_pod_that_comes_later_is_answered() -> Result<()> {
    require_root();
    let mut lab = Lab::flat(2, 1)?;
    let _agent = run_underpass(&lab, "")?;
    // The second comes back under the name, and so the veth's name and address, of the first.
    for _ in 0..2 {
        let node = lab.node_mut("node-0");
        let pod = node.add_pod("late")?.clone();
        let station = Station::new(node, &pod);
        let request = frames::arp_gateway_request(pod.mac(), pod.address());
        eventually("a new pod is answered", || {
            Ok(!station.ask(&request)?.is_empty())
        })?;
        assert_eq!(station.ask(&request)?, [reply(&pod, GATEWAY)]);

        node.wait_resolved()?;
        let old = node.pod("p0");
        for (from, to) in [(&pod, old), (old, &pod)] {
            let report = ping(from.ns(), to.address(), &PingOptions::default())?;
            assert!(report.is_lossless(), "{report:?}");
        }
        lab.node_mut("node-0").remove_pod("late")?;
    }
    Ok(())
}

/// From the request that was answered, the kernel would have learned where the pod is.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_host_reaches_a_pod_whose_question_it_has_not_seen() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let _agents = lab.start_agents(dataplane_tests::Mode::Vxlan)?;
    let node = lab.node("node-0");
    let pod = node.pod("p0");
    let station = Station::new(node, pod);
    let request = frames::arp_gateway_request(pod.mac(), pod.address());
    let reach = |when: &str| -> Result<()> {
        for (who, ns) in [
            ("the host", node.ns()),
            ("a remote pod", lab.pod("node-1", "p0").ns()),
            ("a remote host", lab.node("node-1").ns()),
        ] {
            let report = ping(ns, pod.address(), &PingOptions::default())?;
            assert!(report.is_lossless(), "{who}, {when}: {report:?}");
        }
        Ok(())
    };

    assert!(!station.ask(&request)?.is_empty());
    reach("after the pod has asked")?;
    let flush = format!("ip neigh flush dev {}", pod.host_ifname());
    node.ns().exec(&flush)?;
    reach("after the node has forgotten it")?;
    node.ns().exec(&flush)?;
    assert!(!station.ask(&request)?.is_empty());
    reach("after it has asked a node that has forgotten it")?;
    pod.ns().exec("ip neigh flush dev eth0")?;
    node.ns().exec(&flush)?;
    reach("after both have forgotten one another")
}

/// The kernel would have learned the new address from the pod's next question for its gateway
/// (`arp_process`); it must not have to find out by itself that the old one has fallen silent, which
/// takes it up to a minute and is here ruled out.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_pod_with_a_new_ethernet_address_is_reached_once_it_has_spoken() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 2)?;
    let _agents = lab.start_agents(dataplane_tests::Mode::Vxlan)?;
    let node = lab.node("node-0");
    let pod = node.pod("p0");
    for key in ["base_reachable_time_ms", "delay_first_probe_time"] {
        let key = format!("net.ipv4.neigh.{}.{key}", pod.host_ifname());
        node.ns().set_sysctl(&key, "3600000")?;
    }
    node.wait_resolved()?;
    let hosts = [
        ("the host", node.ns()),
        ("a pod beside it", node.pod("p1").ns()),
        ("a remote pod", lab.pod("node-1", "p0").ns()),
        ("a remote host", lab.node("node-1").ns()),
    ];
    for (who, ns) in hosts {
        let report = ping(ns, pod.address(), &PingOptions::default())?;
        assert!(report.is_lossless(), "{who}, before: {report:?}");
    }

    let new = Mac::of(pod.address(), 99);
    pod.ns().exec(&format!("ip link set eth0 address {new}"))?;
    let quick = PingOptions {
        count: 1,
        timeout: SECOND / 5,
        ..PingOptions::default()
    };
    let speak = || -> Result<()> {
        pod.ns().exec("ip neigh flush dev eth0")?;
        let gateway = node.address().addr();
        ping(pod.ns(), gateway, &quick)?;
        Ok(())
    };
    for (who, ns) in hosts {
        eventually(&format!("{who} reaches the pod again"), || {
            speak()?;
            Ok(ping(ns, pod.address(), &quick)?.is_lossless())
        })?;
    }
    eventually("the agent knows the new address", || {
        let output = node.underpass(&["endpoints", "list"])?;
        let table = String::from_utf8(output.stdout)?;
        Ok(table.contains(&new.to_string()))
    })
}

/// Runs underpass on `node-0`, with these further lines of configuration.
fn run_underpass(lab: &Lab, more: &str) -> Result<Agent> {
    let node = lab.node("node-0");
    let config = node.agent_config() + more;
    let agent = Agent::start(node, &config, &cluster_yaml(lab, "Never", "Always"))?;
    node.wait_resolved()?;
    Ok(agent)
}

/// A pod, to speak ARP by hand.
struct Station<'a> {
    pod: &'a Pod,
    /// An address that the node's own stack answers for.
    known: Ipv4Addr,
}

impl<'a> Station<'a> {
    fn new(node: &Node, pod: &'a Pod) -> Self {
        Self {
            pod,
            known: node.address().addr(),
        }
    }

    /// Sends a frame, then a question that the node's stack answers, and returns the replies before
    /// that answer and right behind it, without padding.
    fn ask(&self, frame: &[u8]) -> Result<Vec<Vec<u8>>> {
        let pod = self.pod;
        let eth0 = PacketSocket::open(pod.ns(), "eth0")?;
        let question = frames::arp_request(pod.mac(), pod.address(), Mac::BROADCAST, self.known);
        let last = reply(pod, self.known);
        eth0.send(frame)?;
        eth0.send(&question)?;

        let mut replies = Vec::new();
        let answer = eth0.recv_matching(5 * SECOND, |frame| {
            let is_last = frame == last;
            if is_reply(frame) && !is_last {
                replies.push(frame[..END].to_vec());
            }
            is_last
        })?;
        answer.context("the node's stack does not answer for its own address")?;
        for mut frame in eth0.collect(SECOND / 100)? {
            if is_reply(&frame) {
                frame.truncate(END);
                replies.push(frame);
            }
        }
        Ok(replies)
    }
}

/// What tells `pod` that `address` is behind the host side of its veth.
fn reply(pod: &Pod, address: Ipv4Addr) -> Vec<u8> {
    let reply = ArpEthIpv4Packet {
        operation: ArpOperation::REPLY,
        sender_mac: Mac::CALICO.0,
        sender_ipv4: address.octets(),
        target_mac: pod.mac().0,
        target_ipv4: pod.address().octets(),
    };
    frames::ethernet_with_type(Mac::CALICO, pod.mac(), ARP, &reply.to_bytes())
}

fn is_reply(frame: &[u8]) -> bool {
    frame[12..14] == ARP.to_be_bytes() && frame[OPERATION..OPERATION + 2] == [0, 2]
}
