//! Asking for what is there.
//!
//! A list is handed over message by message as it is read: a full table of routes, kept as messages,
//! would be a gigabyte.

use std::{future::poll_fn, io};

use anyhow::{Context as _, Result, bail};
use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer,
    NetlinkMessage,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::AddressMessage,
    link::{LinkAttribute, LinkExtentMask, LinkMessage},
    neighbour::NeighbourMessage,
    route::{RouteAttribute, RouteMessage},
    rule::RuleMessage,
};
use nix::errno::Errno;
use rtnetlink::sys::{
    AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE,
};

use super::{
    change::{Change, change},
    monitor::{DATAGRAM, messages},
};

const RTM_GETNEXTHOP: u16 = 106;

/// How often a list is asked for again that changed while it was read.
const ATTEMPTS: u32 = 5;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// All interfaces.
    Links,
    /// All IPv4 addresses.
    Addresses,
    /// The IPv4 routes of all tables.
    Routes,
    /// The IPv4 routes of all tables with a hop by the interface of this index.
    RoutesBy(u32),
    /// The IPv4 rules.
    Rules,
    /// All nexthop objects.
    Objects,
    /// All IPv4 neighbours.
    Neighbours,
    /// All forwarding entries of VXLAN devices and bridges.
    Fdb,
}

/// A connection for lists.
pub struct Lists {
    socket: TokioSocket,
    datagram: Vec<u8>,
    sequence: u32,
}

impl Lists {
    /// Connects in the network namespace of the calling thread.
    pub fn connect() -> Result<Self> {
        let connect = || {
            let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
            socket.socket_mut().bind_auto()?;
            // Lists are filtered by the kernel.
            socket.socket_ref().set_netlink_get_strict_chk(true)?;
            io::Result::Ok(socket)
        };
        Ok(Self {
            socket: connect().context("cannot open a netlink socket")?,
            datagram: Vec::with_capacity(DATAGRAM),
            sequence: 0,
        })
    }

    /// Hands `each` object of a list over. A list that changed while it was read is read again, so
    /// an object may come twice; returns whether it was steady in the end.
    pub async fn read(&mut self, list: List, mut each: impl FnMut(Change)) -> Result<bool> {
        for _ in 0..ATTEMPTS {
            if self
                .read_once(list, &mut each)
                .await
                .with_context(|| format!("cannot list the kernel's {}", list.name()))?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn read_once(&mut self, list: List, each: &mut impl FnMut(Change)) -> Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = request(list, self.sequence);
        self.socket
            .send_to(&request, &SocketAddr::new(0, 0))
            .await?;
        let mut is_steady = true;
        loop {
            self.datagram.clear();
            poll_fn(|context| self.socket.poll_recv_from(context, &mut self.datagram)).await?;
            // What is left of a list that nobody waits for any more.
            let ours = |message: &NetlinkBuffer<&[u8]>| message.sequence_number() == self.sequence;
            for message in messages(&self.datagram).filter(ours) {
                is_steady &= message.flags() & NLM_F_DUMP_INTR == 0;
                match message.message_type() {
                    NLMSG_DONE => return Ok(is_steady),
                    NLMSG_ERROR => match errno(message.payload()) {
                        // Of an interface that is gone there are no routes.
                        Errno::ENODEV => return Ok(true),
                        // A kernel without nexthop objects has none.
                        Errno::EOPNOTSUPP if list == List::Objects => return Ok(true),
                        errno => bail!("{errno}"),
                    },
                    _ => change(&message).into_iter().for_each(&mut *each),
                }
            }
        }
    }
}

impl List {
    fn name(self) -> &'static str {
        match self {
            Self::Links => "interfaces",
            Self::Addresses => "addresses",
            Self::Routes | Self::RoutesBy(_) => "routes",
            Self::Rules => "rules",
            Self::Objects => "nexthop objects",
            Self::Neighbours => "neighbours",
            Self::Fdb => "forwarding entries",
        }
    }
}

fn errno(payload: &[u8]) -> Errno {
    let code = payload
        .first_chunk()
        .map_or(0, |code| i32::from_ne_bytes(*code));
    Errno::from_raw(-code)
}

fn request(list: List, sequence: u32) -> Vec<u8> {
    let neighbours = |family| {
        let mut message = NeighbourMessage::default();
        message.header.family = family;
        RouteNetlinkMessage::GetNeighbour(message)
    };
    let routes = |filter| {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.attributes.extend(filter);
        RouteNetlinkMessage::GetRoute(message)
    };
    let message = match list {
        List::Links => {
            let mut message = LinkMessage::default();
            let extent = LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]);
            message.attributes.push(extent);
            RouteNetlinkMessage::GetLink(message)
        }
        List::Addresses => {
            let mut message = AddressMessage::default();
            message.header.family = AddressFamily::Inet;
            RouteNetlinkMessage::GetAddress(message)
        }
        List::Routes => routes(None),
        List::RoutesBy(oif) => routes(Some(RouteAttribute::Oif(oif))),
        List::Rules => {
            let mut message = RuleMessage::default();
            message.header.family = AddressFamily::Inet;
            RouteNetlinkMessage::GetRule(message)
        }
        List::Neighbours => neighbours(AddressFamily::Inet),
        List::Fdb => neighbours(AddressFamily::Bridge),
        List::Objects => return request_objects(sequence),
    };
    let mut message = NetlinkMessage::from(message);
    message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    message.header.sequence_number = sequence;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// The crate has no nexthop objects: a `struct nlmsghdr`, and a `struct nhmsg` of zeroes.
fn request_objects(sequence: u32) -> Vec<u8> {
    const LENGTH: u8 = 16 + 8;
    let mut bytes = vec![0; LENGTH.into()];
    let mut header = NetlinkBuffer::new(&mut bytes[..]);
    header.set_length(LENGTH.into());
    header.set_message_type(RTM_GETNEXTHOP);
    header.set_flags(NLM_F_REQUEST | NLM_F_DUMP);
    header.set_sequence_number(sequence);
    bytes
}
