//! The IPv4 neighbour table: which Ethernet address an IPv4 address has on an interface.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
    },
};
use nix::errno::Errno;

use super::{Netlink, link::name_of, request::RequestError};

/// A neighbour that packets can be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Interface index.
    pub index: u32,
    /// Its IPv4 address.
    pub address: Ipv4Addr,
    /// Its Ethernet address; `None` on links that have none, such as IPIP tunnels.
    pub mac: Option<[u8; 6]>,
    /// How the kernel came by the address, and how fresh it is.
    pub state: NeighbourState,
}

impl Netlink {
    /// The IPv4 neighbours whose link-layer address the kernel would use now: those that are
    /// permanent or need no resolution, and those resolved and not found gone since.
    pub async fn neighbours(&self) -> Result<Vec<Neighbour>> {
        let mut request = NeighbourMessage::default();
        request.header.family = AddressFamily::Inet;

        let messages = self
            .list(RouteNetlinkMessage::GetNeighbour(request))
            .await
            .context("cannot list the IPv4 neighbours")?;
        let neighbours = messages.iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewNeighbour(message) => neighbour(message),
            _ => None,
        });
        Ok(neighbours.filter(|known| is_usable(known.state)).collect())
    }

    /// Has the kernel resolve `address` by ARP on the interface with this index now, as if it had a
    /// packet for it. Does not wait for the outcome, which is an event and a line in the
    /// neighbour table. Neighbours that are permanent or need no resolution stay as they are.
    pub async fn resolve_neighbour(&self, index: u32, address: Ipv4Addr) -> Result<()> {
        self.solicit(index, address).await.with_context(|| {
            format!(
                "cannot have the neighbour {address} on {} resolved",
                name_of(index)
            )
        })
    }

    async fn solicit(&self, index: u32, address: Ipv4Addr) -> Result<(), RequestError> {
        // `NTF_USE` takes the permanence from an entry that has it (`__neigh_update`).
        if self.is_settled(index, address).await? {
            return Ok(());
        }
        let mut request = entry(index, address);
        request.header.flags = NeighbourFlags::Use;
        self.change(RouteNetlinkMessage::NewNeighbour(request), NLM_F_CREATE)
            .await
    }

    /// Whether the neighbour is in a state that only an administrator changes.
    async fn is_settled(&self, index: u32, address: Ipv4Addr) -> Result<bool, RequestError> {
        let request = entry(index, address);
        match self.get(RouteNetlinkMessage::GetNeighbour(request)).await {
            Ok(Some(RouteNetlinkMessage::NewNeighbour(message))) => Ok(matches!(
                message.header.state,
                NeighbourState::Permanent | NeighbourState::Noarp
            )),
            Ok(_) => Ok(false),
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn entry(index: u32, address: Ipv4Addr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = index;
    message
        .attributes
        .push(NeighbourAttribute::Destination(NeighbourAddress::Inet(
            address,
        )));
    message
}

/// Reads a neighbour, known or not; `None` for what has no IPv4 address.
pub(super) fn neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
    let mut address = None;
    let mut link_address = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(value)) => {
                address = Some(*value);
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => link_address = Some(bytes.as_slice()),
            _ => {}
        }
    }
    Some(Neighbour {
        index: message.header.ifindex,
        address: address?,
        mac: link_address.and_then(|bytes| bytes.try_into().ok()),
        state: message.header.state,
    })
}

/// Whether the kernel would send to a neighbour in this state (`NUD_VALID`).
pub(super) fn is_usable(state: NeighbourState) -> bool {
    matches!(
        state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp
    )
}
