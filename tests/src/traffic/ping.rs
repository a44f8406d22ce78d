//! ping(8) and what it says.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use crate::{Background, NetNs, NsCommand, patient, wait::within};

/// What to ask of ping.
#[derive(Clone, Debug)]
pub struct PingOptions {
    /// How many requests.
    pub count: u32,
    /// The time between two of them.
    pub interval: Duration,
    /// How long to wait for replies after the last request.
    pub timeout: Duration,
    /// The ICMP payload in bytes; the packet has 28 more.
    pub payload: u16,
    /// Whether "don't fragment" is set. Without it the sender fragments what exceeds its MTU.
    pub dont_fragment: bool,
    /// The TTL, if not the kernel's.
    pub ttl: Option<u8>,
    /// The TOS byte: DSCP and ECN.
    pub tos: Option<u8>,
    /// The source address, if not the kernel's choice.
    pub source: Option<Ipv4Addr>,
}

impl Default for PingOptions {
    fn default() -> Self {
        Self {
            count: 5,
            interval: Duration::from_millis(10),
            timeout: Duration::from_secs(1),
            payload: 56,
            dont_fragment: false,
            ttl: None,
            tos: None,
            source: None,
        }
    }
}

/// What ping says in the end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PingReport {
    /// Requests sent.
    pub sent: u32,
    /// Replies received, each once.
    pub received: u32,
    /// Replies received again.
    pub duplicates: u32,
    /// How long each reply took, in microseconds.
    pub times: Vec<f64>,
    /// The round trip times, if there was a reply.
    pub round_trip: Option<RoundTrip>,
    /// The TTL that the last reply arrived with.
    pub reply_ttl: Option<u8>,
    /// What was reported instead of replies, as ping words it: ICMP errors (`From 10.0.0.1
    /// icmp_seq=1 Frag needed and DF set (mtu = 1450)`) and errors of the sending host (`ping:
    /// connect: Network is unreachable`).
    pub errors: Vec<String>,
}

/// How long requests may be under way when a ping is stopped.
const UNDER_WAY: Duration = Duration::from_millis(100);

/// Round trip times in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoundTrip {
    /// The shortest.
    pub min: f64,
    /// The mean.
    pub avg: f64,
    /// The longest.
    pub max: f64,
}

impl PingReport {
    /// Requests without a reply.
    #[must_use]
    pub fn lost(&self) -> u32 {
        self.sent.saturating_sub(self.received)
    }

    /// Whether requests were sent and each had one reply.
    #[must_use]
    pub fn is_lossless(&self) -> bool {
        self.sent > 0 && self.lost() == 0 && self.duplicates == 0
    }

    /// Whether nothing came back, be it by loss or by errors.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.received == 0
    }
}

/// Pings `destination` from `ns`. Loss is not an error, nor are errors that ping reports.
pub fn ping(ns: &NetNs, destination: Ipv4Addr, options: &PingOptions) -> Result<PingReport> {
    let command = command(ns, destination, options).args(["-c", &options.count.to_string()]);
    let mut ping = Background::start_unnamed(command)?;
    ping.wait(options.interval * options.count + options.timeout + Duration::from_secs(10))?;
    Ok(report(&ping)?.0)
}

/// A ping that goes on while something else happens.
#[derive(Debug)]
pub struct Pinging {
    ping: Background,
    interval: Duration,
}

impl Pinging {
    /// Starts pinging `destination` from `ns` and waits for the first reply. The options' `count`
    /// does not matter.
    pub fn start(ns: &NetNs, destination: Ipv4Addr, options: &PingOptions) -> Result<Self> {
        let mut ping = Background::start_unnamed(command(ns, destination, options))?;
        ping.wait_for_line("bytes from", Duration::from_secs(10))?;
        let interval = options.interval;
        Ok(Self { ping, interval })
    }

    /// Stops pinging. Requests that were under way at that moment do not count, if others were answered
    /// just before.
    pub fn stop(mut self) -> Result<PingReport> {
        let replies = || -> Result<usize> { Ok(self.ping.log()?.matches("bytes from").count()) };
        let before = replies()?;
        let more = || Ok(replies()? > before);
        let is_answered = within(UNDER_WAY + self.interval, "replies come", more).is_ok();
        self.ping.signal(Signal::SIGINT)?;
        self.ping.wait(Duration::from_secs(2))?;
        let (mut report, last_sequence) = report(&self.ping)?;
        let at_once = patient(UNDER_WAY).div_duration_f64(self.interval).max(1.0);
        let under_way = last_sequence.map_or(0, |last| {
            // Sequence numbers begin at 1 and wrap.
            report.sent.wrapping_sub(u32::from(last)) & 0xffff
        });
        if is_answered && under_way <= report.lost() && f64::from(under_way) <= at_once {
            report.sent -= under_way;
        }
        Ok(report)
    }
}

fn command(ns: &NetNs, destination: Ipv4Addr, options: &PingOptions) -> NsCommand {
    let seconds = |duration: Duration| duration.as_secs_f64().to_string();
    let mut command = ns.command("ping").arg("-n");
    let values = [
        ("-i", Some(seconds(options.interval))),
        ("-W", Some(seconds(patient(options.timeout)))),
        ("-s", Some(options.payload.to_string())),
        (
            "-M",
            Some(if options.dont_fragment { "do" } else { "dont" }.to_owned()),
        ),
        ("-t", options.ttl.map(|ttl| ttl.to_string())),
        ("-Q", options.tos.map(|tos| tos.to_string())),
        ("-I", options.source.map(|source| source.to_string())),
    ];
    for (option, value) in values {
        if let Some(value) = value {
            command = command.args([option, &value]);
        }
    }
    command.arg(destination.to_string())
}

