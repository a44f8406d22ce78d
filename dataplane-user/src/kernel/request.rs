//! Requests to the kernel and its answers: three kinds of conversation, one kind of error.
//!
//! `rtnetlink`'s own request types are not used, for two properties they lack: a list is returned
//! whole or not at all (routes are deleted by what a list does not contain), and a refusal keeps
//! the kernel's explanation of it.

use futures_util::StreamExt;
use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use rtnetlink::sys::SocketAddr;

use super::{NEEDS_NET_ADMIN, Netlink};

/// How often a list is read again because it changed while it was being read.
const LIST_ATTEMPTS: u32 = 10;

/// Length in bytes of the refused request's header, which precedes the attributes of a refusal.
const NLMSG_HDRLEN: usize = 16;

/// Attribute of a refusal: a null-terminated sentence (`enum nlmsgerr_attrs`).
const NLMSGERR_ATTR_MSG: u16 = 1;

/// Why a request has no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    /// The kernel understood the request and refuses it.
    #[error("{}", refusal(*errno, reason.as_deref()))]
    Refused {
        /// The error number the kernel answered with.
        errno: Errno,
        /// The kernel's explanation, where it gives one.
        reason: Option<String>,
    },
    /// No consistent list could be read.
    #[error("it changed during each of {LIST_ATTEMPTS} attempts to read it")]
    Unsteady,
    /// The task that serves the connection is gone, and with it the answer.
    #[error("the netlink connection has ended; restart the agent")]
    Disconnected,
}

impl RequestError {
    /// The kernel's error number, if the kernel refused the request.
    pub(super) fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::Unsteady | Self::Disconnected => None,
        }
    }
}

impl Netlink {
    /// Reads the list of objects that match `request`, a `Get` message.
    pub(super) async fn list(
        &self,
        request: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, RequestError> {
        for _ in 0..LIST_ATTEMPTS {
            let answer = self.converse(request.clone(), NLM_F_DUMP).await?;
            if !answer.interrupted {
                return Ok(answer.objects);
            }
        }
        Err(RequestError::Unsteady)
    }

    /// Reads the one object that `request`, a `Get` message, identifies.
    pub(super) async fn get(
        &self,
        request: RouteNetlinkMessage,
    ) -> Result<Option<RouteNetlinkMessage>, RequestError> {
        let answer = self.converse(request, NLM_F_ACK).await?;
        Ok(answer.objects.into_iter().next())
    }

    /// Has the kernel carry out `request`, a `New` or `Del` message, under `flags` (`NLM_F_*`).
    pub(super) async fn change(
        &self,
        request: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), RequestError> {
        self.converse(request, NLM_F_ACK | flags).await.map(drop)
    }

    /// Sends one request and collects the answer up to the message that completes it.
    async fn converse(
        &self,
        request: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Answer, RequestError> {
        const KERNEL: u32 = 0;

        let mut message = NetlinkMessage::from(request);
        message.header.flags = NLM_F_REQUEST | flags;
        let mut replies = self
            .requests
            .request(message, SocketAddr::new(KERNEL, 0))
            .map_err(|_| RequestError::Disconnected)?;

        let mut answer = Answer::default();
        while let Some(reply) = replies.next().await {
            answer.interrupted |= reply.header.flags & NLM_F_DUMP_INTR != 0;
            match reply.payload {
                NetlinkPayload::InnerMessage(object) => answer.objects.push(object),
                NetlinkPayload::Done(done) => {
                    return verdict(done.code, &done.extended_ack).map(|()| answer);
                }
                NetlinkPayload::Error(error) => {
                    return verdict(error.raw_code(), attributes(&error)).map(|()| answer);
                }
                _ => {}
            }
        }
        Err(RequestError::Disconnected)
    }
}

/// What the kernel said in reply to one request.
#[derive(Default)]
struct Answer {
    objects: Vec<RouteNetlinkMessage>,
    /// The list changed while it was sent, so an object may be missing or present twice.
    interrupted: bool,
}

/// Reads the code that completes an answer, zero or a negative error number.
fn verdict(code: i32, attributes: &[u8]) -> Result<(), RequestError> {
    match code {
        0 => Ok(()),
        code => Err(RequestError::Refused {
            errno: Errno::from_raw(-code),
            reason: reason(attributes),
        }),
    }
}

fn attributes(error: &ErrorMessage) -> &[u8] {
    error.header.get(NLMSG_HDRLEN..).unwrap_or_default()
}

fn reason(attributes: &[u8]) -> Option<String> {
    NlasIterator::new(attributes)
        .filter_map(Result::ok)
        .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)
        .map(|attribute| String::from_utf8_lossy(attribute.value()).into_owned())
        .map(|text| text.trim_end_matches(['\0', '.']).to_owned())
}

/// What a refusal reads like: the kernel's explanation, and the error number by name.
fn refusal(errno: Errno, reason: Option<&str>) -> String {
    let cause = match reason {
        Some(reason) => format!("{reason} ({errno})"),
        None => errno.to_string(),
    };
    match errno {
        Errno::EPERM => format!("{cause}; {NEEDS_NET_ADMIN}"),
        _ => cause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_gives_the_kernels_explanation() {
        let attributes = [8, 0, 1, 0, b'N', b'o', b'.', 0];
        let error = verdict(-libc::EINVAL, &attributes).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EINVAL));
        assert_eq!(error.to_string(), "No (EINVAL: Invalid argument)");
    }

    #[test]
    fn a_refusal_without_explanation_names_the_error() {
        let error = verdict(-libc::EPERM, &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "EPERM: Operation not permitted; run as root or with CAP_NET_ADMIN"
        );
    }

    #[test]
    fn zero_completes_an_answer() {
        assert!(verdict(0, &[]).is_ok());
    }
}
