//! The interfaces of this node, and what underpass would take them for.

use std::{collections::BTreeMap, path::Path};

use anyhow::Result;
use dataplane_common::{abi::NextHopKind, packet::Tunnel};

use crate::{
    cluster::{Cluster, PoolMode},
    config::{Config, KernelSource, Source},
    kernel::{Link, Netlink},
    node::{LearnedMacs, NodeState, Pod},
    plan::{LeftOut, Model, mirror},
    source::{file, kernel},
};

/// What is on this node.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Every interface.
    pub(super) links: Vec<Link>,
    /// Those that lead to other nodes.
    pub(super) uplinks: Vec<Link>,
    /// What is missing of them.
    pub(super) missing: Vec<LeftOut>,
    /// The host sides of pods' interfaces.
    pub(super) workloads: Vec<Link>,
    /// The addresses of pods.
    pub(super) pods: Vec<Pod>,
    /// The tunnel in use that takes most.
    pub(super) tunnel: Option<Tunnel>,
    /// Whether there will be a carrier.
    pub(super) has_carrier: bool,
}

impl Node {
    /// Reads it, by the cluster's table where there is a good one, else by the kernel's routes.
    pub(super) async fn read(config: &Config) -> Result<Self> {
        let node = match &config.source {
            Source::Kernel(source) => Self::by_kernel(config, source).await?,
            Source::File(file) => match Self::by_file(config, file).await {
                Ok(node) => node,
                // That it is no good is a finding of its own.
                Err(_) => match Config::without_files().source {
                    Source::Kernel(source) => Self::by_kernel(config, &source).await?,
                    Source::File(_) => Self::default(),
                },
            },
        };
        Ok(Self {
            has_carrier: matches!(config.source, Source::File(_)),
            ..node
        })
    }

    async fn by_file(config: &Config, file: &Path) -> Result<Self> {
        let cluster = file::read(file)?;
        let (netlink, _events) = Netlink::connect()?;
        let mut learned = LearnedMacs::default();
        let node = NodeState::read(&netlink, &config.workloads, [].into_iter(), &mut learned);
        let node = node.await?;
        let model = Model {
            config,
            cluster: &cluster,
            node: &node,
        };
        let (uplinks, missing) = model.uplinks()?;
        let uplinks = uplinks.into_iter().cloned().collect();
        let tunnel = in_pools(&cluster);
        Ok(Self {
            missing,
            pods: node.pods,
            ..Self::with(config, &node.links, uplinks, tunnel)
        })
    }

    async fn by_kernel(config: &Config, source: &KernelSource) -> Result<Self> {
        let survey = kernel::survey(config, source).await?;
        let ways = mirror::ways(&survey.fib, &survey.destinations);
        let uplinks = mirror::uplinks(config, &survey.fib, &ways);
        let uplinks: Vec<_> = uplinks.into_iter().cloned().collect();
        let routed = ways.tunnels().filter_map(|way| match way.kind() {
            Some(NextHopKind::Vxlan) => Some(Tunnel::Vxlan),
            Some(NextHopKind::Ipip) => Some(Tunnel::Ipip),
            _ => None,
        });
        let links = survey.fib.links();
        let tunnel = largest(routed.chain(links.values().filter_map(tunnel_of)));
        let is_missing = |name: &&String| !links.values().any(|link| link.name == **name);
        let missing = config.uplinks.iter().filter(is_missing);
        Ok(Self {
            missing: missing.map(|name| LeftOut::uplink(name)).collect(),
            pods: mirror::pods(&survey.fib),
            ..Self::with(config, links, uplinks, tunnel)
        })
    }

    fn with(
        config: &Config,
        links: &BTreeMap<u32, Link>,
        uplinks: Vec<Link>,
        tunnel: Option<Tunnel>,
    ) -> Self {
        let is_uplink = |link: &Link| uplinks.iter().any(|uplink| uplink.index == link.index);
        let workloads = links.values().filter(|link| {
            config.workloads.matches(&link.name) && link.is_veth() && !is_uplink(link)
        });
        Self {
            workloads: workloads.cloned().collect(),
            links: links.values().cloned().collect(),
            uplinks,
            tunnel,
            ..Self::default()
        }
    }

    /// How many bytes of a packet have room in the tunnel that takes most, on every uplink.
    pub(super) fn room(&self) -> Option<u32> {
        let least = self.uplinks.iter().map(|uplink| uplink.mtu).min()?;
        let overhead = self.tunnel.map_or(0, Tunnel::overhead);
        Some(least.saturating_sub(overhead.into()))
    }
}

/// The tunnel that a device of the kernel's is for, if it is in use.
pub(super) fn tunnel_of(link: &Link) -> Option<Tunnel> {
    match (link.vxlan, link.ipip) {
        _ if !link.up => None,
        (Some(vxlan), _) if !vxlan.external && !vxlan.special => Some(Tunnel::Vxlan),
        (_, Some(ipip)) if !ipip.special => Some(Tunnel::Ipip),
        _ => None,
    }
}

fn in_pools(cluster: &Cluster) -> Option<Tunnel> {
    largest(cluster.pools.iter().filter_map(|pool| match pool.mode {
        PoolMode::None => None,
        PoolMode::Ipip(_) => Some(Tunnel::Ipip),
        PoolMode::Vxlan(_) => Some(Tunnel::Vxlan),
    }))
}

fn largest(tunnels: impl Iterator<Item = Tunnel>) -> Option<Tunnel> {
    tunnels.max_by_key(|tunnel| tunnel.overhead())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Ipip, Vxlan};

    #[test]
    fn a_device_of_the_kernels_counts_when_it_is_up() {
        let vxlan = Link {
            up: true,
            vxlan: Some(Vxlan::default()),
            ..Link::default()
        };
        assert_eq!(tunnel_of(&vxlan), Some(Tunnel::Vxlan));
        let external = Vxlan {
            external: true,
            ..Vxlan::default()
        };
        let carrier = Link {
            vxlan: Some(external),
            ..vxlan.clone()
        };
        assert_eq!(tunnel_of(&carrier), None);
        let ipip = Link {
            up: true,
            ipip: Some(Ipip::default()),
            ..Link::default()
        };
        assert_eq!(tunnel_of(&ipip), Some(Tunnel::Ipip));
        assert_eq!(tunnel_of(&Link { up: false, ..ipip }), None);
        assert_eq!(tunnel_of(&Link::default()), None);
    }

    #[test]
    fn the_room_is_that_of_the_smallest_uplink_in_the_largest_tunnel() {
        let uplink = |mtu| Link {
            mtu,
            ..Link::default()
        };
        let node = |uplinks, tunnel| Node {
            uplinks,
            tunnel,
            ..Node::default()
        };
        let two = || vec![uplink(1500), uplink(1400)];
        assert_eq!(node(two(), None).room(), Some(1400));
        assert_eq!(node(two(), Some(Tunnel::Ipip)).room(), Some(1380));
        let both = [Tunnel::Vxlan, Tunnel::Ipip].into_iter();
        assert_eq!(node(two(), largest(both)).room(), Some(1350));
        assert_eq!(node(vec![uplink(40)], Some(Tunnel::Vxlan)).room(), Some(0));
        assert_eq!(node(Vec::new(), None).room(), None);
    }
}
