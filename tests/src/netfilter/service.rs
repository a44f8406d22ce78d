//! Services, and who has a node translate their addresses.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context as _, Result};
use sha1::{Digest as _, Sha1};

use super::{iptables, nftables};
use crate::Node;

/// Where the lab's pods are, as kube-proxy is told.
pub(super) const CLUSTER_CIDR: &str = "10.244.0.0/16";

/// Where its Services are.
pub(super) const SERVICE_CIDR: &str = "10.96.0.0/16";

/// The bit of a packet's mark that has it masqueraded.
pub(super) const MASQUERADE_MARK: &str = "0x4000";

/// What every Service's one port is called.
pub(super) const PORT_NAME: &str = "main";

/// How long a client stays with its endpoint, in seconds.
pub(super) const AFFINITY_SECONDS: u32 = 10800;

/// One port of a Service of the namespace `default`.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub protocol: Transport,
    /// Its virtual address, of 10.96.0.0/16.
    pub cluster_ip: Ipv4Addr,
    /// Its port there.
    pub port: u16,
    /// Its port at every address of every node.
    pub node_port: u16,
    /// Whether a client always gets the same endpoint.
    pub affinity: bool,
    /// Who serves it.
    pub endpoints: Vec<SocketAddrV4>,
}

/// What a Service's clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// The word that rules have for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// The ways in which kube-proxy programs a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KubeProxy {
    /// By iptables on its own tables in the kernel.
    IptablesLegacy,
    /// By the iptables that writes nftables.
    IptablesNft,
    /// By nftables.
    Nftables,
}

impl KubeProxy {
    /// Has the node translate the addresses of all `services`.
    pub fn program(self, node: &Node, services: &[Service]) -> Result<()> {
        let (program, arguments, rules): (_, &[&str], _) = match self {
            Self::IptablesLegacy => ("iptables-legacy-restore", &[], iptables::rules(services)),
            Self::IptablesNft => ("iptables-nft-restore", &[], iptables::rules(services)),
            Self::Nftables => ("nft", &["-f", "-"], nftables::rules(node, services)),
        };
        let command = node.ns().command(program).args(arguments);
        let loaded = command.input(&rules)?.run();
        loaded.with_context(|| format!("of kube-proxy's rules on {}:\n{rules}", node.name()))?;
        Ok(())
    }
}

/// So many letters and digits that stand for `of` in the names of chains: the beginning of a hash in
/// base 32 (RFC 4648), as kube-proxy has them.
pub(super) fn hash(of: &str, letters: usize) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let digest: [u8; 20] = Sha1::digest(of).into();
    let bit = |index: usize| digest[index / 8] >> (7 - index % 8) & 1;
    (0..letters)
        .map(|letter| (0..5).fold(0, |value, of| value << 1 | bit(5 * letter + of)))
        .map(|value| char::from(ALPHABET[usize::from(value)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::hash;

    #[test]
    fn hashes_are_the_beginning_of_their_base_32() {
        // printf abc | sha1sum | xxd -r -p | base32
        assert_eq!(hash("abc", 16), "VGMT4NSHA2AWVOR6");
        assert_eq!(hash("abc", 8), "VGMT4NSH");
    }
}
