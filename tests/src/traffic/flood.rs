//! As many small datagrams as one processor sends, and where they end.

use std::io::IoSlice;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, sendmmsg};
use serde_json::Value;

use crate::{NetNs, on_processor};

/// Bytes of payload in an Ethernet frame of 64 bytes, its check sequence aside.
const PAYLOAD: [u8; 22] = [0; 22];

/// How many one system call sends.
const BATCH: usize = 64;

/// Sends datagrams of 64-byte frames for so long, to each of `to` in turn; where there are none,
/// to where `socket` is connected. Whatever the kernel does with a packet on its way, through devices
/// that have no queue, it does on the same `processor`, before the next is sent. Returns how long it
/// took until the last one was.
pub fn flood(
    socket: &UdpSocket,
    to: &[SocketAddrV4],
    duration: Duration,
    processor: Option<u8>,
) -> Result<Duration> {
    let targets: Vec<_> = to.iter().map(|&to| Some(SockaddrIn::from(to))).collect();
    let connected = vec![None; BATCH];
    let targets = if targets.is_empty() {
        &connected
    } else {
        &targets
    };
    let payload = [IoSlice::new(&PAYLOAD)];
    let payloads = [&payload; BATCH];
    let mut headers = MultiHeaders::preallocate(BATCH, None);
    on_processor(processor, || {
        let begun = Instant::now();
        for batch in targets.chunks(BATCH).cycle() {
            sendmmsg(
                socket.as_raw_fd(),
                &mut headers,
                payloads,
                batch,
                [],
                MsgFlags::empty(),
            )
            .context("send datagrams")?;
            if begun.elapsed() >= duration {
                break;
            }
        }
        Ok(begun.elapsed())
    })
}

/// A place where packets end and are counted, for as long as this value lives.
#[derive(Debug)]
pub struct Sink {
    ns: NetNs,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// The queue of a device, behind every program of it.
    Queue(String),
    /// Right behind where a device has received.
    Reception,
}

impl Sink {
    /// Where `device` would put packets on its wire, behind every TC program. No rule changes by
    /// which programs beside netfilter would have to verify anew.
    pub fn at_wire(ns: &NetNs, device: &str) -> Result<Self> {
        ns.exec(&format!("tc qdisc add dev {device} root blackhole"))?;
        Ok(Self {
            ns: ns.clone(),
            place: Place::Queue(device.to_owned()),
        })
    }

    /// Where `device` has received packets, before any stack has seen them.
    pub fn behind(ns: &NetNs, device: &str) -> Result<Self> {
        let script = format!(
            "table netdev sink {{\n\
             chain received {{\n\
             type filter hook ingress device \"{device}\" priority 0;\n\
             ip protocol udp counter drop\n\
             }}\n\
             }}\n"
        );
        ns.command("nft").args(["-f", "-"]).input(&script)?.run()?;
        Ok(Self {
            ns: ns.clone(),
            place: Place::Reception,
        })
    }

    /// As [`flood`], of what ends here; returns how many packets did, for each second.
    pub fn flooded(
        &self,
        socket: &UdpSocket,
        to: &[SocketAddrV4],
        duration: Duration,
        processor: Option<u8>,
    ) -> Result<f64> {
        let before = self.count()?;
        let time = flood(socket, to, duration, processor)?;
        #[expect(clippy::cast_precision_loss, reason = "packets of a second")]
        let packets = (self.count()? - before) as f64;
        ensure!(packets > 0.0, "no packet has come to its end");
        Ok(packets / time.as_secs_f64())
    }

    /// How many packets have ended here.
    fn count(&self) -> Result<u64> {
        match &self.place {
            Place::Queue(device) => {
                let text = self.ns.exec(&format!("tc -s -j qdisc show dev {device}"))?;
                let queues: Value = serde_json::from_str(&text)?;
                queues[0]["drops"].as_u64().context("tc counts no drops")
            }
            Place::Reception => {
                let text = self.ns.exec("nft list table netdev sink")?;
                let mut words = text.split_whitespace();
                words.find(|&word| word == "packets");
                let count = words.next().and_then(|word| word.parse().ok());
                count.with_context(|| format!("nft counts no packets: {text}"))
            }
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let removed = match &self.place {
            Place::Queue(device) => self.ns.exec(&format!("tc qdisc del dev {device} root")),
            Place::Reception => self.ns.exec("nft delete table netdev sink"),
        };
        if let Err(error) = removed {
            eprintln!("{error:#}");
        }
    }
}
