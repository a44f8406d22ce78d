//! How each thing is measured.

use std::{
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    time::Duration,
};

use crate::{
    Carriage, NetNs, PingOptions, Sink, TcpOptions, UdpOptions, busy_during, patient, ping,
    statistics, tcp_throughput, transactions, two_processors, udp_throughput, uninterrupted,
    web::{self, Load},
};
use anyhow::{Context as _, Result, ensure};

use super::{
    Path, Plan, Scene, Way,
    paths::Ends,
    results::{Quantity, Results},
};

/// Seconds of a stream.
const STREAM: u16 = 1;

/// How many HTTP requests are under way at once.
const AT_ONCE: u32 = 50;

/// How often two ends of a flood exchange datagrams before, so that the stack knows their flow.
const GREETINGS: u32 = 10;

const GREETING_PATIENCE: Duration = Duration::from_secs(3);

/// What is measured at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measurement {
    Ping,
    /// One stream between processors that each have an end, which is the steadier way; and what it
    /// costs.
    Tcp,
    TcpUnpinned,
    TcpEight,
    Udp,
    HttpKept,
    Http,
    Transactions,
    Flood,
    Generator,
}

impl Measurement {
    /// Whether it is taken there: floods only of what they are compared by, and the generator where
    /// nothing is between it and its node.
    pub(crate) fn is_of(self, way: Way, path: Path) -> bool {
        let is_across = matches!(path, Path::HostToHost | Path::PodToPod);
        match self {
            Self::TcpUnpinned | Self::Flood => is_across,
            Self::Generator => way == Way::Kernel(Carriage::Direct) && path == Path::PodToPod,
            _ => true,
        }
    }

    /// Takes it once, and adds to the results what came of it.
    pub(crate) fn take(
        self,
        plan: &Plan,
        scene: &Scene,
        path: Path,
        results: &mut Results,
    ) -> Result<()> {
        let way = scene.way();
        let ends = path.ends(&scene.lab);
        let measured = self.measure(plan, scene, path, &ends, |times| {
            results.add_latencies(way, path, times);
        });
        let measured = measured.with_context(|| format!("{self:?} of {way}, {path}"))?;
        for (quantity, value) in measured {
            results.add(way, path, quantity, value);
        }
        Ok(())
    }

    fn measure(
        self,
        plan: &Plan,
        scene: &Scene,
        path: Path,
        ends: &Ends<'_>,
        latencies: impl FnOnce(&[f64]),
    ) -> Result<Vec<(Quantity, f64)>> {
        let pinned = TcpOptions {
            processors: two_processors(),
            ..TcpOptions::default()
        };
        let load = Load {
            requests: plan.requests,
            at_once: AT_ONCE,
            keep_alive: false,
        };
        Ok(match self {
            Self::Ping => vec![(Quantity::Ping, round_trip(plan, ends)?)],
            Self::Tcp => {
                // Reading counters is no part of the stream's cost.
                let (rate, busy) =
                    scene.carrying(path, || busy_during(|| stream(ends, &pinned)))?;
                vec![
                    (Quantity::Tcp, rate),
                    (
                        Quantity::CpuPerGigabit,
                        busy.as_secs_f64() / (rate * f64::from(STREAM)),
                    ),
                ]
            }
            Self::TcpUnpinned => {
                let rate = stream(ends, &TcpOptions::default())?;
                vec![(Quantity::TcpUnpinned, rate)]
            }
            Self::TcpEight => {
                let eight = TcpOptions {
                    parallel: 8,
                    ..TcpOptions::default()
                };
                vec![(Quantity::TcpEight, stream(ends, &eight)?)]
            }
            Self::Udp => vec![(Quantity::Udp, datagrams(ends)?)],
            Self::HttpKept => {
                let kept = Load {
                    keep_alive: true,
                    ..load
                };
                vec![(Quantity::HttpKept, requests(ends, kept)?)]
            }
            Self::Http => vec![(Quantity::Http, requests(ends, load)?)],
            Self::Transactions => {
                let times = answers(plan, ends)?;
                latencies(&times);
                let part = |part| statistics::quantile_of_sorted(&times, part);
                vec![
                    (Quantity::LatencyMedian, part(0.5).context("no answers")?),
                    (Quantity::LatencyTail, part(0.99).context("no answers")?),
                ]
            }
            Self::Flood => flooded(plan, scene, path, ends)?,
            Self::Generator => {
                let pod = scene.near_pod();
                let node = scene.lab.node("node-0");
                let sink = || Sink::behind(node.ns(), pod.host_ifname());
                vec![(Quantity::Generated, one_flood(plan, ends, sink)?)]
            }
        })
    }
}

