//! Traffic: by real programs, and by sockets of our own where every byte is looked at.

mod datagrams;
mod dialogue;
mod exchange;
mod flood;
mod flow;
mod iperf;
mod pattern;
mod ping;
mod sockets;
mod talk;
mod transactions;
mod transfer;

pub use datagrams::{DatagramOptions, DatagramReport, datagrams_arrive_intact};
pub use dialogue::Dialogue;
pub use exchange::{Arrival, Exchange, ExchangeReport};
pub use flood::{Sink, flood};
pub use flow::{Flow, FlowReport};
pub use iperf::{
    TcpOptions, TcpThroughput, UdpOptions, UdpThroughput, iperf_server, tcp_throughput,
    tcp_throughput_to, udp_throughput,
};
pub use ping::{PingOptions, PingReport, Pinging, RoundTrip, ping};
pub use talk::Talk;
pub use transactions::transactions;
pub use transfer::{Transfer, tcp_arrives_intact};
