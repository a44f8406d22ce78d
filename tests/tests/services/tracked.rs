//! What a node tracks of connections.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use anyhow::{Context as _, Result};
use dataplane_tests::{
    NetNs, eventually,
    netfilter::{Connection, connections},
};

/// A connection that a node tracks, without the ports that chance gave it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tracked {
    state: Option<String>,
    assured: bool,
    unreplied: bool,
    server: SocketAddrV4,
    answering: SocketAddrV4,
    in_own_name: bool,
}

impl From<Connection> for Tracked {
    fn from(connection: Connection) -> Self {
        Self {
            state: connection.state,
            assured: connection.assured,
            unreplied: connection.unreplied,
            server: connection.server,
            answering: connection.answering,
            in_own_name: connection.client.ip() == connection.answered.ip(),
        }
    }
}

/// How many of each there are.
pub(crate) fn tracked_by(ns: &NetNs) -> Result<BTreeMap<Tracked, usize>> {
    let mut counts = BTreeMap::new();
    for connection in connections(ns)? {
        // The kernel's tunnels are tracked as well.
        if connection.protocol == "tcp" {
            *counts.entry(connection.into()).or_default() += 1;
        }
    }
    Ok(counts)
}

/// As [`tracked_by`], once the node knows that both sides have closed all of them.
pub(crate) fn settled(ns: &NetNs) -> Result<BTreeMap<Tracked, usize>> {
    let mut tracked = BTreeMap::new();
    let outcome = eventually("all connections are closed", || {
        tracked = tracked_by(ns)?;
        // On a busy machine some end with a reset, with the kernel alone as well.
        let is_closed = |of: &Tracked| matches!(of.state.as_deref(), Some("TIME_WAIT" | "CLOSE"));
        Ok(tracked.keys().all(|of| is_closed(of) && of.assured))
    });
    outcome.with_context(|| format!("{tracked:#?}"))?;
    Ok(tracked)
}
