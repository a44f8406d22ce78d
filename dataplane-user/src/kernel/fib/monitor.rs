//! Listening to what changes.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
};

use anyhow::{Context as _, Result};
use netlink_packet_core::NetlinkBuffer;
use rtnetlink::{
    MulticastGroup,
    sys::{AsyncSocket, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE},
};
use tracing::warn;

use super::change::{Change, change};

/// Everything that a packet's way depends on.
const GROUPS: [MulticastGroup; 6] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Nexthop,
];

/// Bytes of the longest datagram; a message about an interface is the longest there is.
pub(super) const DATAGRAM: usize = 1 << 16;

/// Most datagrams taken at a time, so that a storm does not keep everything else from its turn.
const AT_A_TIME: usize = 4096;

/// A subscription to everything that makes the FIB.
pub struct Monitor {
    socket: TokioSocket,
    datagram: Vec<u8>,
}

/// What was heard since the last time.
#[derive(Debug, Default)]
pub struct Heard {
    /// The changes, in their order.
    pub changes: Vec<Change>,
    /// The socket's buffer was full, and changes are missing.
    pub overrun: bool,
}

impl Monitor {
    /// Subscribes in the network namespace of the calling thread, with a receive buffer of `buffer`
    /// bytes.
    pub fn subscribe(buffer: usize) -> Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE).context("cannot open a netlink socket")?;
        set_buffer(&socket, buffer)
            .with_context(|| format!("cannot have a netlink buffer of {buffer} bytes"))?;
        let subscribed = socket
            .socket_mut()
            .bind(&SocketAddr::new(0, 0))
            .and_then(|()| {
                GROUPS
                    .iter()
                    .try_for_each(|group| socket.socket_ref().add_membership(*group as u32))
            });
        subscribed.context("cannot subscribe to what the kernel's FIB is made of")?;
        Ok(Self {
            socket,
            datagram: Vec::with_capacity(DATAGRAM),
        })
    }

    /// Waits until something has changed, and takes what has.
    ///
    /// Cancel-safe: nothing is taken from the socket by a call that does not return.
    pub async fn hear(&mut self) -> Result<Heard> {
        poll_fn(|context| self.poll_heard(context))
            .await
            .context("the kernel's reports of what its FIB is made of have ended")
    }

    fn poll_heard(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Heard>> {
        let mut heard = Heard::default();
        for taken in 0..AT_A_TIME {
            self.datagram.clear();
            match self.socket.poll_recv_from(context, &mut self.datagram) {
                Poll::Ready(Ok(_)) => {
                    heard
                        .changes
                        .extend(messages(&self.datagram).filter_map(|message| change(&message)));
                }
                // The kernel says so once, and goes on.
                Poll::Ready(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    heard.overrun = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if taken == 0 => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(heard))
    }
}

/// More than `net.core.rmem_max`, as root may.
fn set_buffer(socket: &TokioSocket, bytes: usize) -> io::Result<()> {
    let forced = nix::sys::socket::setsockopt(
        socket.socket_ref(),
        nix::sys::socket::sockopt::RcvBufForce,
        &bytes,
    );
    if let Err(errno) = forced {
        warn!(
            "cannot have a netlink buffer beyond net.core.rmem_max ({errno}); changes may be lost, and read again"
        );
        socket.socket_ref().set_rx_buf_sz(bytes)?;
    }
    Ok(())
}

/// The messages of a datagram.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = NetlinkBuffer<&[u8]>> {
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(bytes).ok()?;
        let length = usize::try_from(message.length()).ok()?.next_multiple_of(4);
        bytes = bytes.get(length..).unwrap_or_default();
        Some(message)
    })
}
