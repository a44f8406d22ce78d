//! What has been counted until now: the maps, and the statistics of the pods' interfaces.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Instant,
};

use anyhow::{Context as _, Result};
use dataplane_common::{
    abi::{
        ARRIVAL_DIRECT, ARRIVAL_IPIP, ARRIVAL_VXLAN, Addr, Config, Counter, Direction, Flow,
        FlowKey, Hook, NextHop, NextHopKind, Peer, WAY_IN, WAY_OUT, flags, maps,
    },
    reason::Reason,
};
use tokio::task::spawn_blocking;

use crate::{
    dataplane::{self, BpfArray, BpfHash, Flows, Pins, Table as _},
    inspect::{self, Acceleration, FillRow},
    kernel::{Netlink, VethTraffic},
};

/// Everything that has been counted, at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When it was read.
    pub taken: Instant,
    /// Whether an agent keeps the dataplane true.
    pub agent_running: bool,
    /// What is carried, and how much has been.
    pub acceleration: Acceleration,
    /// What the programs have counted.
    pub counters: BTreeMap<(Hook, Reason), Counter>,
    /// What they have carried of each flow; `None` where flows are not followed.
    pub flows: Option<BTreeMap<FlowKey, [Carried; 2]>>,
    /// The time that flows are told by, in their ticks.
    pub ticks: u64,
    /// Where packets are sent to.
    pub peers: BTreeMap<Ipv4Addr, PeerWays>,
    /// The pods' interfaces, by their indexes.
    pub endpoints: BTreeMap<u32, EndpointCount>,
    /// Whether those count what programs hand to a pod.
    pub counts_redirected: bool,
    /// How full the maps are.
    pub maps: Vec<FillRow>,
}

/// What was carried of one direction of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// How many packets.
    pub packets: u64,
    /// Since when the flow has been known, in ticks.
    pub since: u64,
    /// Where they go or come from, of the other nodes.
    pub far: Option<Far>,
}

/// The other node that packets go to or come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Far {
    /// They are sent there.
    To(Ipv4Addr),
    /// They come from there.
    From(Ipv4Addr),
}

/// How a node is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerWays {
    /// In which modes.
    pub modes: BTreeSet<&'static str>,
    /// The longest packets there, in bytes, before encapsulation.
    pub mtus: BTreeSet<u16>,
}

/// A pod's interface, and what has gone through it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointCount {
    /// The host side of the veth.
    pub interface: String,
    /// The pod's addresses.
    pub addresses: BTreeSet<Ipv4Addr>,
    /// MTU of the interface, in bytes.
    pub mtu: u32,
    /// What the pod has sent and received; `None` where the interface is gone.
    pub traffic: Option<VethTraffic>,
}

/// Reads samples.
#[derive(Debug)]
pub struct Reader {
    netlink: Netlink,
    counts_redirected: bool,
}

impl Reader {
    /// A reader of this network namespace.
    ///
    /// # Panics
    ///
    /// As [`Netlink::connect`].
    pub fn new() -> Result<Self> {
        let (netlink, _events) = Netlink::connect()?;
        Ok(Self {
            netlink,
            counts_redirected: dataplane::redirected_is_counted(),
        })
    }

    /// Reads what is pinned there, and the statistics of the pods' interfaces.
    pub async fn read(&self, pins: &Pins) -> Result<Sample> {
        let (pins, counts_redirected) = (pins.clone(), self.counts_redirected);
        // Thousands of system calls, which keys do not wait for.
        let read = spawn_blocking(move || read_maps(&pins, counts_redirected)).await;
        let mut sample = read.context("cannot read the maps")??;
        let interfaces = sample.endpoints.keys().copied().collect();
        for (index, traffic) in self.netlink.veth_traffic(&interfaces).await? {
            if let Some(endpoint) = sample.endpoints.get_mut(&index) {
                endpoint.traffic = Some(traffic);
            }
        }
        Ok(sample)
    }
}

/// All of a sample but the statistics of interfaces.
fn read_maps(pins: &Pins, counts_redirected: bool) -> Result<Sample> {
    let taken = Instant::now();
    let config = BpfArray::<Config>::open_array(pins, maps::CONFIG)?.get(0)?;
    let counters = inspect::counters(pins)?;
    let next_hops = dataplane::live_next_hops(pins)?;
    let is_established = config.flags & flags::ESTABLISHED != 0;
    let ticks = dataplane::now();
    let flows = is_established
        .then(|| flows(pins, &next_hops))
        .transpose()?;
    Ok(Sample {
        taken,
        agent_running: pins.are_locked()?,
        acceleration: Acceleration::new(&config, &counters),
        counters,
        flows,
        ticks,
        peers: peers(pins, &next_hops)?,
        endpoints: endpoints(pins)?,
        counts_redirected,
        maps: inspect::fill_rows(pins)?,
    })
}

/// What was carried of each flow.
fn flows(
    pins: &Pins,
    next_hops: &BTreeMap<u64, NextHop>,
) -> Result<BTreeMap<FlowKey, [Carried; 2]>> {
    let mut flows = BTreeMap::new();
    Flows::open(pins)?.each(|key, flow| {
        flows.insert(key, carried(&flow, next_hops));
    })?;
    Ok(flows)
}

