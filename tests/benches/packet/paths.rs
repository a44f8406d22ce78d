//! What packets there are, and which way each goes.

use std::net::Ipv4Addr;

use anyhow::Result;
use dataplane_common::{
    abi::{Asker, FlowKey, Hook},
    reason::Reason,
};
use dataplane_tests::{Ip, Mac, Mode, frames};
use etherparse::TcpHeader;
use fastrand::Rng;

use crate::world::{Block, World, blocks};

/// Packets of a path, each of another flow, from or to as many routes of the table.
const PACKETS: usize = 256;

/// The cluster's VXLAN network.
const VNI: u32 = 4096;
/// The port of every server.
const SERVER: u16 = 5201;
/// A router on the node's subnet.
const ROUTER: Mac = Mac([0x02, 0, 192, 168, 1, 1]);
/// Outside the cluster.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);

/// One way through a program.
pub(crate) struct Path {
    pub(crate) hook: Hook,
    /// Which way it is.
    pub(crate) way: String,
    /// What is sent: by the first pod, or on the wire.
    pub(crate) frames: Vec<Vec<u8>>,
    pub(crate) from: From,
    /// The program that does the least there is to do.
    pub(crate) floor: Option<&'static str>,
    /// How pods of the other end are reached; on this node, if not at all.
    pub(crate) mode: Option<Mode>,
    /// What its packets are counted as.
    pub(crate) counted: Reason,
    /// Whether only established flows are carried, as these are.
    pub(crate) is_established: bool,
    /// Whether somebody listens, and to what.
    pub(crate) monitored: Monitored,
}

/// Whether `underpass monitor` listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Monitored {
    /// Nobody does.
    No,
    /// It does, to other packets.
    Others,
    /// It is told of each of these packets.
    All,
}

impl Path {
    /// What it is known by.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.hook.name(), self.way)
    }
}

/// Who sends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Pod,
    Wire,
}

/// All paths. Their flows are then established.
pub(crate) fn all(world: &mut World) -> Result<Vec<Path>> {
    let mut paths = Vec::new();
    for is_established in [false, true] {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            for way in ways() {
                let packets = packets(world, &way, protocol);
                for packet in packets.iter().filter(|_| is_established) {
                    world.establish(packet.flow(protocol))?;
                }
                let established = if is_established { ", established" } else { "" };
                let path = carried(world, &way, protocol, &packets);
                paths.push(Path {
                    way: path.way.clone() + established,
                    is_established,
                    ..path
                });
            }
        }
    }
    paths.extend(others(world));
    paths.extend(monitored(world));
    paths.sort_by_key(|path| path.hook);
    Ok(paths)
}

/// What these packets are, while nobody listens.
fn carried(world: &World, way: &Way, protocol: Protocol, packets: &[Packet]) -> Path {
    let frames = packets
        .iter()
        .map(|packet| (way.frame)(world, packet, &packet.bytes(protocol)));
    Path {
        hook: way.hook,
        way: format!("{}, {}", way.name, protocol.name()),
        frames: frames.collect(),
        from: match way.hook {
            Hook::FromWorkload => From::Pod,
            _ => From::Wire,
        },
        floor: Some(way.floor),
        mode: way.mode,
        counted: way.counted,
        is_established: false,
        monitored: Monitored::No,
    }
}

#[derive(Clone, Copy)]
enum Protocol {
    Udp,
    Tcp,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Udp => 17,
            Self::Tcp => 6,
        }
    }
}

/// A way that packets are carried.
struct Way {
    hook: Hook,
    name: &'static str,
    floor: &'static str,
    counted: Reason,
    /// How pods of the other end are reached; on this node, if not at all.
    mode: Option<Mode>,
    /// Makes a frame of a packet.
    frame: fn(&World, &Packet, &[u8]) -> Vec<u8>,
}

