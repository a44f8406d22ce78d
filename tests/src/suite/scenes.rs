//! The ways that are compared, and a lab for each of them.

use std::fmt;

use crate::{
    Agent, Carriage, Counters, Lab, Mode, NetNs, Network, NodeSpec, Pod, floor::Floor,
    netfilter::KubeProxy, web::WebServer,
};
use anyhow::{Result, ensure};

use super::Path;

/// Which packets underpass carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acceleration {
    All,
    /// Only those of flows that the stack has let through.
    Established,
}

/// What gets packets from pod to pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Nothing: there are the hosts alone.
    Bare,
    /// The kernel alone.
    Kernel(Carriage),
    /// The least that carries a packet over the same devices: see [`Floor`].
    Floor(Carriage),
    /// underpass.
    Underpass(Carriage, Acceleration),
}

const CARRIAGES: [Carriage; 3] = [Carriage::Direct, Carriage::Ipip, Carriage::Vxlan];

impl Way {
    /// Every way, baselines before what is compared with them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let by_kernel = CARRIAGES.map(Self::Kernel);
        let by_floor = CARRIAGES.map(Self::Floor);
        let by_underpass = CARRIAGES.map(|carriage| {
            [Acceleration::All, Acceleration::Established]
                .map(|acceleration| Self::Underpass(carriage, acceleration))
        });
        [Self::Bare]
            .into_iter()
            .chain(by_kernel)
            .chain(by_floor)
            .chain(by_underpass.into_iter().flatten())
    }

    /// Why this kernel cannot go that way, if it cannot.
    pub(crate) fn obstacle(self) -> Result<Option<&'static str>> {
        if self != Self::Kernel(Carriage::Ipip) {
            return Ok(None);
        }
        let added = NetNs::new()?.exec("ip link add probe type ipip local 192.0.2.1");
        Ok(added
            .is_err()
            .then_some("this kernel has no ipip device, or no module for it"))
    }

    /// Whether there is something on `path` that the way is for. Encapsulation has no part in what
    /// stays on a node, nor has the way in what goes from host to host.
    pub(crate) fn has(self, path: Path) -> bool {
        match (self, path) {
            (Self::Bare, _) => path == Path::HostToHost,
            (_, Path::HostToHost) => false,
            (Self::Floor(_), _) => path == Path::PodToPod,
            (Self::Kernel(carriage) | Self::Underpass(carriage, _), Path::OnOneNode) => {
                carriage == Carriage::Direct
            }
            (Self::Kernel(_) | Self::Underpass(..), _) => true,
        }
    }

    /// The least that does the same.
    pub(crate) fn floor(self) -> Option<Self> {
        match self {
            Self::Underpass(carriage, _) => Some(Self::Floor(carriage)),
            Self::Bare | Self::Kernel(_) | Self::Floor(_) => None,
        }
    }

    /// The kernel's way of doing the same.
    pub(crate) fn kernels(self) -> Option<Self> {
        match self {
            Self::Underpass(carriage, _) | Self::Floor(carriage) => Some(Self::Kernel(carriage)),
            Self::Bare | Self::Kernel(_) => None,
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Bare => "host to host",
            Self::Kernel(Carriage::Direct) => "kernel, routing",
            Self::Kernel(Carriage::Ipip) => "kernel, IPIP device",
            Self::Kernel(Carriage::Vxlan) => "kernel, VXLAN device",
            Self::Floor(Carriage::Direct) => "floor, none",
            Self::Floor(Carriage::Ipip) => "floor, IPIP",
            Self::Floor(Carriage::Vxlan) => "floor, VXLAN",
            Self::Underpass(Carriage::Direct, Acceleration::All) => "none, all",
            Self::Underpass(Carriage::Direct, Acceleration::Established) => "none, established",
            Self::Underpass(Carriage::Ipip, Acceleration::All) => "IPIP, all",
            Self::Underpass(Carriage::Ipip, Acceleration::Established) => "IPIP, established",
            Self::Underpass(Carriage::Vxlan, Acceleration::All) => "VXLAN, all",
            Self::Underpass(Carriage::Vxlan, Acceleration::Established) => "VXLAN, established",
        };
        formatter.pad(name)
    }
}

/// Two nodes that have one of the ways between them, with web servers wherever a path ends.
pub(crate) struct Scene {
    way: Way,
    _agents: Vec<Agent>,
    _floor: Option<Floor>,
    _servers: Vec<WebServer>,
    pub(crate) lab: Lab,
}

