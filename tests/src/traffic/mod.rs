//! Traffic by real programs.

mod iperf;
mod ping;

pub use iperf::{
    TcpOptions, TcpThroughput, UdpOptions, UdpThroughput, iperf_server, tcp_throughput,
    tcp_throughput_to, udp_throughput,
};
pub use ping::{PingOptions, PingReport, Pinging, RoundTrip, ping};
