//! Requests and responses of one byte each, one after the other.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use crate::{NetNs, on_processor, patient};

/// How long one of them may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many go before those that count.
const FIRST: u32 = 50;

/// Has `client` ask a server in `server`, at `address`, over one TCP connection and for so long, and
/// returns how long each answer took. The two keep to `processors`.
pub fn transactions(
    client: &NetNs,
    server: &NetNs,
    address: Ipv4Addr,
    duration: Duration,
    processors: Option<(u8, u8)>,
) -> Result<Vec<Duration>> {
    let listener = server.run(|| Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?))?;
    let to = SocketAddr::new(address.into(), listener.local_addr()?.port());
    let asking = client.run(|| {
        TcpStream::connect_timeout(&to, patient(PATIENCE))
            .with_context(|| format!("connect to {to}"))
    })?;
    let (answering, _) = listener.accept()?;
    for end in [&asking, &answering] {
        end.set_nodelay(true)?;
        end.set_read_timeout(Some(patient(PATIENCE)))?;
    }
    thread::scope(|scope| {
        let (near, far) = processors.unzip();
        let answering = scope.spawn(move || on_processor(far, || answer(answering)));
        let times = on_processor(near, || ask(asking, duration));
        let answered = answering.join();
        answered.map_err(|_| anyhow!("the server panicked"))??;
        times
    })
}

/// Takes the connection, so that its end is the server's.
fn ask(mut stream: TcpStream, duration: Duration) -> Result<Vec<Duration>> {
    for _ in 0..FIRST {
        transact(&mut stream)?;
    }
    let end = Instant::now() + duration;
    let mut times = Vec::new();
    while Instant::now() < end {
        times.push(transact(&mut stream)?);
    }
    Ok(times)
}

fn transact(stream: &mut TcpStream) -> Result<Duration> {
    let mut byte = [0];
    let begun = Instant::now();
    stream.write_all(&byte).context("ask")?;
    stream.read_exact(&mut byte).context("wait for an answer")?;
    Ok(begun.elapsed())
}

fn answer(mut stream: TcpStream) -> Result<()> {
    let mut byte = [0];
    loop {
        match stream.read_exact(&mut byte) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            read => read.context("wait for a question")?,
        }
        stream.write_all(&byte).context("answer")?;
    }
}
