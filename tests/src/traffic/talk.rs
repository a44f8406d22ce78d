//! Messages that go there and back, one at a time.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::sockets::{LENGTH, PATIENCE, Socket, connected, listener, tcp_socket, udp_socket};
use crate::{Pod, patient};

/// How long one is waited for that need not come.
const PATIENCE_FOR_NOTHING: Duration = Duration::from_millis(100);

/// Two sockets, of which one asks and the other answers: each packet is known to have arrived before
/// the next is sent, so that none is lost but where something drops it.
#[derive(Debug)]
pub struct Talk {
    near: Socket,
    far: Socket,
    /// Messages so far.
    rounds: u64,
    seen_from: Option<SocketAddrV4>,
    is_half_closed: bool,
}

impl Talk {
    /// Between two pods, by TCP, with these ports, or what the kernel gives for 0.
    pub fn tcp(client: &Pod, server: &Pod, ports: (u16, u16)) -> Result<Self> {
        Self::tcp_by(client, server, ports, server.address(), ports.1)
    }

    /// As [`Talk::tcp`], but the client asks another address and port, which somebody translates.
    pub fn tcp_by(
        client: &Pod,
        server: &Pod,
        ports: (u16, u16),
        address: Ipv4Addr,
        port: u16,
    ) -> Result<Self> {
        let listener = listener(server.ns(), ports.1)?;
        let port = if port == 0 {
            listener.local_addr()?.port()
        } else {
            port
        };
        let near = tcp_socket(client.ns(), ports.0)?;
        let near = connected(near, SocketAddrV4::new(address, port))?;
        // It is there already: the kernel has accepted it.
        let (far, _) = listener.accept().context("accept a connection")?;
        Self::of(Socket::Tcp(near), Socket::Tcp(far))
    }

    /// Between two pods, by UDP, with these ports, or what the kernel gives for 0.
    pub fn udp(client: &Pod, server: &Pod, ports: (u16, u16)) -> Result<Self> {
        Self::udp_by(client, server, ports, server.address(), ports.1)
    }

    /// As [`Talk::udp`], but the client asks another address and port, which somebody translates.
    pub fn udp_by(
        client: &Pod,
        server: &Pod,
        ports: (u16, u16),
        address: Ipv4Addr,
        port: u16,
    ) -> Result<Self> {
        let near = udp_socket(client.ns(), ports.0)?;
        let far = udp_socket(server.ns(), ports.1)?;
        let port = if port == 0 {
            far.local_addr()?.port()
        } else {
            port
        };
        near.connect((address, port)).context("connect")?;
        Self::of(Socket::Udp(near), Socket::Udp(far))
    }

    /// Another by UDP, from the same port of the client to another address and port, behind which the
    /// same socket answers.
    pub fn beside(&self, client: &Pod, address: Ipv4Addr, port: u16) -> Result<Self> {
        let Socket::Udp(far) = &self.far else {
            bail!("a TCP socket answers one client")
        };
        let near = udp_socket(client.ns(), self.near.port()?)?;
        near.connect((address, port)).context("connect")?;
        Self::of(Socket::Udp(near), Socket::Udp(far.try_clone()?))
    }

    /// Where the far end last had a message from.
    pub fn seen_from(&self) -> Result<SocketAddrV4> {
        self.seen_from.context("nothing has come yet")
    }

    fn of(near: Socket, far: Socket) -> Result<Self> {
        for socket in [&near, &far] {
            socket.set_timeout(patient(PATIENCE))?;
        }
        Ok(Self {
            near,
            far,
            rounds: 0,
            seen_from: None,
            is_half_closed: false,
        })
    }

    /// The ports: the asking end's, and the answering end's.
    pub fn ports(&self) -> Result<(u16, u16)> {
        Ok((self.near.port()?, self.far.port()?))
    }

    /// Sends so many messages there, each of which has to come back.
    pub fn rounds(&mut self, number: u64) -> Result<()> {
        (0..number).try_for_each(|_| {
            let message = self.message();
            self.near.send(&message)?;
            let from = self.far.expect(&message).context("at the far end")?;
            self.far.answer(&message, from)?;
            self.seen_from = Some(from);
            self.near.expect(&message).context("back at the near end")?;
            Ok(())
        })
    }

    /// Sends so many messages one way.
    pub fn there(&mut self, number: u64) -> Result<()> {
        (0..number).try_for_each(|_| {
            let message = self.message();
            self.near.send(&message)?;
            self.far.expect(&message).context("at the far end")?;
            Ok(())
        })
    }

    /// Sends so many messages from the far end of a TCP talk.
    pub fn back(&mut self, number: u64) -> Result<()> {
        (0..number).try_for_each(|_| {
            let message = self.message();
            self.far.send(&message)?;
            self.near.expect(&message).context("at the near end")?;
            Ok(())
        })
    }

    /// Sends so many messages that need not arrive; returns how many have.
    pub fn try_there(&mut self, number: u64) -> Result<u64> {
        let Socket::Udp(far) = &self.far else {
            bail!("TCP would send them again")
        };
        far.set_read_timeout(Some(patient(PATIENCE_FOR_NOTHING)))?;
        let mut arrived = 0;
        for _ in 0..number {
            let message = self.message();
            // An ICMP error about the one before is reported once.
            if self.near.send(&message).is_ok() {
                arrived += u64::from(self.far.expect(&message).is_ok());
            }
        }
        self.far.set_timeout(patient(PATIENCE))?;
        Ok(arrived)
    }

    /// Says that the near end of a TCP talk sends no more.
    pub fn half_close(&mut self) -> Result<()> {
        self.is_half_closed = true;
        self.near.shut_down()
    }

    /// Ends a TCP talk, the far end first: it is the one that then waits out `TIME_WAIT`.
    pub fn close(mut self) -> Result<()> {
        self.far.shut_down()?;
        self.near.expect_end().context("at the near end")?;
        if !self.is_half_closed {
            self.near.shut_down()?;
        }
        self.far.expect_end().context("at the far end")
    }

    fn message(&mut self) -> [u8; LENGTH] {
        self.rounds += 1;
        let mut message = [0; LENGTH];
        message[..8].copy_from_slice(&self.rounds.to_be_bytes());
        // Which talk it is of.
        message[8..10].copy_from_slice(&self.near.port().unwrap_or_default().to_be_bytes());
        message[10..18].copy_from_slice(&self.near.number().to_be_bytes());
        message
    }
}
