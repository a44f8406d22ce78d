//! Routes with many ways, as an agent writes them, on a node without a carrier: the kernel's own
//! devices treat what the programs leave.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io,
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result};
use dataplane_common::abi::NextHopKind;
use dataplane_tests::{
    Counters, Lab, Mode, NetNs, Node, PacketSocket, PingOptions,
    calico::{self, Remote, Way},
    eventually, items, patient, ping, require_root, take_carrier,
};
use dataplane_user::{
    dataplane::Pins,
    inspect::Snapshot,
    plan::{NextHopKey, Tables, spread},
    reconcile::Reconciler,
};
use ipnet::Ipv4Net;
use serde_json::Value;

/// The address of two pods, each on a node of its own, to which every other node may send.
const ANYCAST: Ipv4Addr = Ipv4Addr::new(10, 244, 200, 1);
/// How many flows are sent there, and how many datagrams each is of.
const FLOWS: u16 = 64;
const DATAGRAMS: usize = 4;

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn flows_spread_over_the_ways_without_encapsulation() -> Result<()> {
    spreads(Mode::None, Way::Plain)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_kernels_ipip_device_takes_the_answers() -> Result<()> {
    spreads(Mode::Ipip, Way::Ipip)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_kernels_vxlan_device_takes_the_answers() -> Result<()> {
    spreads(Mode::Vxlan, Way::Vxlan)
}

fn spreads(mode: Mode, way: Way) -> Result<()> {
    require_root();
    let lab = Lab::flat(3, 1)?;
    let mut agents = lab.start_agents(mode)?;
    lab.wait_resolved()?;
    let (node, client) = (lab.node("node-0"), lab.pod("node-0", "p0"));
    let others = ["node-1", "node-2"].map(|name| lab.node(name));
    for other in others {
        has_anycast(other)?;
    }
    take_carrier(node, agents.remove(0))?;
    route_anycast(node, way, others)?;
    let sent = match mode {
        Mode::None => "sent-direct",
        Mode::Ipip => "sent-ipip",
        Mode::Vxlan | Mode::CrossSubnet => "sent-vxlan",
    };

    // What a pod sends to one of them, and what is answered: from a tunnel of either, since nobody can
    // say whose the address is.
    let before = Counters::read(node)?;
    let report = ping(client.ns(), ANYCAST, &PingOptions::default())?;
    assert!(report.is_lossless(), "{report:?}");
    let since = Counters::read(node)?.since(&before);
    assert!(since.get("from_workload", sent).packets > 0, "{since:?}");
    let judged = match mode {
        Mode::None => "received-direct",
        _ => "owner-unknown",
    };
    assert!(since.get("from_uplink", judged).packets > 0, "{since:?}");

    let wires = others.map(|other| PacketSocket::open(other.ns(), "eth0"));
    let [first, second] = wires;
    let (first, second) = (first?, second?);
    let before = Counters::read(node)?;
    send_flows(client.ns())?;
    let since = Counters::read(node)?.since(&before);
    let all = u64::from(FLOWS) * DATAGRAMS as u64;
    assert_eq!(since.get("from_workload", sent).packets, all, "{since:?}");
    let flows = [flows(&first)?, flows(&second)?];
    for (flow, datagrams) in flows.iter().flatten() {
        assert_eq!(*datagrams, DATAGRAMS, "flow {flow} is on one way");
    }
    let [first, second] = flows.map(|flows| flows.len());
    assert_eq!(first + second, usize::from(FLOWS), "{first} and {second}");
    assert!(first.min(second) >= 16, "{first} and {second}");

    is_shown(node, client.address())
}

/// Gives the node's pod the address, and waits until its agent knows.
fn has_anycast(node: &Node) -> Result<()> {
    let pod = node.pod("p0");
    pod.ns()
        .exec(&format!("ip address add {ANYCAST}/32 dev eth0"))?;
    node.ns().exec(&format!(
        "ip route add {ANYCAST}/32 dev {} scope link",
        pod.host_ifname()
    ))?;
    eventually("the agent knows the pod's other address", || {
        let table = String::from_utf8(node.underpass(&["endpoints", "list"])?.stdout)?;
        let is_known =
            |line: &str| line.starts_with(&format!("{ANYCAST} ")) && !line.contains("unresolved");
        Ok(table.lines().any(is_known))
    })
}

/// Routes to both, in the kernel's tables and in the maps, where all else stays as it is.
fn route_anycast(node: &Node, way: Way, others: [&Node; 2]) -> Result<()> {
    match way {
        Way::Plain => {}
        Way::Ipip => calico::add_ipip(node)?,
        Way::Vxlan => calico::add_vxlan(node, "noudpcsum")?,
    }
    let mut hops = String::new();
    for other in others {
        let remote = Remote::from(other);
        if way == Way::Vxlan {
            calico::meet_by_vxlan(node, &remote)?;
        }
        calico::route(node, way, remote.block, &remote)?;
        let (gateway, device) = match way {
            Way::Plain => (remote.address, "eth0"),
            Way::Ipip => (remote.address, "tunl0 onlink"),
            Way::Vxlan => (remote.tunnel_address, "vxlan.calico onlink"),
        };
        write!(hops, " nexthop via {gateway} dev {device}")?;
    }
    node.ns()
        .exec(&format!("ip route add {ANYCAST}/32{hops}"))?;

    let pins = Pins::new(node.pins());
    let mut tables = tables(&Snapshot::read(&pins)?)?;
    let blocks = others.map(|other| tables.routes[&other.pod_cidr()]);
    let both = NextHopKey::Mirrored(0);
    let ways = spread(&blocks.map(|key| (key, 1))).context("two ways")?;
    tables.multipaths.insert(both, ways);
    tables.routes.insert(ANYCAST.into(), both);
    let changes = Reconciler::open(&pins)?.apply(&tables)?;
    assert_eq!(
        (changes.written, changes.removed),
        (2, 0),
        "only what is new"
    );
    Ok(())
}

/// What the maps hold, as what they should hold.
fn tables(snapshot: &Snapshot) -> Result<Tables> {
    let memory = &snapshot.tables;
    let mut tables = Tables {
        config: memory.config.context("a configuration")?,
        endpoints: memory.endpoints.clone(),
        workloads: memory.workloads.clone(),
        peers: memory.peers.clone(),
        ..Tables::default()
    };
    for (prefix, next_hop) in &snapshot.routes {
        let key = match next_hop.kind() {
            Some(NextHopKind::Local) => NextHopKey::Local,
            _ => NextHopKey::Peer {
                address: next_hop.peer.into(),
                pool: Ipv4Net::new_assert([10, 244, 0, 0].into(), 16),
            },
        };
        tables.next_hops.insert(key, next_hop.anywhere());
        tables.routes.insert(*prefix, key);
    }
    Ok(tables)
}

/// Sends flows that differ by their source ports, each datagram with its flow's port as its end.
fn send_flows(client: &NetNs) -> Result<()> {
    client.run(|| {
        // All are open at once: a port that is free again may be given to another flow.
        let any = (Ipv4Addr::UNSPECIFIED, 0);
        let sockets = (0..FLOWS).map(|_| UdpSocket::bind(any));
        for socket in sockets.collect::<io::Result<Vec<_>>>()? {
            let port = socket.local_addr()?.port().to_be_bytes();
            for _ in 0..DATAGRAMS {
                socket.send_to(&[MARK, &port].concat(), (ANYCAST, 9))?;
            }
        }
        Ok(())
    })
}

/// What a datagram of ours begins with.
const MARK: &[u8] = b"underpass flow";

/// How many datagrams of which flows have arrived.
fn flows(wire: &PacketSocket) -> Result<BTreeMap<u16, usize>> {
    const LAST: Duration = Duration::from_millis(100);
    let mut flows = BTreeMap::new();
    while let Some(frame) = wire.recv_matching(patient(LAST), |frame| {
        frame.len() > MARK.len() + 2 && frame[..frame.len() - 2].ends_with(MARK)
    })? {
        let port = [frame[frame.len() - 2], frame[frame.len() - 1]];
        *flows.entry(u16::from_be_bytes(port)).or_default() += 1;
    }
    Ok(flows)
}

/// To whoever looks: the ways with their shares, and which a flow takes.
fn is_shown(node: &Node, client: Ipv4Addr) -> Result<()> {
    let anycast = ANYCAST.to_string();
    let output = node.underpass(&["routes", "get", &anycast, "-o", "json"])?;
    let rows: Vec<Value> = items(&output.stdout)?;
    let row = rows.first().context("a route")?;
    assert_eq!(row["kind"], "multipath", "{row}");
    let ways = row["ways"].as_array().context("ways")?;
    let shares: Vec<_> = ways.iter().map(|way| &way["share"]).collect();
    assert_eq!(shares, [16, 16]);
    let peers: BTreeSet<_> = ways.iter().filter_map(|way| way["peer"].as_str()).collect();
    assert_eq!(peers, ["192.168.1.11", "192.168.1.12"].into());

    let output = node.underpass(&["explain", &client.to_string(), &anycast])?;
    let story = String::from_utf8(output.stdout)?;
    assert!(
        story.contains("this flow, without ports, takes "),
        "{story}"
    );
    assert!(story.contains("from_workload: forward (sent-"), "{story}");
    Ok(())
}