fn carried(flow: &Flow, next_hops: &BTreeMap<u64, NextHop>) -> [Carried; 2] {
    let [there, back] = &flow.directions;
    [(there, back), (back, there)].map(|(direction, opposite)| Carried {
        packets: direction.packets.get(),
        since: direction.since.parts().1,
        far: sent_to(direction, next_hops)
            .map(Far::To)
            .or_else(|| received_from(direction, opposite, next_hops).map(Far::From)),
    })
}

fn sent_to(direction: &Direction, next_hops: &BTreeMap<u64, NextHop>) -> Option<Ipv4Addr> {
    if direction.from.parts().1 & WAYS != WAY_OUT {
        return None;
    }
    let number = direction.to.parts().1.checked_sub(1)?;
    next_hops.get(&number).map(inspect::remote)
}

/// A tunnel packet's outer source is remembered. One that came in no tunnel has none: it comes from
/// where its answers go.
fn received_from(
    direction: &Direction,
    opposite: &Direction,
    next_hops: &BTreeMap<u64, NextHop>,
) -> Option<Ipv4Addr> {
    let from = direction.from.parts().1;
    if from & WAYS != WAY_IN {
        return None;
    }
    match from & ARRIVALS {
        #[allow(clippy::cast_possible_truncation)] // the lower 32 of 64 bits
        ARRIVAL_IPIP | ARRIVAL_VXLAN => Some(Ipv4Addr::from_bits(from as u32)),
        ARRIVAL_DIRECT => sent_to(opposite, next_hops),
        _ => None,
    }
}

/// Bits of a direction's `from` that tell where packets go, and where they come from.
const WAYS: u64 = WAY_OUT | WAY_IN;
const ARRIVALS: u64 = 0xff << 40;

/// The nodes that tunnel packets are taken from, and those that anything is sent to.
fn peers(pins: &Pins, next_hops: &BTreeMap<u64, NextHop>) -> Result<BTreeMap<Ipv4Addr, PeerWays>> {
    let listed = BpfHash::<Addr, Peer>::open_hash(pins, maps::PEERS)?.entries()?;
    let listed = listed.into_iter();
    let mut peers: BTreeMap<Ipv4Addr, PeerWays> = listed
        .map(|(address, _)| (address.into(), PeerWays::default()))
        .collect();
    let remote = next_hops
        .values()
        .filter(|hop| hop.kind().is_some_and(NextHopKind::is_remote));
    for next_hop in remote {
        let ways = peers.entry(inspect::remote(next_hop)).or_default();
        ways.modes.insert(inspect::kind(next_hop));
        ways.mtus.insert(next_hop.mtu);
    }
    Ok(peers)
}

/// The pods' interfaces.
fn endpoints(pins: &Pins) -> Result<BTreeMap<u32, EndpointCount>> {
    let mut endpoints = BTreeMap::<u32, EndpointCount>::new();
    for (address, endpoint) in dataplane::endpoints(pins)? {
        let count = endpoints.entry(endpoint.ifindex).or_default();
        count.addresses.insert(address.into());
        count.mtu = endpoint.mtu;
        count.interface = inspect::interface(endpoint.ifindex);
    }
    Ok(endpoints)
}

#[cfg(test)]
mod tests {
    use dataplane_common::abi::ARRIVAL_WORKLOAD;

    use super::*;

    const PEER: Addr = [192, 168, 1, 11];

    /// Next hop 7 leads to [`PEER`].
    fn next_hops() -> BTreeMap<u64, NextHop> {
        let next_hop = NextHop {
            peer: PEER,
            ..NextHop::default()
        };
        [(7, next_hop)].into()
    }

    /// The first direction is remembered to go this way, the second that one.
    fn far(ways: [(u64, u64); 2]) -> [Option<Far>; 2] {
        let flow = Flow::default();
        for (direction, (from, to)) in flow.directions.iter().zip(ways) {
            direction.from.set(3, from);
            direction.to.set(3, to);
        }
        carried(&flow, &next_hops()).map(|carried| carried.far)
    }

    #[test]
    fn what_is_sent_is_sent_to_the_node_behind_its_next_hop() {
        let out = (ARRIVAL_WORKLOAD | WAY_OUT | 4, 8);
        let tunnelled = ARRIVAL_VXLAN | WAY_IN | u64::from(u32::from_be_bytes([10, 0, 0, 9]));
        let peer = Ipv4Addr::from(PEER);
        assert_eq!(
            far([out, (tunnelled, 1)]),
            [
                Some(Far::To(peer)),
                Some(Far::From(Ipv4Addr::new(10, 0, 0, 9)))
            ]
        );
        // In no tunnel, from where the answers go.
        assert_eq!(
            far([(ARRIVAL_DIRECT | WAY_IN, 1), out]),
            [Some(Far::From(peer)), Some(Far::To(peer))]
        );
    }

    #[test]
    fn what_stays_on_the_node_or_went_by_what_is_gone_is_no_nodes() {
        let local = (ARRIVAL_WORKLOAD | WAY_IN | 4, 1);
        assert_eq!(far([local, local]), [None, None]);
        let gone = (ARRIVAL_WORKLOAD | WAY_OUT | 4, 9);
        assert_eq!(far([gone, (0, 0)]), [None, None]);
        assert_eq!(far([(ARRIVAL_DIRECT | WAY_IN, 1), gone]), [None, None]);
    }
}
