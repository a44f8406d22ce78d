//! Numbered datagrams, many a second, there and back, of which each is accounted for.

use std::io::ErrorKind;
use std::mem::replace;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};

use crate::{NetNs, eventually, patient, uninterrupted};

/// Datagrams sent in a second.
const RATE: u32 = 10_000;

/// How often the sender sends those that are due.
const TICK: Duration = Duration::from_micros(500);

/// Most that are sent at once, after the machine let the sender wait: more would not fit into the
/// kernel's queue between two devices (`net.core.netdev_max_backlog`).
const BURST: u32 = 100;

/// Room for what a receiver has not fetched yet, in bytes.
const RECEIVE_BUFFER: usize = 64 << 20;

/// How often a receiver to which nothing comes looks whether it is over.
const LOOK: Duration = Duration::from_millis(20);

/// How long the last datagrams may take.
const LAST: Duration = Duration::from_secs(1);

/// Most that the sender sends before they come back: they all fit into the receivers' room.
const UNDER_WAY: usize = 100_000;

/// Bytes of payload: the number, and what makes a packet of usual size.
const LENGTH: usize = 100;

/// 10,000 numbered UDP datagrams a second from one namespace to another, each of which is sent back.
#[derive(Debug)]
pub struct Exchange {
    begun: Instant,
    stop: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    returned: Arc<AtomicUsize>,
    sending: JoinHandle<Result<Vec<Duration>>>,
    answering: JoinHandle<Result<Vec<Arrival>>>,
    receiving: JoinHandle<Result<Vec<Arrival>>>,
}

/// A datagram's arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its number, from 0.
    pub number: u32,
    /// Since the beginning.
    pub at: Duration,
}

/// What became of a [`Exchange`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExchangeReport {
    /// When each datagram was sent, by its number, since the beginning.
    pub sent: Vec<Duration>,
    /// What arrived at the other end.
    pub there: Vec<Arrival>,
    /// What came back.
    pub back: Vec<Arrival>,
}

impl Exchange {
    /// Starts an exchange from `client` to `server`, which has `address`, and waits until it flows.
    pub fn start(client: &NetNs, server: &NetNs, address: Ipv4Addr) -> Result<Self> {
        let server = socket(server)?;
        let client = socket(client)?;
        client.connect(SocketAddr::new(address.into(), server.local_addr()?.port()))?;
        let begun = Instant::now();
        let (stop, over) = (Arc::default(), Arc::default());
        let returned = Arc::default();
        let exchange = Self {
            sending: {
                let (client, stop) = (client.try_clone()?, Arc::clone(&stop));
                let returned = Arc::clone(&returned);
                thread::spawn(move || send(&client, begun, &stop, &returned))
            },
            answering: {
                let over = Arc::clone(&over);
                thread::spawn(move || answer(&server, begun, &over))
            },
            receiving: {
                let (over, returned) = (Arc::clone(&over), Arc::clone(&returned));
                thread::spawn(move || receive(&client, begun, &over, &returned))
            },
            begun,
            stop,
            over,
            returned,
        };
        eventually("datagrams come back", || {
            Ok(exchange.returned.load(Ordering::Relaxed) > 0)
        })?;
        Ok(exchange)
    }

    /// When it began, to which all times in the report refer.
    #[must_use]
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// Stops sending, and waits for the last datagrams.
    pub fn stop(self) -> Result<ExchangeReport> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = join(self.sending).context("send datagrams");
        let number = sent.as_ref().map_or(0, Vec::len);
        let (mut returned, mut since) = (0, Instant::now());
        while returned < number && since.elapsed() < patient(LAST) {
            sleep(LOOK);
            let before = replace(&mut returned, self.returned.load(Ordering::Relaxed));
            if returned > before {
                since = Instant::now();
            }
        }
        self.over.store(true, Ordering::Relaxed);
        // The other end first: when it gives up, the sender learns only that nobody is there.
        let there = join(self.answering).context("send datagrams back")?;
        let back = join(self.receiving).context("receive datagrams")?;
        let sent = sent?;
        Ok(ExchangeReport { sent, there, back })
    }
}

impl ExchangeReport {
    /// Datagrams that were lost on the way there, and on the way back.
    #[must_use]
    pub fn lost(&self) -> (usize, usize) {
        let (there, back) = (self.there.len(), self.back.len());
        (
            self.sent.len().saturating_sub(there),
            there.saturating_sub(back),
        )
    }

