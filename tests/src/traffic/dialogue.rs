//! A TCP connection that says something when it is asked to.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::{Counters, NetNs, Node, eventually, patient};

/// How long what was said may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes said at a time: what fits into the buffers of a connection, so that it is read by whoever
/// wrote it.
const WORD: usize = 1 << 14;

/// A TCP connection from one namespace to another, both ends of which are here.
#[derive(Debug)]
pub struct Dialogue {
    client: TcpStream,
    server: TcpStream,
}

impl Dialogue {
    /// Connects `client` to `server`, which has `address`.
    pub fn start(client: &NetNs, server: &NetNs, address: Ipv4Addr) -> Result<Self> {
        let listener = server.run(|| Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?))?;
        let to = SocketAddr::new(address.into(), listener.local_addr()?.port());
        let client = client.run(|| {
            TcpStream::connect_timeout(&to, patient(PATIENCE))
                .with_context(|| format!("connect to {to}"))
        })?;
        let (server, _) = listener.accept()?;
        for end in [&client, &server] {
            end.set_nodelay(true)?;
            end.set_read_timeout(Some(patient(PATIENCE)))?;
            end.set_write_timeout(Some(patient(PATIENCE)))?;
        }
        Ok(Self { client, server })
    }

    /// Between the pods p0 and p1 of a node, which carries packets of it.
    pub fn carried_on(node: &Node) -> Result<Self> {
        let (client, server) = (node.pod("p0"), node.pod("p1"));
        let before = Counters::read(node)?;
        let mut talk = Self::start(client.ns(), server.ns(), server.address())?;
        eventually("the connection is accelerated", || {
            // More than so many packets at once: flows can be forgotten between two looks.
            talk.exchange(1 << 20)?;
            let rise = Counters::read(node)?.since(&before);
            Ok(rise.get("from_workload", "delivered-local").packets > 100)
        })?;
        Ok(talk)
    }

    /// The client says so many bytes, and the server says them again.
    pub fn exchange(&mut self, bytes: usize) -> Result<()> {
        let mut left = bytes;
        while left > 0 {
            let word = left.min(WORD);
            say(&mut self.client, &mut self.server, word).context("from the client")?;
            say(&mut self.server, &mut self.client, word).context("from the server")?;
            left -= word;
        }
        Ok(())
    }

    /// The ports, of the client and of the server.
    pub fn ports(&self) -> Result<(u16, u16)> {
        let client = self.client.local_addr()?.port();
        Ok((client, self.server.local_addr()?.port()))
    }
}

fn say(from: &mut TcpStream, to: &mut TcpStream, bytes: usize) -> Result<()> {
    let said = vec![fastrand::u8(..); bytes];
    let mut heard = vec![0; bytes];
    from.write_all(&said).context("nobody takes what is said")?;
    to.read_exact(&mut heard).context("nothing is heard")?;
    ensure!(heard == said, "something else is heard than was said");
    Ok(())
}