/// The median, in microseconds.
fn round_trip(plan: &Plan, ends: &Ends<'_>) -> Result<f64> {
    let options = PingOptions {
        count: plan.pings,
        interval: Duration::from_millis(2),
        ..PingOptions::default()
    };
    let report = ping(ends.client, ends.address, &options)?;
    ensure!(report.is_lossless(), "{report:?}");
    statistics::median(&report.times).context("no reply")
}

/// Gigabits per second.
fn stream(ends: &Ends<'_>, options: &TcpOptions) -> Result<f64> {
    let measured = tcp_throughput(ends.server, ends.client, ends.address, STREAM, options)?;
    Ok(measured.bits_per_second / 1e9)
}

/// Gigabits per second of payload that arrive, of as many as can be sent.
fn datagrams(ends: &Ends<'_>) -> Result<f64> {
    let options = UdpOptions {
        bits_per_second: 0,
        ..UdpOptions::default()
    };
    let measured = udp_throughput(ends.server, ends.client, ends.address, STREAM, &options)?;
    Ok(measured.bits_per_second / 1e9)
}

/// Requests per second.
fn requests(ends: &Ends<'_>, load: Load) -> Result<f64> {
    load.put(ends.client, SocketAddrV4::new(ends.address, web::PORT))
}

/// How long each answer took, in ascending order and in microseconds.
fn answers(plan: &Plan, ends: &Ends<'_>) -> Result<Vec<f64>> {
    let (duration, processors) = (plan.transactions, two_processors());
    let times = transactions(ends.client, ends.server, ends.address, duration, processors)?;
    let mut times: Vec<_> = times.iter().map(|time| time.as_secs_f64() * 1e6).collect();
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// Millions of packets per second that get to the wire, and to the far end.
fn flooded(
    plan: &Plan,
    scene: &Scene,
    path: Path,
    ends: &Ends<'_>,
) -> Result<Vec<(Quantity, f64)>> {
    let near = scene.lab.node("node-0").ns();
    let sent = one_flood(plan, ends, || Sink::at_wire(near, "eth0"))?;
    let arrived = scene.carrying(path, || {
        one_flood(plan, ends, || Sink::behind(ends.server, "eth0"))
    })?;
    Ok(vec![(Quantity::Sent, sent), (Quantity::Arrived, arrived)])
}

/// Millions of packets per second that end in a sink which is there when the two ends know each
/// other.
fn one_flood(plan: &Plan, ends: &Ends<'_>, sink: impl FnOnce() -> Result<Sink>) -> Result<f64> {
    let (near, far) = (socket(ends.client)?, socket(ends.server)?);
    near.connect((ends.address, far.local_addr()?.port()))?;
    for _ in 0..GREETINGS {
        let mut byte = [0];
        near.send(&byte)?;
        let (_, from) = uninterrupted(|| far.recv_from(&mut byte)).context("no greeting")?;
        far.send_to(&byte, from)?;
        uninterrupted(|| near.recv(&mut byte)).context("no greeting in return")?;
    }
    let processor = two_processors().map(|(client, _)| client);
    Ok(sink()?.flooded(&near, &[], plan.flood, processor)? / 1e6)
}

fn socket(ns: &NetNs) -> Result<UdpSocket> {
    let socket = ns.run(|| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?))?;
    socket.set_read_timeout(Some(patient(GREETING_PATIENCE)))?;
    Ok(socket)
}
