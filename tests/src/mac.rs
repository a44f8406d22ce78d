//! Ethernet addresses.

use std::fmt;
use std::net::Ipv4Addr;

use sha1::{Digest as _, Sha1};

/// An Ethernet address, in the order of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Every station on the link.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// The host side of every pod's veth, as Calico has it.
    pub const CALICO: Self = Self([0xee; 6]);

    /// The unknown address, as in the target field of an ARP request.
    pub const ZERO: Self = Self([0; 6]);

    /// A locally administered address that shows the IPv4 address of its owner. Owners that follow
    /// one another at the same address (a pod and its successor) differ in `generation`.
    #[must_use]
    pub const fn of(owner: Ipv4Addr, generation: u8) -> Self {
        let [a, b, c, d] = owner.octets();
        Self([0x02, generation, a, b, c, d])
    }

    /// The Ethernet address of a node's tunnels, by Calico's rule: 66, then the first five bytes of
    /// the SHA-1 of its name.
    #[must_use]
    pub fn of_vtep(node: &str) -> Self {
        let mut mac = [0x66; 6];
        mac[1..].copy_from_slice(&Sha1::digest(node)[..5]);
        Self(mac)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.map(|byte| format!("{byte:02x}")).join(":"))
    }
}
