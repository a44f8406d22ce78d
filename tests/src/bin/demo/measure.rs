//! Measuring a path.

use std::time::Duration;

use anyhow::Result;
use dataplane_common::reason::{Action, Reason};
use dataplane_tests::{Lab, PingOptions, PingReport, TcpOptions, ping, tcp_throughput};

use crate::{counts::Counts, path::Path, scenario::Scenario};

/// Which part of the packets between pods programs have to carry. The first ones may have to go to
/// the stack, which asks for a pod's Ethernet address.
const ENOUGH: f64 = 0.99;

/// What was seen of a path.
#[derive(Debug)]
pub(crate) struct Measurement {
    /// Lost pings in percent.
    pub(crate) loss: f64,
    /// The mean round trip time in microseconds, if a ping came back.
    pub(crate) latency: Option<f64>,
    /// What one TCP stream carried, if there was one.
    pub(crate) bits_per_second: Option<f64>,
    /// Of each node on the path, its name and what became of its packets meanwhile.
    pub(crate) counts: Vec<(&'static str, Counts)>,
    /// Which part of the packets programs carried on every node, from 0 to 1; only of paths on
    /// which they have to carry all.
    pub(crate) carried: Option<f64>,
    /// What is wrong.
    pub(crate) faults: Vec<String>,
}

impl Measurement {
    /// Pings along `path`, sends TCP for some seconds, and looks at the counters before and after.
    pub(crate) fn take(lab: &Lab, path: &Path, scenario: Scenario, seconds: u16) -> Result<Self> {
        let before = counts(lab, path)?;
        let ping = ping(path.client(lab), path.destination(lab), &pings())?;
        let tcp = if ping.is_silent() {
            None
        } else {
            Some(tcp(lab, path, seconds))
        };
        let mut counts = counts(lab, path)?;
        for ((_, counts), (_, before)) in counts.iter_mut().zip(&before) {
            *counts = counts.since(before);
        }
        let carried = path
            .carried(scenario)
            .map(|reasons| least_share(&counts, &reasons));
        Ok(Self {
            loss: loss(&ping),
            latency: ping.round_trip.map(|time| time.avg),
            bits_per_second: tcp.as_ref().and_then(|tcp| tcp.as_ref().ok()).copied(),
            counts,
            carried,
            faults: faults(&ping, tcp.as_ref(), carried),
        })
    }

    /// Why packets went to the stack, or nowhere.
    pub(crate) fn reasons_for_the_stack(&self) -> impl Iterator<Item = Reason> {
        self.counts
            .iter()
            .flat_map(|(_, counts)| [counts.with(Action::Stack), counts.with(Action::Drop)])
            .flatten()
            .map(|(reason, _)| reason)
    }
}

/// The counts of the nodes on `path`.
fn counts(lab: &Lab, path: &Path) -> Result<Vec<(&'static str, Counts)>> {
    let nodes = path.nodes().into_iter();
    nodes
        .map(|name| Ok((name, Counts::read(lab.node(name))?)))
        .collect()
}

fn pings() -> PingOptions {
    PingOptions {
        count: 20,
        interval: Duration::from_millis(10),
        ..PingOptions::default()
    }
}

fn tcp(lab: &Lab, path: &Path, seconds: u16) -> Result<f64> {
    let options = TcpOptions {
        // Whatever the machine's default: numbers of different machines are to mean the same.
        congestion: Some("cubic".to_owned()),
        ..TcpOptions::default()
    };
    let (server, client) = (path.server(lab), path.client(lab));
    let tcp = tcp_throughput(server, client, path.destination(lab), seconds, &options)?;
    Ok(tcp.bits_per_second)
}

fn least_share(counts: &[(&str, Counts)], reasons: &[Reason]) -> f64 {
    let shares = counts.iter().map(|(_, counts)| counts.share(reasons));
    shares.fold(1.0, f64::min)
}

fn loss(ping: &PingReport) -> f64 {
    if ping.sent == 0 {
        return 100.0;
    }
    100.0 * f64::from(ping.lost()) / f64::from(ping.sent)
}

fn faults(ping: &PingReport, tcp: Option<&Result<f64>>, carried: Option<f64>) -> Vec<String> {
    let mut faults = Vec::new();
    if !ping.is_lossless() {
        faults.push(format!(
            "of {} pings {} came back, {} of them twice",
            ping.sent, ping.received, ping.duplicates
        ));
        faults.extend(ping.errors.first().cloned());
    }
    match tcp {
        None => faults.push("TCP was not tried".to_owned()),
        Some(Err(error)) => faults.push(format!("{error:#}")),
        Some(Ok(rate)) if *rate > 0.0 => {}
        Some(Ok(_)) => faults.push("TCP delivered nothing".to_owned()),
    }
    if let Some(share) = carried
        && share < ENOUGH
    {
        let percent = 100.0 * share;
        faults.push(format!("programs carried only {percent:.1} % of packets"));
    }
    faults
}
