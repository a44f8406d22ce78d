//! Setting the node under test up: with the agent, or as Calico does.

use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use ipnet::Ipv4Net;

use super::{
    Kernel,
    world::{
        BORROWED, LENT, NAMES, NARROW, NODE, NODE_MAC, OTHER, OTHER_MAC, P0, P0_MAC, P1, P1_MAC,
        PEER, PEER_MAC, ROUTER, ROUTER_MAC, SECOND, SECOND_OF_P0, SWALLOWED, WIDE,
    },
};
use crate::{
    Lab, Mac, Mode, NetNs, Node, NodeSpec,
    batch::IpBatch,
    calico::{self, Remote, Way},
};

impl Kernel {
    /// The running one.
    pub fn running() -> Result<Self> {
        let probe = NetNs::new()?.exec("ip link add probe type ipip local 192.0.2.1");
        let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let major = release
            .split('.')
            .next()
            .and_then(|major| major.parse().ok());
        let major: u32 = major.with_context(|| format!("read the kernel's release {release}"))?;
        Ok(Self {
            ipip: probe.is_ok(),
            tells_outer_destination: major >= 6,
        })
    }
}

/// The node and its neighbour, what both ways of setting it up have in common, and a wire that does
/// not answer.
pub(super) fn lab() -> Result<Lab> {
    let spec = |name, address: Ipv4Addr, block| {
        NodeSpec::new(name, &format!("{address}/24"), block).pod_mtu(WIDE)
    };
    let lab = Lab::new(&[
        spec(NAMES[0], NODE, "10.244.0.0/24").pods(2),
        spec(NAMES[1], PEER, "10.244.1.0/24"),
    ])?;
    let (node, wire) = (lab.node(NAMES[0]), lab.node(NAMES[1]));
    let [p0, p1] = ["p0", "p1"].map(|pod| node.pod(pod));
    ensure!(
        [(p0.address(), p0.mac()), (p1.address(), p1.mac())] == [(P0, P0_MAC), (P1, P1_MAC)]
            && (node.mac(), wire.mac()) == (NODE_MAC, PEER_MAC),
        "the lab has other addresses than the cases"
    );
    calico::serve_pods(node)?;
    node.set_pod_mtu("p1", NARROW)?;
    let cali = p0.host_ifname();
    let mut batch = IpBatch::default();
    batch
        .add(format_args!("address add {SECOND}/32 dev eth0"))
        .add(format_args!(
            "route add {SECOND_OF_P0}/32 dev {cali} scope link"
        ))
        .add(format_args!(
            "neigh replace {SECOND_OF_P0} lladdr {P0_MAC} dev {cali} nud permanent"
        ))
        .add("route add unreachable 198.51.100.0/25")
        .add("route add prohibit 198.51.100.128/25");
    for (address, mac) in [(PEER, PEER_MAC), (OTHER, OTHER_MAC), (ROUTER, ROUTER_MAC)] {
        batch.add(format_args!(
            "neigh replace {address} lladdr {mac} dev eth0 nud permanent"
        ));
    }
    batch.apply(node.ns())?;
    // Where it is on, as it is on a veth of old kernels, it verifies checksums that a case leaves to
    // the stack.
    node.ns().exec("ethtool -K eth0 gro off")?;
    // One question for a neighbour, however long a slow machine takes to answer it.
    node.ns()
        .set_sysctl("net.ipv4.neigh.eth0.retrans_time_ms", "3600000")?;
    // Every error, not only the first few; and no news of shorter ways, which come once in a while.
    node.ns().set_sysctl("net.ipv4.icmp_ratemask", "0")?;
    for interface in configured_interfaces(node)? {
        let key = format!("net.ipv4.conf.{interface}.send_redirects");
        node.ns().set_sysctl(&key, "0")?;
    }
    wire.ns().set_sysctl("net.ipv4.ip_forward", "0")?;
    wire.ns().exec("ip address flush dev eth0")?;
    Ok(lab)
}

/// The interfaces of a node, and `all` and `default`, which stands for those to come.
fn configured_interfaces(node: &Node) -> Result<Vec<String>> {
    const PATH: &str = "/proc/sys/net/ipv4/conf";
    node.ns().run(|| {
        let directory = fs::read_dir(PATH).with_context(|| format!("list {PATH}"))?;
        directory
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    })
}

/// The cluster file: three nodes, what one of them has borrowed from others, and a blackhole.
pub(super) fn cluster(mode: Mode) -> String {
    let (ipip, vxlan) = (mode.ipip_mode(), mode.vxlan_mode());
    let [node, peer, other] = NAMES;
    let blackhole = Ipv4Net::new_assert(SWALLOWED, 24).trunc();
    format!(
        "pools: [{{ cidr: 10.244.0.0/16, ipipMode: {ipip}, vxlanMode: {vxlan} }}]\n\
         nodes:\n\
         - {{ name: {node}, address: {NODE}/24, podCIDRs: [10.244.0.0/24], tunnelAddress: 10.244.0.1 }}\n\
         - {{ name: {peer}, address: {PEER}/24, podCIDRs: [10.244.1.0/24], tunnelAddress: 10.244.1.1 }}\n\
         - {{ name: {other}, address: {OTHER}/24, podCIDRs: [10.244.2.0/24], tunnelAddress: 10.244.2.1 }}\n\
         routes:\n\
         - {{ cidr: {BORROWED}/32, node: {other} }}\n\
         - {{ cidr: {LENT}/32, node: {other} }}\n\
         - {{ cidr: {blackhole}, blackhole: true }}\n"
    )
}

/// What the same cluster is on a node of Calico's.
pub(super) fn be_calicos(node: &Node, mode: Mode) -> Result<()> {
    let way = match mode {
        Mode::Ipip => Way::Ipip,
        Mode::Vxlan => Way::Vxlan,
        Mode::None | Mode::CrossSubnet => Way::Plain,
    };
    match way {
        Way::Ipip => {
            calico::add_ipip(node)?;
            // To pods the node speaks from the first address that is found, device by device. On a
            // node that is the uplink's; here `tunl0` is older, but not as old as the loopback.
            node.ns()
                .exec(&format!("ip address add {NODE}/32 dev lo"))?;
        }
        Way::Vxlan => calico::add_vxlan(node, "noudpcsum")?,
        Way::Plain => {}
    }
    let [peer, other] = [(1, PEER), (2, OTHER)].map(|(number, address)| {
        let block = Ipv4Net::new_assert([10, 244, number, 0].into(), 24);
        Remote {
            address,
            block,
            tunnel_address: [10, 244, number, 1].into(),
            vtep_mac: Mac::of_vtep(NAMES[usize::from(number)]),
        }
    });
    for remote in [&peer, &other] {
        if way == Way::Vxlan {
            calico::meet_by_vxlan(node, remote)?;
        }
        calico::route(node, way, remote.block, remote)?;
    }
    for address in [BORROWED, LENT] {
        calico::route(node, way, address.into(), &other)?;
    }
    for nowhere in [node.pod_cidr(), Ipv4Net::new_assert(SWALLOWED, 24).trunc()] {
        node.ns()
            .exec(&format!("ip route add blackhole {nowhere} proto 80"))?;
    }
    Ok(())
}
