//! The carrier: the device that the stack routes to what lies behind another node.
//!
//! It is a VXLAN device in external mode. Its egress program does the encapsulating, for every mode
//! of the cluster; from VXLAN itself it takes only the UDP socket, which lets GRO aggregate what
//! arrives. It is NOARP, as there is nobody on it to resolve, and it holds the node's tunnel address.
//!
//! Invariant: a device is changed or removed only if it is ours, which its alias says.

use std::{
    collections::BTreeSet,
    io,
    net::{Ipv4Addr, UdpSocket},
};

use anyhow::{Context, Result, anyhow, bail};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
};
use nix::errno::Errno;

use super::{Address, Link, Netlink, request::RequestError};

/// The name the carrier has unless configured otherwise.
pub const CARRIER_NAME: &str = "underpass0";

/// The alias that marks a device as a carrier of ours.
pub const CARRIER_ALIAS: &str = "underpass carrier";

/// What the carrier has to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarrierSpec {
    /// Interface name, at most 15 bytes.
    pub name: String,
    /// Ethernet address. Packets injected on the device's ingress are addressed to it.
    pub mac: [u8; 6],
    /// Largest packet in bytes before encapsulation: the uplink's MTU less the overhead.
    pub mtu: u32,
    /// UDP port that VXLAN packets arrive at.
    pub vxlan_port: u16,
    /// Tunnel addresses of this node, the only IPv4 addresses the device has, each as a /32.
    pub addresses: Vec<Ipv4Addr>,
    /// Whether it is to be up. One that is up is never taken down: this is for a new one, which
    /// receives from anybody until there is a program to judge what comes.
    pub up: bool,
}

impl Netlink {
    /// Creates the carrier, or changes what differs of the one there is, and returns its interface
    /// index. Only another UDP port requires a new device, with another index.
    ///
    /// Fails if a device of that name is not ours, or the UDP port is taken.
    pub async fn ensure_carrier(&self, wanted: &CarrierSpec) -> Result<u32> {
        let links = self.links().await?;
        let index = match links.iter().find(|link| link.name == wanted.name) {
            Some(link) if !is_ours(link) => return Err(not_ours(link)),
            Some(link) if serves(link, wanted) => self.adjust(link, wanted, &links).await?,
            Some(link) => {
                // Better the old carrier than none, should the new port be taken.
                refuse_taken_port(&wanted.name, wanted.vxlan_port, &links)?;
                self.delete_link(link).await?;
                self.create(wanted, &links).await?
            }
            None => self.create(wanted, &links).await?,
        };
        self.settle_addresses(index, &wanted.addresses).await?;
        Ok(index)
    }

    /// Removes the carrier of that name, with its addresses and the routes to it, and returns the
    /// interface index it had. `None` if there is none, or the device is not ours.
    pub async fn delete_carrier(&self, name: &str) -> Result<Option<u32>> {
        match self.find_carrier(name).await? {
            Some(link) => self.delete_link(&link).await.map(|()| Some(link.index)),
            None => Ok(None),
        }
    }

    /// The carrier, if there is one.
    pub async fn find_carrier(&self, name: &str) -> Result<Option<Link>> {
        let mut links = self.links().await?.into_iter();
        Ok(links.find(|link| link.name == name && is_ours(link)))
    }

    /// Creates the carrier in two steps: at creation the kernel ignores the alias
    /// (`rtnl_create_link`), so the device stays down until it has it.
    async fn create(&self, wanted: &CarrierSpec, links: &[Link]) -> Result<u32> {
        let request = RouteNetlinkMessage::NewLink(creation(wanted));
        self.change(request, NLM_F_CREATE | NLM_F_EXCL)
            .await
            .map_err(|error| refused("create", wanted, &error, links))?;

        let created = self.links().await?;
        let link = created
            .iter()
            .find(|link| link.name == wanted.name)
            .with_context(|| format!("the carrier {} vanished on its creation", wanted.name))?;
        match self.adjust(link, wanted, links).await {
            Ok(index) => Ok(index),
            Err(error) => {
                // The error that matters is the first; a device left behind is ours and down.
                self.delete_link(link).await.ok();
                Err(error)
            }
        }
    }

    /// Changes what differs from the wanted state and an existing device can change.
    async fn adjust(&self, link: &Link, wanted: &CarrierSpec, links: &[Link]) -> Result<u32> {
        if let Some(change) = adjustment(link, wanted) {
            self.change(RouteNetlinkMessage::NewLink(change), 0)
                .await
                .map_err(|error| refused("set up", wanted, &error, links))?;
        }
        Ok(link.index)
    }

    async fn delete_link(&self, link: &Link) -> Result<()> {
        let mut request = LinkMessage::default();
        request.header.index = link.index;
        match self.change(RouteNetlinkMessage::DelLink(request), 0).await {
            Err(error) if error.errno() != Some(Errno::ENODEV) => {
                Err(error).with_context(|| format!("cannot delete the carrier {}", link.name))
            }
            _ => Ok(()),
        }
    }

    /// Gives the carrier exactly the wanted addresses: first those it lacks, so that it is never
    /// without one, then away with the others.
    async fn settle_addresses(&self, index: u32, wanted: &[Ipv4Addr]) -> Result<()> {
        let wanted: BTreeSet<_> = (wanted.iter())
            .map(|&address| Address {
                index,
                address,
                prefix_len: 32,
            })
            .collect();
        let present: BTreeSet<_> = (self.addresses().await?.into_iter())
            .filter(|address| address.index == index)
            .collect();

        for address in wanted.difference(&present) {
            self.add_address(address).await?;
        }
        for address in present.difference(&wanted) {
            self.delete_address(address).await?;
        }
        Ok(())
    }
}

