//! Word that the rules of nftables have changed.

use std::{future::poll_fn, io, task::Poll};

use anyhow::{Context as _, Result};
use rtnetlink::sys::{AsyncSocket, SocketAddr, TokioSocket, protocols::NETLINK_NETFILTER};

/// `NFNLGRP_NFTABLES`: every change of the rule set, once it holds.
const GROUP: u32 = 7;

/// Bytes read of a message. None of them matters.
const DATAGRAM: usize = 256;

/// A subscription to changes of the rule set, also by iptables on nftables. The kernel tells of none
/// that are made by iptables-legacy or ipset.
pub struct RuleEvents {
    pub(super) socket: TokioSocket,
    datagram: Vec<u8>,
}

impl RuleEvents {
    /// Subscribes in the network namespace of the calling thread.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O enabled.
    pub fn subscribe() -> Result<Self> {
        let subscribe = || {
            let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
            socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
            socket.socket_ref().add_membership(GROUP)?;
            io::Result::Ok(socket)
        };
        Ok(Self {
            socket: subscribe().context("cannot subscribe to changes of nftables' rules")?,
            datagram: Vec::with_capacity(DATAGRAM),
        })
    }

    /// Waits until something has changed since the last call and takes in all that has, so that a
    /// burst of changes is one event. Reports lost by an overrun of the socket count as a change.
    ///
    /// Cancel-safe: nothing is taken from the socket by a call that does not return.
    pub async fn changed(&mut self) -> Result<()> {
        let mut changed = false;
        poll_fn(|context| {
            loop {
                self.datagram.clear();
                match self.socket.poll_recv_from(context, &mut self.datagram) {
                    Poll::Ready(Ok(_)) => changed = true,
                    Poll::Ready(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                        changed = true;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending if changed => return Poll::Ready(Ok(())),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
        .context("the kernel's reports of changes of nftables' rules have ended")
    }
}
