//! TCP of which every byte is looked at.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::pattern;
use crate::{NetNs, patient};

/// How long nothing may happen: longer than some retransmissions take.
const STALL: Duration = Duration::from_secs(5);

/// Sends `length` bytes by TCP from `client` to `address`, and fails unless just these arrive at
/// `server`, in their order, and without a stall. The address need not be the server's own: it may
/// be translated on the way, but not the port.
pub fn tcp_arrives_intact(
    client: &NetNs,
    address: Ipv4Addr,
    server: &NetNs,
    length: u64,
) -> Result<()> {
    let any = (Ipv4Addr::UNSPECIFIED, 0);
    let listener = server.run(|| TcpListener::bind(any).context("listen"))?;
    let destination = SocketAddr::new(address.into(), listener.local_addr()?.port());
    let sender = client.run(|| {
        TcpStream::connect_timeout(&destination, patient(STALL))
            .with_context(|| format!("connect to {destination}"))
    })?;
    // It is there already: the kernel has accepted it.
    let (receiver, _) = listener.accept().context("accept a connection")?;
    thread::scope(|scope| {
        let sending = scope.spawn(|| send(sender, length));
        let arrived = receive(receiver, length);
        arrived.and(sending.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
    .with_context(|| format!("TCP to {destination}"))
}

fn send(mut stream: TcpStream, length: u64) -> Result<()> {
    stream.set_write_timeout(Some(patient(STALL)))?;
    let mut position = 0;
    while position < length {
        let bytes = expected(position, pattern::LONGEST, length);
        match stream.write(bytes) {
            Ok(written) => position += written as u64,
            Err(error) => bail!("{error} when {position} of {length} bytes were sent"),
        }
    }
    stream.shutdown(Shutdown::Write)?;
    Ok(())
}

fn receive(mut stream: TcpStream, length: u64) -> Result<()> {
    stream.set_read_timeout(Some(patient(STALL)))?;
    let mut buffer = vec![0; pattern::LONGEST];
    let mut position = 0;
    loop {
        let read = match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                bail!("nothing arrives after {position} of {length} bytes")
            }
            Err(error) => bail!("{error} after {position} of {length} bytes"),
        };
        ensure!(
            buffer[..read] == *expected(position, read, length),
            "what arrives at byte {position} was not sent there"
        );
        position += read as u64;
    }
    ensure!(position == length, "{position} of {length} bytes arrived");
    Ok(())
}

/// What is sent from `position` on, up to `most` bytes.
fn expected(position: u64, most: usize, length: u64) -> &'static [u8] {
    let left = usize::try_from(length - position).unwrap_or(usize::MAX);
    pattern::at(position, most.min(left))
}