/// What a ping that has ended reports, and the sequence number of the last reply.
fn report(ping: &Background) -> Result<(PingReport, Option<u16>)> {
    let log = ping.log()?;
    parse(&log).with_context(|| format!("understand ping's output:\n{log}"))
}

fn parse(log: &str) -> Result<(PingReport, Option<u16>)> {
    let mut report = PingReport::default();
    let mut last_sequence = None;
    for line in log.lines() {
        if line.contains(" bytes from ") {
            last_sequence = Some(parse_field(line, "icmp_seq=")?);
            report.reply_ttl = Some(parse_field(line, "ttl=")?);
            let milliseconds: f64 = parse_field(line, "time=")?;
            report.times.push(milliseconds * 1000.0);
        } else if line.contains(" packets transmitted, ") {
            parse_summary(line, &mut report)?;
        } else if let Some(times) = line.strip_prefix("rtt min/avg/max/mdev = ") {
            report.round_trip = Some(parse_round_trip(times)?);
        } else if line.starts_with("From ") || line.starts_with("ping: ") {
            report.errors.push(line.to_owned());
        }
    }
    ensure!(
        report.sent > 0 || !report.errors.is_empty(),
        "there is neither summary nor error"
    );
    Ok((report, last_sequence))
}

/// The number behind `name` in a line such as `64 bytes from 10.0.0.1: icmp_seq=1 ttl=64 …`.
fn parse_field<T: std::str::FromStr>(line: &str, name: &str) -> Result<T> {
    line.split_whitespace()
        .find_map(|word| word.strip_prefix(name)?.parse().ok())
        .with_context(|| format!("{line:?} has no {name}"))
}

/// `10 packets transmitted, 8 received, +1 duplicates, +2 errors, 20% packet loss, time 9ms`.
fn parse_summary(line: &str, report: &mut PingReport) -> Result<()> {
    for part in line.split(", ") {
        let Some((number, what)) = part.split_once(' ') else {
            continue;
        };
        let field = match what {
            "packets transmitted" => &mut report.sent,
            "received" => &mut report.received,
            "duplicates" => &mut report.duplicates,
            _ => continue,
        };
        *field = number
            .parse()
            .with_context(|| format!("{number:?} in {line:?}"))?;
    }
    Ok(())
}

/// `0.044/0.244/0.444/0.200 ms`, perhaps with `, pipe 3`.
fn parse_round_trip(times: &str) -> Result<RoundTrip> {
    let milliseconds = times.split([' ', ',']).next().unwrap_or_default();
    let microseconds = milliseconds
        .split('/')
        .map(|time| Ok(time.parse::<f64>().with_context(|| format!("{time:?}"))? * 1000.0))
        .collect::<Result<Vec<_>>>()?;
    let [min, avg, max, _deviation] = microseconds[..] else {
        anyhow::bail!("{times:?} are not four times");
    };
    Ok(RoundTrip { min, avg, max })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_loss_and_errors_are_told_apart() {
        let log = "\
PING 10.244.1.2 (10.244.1.2) 1472(1500) bytes of data.
64 bytes from 10.244.1.2: icmp_seq=1 ttl=62 time=0.444 ms
From 10.244.0.1 icmp_seq=2 Frag needed and DF set (mtu = 1450)
ping: local error: message too long, mtu=1450
64 bytes from 10.244.1.2: icmp_seq=3 ttl=62 time=0.044 ms
64 bytes from 10.244.1.2: icmp_seq=3 ttl=62 time=0.045 ms (DUP!)

--- 10.244.1.2 ping statistics ---
4 packets transmitted, 2 received, +1 duplicates, +2 errors, 50% packet loss, time 17ms
rtt min/avg/max/mdev = 0.044/0.244/0.444/0.200 ms, pipe 2
";
        let (report, last_sequence) = parse(log).unwrap();
        assert_eq!((report.sent, report.received, report.duplicates), (4, 2, 1));
        assert_eq!(
            (report.lost(), report.reply_ttl, last_sequence),
            (2, Some(62), Some(3))
        );
        assert_eq!(
            report.round_trip,
            Some(RoundTrip {
                min: 44.0,
                avg: 244.0,
                max: 444.0
            })
        );
        assert_eq!(report.times, [444.0, 44.0, 45.0]);
        assert_eq!(report.errors.len(), 2, "{:?}", report.errors);
        assert!(!report.is_lossless() && !report.is_silent());
    }

    #[test]
    fn a_ping_that_cannot_send_reports_why() {
        let (report, _) = parse("ping: connect: Network is unreachable\n").unwrap();
        assert_eq!(report.errors, ["ping: connect: Network is unreachable"]);
        assert!(report.is_silent() && !report.is_lossless());
    }

    #[test]
    fn output_that_is_not_pings_is_refused() {
        assert!(parse("setpriv: failed to execute ping: No such file or directory\n").is_err());
    }
}
