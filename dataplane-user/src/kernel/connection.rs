//! The connection that requests travel on.

use anyhow::{Context, Result};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::{
    proto::{ConnectionHandle, new_connection},
    sys::{AsyncSocket, protocols::NETLINK_ROUTE},
};

use super::Events;

/// A connection to the routing half of the kernel (`NETLINK_ROUTE`). Clones share it.
#[derive(Clone, Debug)]
pub struct Netlink {
    pub(super) requests: ConnectionHandle<RouteNetlinkMessage>,
}

impl Netlink {
    /// Connects to the network namespace of the calling thread.
    ///
    /// The events are subscribed to first, so a change that happens while the state is being read
    /// for the first time is reported and not lost.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O enabled, on which the connection is served.
    pub fn connect() -> Result<(Self, Events)> {
        let events = Events::subscribe()?;
        let requests = serve().context("cannot open a netlink socket to the network stack")?;
        Ok((Self { requests }, events))
    }
}

/// Opens the request socket and serves it on the current runtime until the last handle is dropped.
fn serve() -> Result<ConnectionHandle<RouteNetlinkMessage>> {
    let (mut connection, requests, _unsolicited) = new_connection(NETLINK_ROUTE)?;
    let socket = connection.socket_mut().socket_ref();

    // The kernel's own words on a refusal, and only the header of what it refuses (see `request`).
    socket.set_ext_ack(true)?;
    socket.set_cap_ack(true)?;
    // Lists are filtered by the kernel, and those of routes leave out the exceptions that path MTU
    // discovery and redirects have cached (`ip_valid_fib_dump_req`).
    socket.set_netlink_get_strict_chk(true)?;
    // A request that has been answered in full can be told from a connection that ended.
    connection.set_forward_ack(true);
    connection.set_forward_done(true);

    tokio::spawn(connection);
    Ok(requests)
}