impl Scene {
    pub(crate) fn begin(way: Way) -> Result<Self> {
        let lab = lab(match way {
            Way::Bare => Carriage::Direct,
            Way::Kernel(carriage) | Way::Floor(carriage) | Way::Underpass(carriage, _) => carriage,
        })?;
        let agents = match way {
            Way::Bare | Way::Floor(_) => Vec::new(),
            Way::Kernel(carriage) => {
                network(carriage).set_up(&lab)?;
                Vec::new()
            }
            Way::Underpass(carriage, Acceleration::All) => lab.start_agents(mode(carriage))?,
            Way::Underpass(carriage, Acceleration::Established) => {
                for node in lab.nodes() {
                    KubeProxy::IptablesNft.program(node, &[])?;
                }
                lab.start_established(mode(carriage))?
            }
        };
        if !agents.is_empty() {
            lab.wait_resolved()?;
        }
        let (near, far) = (lab.node("node-0"), lab.node("node-1"));
        let servers = vec![
            WebServer::start(near, near.pod("p1"))?,
            WebServer::start(far, far.pod("p0"))?,
            WebServer::start_on_host(far)?,
        ];
        // Nodes cannot talk from here on.
        let floor = match way {
            Way::Floor(carriage) => Some(Floor::attach(&lab, mode(carriage))?),
            Way::Bare | Way::Kernel(_) | Way::Underpass(..) => None,
        };
        Ok(Self {
            way,
            _agents: agents,
            _floor: floor,
            _servers: servers,
            lab,
        })
    }

    pub(crate) fn way(&self) -> Way {
        self.way
    }

    /// The pod that floods come from.
    pub(crate) fn near_pod(&self) -> &Pod {
        self.lab.pod("node-0", "p0")
    }

    /// Does something that sends many packets along `path`, and fails unless nearly all that a pod
    /// sent and got was carried by underpass, where that is the way.
    pub(crate) fn carrying<T>(&self, path: Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let Way::Underpass(carriage, _) = self.way else {
            return work();
        };
        let before = self.counters()?;
        let done = work()?;
        let [near, far] = self.counters()?;
        let (near, far) = (near.since(&before[0]), far.since(&before[1]));
        let (sent, received) = (
            format!("sent-{}", carriage.word()),
            format!("received-{}", carriage.word()),
        );
        let expected: &[(&str, &Counters, &str, &str)] = match path {
            // Without a tunnel it has the node's address, to which the tables have no route.
            Path::HostToPod if carriage == Carriage::Direct => &[],
            Path::HostToHost => &[],
            Path::PodToPod => &[
                ("node-0", &near, "from_workload", &sent),
                ("node-1", &far, "from_uplink", &received),
            ],
            Path::HostToPod => &[("node-1", &far, "from_uplink", &received)],
            Path::OnOneNode => &[("node-0", &near, "from_workload", "delivered-local")],
        };
        for (node, counted, hook, reason) in expected {
            let (carried, all) = (counted.get(hook, reason).packets, counted.at(hook).packets);
            ensure!(
                carried > 100 && carried * 10 > all * 9,
                "{}, {path}: of {all} packets that {hook} saw on {node}, {carried} were {reason}: \
                 {counted:?}",
                self.way
            );
        }
        Ok(done)
    }

    fn counters(&self) -> Result<[Counters; 2]> {
        let of = |node| Counters::read(self.lab.node(node));
        Ok([of("node-0")?, of("node-1")?])
    }
}

/// Two nodes with two pods each, whose MTU is what the way leaves of 1500 bytes.
pub(crate) fn lab(carriage: Carriage) -> Result<Lab> {
    let overhead = match carriage {
        Carriage::Direct => 0,
        Carriage::Ipip => 20,
        Carriage::Vxlan => 50,
    };
    let node = |number: u8| {
        let (address, block) = (
            format!("192.168.1.{}/24", 10 + number),
            format!("10.244.{number}.0/24"),
        );
        let spec = NodeSpec::new(&format!("node-{number}"), &address, &block);
        spec.pods(2).pod_mtu(1500 - overhead)
    };
    Lab::new(&[node(0), node(1)])
}

/// Who writes routes for it into the kernel.
pub(crate) fn network(carriage: Carriage) -> Network {
    match carriage {
        Carriage::Direct => Network::Bird,
        Carriage::Ipip => Network::FelixIpip,
        Carriage::Vxlan => Network::FelixVxlan,
    }
}

fn mode(carriage: Carriage) -> Mode {
    match carriage {
        Carriage::Direct => Mode::None,
        Carriage::Ipip => Mode::Ipip,
        Carriage::Vxlan => Mode::Vxlan,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_comes_behind_its_baselines() {
        let ways: Vec<_> = Way::all().collect();
        assert_eq!(ways.len(), 13);
        let place = |of| ways.iter().position(|way| *way == of);
        for way in &ways {
            for baseline in [way.kernels(), way.floor()].into_iter().flatten() {
                assert!(place(baseline) < place(*way), "{way}");
            }
        }
    }

    #[test]
    fn every_path_has_its_baseline() {
        for way in Way::all() {
            for path in [Path::PodToPod, Path::HostToPod, Path::OnOneNode] {
                let compared = way.kernels().filter(|_| way.has(path));
                assert!(compared.is_none_or(|kernels| kernels.has(path)), "{way}");
            }
        }
        assert!(Way::Bare.has(Path::HostToHost));
    }
}
