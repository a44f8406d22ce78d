//! The lab keeps its own promises, without underpass.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;
use std::{env, fs, thread};

use anyhow::{Context as _, Result};
use dataplane_tests::{
    Flow, Ip, Lab, Mac, NetNs, NodeSpec, PacketSocket, PingOptions, Pinging, Pod, TcpOptions,
    UdpOptions, calico, eventually, frames, ping, require_root, tcp_throughput, udp_throughput,
};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::chroot;
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn nodes_on_one_subnet_reach_one_another() -> Result<()> {
    require_root();
    for nodes in [2, 3] {
        let lab = Lab::flat(nodes, 0)?;
        for (one, other) in pairs(&lab) {
            let report = ping(one, other, &PingOptions::default())?;
            assert!(report.is_lossless(), "{nodes} nodes: {report:?}");
            assert_eq!(report.reply_ttl, Some(64));
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn nodes_on_different_subnets_reach_one_another_through_the_router() -> Result<()> {
    require_root();
    let lab = Lab::new(&[
        NodeSpec::new("left-0", "192.168.1.10/24", "10.244.0.0/24"),
        NodeSpec::new("left-1", "192.168.1.11/24", "10.244.1.0/24"),
        NodeSpec::new("right", "10.9.8.6/29", "10.244.2.0/24"),
    ])?;
    let to_right: Ipv4Addr = [10, 9, 8, 6].into();
    for (name, destination, ttl) in [
        ("left-0", to_right, 63),
        ("left-1", to_right, 63),
        ("right", [192, 168, 1, 11].into(), 63),
        ("left-0", [192, 168, 1, 11].into(), 64),
    ] {
        let report = ping(lab.node(name).ns(), destination, &PingOptions::default())?;
        assert!(report.is_lossless(), "{name} to {destination}: {report:?}");
        assert_eq!(report.reply_ttl, Some(ttl), "{name} to {destination}");
    }
    for node in lab.nodes() {
        assert_eq!(
            node.ns().exec("ip route show default")?,
            "",
            "{} routes the world",
            node.name()
        );
    }
    assert!(lab.router().is_some());
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn two_routers_lead_to_the_other_subnet() -> Result<()> {
    require_root();
    let nodes = [
        NodeSpec::new("left", "192.168.1.10/24", "10.244.0.0/24"),
        NodeSpec::new("right", "192.168.2.10/24", "10.244.1.0/24"),
    ];
    let lab = Lab::with_routers(&nodes, 2)?;
    let (left, right) = (lab.node("left"), lab.node("right").address().addr());
    for (router, gateway) in lab.routers().iter().zip(["192.168.1.1", "192.168.1.2"]) {
        left.ns()
            .exec(&format!("ip route replace 192.168.2.0/24 via {gateway}"))?;
        let before = router.snmp_counter("Ip", "ForwDatagrams")?;
        assert!(ping(left.ns(), right, &PingOptions::default())?.is_lossless());
        assert!(router.snmp_counter("Ip", "ForwDatagrams")? > before);
    }
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn flows_are_counted_where_they_go() -> Result<()> {
    require_root();
    let mut lab = Lab::flat(1, 2)?;
    calico::serve_pods(lab.node("node-0"))?;
    let client = lab.pod("node-0", "p0").ns().clone();
    let old = lab.pod("node-0", "p1").clone();
    let mut flow = Flow::start(&client, old.ns(), old.address())?;
    flow.wait_for_more()?;

    lab.node_mut("node-0").remove_pod("p1")?;
    // Time for some to be sent to nobody.
    thread::sleep(Duration::from_millis(50));
    lab.node_mut("node-0").add_pod_at("p2", old.address())?;
    calico::serve_pod(lab.node("node-0"), lab.pod("node-0", "p2"))?;
    flow.follow_to(lab.pod("node-0", "p2").ns())?;
    flow.wait_for_more()?;
    let report = flow.stop();
    assert!(report.lost > 0 && report.sent > report.lost, "{report:?}");

    let flow = Flow::start(&client, lab.pod("node-0", "p2").ns(), old.address())?;
    flow.wait_for_more()?;
    assert_eq!(flow.stop().lost, 0);
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn labs_side_by_side_do_not_meet() -> Result<()> {
    require_root();
    let (one, other) = (Lab::flat(2, 1)?, Lab::flat(2, 1)?);
    one.node("node-1").ns().exec("ip link set eth0 down")?;
    fs::create_dir(one.node("node-0").pins())?;

    let peer = other.node("node-1").address().addr();
    assert!(ping(other.node("node-0").ns(), peer, &PingOptions::default())?.is_lossless());
    assert!(!other.node("node-0").pins().exists());
    assert_ne!(one.dir(), other.dir());

    // What another thread makes under the same names is elsewhere.
    let pins = thread::spawn(|| {
        let lab = Lab::flat(2, 1)?;
        let pins = lab.node("node-0").pins().to_owned();
        anyhow::Ok((pins.exists(), pins))
    });
    let (existed, pins) = pins.join().expect("the other thread")?;
    assert_eq!((existed, &*pins), (false, one.node("node-0").pins()));
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_thread_returns_where_it_was() -> Result<()> {
    require_root();
    let place = || -> Result<_> {
        let namespace = |kind| fs::read_link(format!("/proc/thread-self/ns/{kind}"));
        Ok((namespace("net")?, namespace("mnt")?, env::current_dir()?))
    };
    let before = place()?;
    let lab = Lab::flat(1, 1)?;
    assert_ne!(place()?.1, before.1, "the lab has mounts of its own");
    let inside = place()?;

    let ns = lab.node("node-0").ns();
    let panicked = std::panic::catch_unwind(|| ns.run(|| -> Result<()> { panic!("on purpose") }));
    assert!(panicked.is_err());
    assert_eq!(place()?, inside);

    // Other threads share the lab's file system, which must not hold back the return.
    thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || stopped.recv());
        drop(lab);
        drop(stop);
    });
    assert_eq!(place()?, before);
    Ok(())
}

/// In a root that is not its mount namespace's, as in a system that debootstrap(8) has made.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_thread_returns_to_a_chroot() -> Result<()> {
    require_root();
    let mounts = || fs::read_to_string("/proc/thread-self/mountinfo");
    let directory = tempfile::tempdir()?;
    thread::scope(|scope| {
        let thread = scope.spawn(|| -> Result<()> {
            enter_chroot(directory.path())?;
            let before = mounts()?;
            drop(Lab::flat(1, 0)?);
            assert_eq!(mounts()?, before);
            Ok(())
        });
        thread.join().expect("the thread in a chroot")
    })
}

/// Moves the calling thread, with a mount namespace of its own, into the same file system mounted at
/// `directory`.
fn enter_chroot(directory: &Path) -> Result<()> {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some("/"), directory, NONE, bind, NONE)?;
    chroot(directory)?;
    Ok(env::set_current_dir("/")?)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn pods_are_wired_as_calico_wires_them() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 2)?;
    let node = lab.node("node-0");
    let names: Vec<_> = node.pods().iter().map(Pod::host_ifname).collect();
    assert!(
        names
            .iter()
            .all(|name| name.len() == 15 && name.starts_with("cali")),
        "{names:?}"
    );
    assert_ne!(names[0], names[1]);

    let pod = node.pod("p1");
    assert_eq!(pod.address(), Ipv4Addr::new(10, 244, 0, 3));
    let link = || first(node.ns(), &format!("ip -j link show {}", pod.host_ifname()));
    assert_eq!(link()?["address"], "ee:ee:ee:ee:ee:ee");
    assert_eq!(link()?["mtu"], 1450);
    // It is told by work that is queued (`linkwatch_event`).
    eventually("it is up", || Ok(link()?["operstate"] == "UP"))?;
    let route = first(node.ns(), &format!("ip -j route show {}", pod.address()))?;
    assert_eq!(
        (&route["dev"], &route["scope"]),
        (&json!(pod.host_ifname()), &json!("link"))
    );
    let proxy_arp = format!("net.ipv4.conf.{}.proxy_arp", pod.host_ifname());
    assert_eq!(node.ns().sysctl(&proxy_arp)?, "0");

    let eth0 = first(pod.ns(), "ip -j -4 address show eth0")?;
    let address = &eth0["addr_info"][0];
    assert_eq!(
        (&address["local"], &address["prefixlen"]),
        (&json!("10.244.0.3"), &json!(32))
    );
    let link = first(pod.ns(), "ip -j link show eth0")?;
    assert_eq!(
        (&link["mtu"], &link["address"]),
        (&json!(1450), &json!(pod.mac().to_string()))
    );
    let gateway = first(pod.ns(), "ip -j route show 169.254.1.1")?;
    assert_eq!(
        (&gateway["dev"], &gateway["scope"]),
        (&json!("eth0"), &json!("link"))
    );
    let default = first(pod.ns(), "ip -j route show default")?;
    assert_eq!(
        (&default["gateway"], &default["dev"]),
        (&json!("169.254.1.1"), &json!("eth0"))
    );
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn pods_come_and_go() -> Result<()> {
    require_root();
    let mut lab = Lab::flat(1, 1)?;
    let node = lab.node_mut("node-0");
    let web = node.add_pod("web")?.clone();
    let guest = node.add_pod_at("guest", [10, 99, 0, 1].into())?.clone();
    node.set_pod_mtu("web", 1400)?;
    assert_eq!(web.address(), Ipv4Addr::new(10, 244, 0, 3));
    assert_eq!(first(web.ns(), "ip -j link show eth0")?["mtu"], 1400);
    assert!(node.add_pod("web").is_err(), "a name is taken once");

    node.remove_pod("web")?;
    assert!(!node.has_pod("web"));
    assert!(
        node.ns()
            .exec(&format!("ip link show {}", web.host_ifname()))
            .is_err()
    );
    assert_eq!(
        node.ns()
            .exec(&format!("ip route show {}", web.address()))?,
        ""
    );
    assert!(
        node.ns()
            .exec(&format!("ip link show {}", guest.host_ifname()))
            .is_ok()
    );

    // It comes back with its name and address, but as another device.
    let again = node.add_pod("web")?;
    assert_eq!(
        (again.address(), again.host_ifname()),
        (web.address(), web.host_ifname())
    );
    assert_ne!(again.mac(), web.mac());
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn pods_talk_across_nodes_by_the_kernel_alone() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 2)?;
    forward_by_the_kernel(&lab)?;
    let (client, server) = (lab.pod("node-0", "p1"), lab.pod("node-1", "p0"));

    let report = ping(client.ns(), server.address(), &PingOptions::default())?;
    assert!(report.is_lossless(), "{report:?}");
    assert_eq!(report.reply_ttl, Some(62));
    assert!(
        report
            .round_trip
            .is_some_and(|time| time.min > 0.0 && time.min <= time.max)
    );

    let pinging = Pinging::start(client.ns(), server.address(), &PingOptions::default())?;
    let tcp = TcpOptions {
        parallel: 2,
        ..TcpOptions::default()
    };
    let tcp = tcp_throughput(server.ns(), client.ns(), server.address(), 1, &tcp)?;
    assert!(tcp.bits_per_second > 1e6, "{tcp:?}");
    let udp = UdpOptions {
        length: 1000,
        bits_per_second: 8_000_000,
        ..UdpOptions::default()
    };
    // A server that gets no time to read loses some in its socket.
    let overflown = || server.ns().snmp_counter("Udp", "RcvbufErrors");
    let before = overflown()?;
    let udp = udp_throughput(server.ns(), client.ns(), server.address(), 1, &udp)?;
    let overflown = overflown()? - before;
    assert!(
        udp.packets > 500 && udp.lost <= overflown,
        "{overflown} lost in the socket: {udp:?}"
    );
    let report = pinging.stop()?;
    assert!(report.is_lossless() && report.sent > 100, "{report:?}");
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn ping_tells_loss_from_errors() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    forward_by_the_kernel(&lab)?;
    let (client, server) = (lab.pod("node-0", "p0"), lab.pod("node-1", "p0"));
    let options = PingOptions {
        count: 2,
        timeout: SECOND / 5,
        ..PingOptions::default()
    };

    let too_big = PingOptions {
        payload: 1423,
        dont_fragment: true,
        ..options.clone()
    };
    let report = ping(client.ns(), server.address(), &too_big)?;
    assert!(
        report.is_silent() && report.errors[0].contains("mtu=1450"),
        "{report:?}"
    );
    let fragmented = PingOptions {
        dont_fragment: false,
        timeout: PingOptions::default().timeout,
        ..too_big
    };
    assert!(ping(client.ns(), server.address(), &fragmented)?.is_lossless());

    let one_hop = PingOptions {
        ttl: Some(1),
        ..options.clone()
    };
    let report = ping(client.ns(), server.address(), &one_hop)?;
    assert!(
        report.is_silent() && report.errors[0].contains("Time to live exceeded"),
        "{report:?}"
    );

    let report = ping(lab.node("node-0").ns(), [1, 1, 1, 1].into(), &options)?;
    assert!(
        report.errors[0].contains("Network is unreachable"),
        "{report:?}"
    );

    server.ns().exec("ip link set eth0 down")?;
    server.ns().exec("ip link set eth0 up")?; // without its routes
    let report = ping(client.ns(), server.address(), &options)?;
    assert_eq!(
        (report.sent, report.lost(), report.errors.len()),
        (2, 2, 0),
        "{report:?}"
    );
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn frames_arrive_as_they_were_built() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let (one, other) = (lab.node("node-0"), lab.node("node-1"));
    let (sender, receiver) = (
        PacketSocket::open(one.ns(), "eth0")?,
        PacketSocket::open(other.ns(), "eth0")?,
    );
    let (pod, peer) = (Ipv4Addr::new(10, 244, 0, 2), Ipv4Addr::new(10, 244, 1, 2));
    let inner = Ip::new(pod, peer)
        .tos(0xb9)
        .ttl(9)
        .udp(4000, 5000, b"inside");
    let outer = Ip::new(one.address().addr(), other.address().addr());
    let inner_frame = frames::ethernet(one.mac(), other.mac(), &inner);
    let packets = [
        outer.ipip(&inner),
        outer.vxlan(4096, &inner_frame, true),
        outer
            .clone()
            .fragment(1480, false)
            .identification(77)
            .packet(17, &[7; 64]),
        outer.echo_request(1, 2, &[0; 64]),
    ];
    for packet in packets {
        let frame = frames::ethernet(one.mac(), other.mac(), &packet);
        sender.send(&frame)?;
        assert!(
            receiver
                .recv_matching(SECOND, |received| received == frame)?
                .is_some()
        );
    }

    // The last one was a request, which the stack answers; what the node itself sends is not heard.
    let is_echo_reply = |frame: &[u8]| frame[23] == 1 && frame[34] == 0;
    let reply = sender
        .recv_matching(SECOND, is_echo_reply)?
        .context("no reply")?;
    assert_eq!(reply[6..12], other.mac().0);
    assert_eq!(receiver.collect(SECOND / 20)?, Vec::<Vec<u8>>::new());
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_pods_gateway_answers_nobody_by_itself() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 1)?;
    let pod = lab.pod("node-0", "p0");
    let eth0 = PacketSocket::open(pod.ns(), "eth0")?;
    eth0.send(&frames::arp_gateway_request(pod.mac(), pod.address()))?;
    assert_eq!(eth0.recv_matching(SECOND / 10, is_arp)?, None);

    let request = frames::arp_request(pod.mac(), pod.address(), Mac::CALICO, host_address(&lab));
    eth0.send(&request)?;
    let reply = eth0
        .recv_matching(SECOND, is_arp)?
        .context("no reply for a real address")?;
    assert_eq!(reply[6..12], Mac::CALICO.0);
    Ok(())
}

