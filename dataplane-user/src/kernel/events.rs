//! Word that the state of the network stack has changed.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
};

use anyhow::{Context as _, Result};
use rtnetlink::{
    MulticastGroup,
    sys::{AsyncSocket, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE},
};

/// What is subscribed to. The kernel reports no IPv4 route as deleted when the next hop object under
/// it is removed, or the link or address it depends on, hence the company of `Ipv4Route`.
const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Nexthop,
];

/// Bytes read of a message. All but its first few are ignored.
const DATAGRAM: usize = 256;

/// Message types of next hop objects (linux/rtnetlink.h).
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;

/// A subscription to changes of links, addresses, routes, next hops and neighbours.
pub struct Events {
    /// Not a `Connection` of `netlink-proto`, which decodes every message and queues it without
    /// bound: here what is not read in time costs nothing but the kernel's buffer.
    pub(super) socket: TokioSocket,
    datagram: Vec<u8>,
}

impl Events {
    /// Subscribes in the network namespace of the calling thread.
    pub(super) fn subscribe() -> Result<Self> {
        let socket = subscribed_socket()
            .context("cannot subscribe to the kernel's link, address and route changes")?;
        Ok(Self {
            socket,
            datagram: Vec::with_capacity(DATAGRAM),
        })
    }

    /// Waits until something has changed since the last call and takes in all that has, so that a
    /// burst of changes is one event. Reports lost by an overrun of the socket count as a change.
    /// `heard` is given a word for each report, such as `route`, or `overrun`.
    ///
    /// Cancel-safe: nothing is taken from the socket by a call that does not return.
    ///
    /// An error means that no more changes will be reported.
    pub async fn changed(&mut self, mut heard: impl FnMut(&'static str)) -> Result<()> {
        poll_fn(|context| self.poll_changed(context, &mut heard))
            .await
            .context("the kernel's reports of link, address and route changes have ended")
    }

    fn poll_changed(
        &mut self,
        context: &mut Context<'_>,
        heard: &mut impl FnMut(&'static str),
    ) -> Poll<io::Result<()>> {
        let mut changed = false;
        loop {
            self.datagram.clear();
            match self.socket.poll_recv_from(context, &mut self.datagram) {
                Poll::Ready(Ok(_)) if concerns_us(&self.datagram) => {
                    heard(word(&self.datagram));
                    changed = true;
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) if is_overrun(&error) => {
                    heard("overrun");
                    changed = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if changed => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

fn subscribed_socket() -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
    socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
    for group in GROUPS {
        socket.socket_ref().add_membership(group as u32)?;
    }
    Ok(socket)
}

/// All but the IPv6 neighbours, whose timers alone would wake an idle node again and again.
fn concerns_us(datagram: &[u8]) -> bool {
    let is_neighbour = matches!(
        kind(datagram),
        Some(libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH)
    );
    // The family is the first byte of the `struct ndmsg` behind the header.
    let is_ipv6 = datagram.get(16).copied().map(i32::from) == Some(libc::AF_INET6);
    !(is_neighbour && is_ipv6)
}

/// What a message is about.
fn word(datagram: &[u8]) -> &'static str {
    match kind(datagram) {
        Some(libc::RTM_NEWLINK | libc::RTM_DELLINK) => "link",
        Some(libc::RTM_NEWADDR | libc::RTM_DELADDR) => "address",
        Some(libc::RTM_NEWROUTE | libc::RTM_DELROUTE) => "route",
        Some(libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH) => "neighbour",
        Some(RTM_NEWNEXTHOP | RTM_DELNEXTHOP) => "nexthop",
        _ => "other",
    }
}

/// The type of a message: bytes 4 and 5 of `struct nlmsghdr`, which is 16 bytes long.
fn kind(datagram: &[u8]) -> Option<u16> {
    let bytes = datagram.get(4..6)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

/// The kernel dropped messages because the socket's buffer was full, says so once and goes on.
fn is_overrun(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOBUFS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first bytes of a message of type `kind` about an object of `family`.
    fn message(kind: u16, family: i32) -> Vec<u8> {
        let mut bytes = vec![0; 16];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes.push(u8::try_from(family).unwrap());
        bytes
    }

    #[test]
    fn ipv6_neighbours_alone_are_passed_over() {
        assert!(!concerns_us(&message(libc::RTM_NEWNEIGH, libc::AF_INET6)));
        assert!(!concerns_us(&message(libc::RTM_DELNEIGH, libc::AF_INET6)));
        assert!(concerns_us(&message(libc::RTM_NEWNEIGH, libc::AF_INET)));
        assert!(concerns_us(&message(libc::RTM_NEWNEIGH, libc::AF_BRIDGE)));
        assert!(concerns_us(&message(libc::RTM_NEWLINK, libc::AF_UNSPEC)));
    }

    #[test]
    fn each_message_has_a_word_for_what_it_is_about() {
        for (kind, expected) in [
            (libc::RTM_NEWLINK, "link"),
            (libc::RTM_DELADDR, "address"),
            (libc::RTM_NEWROUTE, "route"),
            (libc::RTM_DELNEIGH, "neighbour"),
            (RTM_NEWNEXTHOP, "nexthop"),
            (libc::RTM_NEWRULE, "other"),
        ] {
            assert_eq!(word(&message(kind, libc::AF_INET)), expected);
        }
        assert_eq!(word(&[]), "other");
    }

    #[test]
    fn what_cannot_be_read_counts_as_a_change() {
        assert!(concerns_us(&[]));
        assert!(concerns_us(
            &message(libc::RTM_NEWNEIGH, libc::AF_INET6)[..16]
        ));
    }
}
