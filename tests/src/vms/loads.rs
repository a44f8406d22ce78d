//! What is sent from a pod on one machine to a pod on the other, and what arrives.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{Background, NetNs, Pair, busy_during, flood, patient};

/// The port at the pod that receives.
const PORT: u16 = 5201;

/// What a stream is written and read in, in bytes.
const CHUNK: usize = 1 << 17;

/// How long nothing may happen on a stream.
const STALL: Duration = Duration::from_secs(5);

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// One TCP connection.
    Stream,
    /// UDP in frames of 64 bytes, but for the tunnel's headers.
    Datagrams,
}

/// What arrived, and what that took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Received {
    /// Bits of a stream, or datagrams.
    pub(super) amount: f64,
    /// From the first to the last.
    pub(super) time: Duration,
    /// How long of that the machine's one processor was at work, for whatever.
    pub(super) busy: Duration,
    /// What underpass counted, where it opened tunnels.
    pub(super) taken_out: Option<TakenOut>,
}

/// Who took packets out of their tunnels, by the programs' counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TakenOut {
    /// Packets that XDP did.
    pub(super) by_xdp: u64,
    /// All that the first program on the uplink saw.
    pub(super) seen: u64,
}

impl Load {
    pub(super) const ALL: [Self; 2] = [Self::Stream, Self::Datagrams];

    /// Sends it from this machine for so long.
    pub(super) fn send(self, pair: &Pair, duration: Duration) -> Result<()> {
        let (pod, to) = (pair.node().pod("p0").ns(), (pair.remote_pod("p0"), PORT));
        match self {
            Self::Stream => {
                pair.meet("a server listens")?;
                let stream = pod.run(|| Ok(TcpStream::connect(to)?))?;
                write_for(stream, duration)?;
            }
            Self::Datagrams => {
                let socket = pod.run(|| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?))?;
                socket.connect(to)?;
                pair.meet("a socket is there")?;
                flood(&socket, &[], duration, None)?;
            }
        }
        pair.meet("all is sent")
    }

    /// Receives it on this machine.
    pub(super) fn receive(self, pair: &Pair) -> Result<Received> {
        let (pod, here) = (pair.node().pod("p0").ns(), (Ipv4Addr::UNSPECIFIED, PORT));
        match self {
            Self::Stream => {
                let listener = pod.run(|| Ok(TcpListener::bind(here)?))?;
                pair.meet("a server listens")?;
                let (stream, _) = listener.accept()?;
                let received = measured(|| read_to_end(stream))?;
                pair.meet("all is sent")?;
                Ok(received)
            }
            Self::Datagrams => {
                let _socket = pod.run(|| Ok(UdpSocket::bind(here)?))?;
                let _trickle = trickle(pair)?;
                pair.meet("a socket is there")?;
                measured(|| {
                    let before = overflown(pod)?;
                    pair.meet("all is sent")?;
                    Ok(overflown(pod)? - before)
                })
            }
        }
    }
}

/// Has `work` receive, and returns the amount that it does together with what it took.
fn measured(work: impl FnOnce() -> Result<u64>) -> Result<Received> {
    let begun = Instant::now();
    let (amount, busy) = busy_during(work)?;
    let time = begun.elapsed();
    #[expect(clippy::cast_precision_loss, reason = "far less than 2^52")]
    let amount = amount as f64;
    Ok(Received {
        amount,
        time,
        busy,
        taken_out: None,
    })
}

/// Has something go the other way, ten times a second. An emulated device was seen to lose the
/// interrupt for a full queue of packets that it had sent (QEMU 7.2), and its driver looks again when
/// something arrives.
fn trickle(pair: &Pair) -> Result<Background> {
    let command = pair.node().ns().command("ping");
    let command = command.args(["-q", "-i", "0.1", &pair.remote_address().to_string()]);
    Background::start_unnamed(command)
}

fn write_for(mut stream: TcpStream, duration: Duration) -> Result<()> {
    let stall = Some(patient(STALL));
    stream.set_write_timeout(stall)?;
    stream.set_read_timeout(stall)?;
    let (chunk, begun) = (vec![0; CHUNK], Instant::now());
    while begun.elapsed() < duration {
        stream.write_all(&chunk).context("send a stream")?;
    }
    stream.shutdown(Shutdown::Write)?;
    // The other end closes when it has everything.
    stream.read(&mut [0]).context("end a stream")?;
    Ok(())
}

/// Returns how many bits there were.
fn read_to_end(mut stream: TcpStream) -> Result<u64> {
    stream.set_read_timeout(Some(patient(STALL)))?;
    let (mut chunk, mut bits) = (vec![0; CHUNK], 0);
    loop {
        match stream.read(&mut chunk).context("receive a stream")? {
            0 => return Ok(bits),
            bytes => bits += 8 * bytes as u64,
        }
    }
}

/// How many datagrams have come to a socket of a pod that had no room. Nobody reads the one that is
/// measured with: the node's part is all that is to be seen.
fn overflown(pod: &NetNs) -> Result<u64> {
    pod.snmp_counter("Udp", "RcvbufErrors")
}
