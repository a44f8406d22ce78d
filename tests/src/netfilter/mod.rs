//! What clusters have netfilter do on every node, loaded by the programs that clusters load it with.

mod backend;
mod conntrack;
pub mod felix;
mod iptables;
mod nftables;
mod scene;
mod service;
mod sightings;

pub use backend::Backend;
pub use conntrack::{Connection, connections, connections_between, forget_connections, invalid};
pub use scene::{Acceleration, Routes, Scene};
pub use service::{KubeProxy, Service, Transport};
pub use sightings::Sightings;
