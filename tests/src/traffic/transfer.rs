//! TCP of which every byte is looked at.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::pattern;
use crate::{NetNs, patient};

/// How long nothing may happen: longer than some retransmissions take.
const STALL: Duration = Duration::from_secs(5);

/// How long a [`Transfer`] waits between two writes.
const PACE: Duration = Duration::from_millis(2);

/// Sends `length` bytes by TCP from `client` to `address`, and fails unless just these arrive at
/// `server`, in their order, and without a stall. The address need not be the server's own: it may
/// be translated on the way, but not the port.
pub fn tcp_arrives_intact(
    client: &NetNs,
    address: Ipv4Addr,
    server: &NetNs,
    length: u64,
) -> Result<()> {
    let (destination, sender, receiver) = connect(client, address, server)?;
    thread::scope(|scope| {
        let sending = scope.spawn(|| send(sender, &AtomicU64::new(length), Duration::ZERO));
        let arrived = receive(receiver, &AtomicU64::new(length));
        let sent = sending.join().unwrap_or_else(|panic| resume_unwind(panic));
        arrived.and(sent.map(drop))
    })
    .with_context(|| format!("TCP to {destination}"))
}

/// A TCP transfer that goes on while something else happens.
#[derive(Debug)]
pub struct Transfer {
    /// How many bytes there are to send: what was sent by then, once it is to stop.
    length: Arc<AtomicU64>,
    sending: JoinHandle<Result<u64>>,
    receiving: JoinHandle<Result<()>>,
}

impl Transfer {
    /// Starts sending from `client` to `address`, which is `server`'s: not as fast as can be, which
    /// would leave no processor to what is tested, but without a pause.
    pub fn start(client: &NetNs, address: Ipv4Addr, server: &NetNs) -> Result<Self> {
        let (_, sender, receiver) = connect(client, address, server)?;
        let length = Arc::new(AtomicU64::new(u64::MAX));
        Ok(Self {
            sending: {
                let length = Arc::clone(&length);
                thread::spawn(move || send(sender, &length, PACE))
            },
            receiving: {
                let length = Arc::clone(&length);
                thread::spawn(move || receive(receiver, &length))
            },
            length,
        })
    }

    /// Ends the transfer; returns how many bytes were sent, and fails unless just these arrived, on
    /// a connection that was not reset.
    pub fn stop(self) -> Result<u64> {
        self.length.store(0, Ordering::Relaxed);
        let sent = self.sending.join();
        let arrived = self.receiving.join();
        let sent = sent.unwrap_or_else(|panic| resume_unwind(panic))?;
        arrived.unwrap_or_else(|panic| resume_unwind(panic))?;
        Ok(sent)
    }
}

/// Connects `client` to `server` at `address`; returns the sender and the receiver.
fn connect(
    client: &NetNs,
    address: Ipv4Addr,
    server: &NetNs,
) -> Result<(SocketAddr, TcpStream, TcpStream)> {
    let any = (Ipv4Addr::UNSPECIFIED, 0);
    let listener = server.run(|| TcpListener::bind(any).context("listen"))?;
    let destination = SocketAddr::new(address.into(), listener.local_addr()?.port());
    let sender = client.run(|| {
        TcpStream::connect_timeout(&destination, patient(STALL))
            .with_context(|| format!("connect to {destination}"))
    })?;
    // It is there already: the kernel has accepted it.
    let (receiver, _) = listener.accept().context("accept a connection")?;
    Ok((destination, sender, receiver))
}

/// Sends up to `length`, which may shrink meanwhile and then becomes what was sent.
fn send(mut stream: TcpStream, length: &AtomicU64, pace: Duration) -> Result<u64> {
    stream.set_write_timeout(Some(patient(STALL)))?;
    let mut position = 0;
    loop {
        let wanted = length.load(Ordering::Relaxed);
        if position >= wanted {
            break;
        }
        match stream.write(expected(position, pattern::LONGEST, wanted)) {
            Ok(written) => position += written as u64,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => bail!("{error} when {position} bytes were sent"),
        }
        sleep(pace);
    }
    length.store(position, Ordering::Relaxed);
    stream.shutdown(Shutdown::Write)?;
    Ok(position)
}

/// Receives to the end, where `length` says how much there should have been.
fn receive(mut stream: TcpStream, length: &AtomicU64) -> Result<()> {
    stream.set_read_timeout(Some(patient(STALL)))?;
    let mut buffer = vec![0; pattern::LONGEST];
    let mut position = 0;
    loop {
        let read = match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                bail!("nothing arrives after {position} bytes")
            }
            Err(error) => bail!("{error} after {position} bytes"),
        };
        ensure!(
            buffer[..read] == *expected(position, read, u64::MAX),
            "what arrives at byte {position} was not sent there"
        );
        position += read as u64;
    }
    let length = length.load(Ordering::Relaxed);
    ensure!(position == length, "{position} of {length} bytes arrived");
    Ok(())
}

/// What is sent from `position` on, up to `most` bytes.
fn expected(position: u64, most: usize, length: u64) -> &'static [u8] {
    let left = usize::try_from(length - position).unwrap_or(usize::MAX);
    pattern::at(position, most.min(left))
}