/// Every node's namespace with every other node's address.
fn pairs(lab: &Lab) -> impl Iterator<Item = (&NetNs, Ipv4Addr)> {
    let others = |name| lab.nodes().iter().filter(move |node| node.name() != name);
    lab.nodes()
        .iter()
        .flat_map(move |node| others(node.name()).map(|other| (node.ns(), other.address().addr())))
}

/// Does with the kernel's means what underpass is for: proxy ARP, and routes between the nodes.
fn forward_by_the_kernel(lab: &Lab) -> Result<()> {
    for node in lab.nodes() {
        // The kernel answers for an address only if it has a route to it through another device.
        node.ns().exec("ip route add 169.254.1.1 dev eth0")?;
        for pod in node.pods() {
            let ifname = pod.host_ifname();
            node.ns()
                .set_sysctl(&format!("net.ipv4.conf.{ifname}.proxy_arp"), "1")?;
            node.ns()
                .set_sysctl(&format!("net.ipv4.neigh.{ifname}.proxy_delay"), "0")?;
        }
        for other in lab
            .nodes()
            .iter()
            .filter(|other| other.name() != node.name())
        {
            let (block, via) = (other.pod_cidr(), other.address().addr());
            node.ns().exec(&format!("ip route add {block} via {via}"))?;
        }
    }
    Ok(())
}

/// The first object of what an `ip -j` command prints.
fn first(ns: &NetNs, command_line: &str) -> Result<Value> {
    let printed: Value = serde_json::from_str(&ns.exec(command_line)?)?;
    let objects = printed.as_array().context("not a list")?;
    // ip fills its list with an empty object for each line that its filter drops.
    let object = objects
        .iter()
        .find(|object| object.as_object().is_some_and(|o| !o.is_empty()));
    object
        .cloned()
        .with_context(|| format!("`{command_line}` shows nothing"))
}

fn is_arp(frame: &[u8]) -> bool {
    frame[12..14] == [0x08, 0x06]
}

fn host_address(lab: &Lab) -> Ipv4Addr {
    lab.nodes()[0].address().addr()
}
