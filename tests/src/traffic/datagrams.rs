//! UDP with segmentation offload, as QUIC sends it, of which every datagram is looked at.

use std::io::IoSliceMut;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt,
    sockopt::{UdpGroSegment, UdpGsoSegment},
};

use super::pattern;
use crate::{NetNs, patient, uninterrupted};

/// How long to wait for a datagram.
const PATIENCE: Duration = Duration::from_secs(2);

/// What to send.
#[derive(Clone, Copy, Debug)]
pub struct DatagramOptions {
    /// Payload of a datagram in bytes.
    pub length: u16,
    /// How many datagrams the sender hands to the kernel at once, for a device to cut up. The last
    /// of them is one byte long.
    pub at_once: u16,
    /// How many times it does.
    pub rounds: u16,
    /// Whether the receiver takes aggregates (`UDP_GRO`).
    pub gro: bool,
}

impl Default for DatagramOptions {
    fn default() -> Self {
        Self {
            length: 1200,
            at_once: 20,
            rounds: 50,
            gro: false,
        }
    }
}

/// What arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatagramReport {
    /// Datagrams.
    pub datagrams: u64,
    /// Times that the receiver got several at once.
    pub aggregates: u64,
}

/// Sends datagrams from `client` to `address`, and fails unless each arrives at `server`, once, in
/// order, whole and unchanged. The address need not be the server's own: it may be translated on
/// the way, but not the port. A round is sent when the one before has arrived, so that no queue has
/// to drop.
pub fn datagrams_arrive_intact(
    client: &NetNs,
    address: Ipv4Addr,
    server: &NetNs,
    options: DatagramOptions,
) -> Result<DatagramReport> {
    let any = (Ipv4Addr::UNSPECIFIED, 0);
    let bind = |ns: &NetNs| ns.run(|| UdpSocket::bind(any).context("bind"));
    let server_side = Receiver::new(bind(server)?, options)?;
    let destination = SocketAddr::new(address.into(), server_side.0.local_addr()?.port());
    let sender = bind(client)?;
    setsockopt(&sender, UdpGsoSegment, &i32::from(options.length)).context("set UDP_SEGMENT")?;

    let mut report = DatagramReport::default();
    for round in 0..options.rounds {
        send(&sender, payload(round, options), destination, options)
            .with_context(|| format!("send to {destination}"))?;
        let arrived = server_side.round(round, options);
        let arrived = arrived.with_context(|| format!("round {round} to {destination}"))?;
        report.datagrams += arrived.datagrams;
        report.aggregates += arrived.aggregates;
    }
    Ok(report)
}

/// Sends what is for one round, at once if the kernel does that: before 6.11 it did not where the
/// device computes no checksums, and QUIC then sends each datagram by itself.
fn send(
    sender: &UdpSocket,
    payload: &[u8],
    destination: SocketAddr,
    options: DatagramOptions,
) -> Result<()> {
    match sender.send_to(payload, destination) {
        Err(error) if error.raw_os_error() == Some(nix::libc::EIO) => {}
        sent => return sent.map(drop).context("send all at once"),
    }
    setsockopt(sender, UdpGsoSegment, &0).context("unset UDP_SEGMENT")?;
    for datagram in payload.chunks(options.length.into()) {
        sender.send_to(datagram, destination)?;
    }
    setsockopt(sender, UdpGsoSegment, &options.length.into()).context("set UDP_SEGMENT")
}

/// What is sent in one round: all datagrams, one behind the other.
fn payload(round: u16, options: DatagramOptions) -> &'static [u8] {
    let length = usize::from(options.length) * usize::from(options.at_once - 1) + 1;
    pattern::at(u64::from(round) * length as u64, length)
}

struct Receiver(UdpSocket);

impl Receiver {
    fn new(socket: UdpSocket, options: DatagramOptions) -> Result<Self> {
        socket.set_read_timeout(Some(patient(PATIENCE)))?;
        if options.gro {
            setsockopt(&socket, UdpGroSegment, &true).context("set UDP_GRO")?;
        }
        Ok(Self(socket))
    }

    fn round(&self, round: u16, options: DatagramOptions) -> Result<DatagramReport> {
        let mut expected = payload(round, options);
        let mut report = DatagramReport::default();
        let mut buffer = vec![0; pattern::LONGEST];
        while !expected.is_empty() {
            let (read, segment) = self.receive(&mut buffer).with_context(|| {
                format!("{} of {} have arrived", report.datagrams, options.at_once)
            })?;
            // Without UDP_GRO, or of a single one, the kernel does not tell: it is one datagram.
            let datagrams = buffer[..read].chunks(segment.unwrap_or(read));
            report.aggregates += u64::from(datagrams.len() > 1);
            for datagram in datagrams {
                let length = usize::from(options.length).min(expected.len());
                ensure!(
                    *datagram == expected[..length],
                    "datagram {} is not what was sent: {} bytes for {length}",
                    report.datagrams,
                    datagram.len()
                );
                expected = &expected[length..];
                report.datagrams += 1;
            }
        }
        Ok(report)
    }

    /// The length of what arrived, and of each datagram in it if it is an aggregate.
    fn receive(&self, buffer: &mut [u8]) -> Result<(usize, Option<usize>)> {
        let mut space = cmsg_space!(i32);
        let mut slices = [IoSliceMut::new(buffer)];
        uninterrupted(|| self.0.peek(&mut [0])).context("no more arrive")?;
        let message = recvmsg::<SockaddrIn>(
            self.0.as_raw_fd(),
            &mut slices,
            Some(&mut space),
            MsgFlags::empty(),
        )
        .context("receive")?;
        let segment = message.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::UdpGroSegments(length) => usize::try_from(length).ok(),
            _ => None,
        });
        Ok((message.bytes, segment))
    }
}
