//! Sockets of one kind or the other, with ports of one's choice.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, connect, listen, setsockopt,
    socket, sockopt,
};

use crate::{NetNs, patient, uninterrupted};

/// How long a message may take, and a connection.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of a message.
pub(super) const LENGTH: usize = 100;

/// An end of a talk.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

impl Socket {
    pub(super) fn set_timeout(&self, timeout: Duration) -> Result<()> {
        match self {
            Self::Tcp(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(timeout))?;
            }
            Self::Udp(socket) => socket.set_read_timeout(Some(timeout))?,
        }
        Ok(())
    }

    pub(super) fn port(&self) -> Result<u16> {
        let address = match self {
            Self::Tcp(stream) => stream.local_addr(),
            Self::Udp(socket) => socket.local_addr(),
        };
        Ok(address?.port())
    }

    pub(super) fn number(&self) -> u64 {
        let number = match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Udp(socket) => socket.as_raw_fd(),
        };
        u64::from(number.unsigned_abs())
    }

    pub(super) fn send(&mut self, message: &[u8]) -> Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(message).context("send"),
            Self::Udp(socket) => socket.send(message).map(drop).context("send"),
        }
    }

    pub(super) fn answer(&mut self, message: &[u8], to: SocketAddrV4) -> Result<()> {
        match self {
            Self::Udp(socket) => socket.send_to(message, to).map(drop).context("answer"),
            Self::Tcp(_) => self.send(message),
        }
    }

    /// Waits for just this message; returns who sent it.
    pub(super) fn expect(&mut self, message: &[u8; LENGTH]) -> Result<SocketAddrV4> {
        let mut read = [0; LENGTH];
        let outcome = match self {
            Self::Tcp(stream) => stream
                .read_exact(&mut read)
                .and_then(|()| stream.peer_addr()),
            Self::Udp(socket) => {
                uninterrupted(|| socket.recv_from(&mut read)).map(|(_, from)| from)
            }
        };
        let number = |message: &[u8; LENGTH]| message[..18].to_vec();
        let from = match outcome {
            Ok(from) => from,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                bail!("message {:?} does not come", number(message))
            }
            Err(error) => return Err(error).context("receive"),
        };
        ensure!(
            read == *message,
            "another message came, {:?}, instead of {:?}",
            number(&read),
            number(message)
        );
        match from {
            SocketAddr::V4(from) => Ok(from),
            SocketAddr::V6(from) => bail!("it came from {from}"),
        }
    }

    pub(super) fn shut_down(&self) -> Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write).context("shut down"),
            Self::Udp(_) => bail!("UDP has no end"),
        }
    }

    pub(super) fn expect_end(&mut self) -> Result<()> {
        match self {
            Self::Tcp(stream) => {
                let read = stream.read(&mut [0; 1]).context("wait for the end")?;
                ensure!(read == 0, "there is more");
                Ok(())
            }
            Self::Udp(_) => bail!("UDP has no end"),
        }
    }
}

pub(super) fn listener(ns: &NetNs, port: u16) -> Result<TcpListener> {
    let socket = tcp_socket(ns, port)?;
    listen(&socket, Backlog::new(16)?).context("listen")?;
    Ok(socket.into())
}

/// A socket of a port that others may have had, or have.
pub(super) fn tcp_socket(ns: &NetNs, port: u16) -> Result<OwnedFd> {
    bound(ns, SockType::Stream, port)
}

pub(super) fn udp_socket(ns: &NetNs, port: u16) -> Result<UdpSocket> {
    Ok(bound(ns, SockType::Datagram, port)?.into())
}

fn bound(ns: &NetNs, kind: SockType, port: u16) -> Result<OwnedFd> {
    ns.run(|| {
        let fd = socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, None)
            .context("create a socket")?;
        setsockopt(&fd, sockopt::ReuseAddr, &true).context("set SO_REUSEADDR")?;
        setsockopt(&fd, sockopt::ReusePort, &true).context("set SO_REUSEPORT")?;
        let any = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port));
        bind(fd.as_raw_fd(), &any).with_context(|| format!("bind to port {port}"))?;
        Ok(fd)
    })
}

pub(super) fn connected(fd: OwnedFd, to: SocketAddrV4) -> Result<TcpStream> {
    let stream = TcpStream::from(fd);
    // Of connect(2), too.
    stream.set_write_timeout(Some(patient(PATIENCE)))?;
    connect(stream.as_raw_fd(), &SockaddrIn::from(to))
        .with_context(|| format!("connect to {to}"))?;
    Ok(stream)
}
