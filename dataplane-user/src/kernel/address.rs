//! IPv4 addresses of the interfaces.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use anyhow::{Context, Result};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
};
use nix::errno::Errno;

use super::{Netlink, link::name_of};

/// An IPv4 address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Interface index.
    pub index: u32,
    /// The address itself: our end, where the interface is a point-to-point one.
    pub address: Ipv4Addr,
    /// Length in bits of the prefix that is reachable on the interface.
    pub prefix_len: u8,
}

impl Netlink {
    /// The IPv4 addresses of all interfaces.
    pub async fn addresses(&self) -> Result<Vec<Address>> {
        let mut request = AddressMessage::default();
        request.header.family = AddressFamily::Inet;

        let messages = self
            .list(RouteNetlinkMessage::GetAddress(request))
            .await
            .context("cannot list the IPv4 addresses")?;
        let addresses = messages.iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewAddress(message) => address(message),
            _ => None,
        });
        Ok(addresses.collect())
    }

    /// Gives an interface an address.
    pub(super) async fn add_address(&self, address: &Address) -> Result<()> {
        let request = RouteNetlinkMessage::NewAddress(address.message());
        self.change(request, NLM_F_CREATE | NLM_F_EXCL)
            .await
            .with_context(|| format!("cannot add the address {address}"))
    }

    /// Takes an address from an interface. One that is gone already is no error: a secondary goes
    /// with the primary of its subnet.
    pub(super) async fn delete_address(&self, address: &Address) -> Result<()> {
        let request = RouteNetlinkMessage::DelAddress(address.message());
        match self.change(request, 0).await {
            Err(error) if error.errno() == Some(Errno::EADDRNOTAVAIL) => Ok(()),
            result => result.with_context(|| format!("cannot remove the address {address}")),
        }
    }
}

impl Address {
    fn message(&self) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.index = self.index;
        message.header.prefix_len = self.prefix_len;
        message.attributes = vec![
            AddressAttribute::Local(self.address.into()),
            AddressAttribute::Address(self.address.into()),
        ];
        message
    }
}

/// As an error message names it: `10.1.0.0/32 of underpass0`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            index,
            address,
            prefix_len,
        } = self;
        write!(f, "{address}/{prefix_len} of {}", name_of(*index))
    }
}

/// Reads an address; `None` for one that is not IPv4.
pub(super) fn address(message: &AddressMessage) -> Option<Address> {
    // IFA_ADDRESS would be the other end of a point-to-point interface.
    let address = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Local(IpAddr::V4(local)) => Some(*local),
            _ => None,
        })?;
    Some(Address {
        index: message.header.index,
        address,
        prefix_len: message.header.prefix_len,
    })
}
