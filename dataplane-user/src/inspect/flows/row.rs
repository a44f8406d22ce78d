//! A flow as it is printed.

use std::{fmt, net::Ipv4Addr, time::Duration};

use schemars::JsonSchema;
use serde::Serialize;

use super::state::{State, why_unverified};
use crate::{
    inspect::{Listed, Row, rows},
    kernel::{ConnTuple, ConnectionEntry},
};

/// A flow.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FlowRow {
    /// One end, that with the lower address.
    pub a: End,
    /// The other.
    pub b: End,
    /// `tcp`, `udp`, `sctp`, `icmp`, or a number.
    pub protocol: String,
    /// The identifier of an ICMP echo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub echo_id: Option<u16>,
    /// How many seconds ago the stack was first handed one of its packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<f64>,
    /// How it stands.
    pub state: State,
    /// Why it is not accelerated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What is known of the way from `a` to `b`.
    pub a_to_b: DirectionRow,
    /// What is known of the way back.
    pub b_to_a: DirectionRow,
    /// What conntrack has of it, where it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conntrack: Option<String>,
}

/// An end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct End {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its port, where the protocol has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// One direction of a flow.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DirectionRow {
    /// How many seconds ago the stack let one of its packets through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified_seconds_ago: Option<f64>,
    /// How many packets were carried; one that TCP or GRO made of many segments counts once.
    pub packets: u64,
    /// Where they went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub way: Option<String>,
}

impl FlowRow {
    /// Takes in what conntrack has of what comes with `tuple`.
    pub(super) fn learn(&mut self, tuple: &ConnTuple, entry: Option<&ConnectionEntry>) {
        let leaves = entry.map(|entry| entry.leaves_as(tuple));
        let leaves = leaves.filter(|leaves| leaves != tuple);
        let translated = leaves.map(|leaves| format!("{tuple} leaves as {leaves}"));
        if self.state == State::Unverified {
            self.state = why_unverified(tuple, entry);
            match self.state {
                State::Translated => self.why.clone_from(&translated),
                State::Policy if entry.is_some() => {
                    self.why = Some(format!("nothing has answered {tuple}"));
                }
                State::Policy => self.why = Some(format!("the stack lets {tuple} not through")),
                _ => {}
            }
        }
        self.conntrack = Some(entry.map_or_else(
            || "no entry".to_owned(),
            |entry| {
                let state = entry.tcp_state_name().unwrap_or("an entry");
                let left = entry.timeout.map(|left| format!("forgotten in {left} s"));
                let reply = (!entry.has_reply).then(|| "nothing has answered".to_owned());
                let parts = [Some(state.to_owned()), left, reply, translated];
                parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
            },
        ));
    }

    /// In words, a line each.
    #[must_use]
    pub fn story(&self) -> String {
        let Self { a, b, state, .. } = self;
        let protocol = self.protocol_cell();
        let age = self.age_cell().map(|age| format!(", known for {age}"));
        let age = age.unwrap_or_default();
        let mut lines = vec![format!("{a} - {b}, {protocol}: {}{age}", state.name())];
        let why = self.why.iter().cloned();
        lines.extend(why.chain(self.details()).map(|line| format!("  {line}")));
        lines.join("\n") + "\n"
    }

    /// What is known of both ways, and by conntrack, a line each.
    pub(in crate::inspect) fn details(&self) -> Vec<String> {
        let Self { a, b, .. } = self;
        let ways = [(a, b, &self.a_to_b), (b, a, &self.b_to_a)];
        let ways = ways.map(|(from, to, way)| format!("{from} -> {to}: {way}"));
        let conntrack = self.conntrack.iter();
        let conntrack = conntrack.map(|text| format!("conntrack: {text}"));
        ways.into_iter().chain(conntrack).collect()
    }

    /// In whole seconds.
    fn age_cell(&self) -> Option<String> {
        let age = Duration::try_from_secs_f64(self.age_seconds?).ok()?;
        Some(humantime::format_duration(Duration::from_secs(age.as_secs())).to_string())
    }

    fn protocol_cell(&self) -> String {
        match self.echo_id {
            Some(id) => format!("{} {id}", self.protocol),
            None => self.protocol.clone(),
        }
    }
}

impl Row for FlowRow {
    const COLUMNS: &'static [&'static str] = &[
        "A", "B", "PROTOCOL", "AGE", "STATE", "VERIFIED", "PACKETS", "A->B", "B->A", "WHY",
    ];
    const MORE: &'static [&'static str] = &["CONNTRACK"];

    fn cells(&self) -> Vec<String> {
        let ways = [&self.a_to_b, &self.b_to_a];
        let both = |cell: fn(&DirectionRow) -> String| ways.map(cell).join("/");
        vec![
            self.a.to_string(),
            self.b.to_string(),
            self.protocol_cell(),
            self.age_cell().unwrap_or("-".to_owned()),
            self.state.name().to_owned(),
            both(|way| {
                way.verified_seconds_ago
                    .map_or("-".to_owned(), |ago| format!("{ago:.1}s"))
            }),
            both(|way| way.packets.to_string()),
            rows::optional(self.a_to_b.way.as_ref()),
            rows::optional(self.b_to_a.way.as_ref()),
            rows::optional(self.why.as_ref()),
        ]
    }

    fn more(&self) -> Vec<String> {
        vec![rows::optional(self.conntrack.as_ref())]
    }
}

impl Listed for FlowRow {
    const KIND: &'static str = "Flow";

    fn key(&self) -> String {
        let Self { a, b, .. } = self;
        format!("{a} {b} {}", self.protocol_cell())
    }

    /// Whatever its age, how long ago it was verified, and when conntrack will forget it.
    fn says_as(&self, other: &Self) -> bool {
        let said = |flow: &Self| {
            let ways = [&flow.a_to_b, &flow.b_to_a];
            let ways = ways.map(|way| (way.packets, way.way.clone()));
            (flow.state, flow.why.clone(), ways)
        };
        said(self) == said(other)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.address),
            None => self.address.fmt(f),
        }
    }
}

impl fmt::Display for DirectionRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.verified_seconds_ago {
            Some(ago) => write!(
                f,
                "verified {ago:.1} s ago, {} packets carried",
                self.packets
            )?,
            None => f.write_str("never verified")?,
        }
        match &self.way {
            Some(way) => write!(f, ", {way}"),
            None => Ok(()),
        }
    }
}