fn ways() -> [Way; 9] {
    use Hook::{FromUplink, FromWorkload, XdpUplink};
    use Reason::{
        DeliveredLocal, ReceivedDirect, ReceivedIpip, ReceivedVxlan, SentDirect, SentIpip,
        SentVxlan, TakenOut,
    };
    let out = |name, floor, counted, mode| Way {
        hook: FromWorkload,
        name,
        floor,
        counted,
        mode,
        frame: from_pod,
    };
    let into = |hook, name, floor, counted, mode| Way {
        hook,
        name,
        floor,
        counted,
        mode: Some(mode),
        frame: match mode {
            Mode::Ipip => in_ipip,
            Mode::Vxlan => in_vxlan,
            Mode::None | Mode::CrossSubnet => in_no_tunnel,
        },
    };
    let (none, ipip, vxlan) = (Mode::None, Mode::Ipip, Mode::Vxlan);
    [
        out("local", "floor_local", DeliveredLocal, None),
        out("none out", "floor_none_out", SentDirect, Some(none)),
        out("IPIP out", "floor_ipip_out", SentIpip, Some(ipip)),
        out("VXLAN out", "floor_vxlan_out", SentVxlan, Some(vxlan)),
        into(FromUplink, "none in", "floor_none_in", ReceivedDirect, none),
        into(FromUplink, "IPIP in", "floor_ipip_in", ReceivedIpip, ipip),
        into(
            FromUplink,
            "VXLAN in",
            "floor_vxlan_in",
            ReceivedVxlan,
            vxlan,
        ),
        into(XdpUplink, "IPIP in", "floor_ipip_open", TakenOut, ipip),
        into(XdpUplink, "VXLAN in", "floor_vxlan_open", TakenOut, vxlan),
    ]
}

/// What is not carried between pods, or not looked into.
fn others(world: &World) -> Vec<Path> {
    let pod = world.pod("p0");
    let question = frames::arp_gateway_request(pod.mac(), pod.address());
    let to_outside = Packet {
        source: pod.address(),
        destination: OUTSIDE,
        port: 40000,
        block: None,
    };
    let to_outside = from_pod(world, &to_outside, &to_outside.bytes(Protocol::Udp));
    let from_outside = Ip::new(OUTSIDE, pod.address()).udp(SERVER, 40000, &[0; 18]);
    let from_outside = frames::ethernet(ROUTER, world.node().mac(), &from_outside);
    let path = |hook, way: &str, frame: &Vec<u8>, from, counted| Path {
        hook,
        way: way.to_owned(),
        frames: vec![frame.clone(); PACKETS],
        from,
        floor: None,
        mode: None,
        counted,
        is_established: false,
        monitored: Monitored::No,
    };
    let way = &ways()[1];
    let carried = packets(world, way, Protocol::Udp);
    let carried = carried
        .iter()
        .map(|packet| (way.frame)(world, packet, &packet.bytes(Protocol::Udp)));
    vec![
        Path {
            floor: Some("floor_arp"),
            ..path(
                Hook::FromWorkload,
                "proxy ARP",
                &question,
                From::Pod,
                Reason::ArpAnswered,
            )
        },
        path(
            Hook::FromWorkload,
            "no route, UDP",
            &to_outside,
            From::Pod,
            Reason::NoRoute,
        ),
        path(
            Hook::ToWorkload,
            "unmarked, UDP",
            &from_outside,
            From::Wire,
            Reason::Unmarked,
        ),
        Path {
            frames: carried.collect(),
            ..path(
                Hook::ToUplink,
                "unmarked, UDP",
                &to_outside,
                From::Pod,
                Reason::Unmarked,
            )
        },
    ]
}

