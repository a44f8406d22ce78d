//! What connection tracking knows, by ctnetlink.
//!
//! Its requests wait for their answers: they are for threads that may wait, not for the agent's loop.

mod entry;

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
};

use anyhow::{Context as _, Result, anyhow};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    conntrack::{ConntrackAttribute, ConntrackMessage, ProtoInfo, ProtoInfoTCP},
};
use nix::errno::Errno;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use super::NEEDS_NET_ADMIN;
use entry::liberal;
pub use entry::{ConnTuple, ConnectionEntry, Detail, TCP_ESTABLISHED};

/// Bytes of the longest datagram that the kernel sends (`NLMSG_GOODSIZE`, and the longest of a list).
const DATAGRAM: usize = 1 << 16;

/// A connection to the kernel's connection tracking, of one network namespace.
pub struct Conntrack {
    socket: Socket,
    sequence: u32,
    datagram: Vec<u8>,
}

impl Conntrack {
    /// Connects in the network namespace of the calling thread.
    pub fn connect() -> Result<Self> {
        let connect = || {
            let mut socket = Socket::new(NETLINK_NETFILTER)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            io::Result::Ok(socket)
        };
        Ok(Self {
            socket: connect().context("cannot open a netlink socket to netfilter")?,
            sequence: 0,
            datagram: Vec::with_capacity(DATAGRAM),
        })
    }

    /// The entry that a packet with this tuple is of, whichever way it goes, if there is one.
    pub fn get(&mut self, tuple: &ConnTuple) -> Result<Option<ConnectionEntry>> {
        let request = ConntrackMessage::Get(vec![tuple.attribute()]);
        let mut entry = None;
        match self.converse(request, NLM_F_ACK, |attributes| {
            entry = ConnectionEntry::from_attributes(attributes);
        }) {
            Ok(()) => Ok(entry),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error.context(format!("cannot ask conntrack for {tuple}"))),
        }
    }

    /// Has `entry` expire in so many seconds, unless a packet comes. One that is gone is no error.
    pub fn set_timeout(&mut self, entry: &ConnectionEntry, seconds: u32) -> Result<()> {
        self.change(entry, ConntrackAttribute::CtaTimeout(seconds))
    }

    /// Has every TCP connection over IPv4 that there is be judged liberally, as
    /// `nf_conntrack_tcp_be_liberal` has all be, for as long as it lasts.
    pub fn be_liberal(&mut self) -> Result<()> {
        for entry in self.tcp_entries()? {
            let both = vec![
                ProtoInfoTCP::OriginalFlags(liberal()),
                ProtoInfoTCP::ReplyFlags(liberal()),
            ];
            let info = ConntrackAttribute::CtaProtoInfo(vec![ProtoInfo::TCP(both)]);
            self.change(&entry, info)?;
        }
        Ok(())
    }

    /// The TCP connections over IPv4.
    pub fn tcp_entries(&mut self) -> Result<Vec<ConnectionEntry>> {
        let mut entries = Vec::new();
        let each = |attributes: &[ConntrackAttribute]| {
            let entry = ConnectionEntry::from_attributes(attributes);
            entries.extend(entry.filter(|entry| entry.tcp_state.is_some()));
        };
        self.converse(ConntrackMessage::Get(Vec::new()), NLM_F_DUMP, each)
            .context("cannot list the entries of conntrack")?;
        Ok(entries)
    }

    fn change(&mut self, entry: &ConnectionEntry, what: ConntrackAttribute) -> Result<()> {
        let mut attributes = entry.identity();
        attributes.push(what);
        match self.converse(ConntrackMessage::New(attributes), NLM_F_ACK, |_| {}) {
            Err(error) if !is_missing(&error) => {
                Err(error.context(format!("cannot change conntrack's {}", entry.original)))
            }
            _ => Ok(()),
        }
    }

    /// Sends a request, and hands over what comes in answer until that is complete.
    fn converse(
        &mut self,
        request: ConntrackMessage,
        flags: u16,
        mut each: impl FnMut(&[ConntrackAttribute]),
    ) -> Result<()> {
        self.send(request, flags)?;
        loop {
            self.datagram.clear();
            self.socket.recv(&mut self.datagram, 0)?;
            let mut rest = &*self.datagram;
            while !rest.is_empty() {
                let message = NetlinkMessage::<NetfilterMessage>::deserialize(rest)
                    .map_err(|error| anyhow!("an answer that is none: {error}"))?;
                let length = usize::try_from(message.header.length)?.next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                // What is left of an answer that nobody waits for any more.
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(NetfilterMessage {
                        inner: NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)),
                        ..
                    }) => each(&attributes),
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) => return verdict(error.raw_code()),
                    _ => {}
                }
            }
        }
    }

    fn send(&mut self, request: ConntrackMessage, flags: u16) -> Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let header = NetfilterHeader::new(NetfilterProtoFamily::IPv4, 0, 0);
        let payload = NetlinkPayload::from(NetfilterMessage::new(header, request));
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), payload);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        Ok(())
    }
}

/// Reads the code that completes an answer, zero or a negative error number.
fn verdict(code: i32) -> Result<()> {
    match Errno::from_raw(-code) {
        _ if code == 0 => Ok(()),
        errno @ Errno::EPERM => Err(anyhow!(errno).context(NEEDS_NET_ADMIN)),
        // `nfnetlink_rcv_msg` knows no such subsystem.
        errno @ Errno::EINVAL => {
            Err(anyhow!(errno).context("is there a module nf_conntrack_netlink (modprobe, lsmod)?"))
        }
        errno => Err(anyhow!(errno)),
    }
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref() == Some(&Errno::ENOENT)
}

/// An IPv4 address, of what conntrack has under one.
fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}
