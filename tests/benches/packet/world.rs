//! A node with 10,000 routes, in the maps that its agent has filled.

use std::{fmt::Write as _, net::Ipv4Addr};

use anyhow::{Result, ensure};
use aya::maps::Map;
use dataplane_common::abi::{Config, FLOW_WORDS, FlowKey, GENERATIONS, flags, maps};
use dataplane_tests::{Agent, Lab, Mac, Mode, Node, PacketSocket, Pod, beside_netfilter};
use dataplane_user::dataplane::{BpfArray, BpfHash, Pins, RouteMap, Table as _, now};
use ipnet::Ipv4Net;

/// Routes in the table: blocks of /26 in three pools, and the node's own.
pub(crate) const ROUTES: usize = 3 * BLOCKS as usize + 1;
/// Blocks of a pool.
const BLOCKS: u32 = 3333;
/// Other nodes, which have the blocks in turn.
const PEERS: u32 = 156;

/// How pods of a pool are reached.
const POOLS: [(Mode, Ipv4Addr); 3] = [
    (Mode::None, Ipv4Addr::new(10, 16, 0, 0)),
    (Mode::Ipip, Ipv4Addr::new(10, 32, 0, 0)),
    (Mode::Vxlan, Ipv4Addr::new(10, 48, 0, 0)),
];

/// A block and who has it.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    pub(crate) prefix: Ipv4Net,
    peer: u32,
}

impl Block {
    /// Name of the node that has it.
    pub(crate) fn peer(self) -> String {
        format!("n{}", self.peer)
    }

    /// Address of that node.
    pub(crate) fn peer_address(self) -> Ipv4Addr {
        peer_address(self.peer)
    }
}

/// All blocks of the pool whose pods are reached in this mode.
pub(crate) fn blocks(mode: Mode) -> impl Iterator<Item = Block> {
    let pool = POOLS.iter().filter(move |(its, _)| *its == mode);
    pool.flat_map(|(_, first)| {
        (0..BLOCKS).map(|number| Block {
            prefix: Ipv4Net::new_assert(Ipv4Addr::from(u32::from(*first) + number * 64), 26),
            peer: number % PEERS,
        })
    })
}

fn peer_address(peer: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(192, 168, 2, 1)) + peer)
}

/// The node, without the agent: nobody else writes the maps.
pub(crate) struct World {
    lab: Lab,
    config: BpfArray<Config>,
    flows: BpfHash<FlowKey, [u64; FLOW_WORDS]>,
    /// The generation of flows.
    generation: u32,
}

impl World {
    pub(crate) fn new() -> Result<Self> {
        let lab = Lab::flat(2, 2)?;
        let node = lab.node("node-0");
        node.ns().exec("ip route add 192.168.0.0/16 dev eth0")?;
        // With this, the programs that learn are attached as well.
        let config = beside_netfilter(&node.agent_config());
        let agent = Agent::start(node, &config, &cluster(node))?;
        node.wait_resolved()?;
        drop(agent);
        be_mute(node)?;
        let pins = Pins::new(node.pins());
        let routes = RouteMap::read_routes(&pins)?.entries()?.len();
        ensure!(routes >= ROUTES, "there are {routes} routes");
        let generations = BpfArray::<u32>::open_array(&pins, maps::GENERATIONS)?;
        let mut generation = 0;
        for place in 0..GENERATIONS {
            generation += generations.get(place)?;
        }
        Ok(Self {
            config: BpfArray::open_array(&pins, maps::CONFIG)?,
            flows: BpfHash::open(&pins, maps::FLOWS, Map::LruHashMap)?,
            generation,
            lab,
        })
    }

    pub(crate) fn node(&self) -> &Node {
        self.lab.node("node-0")
    }

    pub(crate) fn pod(&self, name: &str) -> &Pod {
        self.node().pod(name)
    }

    /// What brings packets to the node from the wire.
    pub(crate) fn wire(&self) -> Result<PacketSocket> {
        PacketSocket::open(self.lab.node("node-1").ns(), "eth0")
    }

    /// Whether only established flows are carried.
    pub(crate) fn set_established(&mut self, is_set: bool) -> Result<()> {
        let mut config = self.config.get(0)?;
        config.flags &= !flags::ESTABLISHED;
        if is_set {
            config.flags |= flags::ESTABLISHED;
            config.reverify = u32::MAX;
        }
        self.config.set(0, config)
    }

    /// Has the stack let a flow through both ways, as the programs remember it.
    pub(crate) fn establish(&mut self, flow: FlowKey) -> Result<()> {
        /// The word of each direction that says when it was verified.
        const VERIFIED: [usize; 2] = [1, 7];
        let mut words = [0; FLOW_WORDS];
        for word in VERIFIED {
            words[word] = u64::from(self.generation) << 48 | now();
        }
        self.flows.insert(&flow, &words)
    }
}

/// Has nobody answer, and nobody wait for an answer: what arrives is what was sent.
fn be_mute(node: &Node) -> Result<()> {
    let mut neighbours = String::new();
    for pod in node.pods() {
        pod.ns().exec("ip address flush dev eth0")?;
        let (address, mac, device) = (pod.address(), pod.mac(), pod.host_ifname());
        let _ = writeln!(
            neighbours,
            "neigh replace {address} lladdr {mac} dev {device} nud permanent"
        );
    }
    for address in (0..PEERS).map(peer_address) {
        let mac = Mac::of(address, 0);
        let _ = writeln!(
            neighbours,
            "neigh replace {address} lladdr {mac} dev eth0 nud permanent"
        );
    }
    let batch = node
        .ns()
        .command("ip")
        .args(["-batch", "-"])
        .input(&neighbours)?;
    batch.run()?;
    Ok(())
}

/// The cluster file.
fn cluster(node: &Node) -> String {
    let mut yaml = "pools:\n- {cidr: 10.244.0.0/16}\n".to_owned();
    for (mode, first) in POOLS {
        let _ = writeln!(
            yaml,
            "- {{cidr: {first}/12, ipipMode: {}, vxlanMode: {}}}",
            mode.ipip_mode(),
            mode.vxlan_mode()
        );
    }
    let _ = writeln!(
        yaml,
        "nodes:\n- {{name: {}, address: {}, podCIDRs: [{}], tunnelAddress: {}}}",
        node.name(),
        node.address(),
        node.pod_cidr(),
        node.tunnel_address()
    );
    for peer in 0..PEERS {
        let _ = writeln!(
            yaml,
            "- {{name: n{peer}, address: {}/16}}",
            peer_address(peer)
        );
    }
    yaml += "routes:\n";
    for block in POOLS.iter().flat_map(|(mode, _)| blocks(*mode)) {
        let _ = writeln!(yaml, "- {{cidr: {}, node: {}}}", block.prefix, block.peer());
    }
    yaml
}