/// What is carried while somebody listens.
fn monitored(world: &World) -> Vec<Path> {
    let listening = [
        (Monitored::Others, "monitor of others"),
        (Monitored::All, "monitored"),
    ];
    let paths = ways().into_iter().flat_map(|way| {
        listening.map(|(monitored, words)| {
            let packets = packets(world, &way, Protocol::Udp);
            let path = carried(world, &way, Protocol::Udp, &packets);
            Path {
                way: format!("{}, {words}", path.way),
                monitored,
                ..path
            }
        })
    });
    paths.collect()
}

/// A packet between pods.
struct Packet {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    /// Of the client, which sends it.
    port: u16,
    /// Where the other pod is, if on another node.
    block: Option<Block>,
}

/// Packets of a way, each with a route of its own, if there are any.
fn packets(world: &World, way: &Way, protocol: Protocol) -> Vec<Packet> {
    let [pod, neighbour] = ["p0", "p1"].map(|name| world.pod(name).address());
    let mut random = Rng::with_seed(protocol.number().into());
    let blocks = match way.mode {
        None => vec![None; PACKETS],
        Some(mode) => random.choose_multiple(blocks(mode).map(Some), PACKETS),
    };
    let packet = |(port, block): (u16, Option<Block>)| {
        let other = block.map_or(neighbour, |block| {
            Ipv4Addr::from(u32::from(block.prefix.network()) + random.u32(0..64))
        });
        let (source, destination) = match way.hook {
            Hook::FromWorkload => (pod, other),
            _ => (other, pod),
        };
        Packet {
            source,
            destination,
            port,
            block,
        }
    };
    (40000..).zip(blocks).map(packet).collect()
}

impl Packet {
    /// Its bytes, with which a frame is of 60 bytes, the least there is.
    fn bytes(&self, protocol: Protocol) -> Vec<u8> {
        let ip = Ip::new(self.source, self.destination).dont_fragment(true);
        match protocol {
            Protocol::Udp => ip.udp(self.port, SERVER, &[0; 18]),
            Protocol::Tcp => {
                let mut header = TcpHeader::new(self.port, SERVER, 1, 65535);
                header.ack = true;
                ip.tcp(header, &[0; 6])
            }
        }
    }

    /// What the programs remember its flow by.
    fn flow(&self, protocol: Protocol) -> FlowKey {
        let [client, server] = [
            (self.source.octets(), self.port.to_be_bytes()),
            (self.destination.octets(), SERVER.to_be_bytes()),
        ];
        let [lower, higher] = if client < server {
            [client, server]
        } else {
            [server, client]
        };
        FlowKey {
            lower: lower.0,
            higher: higher.0,
            lower_port: lower.1,
            higher_port: higher.1,
            protocol: protocol.number(),
            asker: Asker::Either as u8,
            padding: [0; 2],
        }
    }

    fn peer(&self) -> Ipv4Addr {
        let block = self.block.expect("a block of another node");
        block.peer_address()
    }
}

fn from_pod(world: &World, _: &Packet, bytes: &[u8]) -> Vec<u8> {
    frames::ethernet(world.pod("p0").mac(), Mac::CALICO, bytes)
}

fn in_no_tunnel(world: &World, packet: &Packet, bytes: &[u8]) -> Vec<u8> {
    frames::ethernet(Mac::of(packet.peer(), 0), world.node().mac(), bytes)
}

fn in_ipip(world: &World, packet: &Packet, bytes: &[u8]) -> Vec<u8> {
    in_no_tunnel(world, packet, &outer(world, packet).ipip(bytes))
}

fn in_vxlan(world: &World, packet: &Packet, bytes: &[u8]) -> Vec<u8> {
    let peer = packet.block.expect("a block of another node").peer();
    let (here, there) = (world.node().vtep_mac(), Mac::of_vtep(&peer));
    let frame = frames::ethernet(there, here, bytes);
    in_no_tunnel(
        world,
        packet,
        &outer(world, packet).vxlan(VNI, &frame, false),
    )
}

fn outer(world: &World, packet: &Packet) -> Ip {
    Ip::new(packet.peer(), world.node().address().addr())
}
