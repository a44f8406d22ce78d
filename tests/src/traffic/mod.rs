//! Traffic by real programs.

mod iperf;
mod ping;

pub use iperf::{
    TcpOptions, TcpThroughput, UdpOptions, UdpThroughput, tcp_throughput, udp_throughput,
};
pub use ping::{PingOptions, PingReport, Pinging, RoundTrip, ping};
