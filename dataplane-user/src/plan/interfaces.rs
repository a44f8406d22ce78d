//! What a node's interfaces and pods come to, whatever the source of the routes.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter,
};

use dataplane_common::abi::{self, Addr, Endpoint, Hook, MAX_GATEWAYS, Workload, flags};

use crate::{
    config::{Config, Dscp, Xdp},
    dataplane::{Attachment, WhyOff, XdpMode, XdpUplink, ticks},
    kernel::{CARRIER_NAME, Link},
    node::Pod,
};

/// Interfaces by index.
type Links = BTreeMap<u32, Link>;

/// The part of the programs' configuration that is this node's own.
pub(super) fn settings(config: &Config) -> abi::Config {
    let mut gateways = [Addr::default(); MAX_GATEWAYS];
    for (place, gateway) in gateways.iter_mut().zip(&config.gateways) {
        *place = gateway.octets();
    }
    let tunnel = &config.tunnel;
    abi::Config {
        flags: flag(flags::VXLAN_CHECKSUM, tunnel.vxlan.checksum)
            | flag(flags::WORKLOAD_TUNNELS, config.workload_tunnels)
            | flag(flags::INHERIT_DSCP, tunnel.dscp == Dscp::Inherit)
            | flag(flags::ESTABLISHED, config.is_established()),
        gateways,
        dscp: match tunnel.dscp {
            Dscp::Fixed(dscp) => dscp,
            Dscp::Inherit => 0,
        },
        reverify: u32::try_from(ticks(config.reverify)).unwrap_or(u32::MAX),
        ..abi::Config::default()
    }
}

fn flag(bit: u32, is_set: bool) -> u32 {
    if is_set { bit } else { 0 }
}

/// The pods by address.
pub(super) fn endpoints(links: &Links, pods: &[Pod]) -> BTreeMap<Addr, Endpoint> {
    let endpoints = pods.iter().filter_map(|pod| {
        let link = links.get(&pod.ifindex)?;
        let endpoint = Endpoint {
            ifindex: pod.ifindex,
            mtu: link.mtu,
            mac: pod.mac.unwrap_or_default(),
            host_mac: link.mac.unwrap_or_default(),
            ..Endpoint::default()
        };
        Some((pod.address.octets(), endpoint))
    });
    endpoints.collect()
}

/// Pods are behind veths; an uplink is none of them, whatever the patterns say.
pub(super) fn workloads(
    config: &Config,
    links: &Links,
    uplinks: &[&Link],
) -> BTreeMap<u32, Workload> {
    links
        .values()
        .filter(|link| config.workloads.matches(&link.name) && link.is_veth())
        .filter(|link| uplinks.iter().all(|uplink| uplink.index != link.index))
        .filter_map(|link| {
            let workload = Workload {
                mac: link.mac?,
                padding: [0; 2],
            };
            Some((link.index, workload))
        })
        .collect()
}

/// The programs on pods' interfaces, uplinks and the carrier, if there is one. Where packets leave the
/// stack, there is something to be learned only if netfilter is heeded.
pub(super) fn attachments(
    config: &Config,
    links: &Links,
    uplinks: &[&Link],
    carrier: Option<u32>,
    workloads: &BTreeMap<u32, Workload>,
) -> BTreeSet<Attachment> {
    let attachment = |ifindex, hook, interface: &str| Attachment {
        ifindex,
        hook,
        interface: interface.to_owned(),
    };
    let both = |link: &Link, from, to| {
        let to = config.is_established().then_some(to);
        let hooks = iter::once(from).chain(to);
        let attached = hooks.map(|hook| attachment(link.index, hook, &link.name));
        attached.collect::<Vec<_>>()
    };
    let workloads = workloads.keys().filter_map(|ifindex| links.get(ifindex));
    let workloads = workloads.flat_map(|link| both(link, Hook::FromWorkload, Hook::ToWorkload));
    let uplinks = uplinks
        .iter()
        .flat_map(|link| both(link, Hook::FromUplink, Hook::ToUplink));
    let carrier = carrier.into_iter().flat_map(|carrier| {
        [Hook::FromStack, Hook::FromCarrier].map(|hook| attachment(carrier, hook, CARRIER_NAME))
    });
    workloads.chain(uplinks).chain(carrier).collect()
}

/// What is wanted of XDP on the uplinks.
#[must_use]
pub fn xdp(config: &Config, uplinks: &[&Link]) -> BTreeSet<XdpUplink> {
    let wanted = |uplink: &Link| match config.xdp {
        Xdp::Off => Err(WhyOff::Configured),
        Xdp::Generic => Ok(XdpMode::Generic),
        Xdp::Auto if uplink.is_veth() => Err(WhyOff::Veth),
        Xdp::Auto | Xdp::Native => Ok(XdpMode::Native),
    };
    let uplinks = uplinks.iter().map(|uplink| XdpUplink {
        ifindex: uplink.index,
        interface: uplink.name.clone(),
        mtu: uplink.mtu,
        wanted: wanted(uplink),
    });
    uplinks.collect()
}
