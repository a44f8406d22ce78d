//! Queueing disciplines: only the removal of a clsact that was added for our filters, and which filters
//! are there.

use anyhow::{Context, Result};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcMessage, TcOption},
};
use nix::errno::Errno;

use super::Netlink;

/// Major number of clsact's handle (`TC_H_CLSACT`).
const CLSACT: u16 = 0xffff;

/// A BPF program as a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// What it was called when it was attached.
    pub name: String,
    /// The number of the program.
    pub program: Option<u32>,
}

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
        let filters = self.filters(index, ingress).await?;
        Ok(filters.iter().any(|filter| {
            // The protocol is the lower half.
            filter.header.info >> 16 == u32::from(priority)
                && u32::from(filter.header.handle) == handle
        }))
    }

    /// The BPF programs that are filters on the ingress, or else on the egress, of interface `index`.
    pub async fn bpf_filters(&self, index: u32, ingress: bool) -> Result<Vec<Filter>> {
        let filters = self.filters(index, ingress).await?;
        Ok(filters.iter().filter_map(bpf_filter).collect())
    }

    async fn filters(&self, index: u32, ingress: bool) -> Result<Vec<TcMessage>> {
        let index = i32::try_from(index).context("an interface index is positive")?;
        let side = if ingress {
            TcHandle::MIN_INGRESS
        } else {
            TcHandle::MIN_EGRESS
        };
        let request = RouteNetlinkMessage::GetTrafficFilter(message(index, side));
        let filters = match self.list(request).await {
            Ok(filters) => filters.into_iter(),
            Err(error) if is_gone(error.errno()) => return Ok(Vec::new()),
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("cannot list the filters of interface number {index}")
                });
            }
        };
        let filters = filters.filter_map(|filter| match filter {
            RouteNetlinkMessage::NewTrafficFilter(filter) => Some(filter),
            _ => None,
        });
        Ok(filters.collect())
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

/// Reads a filter; `None` for what is no BPF program. The kernel announces each priority by an entry
/// of its own, without any options.
fn bpf_filter(message: &TcMessage) -> Option<Filter> {
    let mut options = message.attributes.iter();
    let options = options.find_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    });
    let mut name = None;
    let mut program = None;
    for option in options? {
        match option {
            TcOption::Bpf(TcFilterBpfOption::ProgName(text)) => name = Some(text.clone()),
            TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => program = Some(*id),
            _ => {}
        }
    }
    let is_program = name.is_some() || program.is_some();
    is_program.then(|| Filter {
        name: name.unwrap_or_else(|| "?".to_owned()),
        program,
    })
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
