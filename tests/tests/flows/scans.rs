//! Floods of packets of which each is of another flow.

use anyhow::{Result, ensure};
use aya::maps::{MapInfo, MapType};
use dataplane_common::abi::maps;
use dataplane_tests::{
    Ip, Mac, PacketSocket, Pod, Talk, eventually, frames,
    netfilter::{
        Acceleration, Backend, Routes, Scene,
        felix::{Access, Allow, Policy},
    },
    require_root,
};
use dataplane_user::dataplane::Pins;
use etherparse::TcpHeader;

/// Tuples of a flood of SYNs, and of a scan by UDP.
const SYNS: u32 = 1_000_000;
const DATAGRAMS: u32 = 300_000;

/// Packets of a flood for each message of the talks that go on.
const BETWEEN: u32 = 500;

/// The most flows that a node may remember.
const MOST: u32 = 1 << 20;

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_flood_of_syns_leaves_other_flows_alone() -> Result<()> {
    let mut scene = scene()?;
    // Else the kernel's own table would be full, too.
    let stranger = scene.pod(0, "p1").clone();
    let silent = Policy {
        ingress: Access::All,
        egress: Access::Only(Vec::new()),
    };
    scene.felix(0).apply(&stranger, &silent)?;
    during(&scene, SYNS, |number, frame| syn(frame, number))
}

/// More than connection tracking has room for.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_scan_by_udp_leaves_other_flows_alone() -> Result<()> {
    during(&scene()?, DATAGRAMS, |number, frame| {
        datagram(frame, number);
    })
}

/// A server that only its clients may ask.
fn scene() -> Result<Scene> {
    require_root();
    let mut scene = Scene::start(
        Acceleration::USUAL,
        Routes::Kernel,
        Backend::IptablesLegacy,
        2,
    )?;
    let (client, server) = (scene.pod(0, "p0").clone(), scene.pod(1, "p0").clone());
    let felix = scene.felix(1);
    felix.add_set("s:clients", &[client.address().into()])?;
    let rules = ["tcp", "udp"].map(|protocol| Allow::to_port(protocol, 8080).from_set("s:clients"));
    felix.apply(&server, &Policy::only_in(&rules))?;
    Ok(scene)
}

/// Sends a flood from a stranger to the server while talks go on, which have to be carried as if it
/// were not there.
fn during(scene: &Scene, packets: u32, mut change: impl FnMut(u32, &mut [u8])) -> Result<()> {
    let (client, stranger) = (scene.pod(0, "p0"), scene.pod(0, "p1"));
    let server = scene.pod(1, "p0");
    let mut talks = [
        Talk::tcp(client, server, (0, 8080))?,
        Talk::udp(client, server, (0, 8080))?,
    ];
    for talk in &mut talks {
        scene.until_carried(|| talk.rounds(10))?;
    }
    // Others the kernel forgets when its table is full.
    eventually("both are assured", || {
        talks.iter_mut().try_for_each(|talk| talk.rounds(10))?;
        let connections = scene.connections(client, server)?;
        Ok(connections.iter().all(|(_, connection)| connection.assured))
    })?;
    let socket = PacketSocket::open(stranger.ns(), "eth0")?;
    let mut frame = template(stranger, server, packets == SYNS);
    let before = scene.carried()?;
    let mut rounds = 0;
    for number in 0..packets {
        change(number, &mut frame);
        socket.send(&frame)?;
        if number % BETWEEN == 0 {
            talks.iter_mut().try_for_each(|talk| talk.rounds(1))?;
            rounds += 1;
        }
    }
    // Two talks, there and back, on two nodes.
    let (carried, sent) = (scene.carried()? - before, rounds * 2 * 2 * 2);
    ensure!(carried * 10 > sent * 9, "{carried} of {sent} carried");
    let flows = MapInfo::from_pin(Pins::new(scene.lab.nodes()[0].pins()).map(maps::FLOWS))?;
    ensure!(flows.map_type()? == MapType::LruHash && flows.max_entries() <= MOST);
    Ok(())
}

fn template(from: &Pod, to: &Pod, is_tcp: bool) -> Vec<u8> {
    let ip = Ip::new(from.address(), to.address());
    let packet = if is_tcp {
        let header = TcpHeader {
            syn: true,
            ..TcpHeader::new(0, 0, 0, 64000)
        };
        ip.tcp(header, b"")
    } else {
        ip.udp_unsummed(0, 0, b"scan")
    };
    frames::ethernet(from.mac(), Mac::CALICO, &packet)
}

/// Where the ports and TCP's sequence number are in a frame.
const PORTS: usize = 14 + 20;
const SEQUENCE_LOW: usize = PORTS + 6;

/// Another pair of ports, and a sequence number that keeps the checksum right.
fn syn(frame: &mut [u8], number: u32) {
    let sum: u32 = datagram(frame, number).into_iter().map(u32::from).sum();
    let low = (2 * 0xffff - sum) % 0xffff;
    let [.., high, low] = low.to_be_bytes();
    frame[SEQUENCE_LOW..SEQUENCE_LOW + 2].copy_from_slice(&[high, low]);
}

/// Another pair of ports, which is returned.
fn datagram(frame: &mut [u8], number: u32) -> [u16; 2] {
    let [_, high, low @ ..] = number.to_be_bytes();
    let ports = [1024 + u16::from(high), u16::from_be_bytes(low)];
    for (place, port) in frame[PORTS..PORTS + 4].chunks_mut(2).zip(ports) {
        place.copy_from_slice(&port.to_be_bytes());
    }
    ports
}
