//! Network interfaces.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use netlink_packet_route::{
    IpProtocol, RouteNetlinkMessage,
    link::{
        InfoData, InfoIpTunnel, InfoVxlan, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo,
        LinkMessage, LinkXdp, TunnelEncapType,
    },
};
use nix::net::if_::if_indextoname;
use tokio::time::sleep;

use super::Netlink;

/// A network interface.
// They are the kernel's flags.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Interface index, unique and stable in the network namespace.
    pub index: u32,
    /// Interface name, which can be changed at any time.
    pub name: String,
    /// Ethernet address; `None` for links without one, such as IPIP tunnels.
    pub mac: Option<[u8; 6]>,
    /// Largest layer 3 packet in bytes.
    pub mtu: u32,
    /// Whether the interface is administratively up (`IFF_UP`).
    pub up: bool,
    /// Whether the layer below is up (`IFF_LOWER_UP`): a cable is in, the peer of a veth is up.
    pub carrier: bool,
    /// Whether neighbours on it are never resolved (`IFF_NOARP`).
    pub noarp: bool,
    /// Kind of a virtual interface as `ip link add ... type` calls it, such as `veth` or `vxlan`.
    pub kind: Option<String>,
    /// Free text set by whoever owns the interface (`ip link set ... alias`).
    pub alias: Option<String>,
    /// What is particular to a VXLAN interface.
    pub vxlan: Option<Vxlan>,
    /// What is particular to an IPIP interface.
    pub ipip: Option<Ipip>,
    /// The number of the XDP program that is on it.
    pub xdp: Option<u32>,
}

/// What is particular to a VXLAN interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vxlan {
    /// VXLAN network identifier, 24 bits; zero and without meaning if `external`.
    pub vni: u32,
    /// UDP port that is listened and sent to.
    pub port: u16,
    /// Whether the outer headers come with each packet instead of from the interface
    /// (`IFLA_VXLAN_COLLECT_METADATA`).
    pub external: bool,
    /// The outer source, where the interface sets it.
    pub local: Option<Ipv4Addr>,
    /// Whether it does what BPF does not: goes over IPv6, or has another header (GBP, GPE).
    pub special: bool,
}

/// What is particular to an IPIP interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ipip {
    /// The outer source, where the interface sets it.
    pub local: Option<Ipv4Addr>,
    /// The outer destination, where the interface sets it; else it is each route's gateway.
    pub remote: Option<Ipv4Addr>,
    /// Whether it does not send IPv4 in IPv4, or does so in a header of its own (FOU, GUE), or takes
    /// the outer header from each packet (external).
    pub special: bool,
}

impl Link {
    /// Whether it is one end of a pair, the other of which may be in another namespace.
    #[must_use]
    pub fn is_veth(&self) -> bool {
        self.kind.as_deref() == Some("veth")
    }
}

impl Netlink {
    /// All network interfaces of the namespace.
    pub async fn links(&self) -> Result<Vec<Link>> {
        let mut request = LinkMessage::default();
        // Statistics are most of a link's message and not wanted.
        request
            .attributes
            .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));

        let messages = self
            .list(RouteNetlinkMessage::GetLink(request))
            .await
            .context("cannot list the network interfaces")?;
        let links = messages.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewLink(message) => Some(link(message)),
            _ => None,
        });
        Ok(links.collect())
    }

    /// Waits until no XDP program is on these interfaces: the kernel frees a link a while after its
    /// pin is gone.
    pub async fn wait_without_xdp(&self, indexes: &BTreeSet<u32>) -> Result<()> {
        if indexes.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + XDP_OFF;
        loop {
            let links = self.links().await?;
            let remaining = links
                .iter()
                .find(|link| link.xdp.is_some() && indexes.contains(&link.index));
            match remaining {
                None => return Ok(()),
                Some(link) if Instant::now() > deadline => {
                    bail!(
                        "an XDP program stays on {}, though it is unpinned",
                        link.name
                    )
                }
                Some(_) => sleep(XDP_POLL).await,
            }
        }
    }
}

