//! The connections that a namespace tracks.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context as _, Result};

use crate::NetNs;

/// A connection, as conntrack(8) lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// What tells it from one that had the same addresses and ports before.
    pub id: u32,
    /// `tcp`, `udp`, `icmp`, …
    pub protocol: String,
    /// How long it is remembered without another packet, in seconds.
    pub seconds: u32,
    /// `ESTABLISHED`, `TIME_WAIT`, …; only some protocols have it.
    pub state: Option<String>,
    /// Whether packets have gone both ways, enough to keep it when the table is full.
    pub assured: bool,
    /// Whether packets have gone one way only.
    pub unreplied: bool,
    /// Who began it; without ports, 0.
    pub client: SocketAddrV4,
    /// With whom, as the client sees it.
    pub server: SocketAddrV4,
    /// Who answers: the server, or whom its address was translated to.
    pub answering: SocketAddrV4,
    /// To whom: the client, or whom its address was translated to.
    pub answered: SocketAddrV4,
}

/// All of them.
pub fn connections(ns: &NetNs) -> Result<Vec<Connection>> {
    let listed = ns.exec("conntrack -L -o id")?;
    let lines = listed.lines().map(|line| {
        Connection::parse(line).with_context(|| format!("understand conntrack's {line:?}"))
    });
    lines.collect()
}

/// Those between two addresses, whoever began.
pub fn connections_between(ns: &NetNs, one: Ipv4Addr, other: Ipv4Addr) -> Result<Vec<Connection>> {
    let mut connections = connections(ns)?;
    connections.retain(|connection| {
        let ends = (*connection.client.ip(), *connection.answering.ip());
        ends == (one, other) || ends == (other, one)
    });
    Ok(connections)
}

/// Has a namespace forget the connections from and to an address, as is done where permission is
/// withdrawn.
pub fn forget_connections(ns: &NetNs, address: Ipv4Addr) -> Result<()> {
    for side in ["--src", "--dst"] {
        let command = ns.command("conntrack").args(["--delete", side]);
        // Where there is none, it fails.
        command.arg(address.to_string()).output()?;
    }
    Ok(())
}

/// How many packets were of no connection that could be.
pub fn invalid(ns: &NetNs) -> Result<u64> {
    let table = ns.exec("conntrack -S")?;
    let by_processor = table
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("invalid="));
    let counts: Vec<u64> = by_processor
        .map(|count| count.parse().context("understand conntrack -S"))
        .collect::<Result<_>>()?;
    Ok(counts.iter().sum())
}

impl Connection {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let protocol = words.next()?.to_owned();
        let seconds = words.nth(1)?.parse().ok()?;
        let rest: Vec<&str> = words.collect();
        let state = rest.first().filter(|word| !word.contains('='));
        // Each twice: as the client's packets have them, then as the answers have them.
        let values = |key: &str| {
            let prefix = format!("{key}=");
            let given = rest.iter().filter_map(|word| word.strip_prefix(&prefix));
            given.map(str::to_owned).collect::<Vec<_>>()
        };
        let socket = |address: &str, port: &str, way: usize| -> Option<SocketAddrV4> {
            let address: Ipv4Addr = values(address).get(way)?.parse().ok()?;
            let port = values(port).get(way).map_or(Ok(0), |port| port.parse());
            Some(SocketAddrV4::new(address, port.ok()?))
        };
        // Of ICMP, the identifier has the same name; this one comes last.
        let id = values("id").last()?.parse().ok()?;
        Some(Self {
            id,
            protocol,
            seconds,
            state: state.map(|&state| state.to_owned()),
            assured: rest.contains(&"[ASSURED]"),
            unreplied: rest.contains(&"[UNREPLIED]"),
            client: socket("src", "sport", 0)?,
            server: socket("dst", "dport", 0)?,
            answering: socket("src", "sport", 1)?,
            answered: socket("dst", "dport", 1)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Connection;

    #[test]
    fn a_translated_connection_is_understood() {
        let line = "tcp      6 117 TIME_WAIT src=10.244.0.2 dst=10.96.0.10 sport=40000 dport=80 \
                    src=10.244.1.2 dst=10.244.0.1 sport=8080 dport=512 [ASSURED] mark=0 use=1 \
                    id=2865129472";
        let connection = Connection::parse(line).expect("a connection");
        assert_eq!(connection.protocol, "tcp");
        assert_eq!(connection.id, 2_865_129_472);
        assert_eq!(connection.seconds, 117);
        assert_eq!(connection.state.as_deref(), Some("TIME_WAIT"));
        assert!(connection.assured && !connection.unreplied);
        assert_eq!(connection.client.to_string(), "10.244.0.2:40000");
        assert_eq!(connection.server.to_string(), "10.96.0.10:80");
        assert_eq!(connection.answering.to_string(), "10.244.1.2:8080");
        assert_eq!(connection.answered.to_string(), "10.244.0.1:512");
    }

    #[test]
    fn one_without_state_ports_or_answer_is_understood() {
        let line = "icmp     1 29 src=10.244.0.2 dst=10.244.1.2 type=8 code=0 id=7 [UNREPLIED] \
                    src=10.244.1.2 dst=10.244.0.2 type=0 code=0 id=7 mark=0 use=1 id=12";
        let connection = Connection::parse(line).expect("a connection");
        assert_eq!((connection.id, connection.state), (12, None));
        assert!(connection.unreplied && !connection.assured);
        assert_eq!(connection.server.to_string(), "10.244.1.2:0");
    }
}
