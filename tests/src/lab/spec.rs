//! What a node is to be.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// A node of a lab to be built.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    pub(crate) name: String,
    pub(crate) address: Ipv4Net,
    pub(crate) pod_cidr: Ipv4Net,
    pub(super) pods: usize,
    pub(super) mtu: u16,
    pub(super) pod_mtu: u16,
    pub(super) device: Option<String>,
}

impl NodeSpec {
    /// A node with its address and the size of its subnet (`192.168.1.10/24`) and the addresses of
    /// its pods (`10.244.0.0/24`); without pods, MTU 1500, and 1450 for pods.
    ///
    /// # Panics
    ///
    /// When an address is not one, or not one that a host can have.
    #[must_use]
    pub fn new(name: &str, address: &str, pod_cidr: &str) -> Self {
        let parse = |text: &str| match text.parse::<Ipv4Net>() {
            Ok(net) => net,
            Err(error) => panic!("{text:?} of node {name}: {error}"),
        };
        let address = parse(address);
        assert!(
            ![address.network(), address.broadcast()].contains(&address.addr()),
            "{address} of node {name} is not the address of a host"
        );
        Self {
            name: name.to_owned(),
            address,
            pod_cidr: parse(pod_cidr).trunc(),
            pods: 0,
            mtu: 1500,
            pod_mtu: 1450,
            device: None,
        }
    }

    /// Has the node take a device of the machine for its `eth0`, instead of one that leads to the
    /// lab's other nodes. The kernel gives it back when the node is gone.
    #[must_use]
    pub fn device(mut self, name: &str) -> Self {
        self.device = Some(name.to_owned());
        self
    }

    /// Sets how many pods the node starts with: `p0`, `p1`, …, from the CIDR's third address on.
    #[must_use]
    pub fn pods(mut self, count: usize) -> Self {
        self.pods = count;
        self
    }

    /// Sets the MTU of the node's `eth0`, in bytes.
    #[must_use]
    pub fn mtu(mut self, bytes: u16) -> Self {
        self.mtu = bytes;
        self
    }

    /// Sets the MTU its pods start with, in bytes.
    #[must_use]
    pub fn pod_mtu(mut self, bytes: u16) -> Self {
        self.pod_mtu = bytes;
        self
    }

    /// The address its tunnels have.
    pub(crate) fn tunnel_address(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.pod_cidr.network()) + 1)
    }
}