/// How long the kernel may take to take off an XDP program whose link is unpinned, and how often it
/// is asked.
const XDP_OFF: Duration = Duration::from_secs(2);
const XDP_POLL: Duration = Duration::from_millis(10);

/// The name of the interface with this index, if there is one.
#[must_use]
pub fn interface_name(index: u32) -> Option<String> {
    let name = if_indextoname(index).ok()?;
    // nix takes the null pointer of a failure for success and an empty name.
    (!name.is_empty()).then(|| name.to_string_lossy().into_owned())
}

/// The interface with this index as an error message names it.
pub(super) fn name_of(index: u32) -> String {
    interface_name(index).unwrap_or_else(|| format!("(no interface with index {index})"))
}

/// Reads an interface.
pub(super) fn link(message: LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(LinkFlags::LowerUp),
        noarp: message.header.flags.contains(LinkFlags::Noarp),
        ..Link::default()
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok(),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
            LinkAttribute::LinkInfo(infos) => read_infos(&mut link, infos),
            LinkAttribute::Xdp(infos) => {
                link.xdp = infos.iter().find_map(|info| match info {
                    LinkXdp::ProgId(program)
                    | LinkXdp::DrvProgId(program)
                    | LinkXdp::SkbProgId(program) => Some(*program),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    link
}

fn read_infos(link: &mut Link, infos: Vec<LinkInfo>) {
    for info in infos {
        match info {
            LinkInfo::Kind(kind) => link.kind = Some(kind.to_string()),
            LinkInfo::Data(InfoData::Vxlan(attributes)) => link.vxlan = Some(vxlan(&attributes)),
            LinkInfo::Data(InfoData::IpTunnel(attributes)) => {
                link.ipip = Some(ipip(&attributes));
            }
            _ => {}
        }
    }
}

fn vxlan(attributes: &[InfoVxlan]) -> Vxlan {
    let mut vxlan = Vxlan::default();
    for attribute in attributes {
        match attribute {
            InfoVxlan::Id(vni) => vxlan.vni = *vni,
            InfoVxlan::Port(port) => vxlan.port = *port,
            InfoVxlan::CollectMetadata(external) => vxlan.external = *external,
            InfoVxlan::Local(address) => vxlan.local = specified(*address),
            InfoVxlan::Local6(_) | InfoVxlan::Group6(_) | InfoVxlan::Gbp | InfoVxlan::Gpe => {
                vxlan.special = true;
            }
            _ => {}
        }
    }
    vxlan
}

fn ipip(attributes: &[InfoIpTunnel]) -> Ipip {
    let mut ipip = Ipip::default();
    for attribute in attributes {
        match attribute {
            InfoIpTunnel::Local(IpAddr::V4(address)) => ipip.local = specified(*address),
            InfoIpTunnel::Remote(IpAddr::V4(address)) => ipip.remote = specified(*address),
            // 0 is any (tunl0's).
            InfoIpTunnel::Protocol(protocol) => {
                ipip.special |= !matches!(protocol, IpProtocol::Ipip | IpProtocol::Hopopts);
            }
            InfoIpTunnel::EncapType(kind) => ipip.special |= *kind != TunnelEncapType::None,
            InfoIpTunnel::CollectMetadata => ipip.special = true,
            _ => {}
        }
    }
    ipip
}

/// The kernel gives `0.0.0.0` where no address is set.
fn specified(address: Ipv4Addr) -> Option<Ipv4Addr> {
    (!address.is_unspecified()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_message_names_interfaces_that_exist_and_those_that_do_not() {
        assert_eq!(name_of(1), "lo");
        assert_eq!(name_of(u32::MAX), "(no interface with index 4294967295)");
    }

    /// The device that the kernel makes by itself, Calico's, takes any protocol that can be in IPv4.
    #[test]
    fn ipip_is_ipip_whatever_else_the_device_may_carry() {
        let of = |protocol| ipip(&[InfoIpTunnel::Protocol(protocol)]);
        assert!(!of(IpProtocol::Hopopts).special);
        assert!(!of(IpProtocol::Ipip).special);
        assert!(of(IpProtocol::Mpls).special);
    }
}
