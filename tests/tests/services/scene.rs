//! Two nodes with clients, servers and Services.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::Result;
use dataplane_tests::{
    Agent, Lab, Mode, Network, Node, Pod, cluster_yaml,
    netfilter::{KubeProxy, Service, Transport},
    web::{self, WebServer},
};

/// A Service whose three endpoints are on both nodes: everybody's.
pub(crate) const EVERYWHERE: SocketAddrV4 = virtual_address(10);

/// As [`EVERYWHERE`], and a client always gets the same endpoint.
pub(crate) const STICKY: SocketAddrV4 = virtual_address(11);

/// A Service whose one endpoint is [`Scene::near`].
pub(crate) const NEAR: SocketAddrV4 = virtual_address(12);

/// A Service whose one endpoint is [`Scene::far`].
pub(crate) const FAR: SocketAddrV4 = virtual_address(13);

/// A Service over UDP whose one endpoint is [`Scene::far`], at [`ECHO_PORT`].
pub(crate) const ECHO: SocketAddrV4 = virtual_address(14);

/// Where that endpoint listens.
pub(crate) const ECHO_PORT: u16 = 5353;

/// The ports of these Services at every node's address.
pub(crate) const EVERYWHERE_PORT: u16 = 30010;
pub(crate) const NEAR_PORT: u16 = 30012;
pub(crate) const FAR_PORT: u16 = 30013;

const fn virtual_address(last: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 96, 0, last), 80)
}

/// Who carries packets between pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrying {
    /// The kernel alone.
    Kernel(Network),
    /// underpass, from a cluster file.
    File(Mode),
    /// underpass, from the kernel's routes.
    Mirror(Network),
}

impl Carrying {
    /// Every way in which underpass does.
    pub(crate) const BY_UNDERPASS: [Self; 4] = [
        Self::File(Mode::None),
        Self::File(Mode::Ipip),
        Self::File(Mode::Vxlan),
        Self::Mirror(Network::FelixVxlan),
    ];

    /// How the kernel does the same: nodes' addresses in its tunnels are the same in all of them.
    pub(crate) fn by_the_kernel(self) -> Self {
        Self::Kernel(match self {
            Self::Kernel(network) | Self::Mirror(network) => network,
            Self::File(Mode::None) => Network::Bird,
            Self::File(_) => Network::FelixVxlan,
        })
    }
}

/// Clients and servers on `node-0` and `node-1`.
pub(crate) struct Scene {
    _agents: Vec<Agent>,
    /// The near one, the far one, and another beside that.
    pub(crate) servers: [WebServer; 3],
    pub(crate) lab: Lab,
}

impl Scene {
    /// With flows carried once they are established.
    pub(crate) fn begin(proxy: KubeProxy, carrying: Carrying) -> Result<Self> {
        Self::begin_with(proxy, carrying, "established")
    }

    /// With this for `acceleration`.
    pub(crate) fn begin_with(
        proxy: KubeProxy,
        carrying: Carrying,
        acceleration: &str,
    ) -> Result<Self> {
        let lab = Lab::flat(2, 3)?;
        match carrying {
            Carrying::Kernel(network) | Carrying::Mirror(network) => network.set_up(&lab)?,
            Carrying::File(_) => lab.nodes().iter().try_for_each(route_by_default)?,
        }
        let services = services(&lab);
        for node in lab.nodes() {
            proxy.program(node, &services)?;
        }
        let agents = start_agents(&lab, carrying, acceleration)?;
        let [near, far, third] = endpoints(&lab).map(|(node, pod)| WebServer::start(node, pod));
        Ok(Self {
            _agents: agents,
            servers: [near?, far?, third?],
            lab,
        })
    }

    /// The first node, and its client.
    pub(crate) fn client(&self) -> (&Node, &Pod) {
        let node = self.lab.node("node-0");
        (node, node.pod("p0"))
    }

    /// The other node, and its client.
    pub(crate) fn other_client(&self) -> (&Node, &Pod) {
        let node = self.lab.node("node-1");
        (node, node.pod("p2"))
    }

    /// The server on the client's node.
    pub(crate) fn near(&self) -> &Pod {
        self.lab.pod("node-0", "p1")
    }

    /// A server on the other node.
    pub(crate) fn far(&self) -> &Pod {
        self.lab.pod("node-1", "p0")
    }

    /// The addresses of all servers, which no client of a Service ever hears from.
    pub(crate) fn endpoint_addresses(&self) -> [Ipv4Addr; 3] {
        endpoints(&self.lab).map(|(_, pod)| pod.address())
    }
}

/// Where the servers are.
fn endpoints(lab: &Lab) -> [(&Node, &Pod); 3] {
    [("node-0", "p1"), ("node-1", "p0"), ("node-1", "p1")].map(|(node, pod)| {
        let node = lab.node(node);
        (node, node.pod(pod))
    })
}

fn services(lab: &Lab) -> Vec<Service> {
    let all = endpoints(lab).map(|(_, pod)| SocketAddrV4::new(pod.address(), web::PORT));
    let [near, far, _] = all;
    let service = |name, address: SocketAddrV4, node_port, endpoints: &[_]| Service {
        name,
        protocol: Transport::Tcp,
        cluster_ip: *address.ip(),
        port: address.port(),
        node_port,
        affinity: address == STICKY,
        endpoints: endpoints.to_vec(),
    };
    vec![
        service("everywhere", EVERYWHERE, EVERYWHERE_PORT, &all),
        service("sticky", STICKY, 30011, &all),
        service("near", NEAR, NEAR_PORT, &[near]),
        service("far", FAR, FAR_PORT, &[far]),
        Service {
            protocol: Transport::Udp,
            ..service(
                "echo",
                ECHO,
                30014,
                &[SocketAddrV4::new(*far.ip(), ECHO_PORT)],
            )
        },
    ]
}

/// Hosts find Services by a route that leads anywhere.
fn route_by_default(node: &Node) -> Result<()> {
    node.ns()
        .exec("ip route add default via 192.168.1.1 dev eth0")?;
    Ok(())
}

fn start_agents(lab: &Lab, carrying: Carrying, acceleration: &str) -> Result<Vec<Agent>> {
    let (ipip, vxlan) = match carrying {
        Carrying::Kernel(_) => return Ok(Vec::new()),
        Carrying::File(mode) => (mode.ipip_mode(), mode.vxlan_mode()),
        // There is a cluster file, which is not read.
        Carrying::Mirror(_) => ("Never", "Never"),
    };
    let cluster = cluster_yaml(lab, ipip, vxlan);
    let mut agents = lab
        .nodes()
        .iter()
        .map(|node| Agent::spawn(node, &config(node, carrying, acceleration), &cluster))
        .collect::<Result<Vec<_>>>()?;
    agents.iter_mut().try_for_each(Agent::wait_in_sync)?;
    lab.wait_resolved()?;
    Ok(agents)
}

fn config(node: &Node, carrying: Carrying, acceleration: &str) -> String {
    let config = node.agent_config();
    let lines = config
        .lines()
        .filter(|line| !line.starts_with("acceleration:"));
    let lines = lines.filter_map(|line| match carrying {
        Carrying::Mirror(_) if line.trim().starts_with("file:") => None,
        Carrying::Mirror(_) if line == "source:" => Some("source: kernel\n".to_owned()),
        _ => Some(format!("{line}\n")),
    });
    lines
        .chain([format!("acceleration: {acceleration}\n")])
        .collect()
}
