//! The lab: network namespaces as Kubernetes nodes and pods, shared by the demo, the tests and the
//! benchmarks.
//!
//! A [`Lab`] is nodes on one or several subnets, each with pods wired as Calico wires them. Nothing
//! in it has a name on the machine: namespaces, mounts and files are held by this process alone and
//! vanish with it, whatever ends it, SIGKILL included.
//!
//! ```no_run
//! use dataplane_tests::{Lab, Mode, PingOptions, ping};
//!
//! # fn main() -> anyhow::Result<()> {
//! dataplane_tests::require_root();
//! let lab = Lab::flat(2, 1)?;
//! let _agents = lab.start_agents(Mode::Vxlan)?;
//! let (client, server) = (lab.pod("node-0", "p0"), lab.pod("node-1", "p0"));
//! assert!(ping(client.ns(), server.address(), &PingOptions::default())?.is_lossless());
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod agent;
mod background;
mod batch;
pub mod calico;
pub mod cases;
mod cluster;
mod command;
mod confinement;
mod counters;
pub mod differential;
pub mod floor;
pub mod font;
mod forwarding;
pub mod frames;
pub mod http;
mod lab;
mod listed;
mod mac;
mod machine;
pub mod mirror;
pub mod netfilter;
mod netns;
mod networks;
mod no_carrier;
pub mod offloads;
mod pair;
pub mod paths;
pub mod podman;
mod processors;
pub mod programs;
mod sandbox;
mod speakers;
pub mod statistics;
pub mod steps;
pub mod suite;
mod terminal;
mod traffic;
pub mod vms;
mod wait;
mod watch;
pub mod web;
mod wire;

pub use agent::{Agent, Build, beside_netfilter};
pub use background::Background;
pub use cluster::{Mode, cluster_yaml, cluster_yaml_by_node};
pub use command::NsCommand;
pub use confinement::Confinement;
pub use counters::{Count, Counters};
pub use forwarding::{Nested, relay};
pub use frames::Ip;
pub use lab::{Lab, Node, NodeSpec, Pod};
pub use listed::items;
pub use mac::Mac;
pub use machine::machine;
pub use netns::NetNs;
pub use networks::{Carriage, Network};
pub use no_carrier::take_carrier;
pub use pair::{Pair, Side};
pub use processors::{busy_during, on_processor, two_processors};
pub use speakers::{Daemon, Speaker};
pub use terminal::Terminal;
pub use traffic::{
    Arrival, DatagramOptions, DatagramReport, Dialogue, Exchange, ExchangeReport, Flow, FlowReport,
    PingOptions, PingReport, Pinging, RoundTrip, Sink, Talk, TcpOptions, TcpThroughput, Transfer,
    UdpOptions, UdpThroughput, datagrams_arrive_intact, flood, iperf_server, ping,
    tcp_arrives_intact, tcp_throughput, tcp_throughput_to, transactions, udp_throughput,
};
pub use wait::{eventually, patient, uninterrupted};
pub use watch::{HookSide, Seen, Watch};
pub use wire::PacketSocket;

/// Stops a test that needs privileges it does not have.
///
/// # Panics
///
/// When not root, with the command that helps.
pub fn require_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "needs root: run `sudo -E cargo xtask test`, or `cargo xtask test --host` for the tests \
         that need no privileges"
    );
}
