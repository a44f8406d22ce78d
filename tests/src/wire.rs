//! Raw frames on an interface.

use std::io::ErrorKind;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::ifaddrs::getifaddrs;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::{NetNs, uninterrupted};

/// What a socket may hold before it is read, in bytes.
const BUFFER: usize = 16 << 20;

/// More than any frame, in bytes: also those that a device has yet to cut into segments.
const LONGEST_FRAME: usize = 1 << 17;

/// A socket that sends and receives whole frames on one interface (packet(7)).
///
/// It holds what arrives from the moment it is opened, so open it before the traffic. What comes
/// from a local stack can be larger than the MTU and have checksums still to be filled in, as the
/// interface's offloads promise; `ethtool -K <interface> tx off tso off` on the sending side makes
/// it what a wire would carry.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    interface: LinkAddr,
    direction: Direction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Both,
    Incoming,
}

impl PacketSocket {
    /// Opens the interface for frames that it receives.
    pub fn open(ns: &NetNs, ifname: &str) -> Result<Self> {
        Self::open_for(ns, ifname, Direction::Incoming)
    }

    /// Opens the interface for frames that it receives and frames that it sends.
    pub fn open_both_ways(ns: &NetNs, ifname: &str) -> Result<Self> {
        Self::open_for(ns, ifname, Direction::Both)
    }

    fn open_for(ns: &NetNs, ifname: &str, direction: Direction) -> Result<Self> {
        ns.run(|| {
            let interface = link_address(ifname)?;
            let fd = socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::EthAll,
            )
            .context("create a packet socket")?;
            setsockopt(&fd, sockopt::RcvBufForce, &BUFFER)
                .context("enlarge the buffer of a packet socket")?;
            bind(fd.as_raw_fd(), &interface)
                .with_context(|| format!("bind a packet socket to {ifname}"))?;
            Ok(Self {
                fd,
                interface,
                direction,
            })
        })
    }

    /// Sends a frame.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let sent = send(self.fd.as_raw_fd(), frame, MsgFlags::empty()).context("send a frame")?;
        ensure!(
            sent == frame.len(),
            "sent {sent} of a frame's {} bytes",
            frame.len()
        );
        Ok(())
    }

    /// Waits for a frame that `matches`, discarding others before it. `None` if the time is up.
    pub fn recv_matching(
        &self,
        timeout: Duration,
        mut matches: impl FnMut(&[u8]) -> bool,
    ) -> Result<Option<Vec<u8>>> {
        let deadline = Instant::now() + timeout;
        while let Some(frame) = self.recv_until(deadline)? {
            if matches(&frame) {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// What has arrived since the socket was opened, or last read, and arrives within `duration`.
    pub fn collect(&self, duration: Duration) -> Result<Vec<Vec<u8>>> {
        let deadline = Instant::now() + duration;
        std::iter::from_fn(|| self.recv_until(deadline).transpose()).collect()
    }

    /// The next frame of ours, or `None` when none is left at the deadline.
    fn recv_until(&self, deadline: Instant) -> Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; LONGEST_FRAME];
        loop {
            let Some((length, sender)) = self.recv(&mut buffer, deadline)? else {
                return Ok(None);
            };
            if self.is_ours(&sender) {
                return Ok(Some(buffer[..length].to_vec()));
            }
        }
    }

    fn recv(&self, buffer: &mut [u8], deadline: Instant) -> Result<Option<(usize, LinkAddr)>> {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = TimeVal::microseconds(left.as_micros().try_into()?);
        if left == TimeVal::zero() {
            // To the kernel, a timeout of zero is none.
            return Ok(None);
        }
        setsockopt(&self.fd, sockopt::ReceiveTimeout, &left).context("set a receive timeout")?;
        let fd = self.fd.as_raw_fd();
        match uninterrupted(|| Ok(recvfrom::<LinkAddr>(fd, buffer)?)) {
            Ok((length, sender)) => Ok(Some((length, sender.context("a frame from nowhere")?))),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error).context("receive a frame"),
        }
    }

    fn is_ours(&self, sender: &LinkAddr) -> bool {
        // Between its creation and its binding a packet socket hears every interface.
        sender.ifindex() == self.interface.ifindex()
            && (self.direction == Direction::Both || sender.pkttype() != libc::PACKET_OUTGOING)
    }
}

/// The address by which a packet socket is bound to an interface.
fn link_address(ifname: &str) -> Result<LinkAddr> {
    let address = getifaddrs()
        .context("list interfaces")?
        .filter(|interface| interface.interface_name == ifname)
        .find_map(|interface| interface.address?.as_link_addr().copied());
    address.with_context(|| format!("there is no interface {ifname}"))
}