/// Whether a device of the carrier's name is ours. Besides what has the alias, this is what an agent
/// that was killed between the two steps of creation leaves behind.
fn is_ours(link: &Link) -> bool {
    match &link.alias {
        Some(alias) => alias == CARRIER_ALIAS,
        None => !link.up && link.vxlan.is_some_and(|vxlan| vxlan.external),
    }
}

/// Whether the device has what only its creation can give it.
fn serves(link: &Link, wanted: &CarrierSpec) -> bool {
    link.vxlan
        .is_some_and(|vxlan| vxlan.external && vxlan.port == wanted.vxlan_port)
}

fn creation(wanted: &CarrierSpec) -> LinkMessage {
    let vxlan = vec![
        InfoVxlan::CollectMetadata(true),
        InfoVxlan::Learning(false),
        InfoVxlan::Port(wanted.vxlan_port),
    ];
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(wanted.name.clone()),
        LinkAttribute::Address(wanted.mac.to_vec()),
        LinkAttribute::Mtu(wanted.mtu),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vxlan),
            LinkInfo::Data(InfoData::Vxlan(vxlan)),
        ]),
    ];
    message
}

/// The message that changes what differs; `None` if nothing does. The kernel sets the alias before
/// it brings the device up (`do_setlink`).
fn adjustment(link: &Link, wanted: &CarrierSpec) -> Option<LinkMessage> {
    let mut message = LinkMessage::default();
    message.header.index = link.index;
    if link.mac != Some(wanted.mac) {
        message
            .attributes
            .push(LinkAttribute::Address(wanted.mac.to_vec()));
    }
    if link.mtu != wanted.mtu {
        message.attributes.push(LinkAttribute::Mtu(wanted.mtu));
    }
    if link.alias.as_deref() != Some(CARRIER_ALIAS) {
        message
            .attributes
            .push(LinkAttribute::IfAlias(CARRIER_ALIAS.to_owned()));
    }
    if !link.noarp {
        message.header.change_mask |= LinkFlags::Noarp;
    }
    if wanted.up && !link.up {
        message.header.change_mask |= LinkFlags::Up;
    }
    message.header.flags = message.header.change_mask;

    let differs = !message.attributes.is_empty() || !message.header.change_mask.is_empty();
    differs.then_some(message)
}

/// Says why the carrier cannot be had. `links` are the interfaces as they were before.
fn refused(
    attempt: &str,
    wanted: &CarrierSpec,
    error: &RequestError,
    links: &[Link],
) -> anyhow::Error {
    // A socket cannot be shared between VXLAN devices in and not in external mode, and in external
    // mode there is one device to a port.
    let is_port = matches!(error.errno(), Some(Errno::EADDRINUSE | Errno::EEXIST));
    match refuse_taken_port(&wanted.name, wanted.vxlan_port, links) {
        Err(taken) if is_port => taken,
        _ if error.errno() == Some(Errno::EADDRINUSE) => anyhow!(
            "cannot {attempt} the carrier {}: {}",
            wanted.name,
            held_by_a_process(wanted.vxlan_port)
        ),
        _ => anyhow!("cannot {attempt} the carrier {}: {error}", wanted.name),
    }
}

/// Whether a carrier called `name` could be had at UDP port `port`, as far as can be told without
/// making it. `links` are the interfaces there are.
///
/// # Errors
///
/// Its name or its port is another's.
pub fn check_carrier(name: &str, port: u16, links: &[Link]) -> Result<()> {
    let own = links.iter().find(|link| link.name == name);
    if let Some(link) = own.filter(|link| !is_ours(link)) {
        return Err(not_ours(link));
    }
    refuse_taken_port(name, port, links)?;
    let has_port = own.is_some_and(|link| link.vxlan.is_some_and(|vxlan| vxlan.port == port));
    match UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && !has_port => {
            bail!("{}", held_by_a_process(port))
        }
        _ => Ok(()),
    }
}

fn not_ours(link: &Link) -> anyhow::Error {
    anyhow!(
        "the interface {name} is not ours (its alias is not \"{CARRIER_ALIAS}\"), but the carrier has \
         to have that name: remove or rename it, `ip link delete {name}`",
        name = link.name
    )
}

fn held_by_a_process(port: u16) -> String {
    format!(
        "UDP port {port} is held by the socket of a process, which `ss -lunp sport = :{port}` names: \
         stop it, or configure another VXLAN port on all nodes"
    )
}

/// Fails if a VXLAN device other than the carrier has the UDP port.
fn refuse_taken_port(carrier: &str, port: u16, links: &[Link]) -> Result<()> {
    let holder = links.iter().find(|link| {
        link.name != carrier
            && link
                .vxlan
                .is_some_and(|vxlan| vxlan.port == port && (link.up || vxlan.external))
    });
    match holder {
        Some(holder) => bail!(
            "UDP port {port}, at which the carrier {carrier} has to receive VXLAN packets, is held \
             by the VXLAN interface {name}: remove it if nothing uses it any more, \
             `ip link delete {name}`, or configure another VXLAN port on all nodes",
            name = holder.name
        ),
        None => Ok(()),
    }
}
