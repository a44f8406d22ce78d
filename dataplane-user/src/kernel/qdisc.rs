//! Queueing disciplines: only the removal of a clsact that was added for our filters, and whether a
//! filter is there.

use anyhow::{Context, Result};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcHandle, TcMessage},
};
use nix::errno::Errno;

use super::Netlink;

/// Major number of clsact's handle (`TC_H_CLSACT`).
const CLSACT: u16 = 0xffff;

impl Netlink {
    /// Whether a filter with this priority and handle is on the ingress, or else on the egress, of
    /// interface `index`.
    pub async fn has_filter(
        &self,
        index: u32,
        ingress: bool,
        priority: u16,
        handle: u32,
    ) -> Result<bool> {
        let index = i32::try_from(index).context("an interface index is positive")?;
        let side = if ingress {
            TcHandle::MIN_INGRESS
        } else {
            TcHandle::MIN_EGRESS
        };
        let request = RouteNetlinkMessage::GetTrafficFilter(message(index, side));
        let filters = match self.list(request).await {
            Ok(filters) => filters,
            Err(error) if is_gone(error.errno()) => return Ok(false),
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("cannot list the filters of interface number {index}")
                });
            }
        };
        Ok(filters.iter().any(|filter| match filter {
            RouteNetlinkMessage::NewTrafficFilter(filter) => {
                // The protocol is the lower half.
                filter.header.info >> 16 == u32::from(priority)
                    && u32::from(filter.header.handle) == handle
            }
            _ => false,
        }))
    }

    /// Removes the clsact qdisc of interface `index` unless filters are on it, which are others'.
    /// One that is gone, or whose interface is, is no error. Returns whether it was removed.
    pub async fn delete_empty_clsact(&self, index: u32) -> Result<bool> {
        let index = i32::try_from(index).context("an interface index is positive")?;
        for side in [TcHandle::MIN_INGRESS, TcHandle::MIN_EGRESS] {
            let request = RouteNetlinkMessage::GetTrafficFilter(message(index, side));
            match self.list(request).await {
                Ok(filters) if filters.is_empty() => {}
                Ok(_) => return Ok(false),
                Err(error) if is_gone(error.errno()) => return Ok(false),
                Err(error) => {
                    return Err(error).with_context(|| {
                        format!("cannot list the filters of interface number {index}")
                    });
                }
            }
        }
        let mut clsact = message(index, 0);
        clsact.header.handle = TcHandle {
            major: CLSACT,
            minor: 0,
        };
        clsact.header.parent = TcHandle::CLSACT;
        match self
            .change(RouteNetlinkMessage::DelQueueDiscipline(clsact), 0)
            .await
        {
            Ok(()) => Ok(true),
            Err(error) if is_gone(error.errno()) => Ok(false),
            Err(error) => Err(error).with_context(|| {
                format!("cannot remove the clsact qdisc of interface number {index}")
            }),
        }
    }
}

fn message(index: i32, side: u16) -> TcMessage {
    let mut message = TcMessage::with_index(index);
    message.header.parent = TcHandle {
        major: CLSACT,
        minor: side,
    };
    message
}

fn is_gone(errno: Option<Errno>) -> bool {
    matches!(errno, Some(Errno::ENODEV | Errno::ENOENT | Errno::EINVAL))
}
