//! Pods, wired as Calico wires them.

use std::net::Ipv4Addr;

use anyhow::Result;
use sha1::{Digest as _, Sha1};

use super::host;
use crate::batch::IpBatch;
use crate::{Mac, NetNs};

/// A pod: a namespace whose `eth0` has a /32 and a default route to a gateway, 169.254.1.1, that
/// exists nowhere; and a veth to its node, which has a route to the /32 and answers ARP for the
/// gateway, if something on it does.
#[derive(Clone, Debug)]
pub struct Pod {
    name: String,
    address: Ipv4Addr,
    mac: Mac,
    host_ifname: String,
    ns: NetNs,
}

impl Pod {
    /// A pod that is not connected yet.
    pub(super) fn new(name: &str, address: Ipv4Addr, mac: Mac) -> Result<Self> {
        let host_ifname = host_ifname(name);
        Ok(Self {
            name: name.to_owned(),
            address,
            mac,
            host_ifname,
            ns: host::new()?,
        })
    }

    /// Adds to the node's `batch` the veth, with interface index `index` if that matters, and the
    /// route to the pod.
    pub(super) fn connect(&self, batch: &mut IpBatch, mtu: u16, index: Option<u32>) {
        let Self {
            address,
            mac,
            host_ifname,
            ns,
            ..
        } = self;
        let index = index.map_or(String::new(), |index| format!("index {index}"));
        batch
            .add(format_args!(
                "link add {host_ifname} {index} address {} mtu {mtu} up type veth \
                 peer name eth0 address {mac} mtu {mtu} netns {}",
                Mac::CALICO,
                ns.path().display(),
            ))
            .add(format_args!(
                "route add {address}/32 dev {host_ifname} scope link"
            ));
    }

    /// Sets up the pod's side, once it is connected.
    pub(super) fn bring_up(&self) -> Result<()> {
        IpBatch::default()
            .add("link set lo up")
            .add("link set eth0 up")
            .add(format_args!("address add {}/32 dev eth0", self.address))
            .add("route add 169.254.1.1 dev eth0 scope link")
            .add("route add default via 169.254.1.1 dev eth0")
            .apply(&self.ns)
    }

    /// Its name, unique on its node.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The Ethernet address of its `eth0`.
    #[must_use]
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// The name of its veth on the node.
    #[must_use]
    pub fn host_ifname(&self) -> &str {
        &self.host_ifname
    }

    /// Its namespace.
    #[must_use]
    pub fn ns(&self) -> &NetNs {
        &self.ns
    }
}

/// Calico's name for a pod's veth, in the namespace `default`: a pod that comes back under its name
/// gets the same one.
fn host_ifname(pod: &str) -> String {
    let digest: [u8; 20] = Sha1::digest(format!("default.{pod}")).into();
    let hex = digest.map(|byte| format!("{byte:02x}")).concat();
    format!("cali{}", &hex[..11])
}
