//! What clusters have netfilter do on every node, loaded by the programs that clusters load it with.

mod conntrack;
mod iptables;
mod nftables;
mod service;
mod sightings;

pub use conntrack::{Connection, connections, invalid};
pub use service::{KubeProxy, Service, Transport};
pub use sightings::Sightings;
