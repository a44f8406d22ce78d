//! UDP at a steady pace, each datagram with its number.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::{NetNs, eventually, patient, uninterrupted};

/// The time between two datagrams.
const INTERVAL: Duration = Duration::from_millis(5);

/// How long datagrams may be under way, and how often a receiver looks whether it is to stop.
const UNDER_WAY: Duration = Duration::from_millis(100);

/// Datagrams that one host sends to an address, two hundred a second, while something else happens.
/// What does not arrive is not sent again, and nothing comes back: each way has its own flow.
#[derive(Debug)]
pub struct Flow {
    port: u16,
    sender: JoinHandle<u64>,
    receivers: Vec<JoinHandle<HashSet<u64>>>,
    arrived: Arc<AtomicU64>,
    sending: Arc<AtomicBool>,
    receiving: Arc<AtomicBool>,
}

/// What became of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowReport {
    /// Datagrams sent, or tried to.
    pub sent: u64,
    /// Datagrams that did not arrive.
    pub lost: u64,
}

impl Flow {
    /// Starts sending from `client` to `address`, where `server` has it. It need not arrive yet.
    pub fn start(client: &NetNs, server: &NetNs, address: Ipv4Addr) -> Result<Self> {
        let socket = bind(server, 0)?;
        let port = socket.local_addr()?.port();
        let sender = bind(client, 0)?;
        let (sending, receiving) = (Arc::new(true.into()), Arc::new(true.into()));
        let mut flow = Self {
            port,
            sender: thread::spawn({
                let sending = Arc::clone(&sending);
                move || send(&sender, (address, port).into(), &sending)
            }),
            receivers: Vec::new(),
            arrived: Arc::default(),
            sending,
            receiving,
        };
        flow.receive_by(socket)?;
        Ok(flow)
    }

    /// Has what arrives at `server` count as well: the address has moved there, or is going to.
    pub fn follow_to(&mut self, server: &NetNs) -> Result<()> {
        self.receive_by(bind(server, self.port)?)
    }

    fn receive_by(&mut self, socket: UdpSocket) -> Result<()> {
        socket.set_read_timeout(Some(UNDER_WAY))?;
        let (arrived, receiving) = (Arc::clone(&self.arrived), Arc::clone(&self.receiving));
        self.receivers.push(thread::spawn(move || {
            receive(&socket, &arrived, &receiving)
        }));
        Ok(())
    }

    /// The port it is sent to, which no other flow of its receiver has.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits until some more have arrived.
    pub fn wait_for_more(&self) -> Result<()> {
        const MORE: u64 = 20;
        let goal = self.arrived.load(Ordering::Relaxed) + MORE;
        eventually("datagrams arrive", || {
            Ok(self.arrived.load(Ordering::Relaxed) >= goal)
        })
    }

    /// Stops sending, and sees what is still under way arrive.
    pub fn stop(self) -> FlowReport {
        self.sending.store(false, Ordering::Relaxed);
        let sent = join(self.sender);
        sleep(patient(UNDER_WAY));
        self.receiving.store(false, Ordering::Relaxed);
        let arrived: HashSet<u64> = self.receivers.into_iter().flat_map(join).collect();
        FlowReport {
            sent,
            lost: sent - arrived.len() as u64,
        }
    }
}

fn bind(ns: &NetNs, port: u16) -> Result<UdpSocket> {
    let address = (Ipv4Addr::UNSPECIFIED, port);
    ns.run(|| UdpSocket::bind(address).with_context(|| format!("bind to UDP port {port}")))
}

/// Sends until it is told to stop, and returns how many there were. What the kernel refuses, since
/// there is no route, is lost as well.
fn send(socket: &UdpSocket, to: SocketAddr, sending: &AtomicBool) -> u64 {
    let mut number: u64 = 0;
    while sending.load(Ordering::Relaxed) {
        let _ = socket.send_to(&number.to_be_bytes(), to);
        number += 1;
        sleep(INTERVAL);
    }
    number
}

/// Receives until it is told to stop and nothing more is there, and returns the numbers.
fn receive(socket: &UdpSocket, arrived: &AtomicU64, receiving: &AtomicBool) -> HashSet<u64> {
    let mut numbers = HashSet::new();
    let mut number = [0; size_of::<u64>()];
    loop {
        match uninterrupted(|| socket.recv(&mut number)) {
            Ok(_) => {
                numbers.insert(u64::from_be_bytes(number));
                arrived.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if !receiving.load(Ordering::Relaxed) {
                    return numbers;
                }
            }
            Err(error) => panic!("receive numbered datagrams: {error}"),
        }
    }
}

fn join<T>(thread: JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}
