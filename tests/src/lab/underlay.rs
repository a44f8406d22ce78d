//! What connects the nodes: a cable or a switch on each subnet, and routers between the subnets.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use ipnet::Ipv4Net;

use super::{Node, host};
use crate::batch::IpBatch;
use crate::{Mac, NetNs, eventually};

/// The namespaces between the nodes.
#[derive(Debug)]
pub(super) struct Underlay {
    routers: Vec<NetNs>,
    /// Held, so that they exist.
    _switches: Vec<NetNs>,
}

impl Underlay {
    /// Connects the nodes of each subnet, and the subnets, if there are several, by so many
    /// routers. Nodes learn no default route, only routes to the other subnets by the first router.
    pub(super) fn connect(nodes: &[Node], routers: usize) -> Result<Self> {
        for node in nodes {
            if let Some(device) = &node.spec().device {
                Station::node(node).take_over(device)?;
            }
        }
        let nodes: Vec<_> = nodes
            .iter()
            .filter(|node| node.spec().device.is_none())
            .collect();
        let subnets = subnets(&nodes);
        let routers = if subnets.len() > 1 { routers } else { 0 };
        let routers = (0..routers)
            .map(|_| host::forwarding())
            .collect::<Result<Vec<_>>>()?;
        let mut switches = Vec::new();
        for (index, &subnet) in subnets.iter().enumerate() {
            let mut stations: Vec<_> = nodes
                .iter()
                .filter(|node| subnet_of(node) == subnet)
                .map(|node| Station::node(node))
                .collect();
            for (number, router) in routers.iter().enumerate() {
                let address = router_address(subnet, number)?;
                stations.push(Station::router(router, index, subnet, address, &stations)?);
            }
            switches.extend(connect(&stations)?);
        }
        if !routers.is_empty() {
            nodes
                .iter()
                .try_for_each(|node| add_routes(node, &subnets))?;
        }
        Ok(Self {
            routers,
            _switches: switches,
        })
    }

    pub(super) fn routers(&self) -> &[NetNs] {
        &self.routers
    }
}

/// The subnets of the nodes, in the order of their first mention.
fn subnets(nodes: &[&Node]) -> Vec<Ipv4Net> {
    let mut subnets = Vec::new();
    for subnet in nodes.iter().map(|node| subnet_of(node)) {
        if !subnets.contains(&subnet) {
            subnets.push(subnet);
        }
    }
    subnets
}

fn subnet_of(node: &Node) -> Ipv4Net {
    node.address().trunc()
}

/// An interface to be, on a subnet.
struct Station<'a> {
    ns: &'a NetNs,
    ifname: String,
    address: Ipv4Net,
    mtu: u16,
}

impl<'a> Station<'a> {
    fn node(node: &'a Node) -> Self {
        Self {
            ns: node.ns(),
            ifname: "eth0".into(),
            address: node.address(),
            mtu: node.mtu(),
        }
    }

    /// A router's interface on a subnet, wide enough for each of its `neighbours`.
    fn router(
        ns: &'a NetNs,
        index: usize,
        subnet: Ipv4Net,
        address: Ipv4Addr,
        neighbours: &[Station<'_>],
    ) -> Result<Self> {
        ensure!(
            neighbours
                .iter()
                .all(|neighbour| neighbour.address.addr() != address),
            "{address} is a router of {subnet}; no node can have it"
        );
        let mtu = neighbours
            .iter()
            .map(|neighbour| neighbour.mtu)
            .max()
            .unwrap_or(1500);
        Ok(Self {
            ns,
            ifname: format!("net{index}"),
            address: Ipv4Net::new_assert(address, subnet.prefix_len()),
            mtu,
        })
    }

    /// Makes a device of the machine this interface, once whoever had it has given it back.
    fn take_over(&self, device: &str) -> Result<()> {
        let machine = NetNs::current()?;
        let what = format!("the machine has its {device}");
        eventually(&what, || {
            machine.run(|| Ok(nix::net::if_::if_nametoindex(device).is_ok()))
        })?;
        IpBatch::default()
            .add(format_args!("link set {device} down"))
            .add(format_args!(
                "link set {device} netns {}",
                self.ns.path().display()
            ))
            .apply(&machine)?;
        IpBatch::default()
            .add(format_args!("link set {device} {}", self.as_device("name")))
            .apply(self.ns)?;
        self.bring_up()
    }

    /// The arguments that make this interface the peer of a veth device.
    fn as_peer(&self) -> String {
        format!(
            "peer {} netns {}",
            self.as_device("name"),
            self.ns.path().display()
        )
    }

    fn as_device(&self, keyword: &str) -> String {
        let mac = Mac::of(self.address.addr(), 0);
        format!("{keyword} {} address {mac} mtu {}", self.ifname, self.mtu)
    }

    fn bring_up(&self) -> Result<()> {
        let Self {
            ns,
            ifname,
            address,
            ..
        } = self;
        IpBatch::default()
            .add("link set lo up")
            .add(format_args!("address add {address} dev {ifname}"))
            .add(format_args!("link set {ifname} up"))
            .apply(ns)
    }
}

/// Connects stations: two by a cable, else by a switch, whose namespace is returned.
fn connect(stations: &[Station<'_>]) -> Result<Option<NetNs>> {
    let switch = if let [one, other] = stations {
        cable(one, other)?;
        None
    } else {
        Some(switch(stations)?)
    };
    stations.iter().try_for_each(Station::bring_up)?;
    Ok(switch)
}

fn cable(one: &Station<'_>, other: &Station<'_>) -> Result<()> {
    IpBatch::default()
        .add(format_args!(
            "link add {} type veth {}",
            one.as_device("name"),
            other.as_peer()
        ))
        .apply(one.ns)
}

fn switch(stations: &[Station<'_>]) -> Result<NetNs> {
    let ns = host::new()?;
    if Path::new("/proc/sys/net/bridge").exists() {
        // A switch looks at no IP header; the kernel's bridge would drop what it finds wrong.
        ns.set_sysctl("net.bridge.bridge-nf-call-iptables", "0")?;
    }
    let mut batch = IpBatch::default();
    batch.add("link add br0 up type bridge stp_state 0 mcast_snooping 0");
    for (index, station) in stations.iter().enumerate() {
        batch.add(format_args!(
            "link add port{index} mtu {} up master br0 type veth {}",
            station.mtu,
            station.as_peer()
        ));
    }
    batch.apply(&ns)?;
    Ok(ns)
}

fn add_routes(node: &Node, subnets: &[Ipv4Net]) -> Result<()> {
    let own = subnet_of(node);
    let gateway = router_address(own, 0)?;
    let mut batch = IpBatch::default();
    for subnet in subnets.iter().filter(|&&subnet| subnet != own) {
        batch.add(format_args!("route add {subnet} via {gateway} dev eth0"));
    }
    batch.apply(node.ns())
}

/// Where a subnet's routers are: from its first address on.
fn router_address(subnet: Ipv4Net, number: usize) -> Result<Ipv4Addr> {
    let mut addresses = subnet.hosts();
    let address = addresses.nth(number);
    address.with_context(|| format!("{subnet} has no address for a router"))
}
