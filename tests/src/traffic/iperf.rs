//! iperf3(1) and what it measures.

use std::fs;
use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Background, NetNs, patient};

/// How to measure TCP.
#[derive(Clone, Debug)]
pub struct TcpOptions {
    /// The port of the server.
    pub port: u16,
    /// How many streams at once.
    pub parallel: u8,
    /// The maximum segment size in bytes, if not the kernel's.
    pub mss: Option<u16>,
    /// The congestion control, if not the kernel's default.
    pub congestion: Option<String>,
    /// The processors that the client and the server keep to.
    pub processors: Option<(u8, u8)>,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            port: 5201,
            parallel: 1,
            mss: None,
            congestion: None,
            processors: None,
        }
    }
}

/// What TCP achieved, all streams together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TcpThroughput {
    /// Payload that arrived, in bits per second.
    pub bits_per_second: f64,
    /// Segments sent again.
    pub retransmits: u64,
}

/// How to measure UDP.
#[derive(Clone, Debug)]
pub struct UdpOptions {
    /// The port of the server.
    pub port: u16,
    /// The payload of a datagram in bytes.
    pub length: u16,
    /// Payload to send, in bits per second; 0 for as much as possible.
    pub bits_per_second: u64,
}

impl Default for UdpOptions {
    fn default() -> Self {
        Self {
            port: 5201,
            length: 1400,
            bits_per_second: 100_000_000,
        }
    }
}

/// What UDP achieved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UdpThroughput {
    /// Payload that arrived, in bits per second.
    pub bits_per_second: f64,
    /// Datagrams sent.
    pub packets: u64,
    /// Those that did not arrive.
    pub lost: u64,
    /// Jitter in milliseconds.
    pub jitter_ms: f64,
}

/// Sends TCP from `client` to a server in `server`, at `address`, for some seconds.
pub fn tcp_throughput(
    server: &NetNs,
    client: &NetNs,
    address: Ipv4Addr,
    seconds: u16,
    options: &TcpOptions,
) -> Result<TcpThroughput> {
    let _server = iperf_server(server, options.port)?;
    tcp_throughput_to(client, address, seconds, options)
}

/// As [`tcp_throughput`], to a server that listens already, be it on another machine.
pub fn tcp_throughput_to(
    client: &NetNs,
    address: Ipv4Addr,
    seconds: u16,
    options: &TcpOptions,
) -> Result<TcpThroughput> {
    let mut arguments = vec!["--parallel".to_owned(), options.parallel.to_string()];
    if let Some(mss) = options.mss {
        arguments.extend(["--set-mss".to_owned(), mss.to_string()]);
    }
    if let Some(congestion) = &options.congestion {
        arguments.extend(["--congestion".to_owned(), congestion.clone()]);
    }
    if let Some((client, server)) = options.processors {
        arguments.extend(["--affinity".to_owned(), format!("{client},{server}")]);
    }
    let end: TcpEnd = Client {
        ns: client,
        address,
        port: options.port,
        seconds,
    }
    .run(&arguments)?;
    Ok(TcpThroughput {
        bits_per_second: end.sum_received.bits_per_second,
        retransmits: end.sum_sent.retransmits,
    })
}

/// Sends UDP from `client` to a server in `server`, at `address`, for some seconds. The two also
/// need TCP between them, by which iperf3 arranges the measurement.
pub fn udp_throughput(
    server: &NetNs,
    client: &NetNs,
    address: Ipv4Addr,
    seconds: u16,
    options: &UdpOptions,
) -> Result<UdpThroughput> {
    let arguments = [
        "--udp".to_owned(),
        "--length".to_owned(),
        options.length.to_string(),
        "--bitrate".to_owned(),
        options.bits_per_second.to_string(),
    ];
    let _server = iperf_server(server, options.port)?;
    let end: UdpEnd = Client {
        ns: client,
        address,
        port: options.port,
        seconds,
    }
    .run(&arguments)?;
    Ok(UdpThroughput {
        bits_per_second: end.sum_received.bits_per_second,
        packets: end.sum.packets,
        lost: end.sum.lost_packets,
        jitter_ms: end.sum.jitter_ms,
    })
}

/// Starts a server for one measurement, and waits until it listens.
pub fn iperf_server(ns: &NetNs, port: u16) -> Result<Background> {
    let command = ns
        .command("iperf3")
        .args(["-4", "--server", "--one-off", "--port"]);
    let mut server = Background::start_unnamed(command.arg(port.to_string()))?;
    let deadline = Instant::now() + patient(Duration::from_secs(5));
    while !ns.run(|| listens(port))? {
        if let Some(status) = server.exit_status()? {
            bail!("the iperf3 server ended ({status}): {}", server.log()?);
        }
        ensure!(
            Instant::now() < deadline,
            "the iperf3 server does not listen"
        );
        sleep(Duration::from_millis(2));
    }
    Ok(server)
}

/// The client's half of a measurement.
struct Client<'a> {
    ns: &'a NetNs,
    address: Ipv4Addr,
    port: u16,
    seconds: u16,
}

impl Client<'_> {
    /// Measures with these arguments, and returns what the client reports in the end.
    fn run<End: DeserializeOwned>(&self, arguments: &[String]) -> Result<End> {
        let report = self.report(arguments)?;
        serde_json::from_str::<Ended<End>>(&report)
            .map(|report| report.end)
            .with_context(|| format!("understand iperf3's report:\n{report}"))
    }

    fn report(&self, arguments: &[String]) -> Result<String> {
        let command = self
            .ns
            .command("iperf3")
            .args(["--json", "--connect-timeout"])
            .arg(patient(Duration::from_secs(3)).as_millis().to_string())
            .args([
                "--client",
                &self.address.to_string(),
                "--port",
                &self.port.to_string(),
            ])
            .args(["--time", &self.seconds.to_string()])
            .args(arguments);
        let mut client = Background::start_unnamed(command)?;
        // Without a limit, a path that breaks during the measurement would hold it for minutes.
        client.wait(Duration::from_secs(u64::from(self.seconds) + 10))?;
        let log = client.log()?;
        // Warnings come before the report.
        let report = log.find('{').map_or("", |start| &log[start..]).to_owned();
        if let Ok(Failed { error }) = serde_json::from_str(&report) {
            bail!("iperf3 to {}: {error}", self.address);
        }
        Ok(report)
    }
}

/// Whether something listens on a TCP port in the calling thread's namespace.
fn listens(port: u16) -> Result<bool> {
    const PATH: &str = "/proc/thread-self/net/tcp";
    const LISTEN: &str = "0A";
    let table = fs::read_to_string(PATH).with_context(|| format!("read {PATH}"))?;
    let local = format!(":{port:04X}");
    Ok(table.lines().any(|line| {
        let mut columns = line.split_whitespace().skip(1);
        columns
            .next()
            .is_some_and(|address| address.ends_with(&local))
            && columns.nth(1) == Some(LISTEN)
    }))
}

#[derive(Deserialize)]
struct Failed {
    error: String,
}

#[derive(Deserialize)]
struct Ended<End> {
    end: End,
}

#[derive(Deserialize)]
struct TcpEnd {
    sum_sent: TcpSent,
    sum_received: Received,
}

#[derive(Deserialize)]
struct TcpSent {
    retransmits: u64,
}

#[derive(Deserialize)]
struct UdpEnd {
    sum: UdpSum,
    sum_received: Received,
}

#[derive(Deserialize)]
struct UdpSum {
    packets: u64,
    lost_packets: u64,
    jitter_ms: f64,
}

#[derive(Deserialize)]
struct Received {
    bits_per_second: f64,
}