    /// Whether each datagram arrived and came back, once.
    #[must_use]
    pub fn is_lossless(&self) -> bool {
        let each_once = |arrivals: &[Arrival]| {
            let mut numbers: Vec<u32> = arrivals.iter().map(|arrival| arrival.number).collect();
            numbers.sort_unstable();
            numbers.into_iter().eq((0..).take(self.sent.len()))
        };
        !self.sent.is_empty() && each_once(&self.there) && each_once(&self.back)
    }
}

fn socket(ns: &NetNs) -> Result<UdpSocket> {
    let socket = ns.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("bind"))?;
    setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER).context("set SO_RCVBUFFORCE")?;
    socket.set_read_timeout(Some(LOOK))?;
    Ok(socket)
}

fn join<T>(thread: JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// Sends until it is to stop; returns when each was sent. It waits for an end that does not keep up, of
/// which the kernel would drop what it has not read.
fn send(
    socket: &UdpSocket,
    begun: Instant,
    stop: &AtomicBool,
    returned: &AtomicUsize,
) -> Result<Vec<Duration>> {
    let mut sent = Vec::new();
    let mut due = 0.0;
    let mut last = begun;
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        due = (due + (now - last).as_secs_f64() * f64::from(RATE)).min(f64::from(BURST));
        last = now;
        let under_way = sent.len().saturating_sub(returned.load(Ordering::Relaxed));
        while due >= 1.0 && under_way < UNDER_WAY {
            due -= 1.0;
            let mut payload = [0; LENGTH];
            let number = u32::try_from(sent.len())?;
            payload[..4].copy_from_slice(&number.to_be_bytes());
            sent.push(begun.elapsed());
            socket
                .send(&payload)
                .with_context(|| format!("datagram {number}"))?;
        }
        sleep(TICK);
    }
    Ok(sent)
}

/// Sends back what arrives.
fn answer(socket: &UdpSocket, begun: Instant, over: &AtomicBool) -> Result<Vec<Arrival>> {
    let mut arrivals = Vec::new();
    let mut payload = [0; LENGTH];
    while let Some((number, from)) = next(socket, &mut payload, over)? {
        arrivals.push(Arrival {
            number,
            at: begun.elapsed(),
        });
        socket
            .send_to(&payload, from)
            .with_context(|| format!("datagram {number}, after {:?}", begun.elapsed()))?;
    }
    Ok(arrivals)
}

fn receive(
    socket: &UdpSocket,
    begun: Instant,
    over: &AtomicBool,
    returned: &AtomicUsize,
) -> Result<Vec<Arrival>> {
    let mut arrivals = Vec::new();
    let mut payload = [0; LENGTH];
    while let Some((number, _)) = next(socket, &mut payload, over)? {
        arrivals.push(Arrival {
            number,
            at: begun.elapsed(),
        });
        returned.store(arrivals.len(), Ordering::Relaxed);
    }
    Ok(arrivals)
}

/// The next datagram's number and sender, or none when it is over.
fn next(
    socket: &UdpSocket,
    payload: &mut [u8; LENGTH],
    over: &AtomicBool,
) -> Result<Option<(u32, SocketAddr)>> {
    while !over.load(Ordering::Relaxed) {
        match uninterrupted(|| socket.recv_from(payload)) {
            Ok((_, from)) => {
                let [a, b, c, d, ..] = *payload;
                return Ok(Some((u32::from_be_bytes([a, b, c, d]), from)));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("an ICMP error, or worse"),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(numbers: &[u32]) -> Vec<Arrival> {
        let at = Duration::ZERO;
        numbers
            .iter()
            .map(|&number| Arrival { number, at })
            .collect()
    }

    #[test]
    fn a_lost_and_a_repeated_datagram_do_not_make_up_for_each_other() {
        let report = |there: &[u32], back: &[u32]| ExchangeReport {
            sent: vec![Duration::ZERO; 3],
            there: arrivals(there),
            back: arrivals(back),
        };
        assert!(report(&[0, 1, 2], &[2, 1, 0]).is_lossless());
        assert!(!report(&[0, 1, 1], &[0, 1, 2]).is_lossless());
        assert!(!report(&[0, 1, 2], &[0, 1]).is_lossless());
        assert_eq!(report(&[0, 1], &[0]).lost(), (1, 1));
        assert!(!ExchangeReport::default().is_lossless());
    }
}
