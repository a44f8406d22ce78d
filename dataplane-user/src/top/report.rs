//! What is shown, as rows.

use std::net::Ipv4Addr;

use anyhow::Result;
use clap::ValueEnum;
use schemars::JsonSchema;
use serde::Serialize;

use super::numbers::{packets, percent, scaled};
use crate::inspect::{FillRow, Format, Row, Single, optional, render_object, table};

/// Rates on this node, over the time between two looks.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Top {
    /// How many seconds that was.
    pub seconds: f64,
    /// Whether an agent keeps the dataplane true. Without one it goes on as it is.
    pub agent_running: bool,
    /// How much is accelerated.
    pub acceleration: Share,
    /// What came to each hook, by what became of it and by mode; of what was ever counted.
    pub traffic: Vec<TrafficRate>,
    /// What was dropped or left to the stack, by reason; of what was ever counted.
    pub reasons: Vec<ReasonRate>,
    /// The other nodes, and the packets that were carried to and from them.
    pub peers: Vec<PeerRate>,
    /// Why packets to and from other nodes are not known, where they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers_uncounted: Option<&'static str>,
    /// The pods of this node, and what they sent and received.
    pub endpoints: Vec<EndpointRate>,
    /// Why what pods received is not known, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_uncounted: Option<&'static str>,
    /// How full the maps are.
    pub maps: Vec<FillRow>,
}

impl Single for Top {
    const KIND: &'static str = "Top";
}

/// How much of the pods' traffic is accelerated.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    /// `established` or `all`.
    pub mode: &'static str,
    /// Packets of pods that were carried, a second.
    pub carried_per_second: f64,
    /// Those that could have been, and were left to the stack for the sake of netfilter.
    pub left_per_second: f64,
    /// What was carried of both, where there were any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carried_percent: Option<f64>,
}

/// Packets, and their bytes, a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    /// Packets a second; a segmentation-offloaded one counts once.
    pub packets_per_second: f64,
    /// Their bytes a second, from the Ethernet header on.
    pub bytes_per_second: f64,
}

/// What came to a hook, and was treated alike.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrafficRate {
    /// The hook.
    pub hook: &'static str,
    /// `forward`, `stack` or `drop`.
    pub action: &'static str,
    /// Of what was forwarded: `local`, `direct`, `ipip`, `vxlan`, or else `none`.
    pub mode: &'static str,
    /// How much.
    #[serde(flatten)]
    pub rate: Rate,
}

/// What was not carried for one reason.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReasonRate {
    /// The hook.
    pub hook: &'static str,
    /// `drop` or `stack`.
    pub action: &'static str,
    /// Why.
    pub reason: &'static str,
    /// How much.
    #[serde(flatten)]
    pub rate: Rate,
    /// The reason in a sentence.
    pub description: &'static str,
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeerRate {
    /// Its address.
    pub address: Ipv4Addr,
    /// How it is reached; more than one way where pools differ.
    pub modes: Vec<&'static str>,
    /// The longest packet that gets there, in bytes, before encapsulation; the least of all ways.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Packets that were carried to it, a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_per_second: Option<f64>,
    /// Packets from it that were carried, a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_per_second: Option<f64>,
}

/// A pod of this node.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointRate {
    /// Its addresses.
    pub addresses: Vec<Ipv4Addr>,
    /// The host side of its veth.
    pub interface: String,
    /// MTU of that interface, in bytes.
    pub mtu: u32,
    /// What the pod sent, whoever carried it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<Rate>,
    /// What it received, from whomever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<Rate>,
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// Most packets.
    #[default]
    Packets,
    /// Most bytes; where they are not counted, packets.
    Bytes,
    /// By name.
    Name,
}

impl Sort {
    /// The word that is shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Packets => "packets",
            Self::Bytes => "bytes",
            Self::Name => "name",
        }
    }

    /// What comes after it, when one goes through all.
    #[must_use]
    pub const fn next(self) -> Self {
        match self {
            Self::Packets => Self::Bytes,
            Self::Bytes => Self::Name,
            Self::Name => Self::Packets,
        }
    }
}

/// A row that has a rate.
pub trait Rated: Row + Clone {
    /// What it is told by from the others of its list.
    fn name(&self) -> String;

    /// How much there is of it, both ways together.
    fn rate(&self) -> Rate;

    /// Whether it goes before all that are not.
    fn is_first(&self) -> bool {
        false
    }
}

impl Top {
    /// The rows that have `filter` in one of their columns, in this order; all of them where there is
    /// none.
    #[must_use]
    pub fn arranged(&self, sort: Sort, filter: &str) -> Self {
        let mut maps = self.maps.clone();
        maps.retain(|row| has(row, filter));
        Self {
            traffic: arranged(&self.traffic, sort, filter),
            reasons: arranged(&self.reasons, sort, filter),
            peers: arranged(&self.peers, sort, filter),
            endpoints: arranged(&self.endpoints, sort, filter),
            maps,
            ..self.clone()
        }
    }

    /// Renders it in `format`: for people two lines and tables.
    pub fn render(&self, format: Format) -> Result<String> {
        render_object(self, format, |top| top.words(format))
    }

    fn words(&self, format: Format) -> String {
        let noted = |table: String, note: Option<&'static str>| match note {
            Some(note) => format!("{table}({note})\n"),
            None => table,
        };
        [
            format!(
                "over {:.1} s; {}\n{}\n",
                self.seconds,
                self.agent(),
                self.acceleration.words()
            ),
            table(&self.traffic, format),
            table(&self.reasons, format),
            noted(table(&self.peers, format), self.peers_uncounted),
            noted(table(&self.endpoints, format), self.received_uncounted),
            table(&self.maps, format),
        ]
        .join("\n")
    }

    /// Whether the agent runs, in words.
    #[must_use]
    pub const fn agent(&self) -> &'static str {
        if self.agent_running {
            "the agent is running"
        } else {
            "no agent is running"
        }
    }
}

impl Share {
    /// In words.
    #[must_use]
    pub fn words(&self) -> String {
        let all = packets(self.carried_per_second + self.left_per_second);
        let carried = self.carried_percent.map_or_else(
            || "no packets with a way".to_owned(),
            |share| format!("carried {} of {all} packets/s with a way", percent(share)),
        );
        format!("acceleration: {}; {carried}", self.mode)
    }
}

fn arranged<R: Rated>(rows: &[R], sort: Sort, filter: &str) -> Vec<R> {
    let mut rows: Vec<R> = rows
        .iter()
        .filter(|row| has(*row, filter))
        .cloned()
        .collect();
    let most = |rate: Rate| match sort {
        Sort::Name => 0.0,
        Sort::Bytes if rate.bytes_per_second > 0.0 => rate.bytes_per_second,
        Sort::Bytes | Sort::Packets => rate.packets_per_second,
    };
    rows.sort_by(|one, other| {
        let first = other.is_first().cmp(&one.is_first());
        let rate = most(other.rate()).total_cmp(&most(one.rate()));
        first.then(rate)
    });
    rows
}

/// Whether `text` is in any of the columns, in capitals or not.
fn has<R: Row>(row: &R, text: &str) -> bool {
    let text = text.to_lowercase();
    row.cells()
        .iter()
        .any(|cell| cell.to_lowercase().contains(&text))
}

impl Row for TrafficRate {
    const COLUMNS: &'static [&'static str] = &["HOOK", "ACTION", "MODE", "PACKETS/S", "BIT/S"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.hook.to_owned(),
            self.action.to_owned(),
            if self.mode == "none" { "-" } else { self.mode }.to_owned(),
            packets(self.rate.packets_per_second),
            bits(self.rate),
        ]
    }
}

impl Rated for TrafficRate {
    fn name(&self) -> String {
        format!("{} {} {}", self.hook, self.action, self.mode)
    }

    fn rate(&self) -> Rate {
        self.rate
    }
}

impl Row for ReasonRate {
    const COLUMNS: &'static [&'static str] = &["HOOK", "ACTION", "REASON", "PACKETS/S", "BIT/S"];
    const MORE: &'static [&'static str] = &["MEANING"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.hook.to_owned(),
            self.action.to_owned(),
            self.reason.to_owned(),
            packets(self.rate.packets_per_second),
            bits(self.rate),
        ]
    }

    fn more(&self) -> Vec<String> {
        vec![self.description.to_owned()]
    }
}

impl Rated for ReasonRate {
    fn name(&self) -> String {
        format!("{} {}", self.hook, self.reason)
    }

    fn rate(&self) -> Rate {
        self.rate
    }

    /// What is lost matters more than what only goes another way.
    fn is_first(&self) -> bool {
        self.action == "drop"
    }
}

impl Row for PeerRate {
    const COLUMNS: &'static [&'static str] = &["PEER", "MODES", "MTU", "SENT/S", "RECEIVED/S"];

    fn cells(&self) -> Vec<String> {
        let modes = (!self.modes.is_empty()).then(|| self.modes.join(","));
        vec![
            self.address.to_string(),
            optional(modes.as_ref()),
            optional(self.mtu.as_ref()),
            optional(self.sent_per_second.map(packets).as_ref()),
            optional(self.received_per_second.map(packets).as_ref()),
        ]
    }
}

impl Rated for PeerRate {
    fn name(&self) -> String {
        self.address.to_string()
    }

    fn rate(&self) -> Rate {
        let ways = [self.sent_per_second, self.received_per_second];
        Rate {
            packets_per_second: ways.into_iter().flatten().sum(),
            bytes_per_second: 0.0,
        }
    }
}

impl Row for EndpointRate {
    const COLUMNS: &'static [&'static str] = &[
        "POD",
        "INTERFACE",
        "MTU",
        "SENT/S",
        "BIT/S",
        "RECEIVED/S",
        "BIT/S",
    ];

    fn cells(&self) -> Vec<String> {
        let addresses = self.addresses.iter().map(ToString::to_string);
        let of = |rate: Option<Rate>| {
            let packets = rate.map(|rate| packets(rate.packets_per_second));
            [
                optional(packets.as_ref()),
                optional(rate.map(bits).as_ref()),
            ]
        };
        let [sent, sent_bits] = of(self.sent);
        let [received, received_bits] = of(self.received);
        vec![
            addresses.collect::<Vec<_>>().join(","),
            self.interface.clone(),
            self.mtu.to_string(),
            sent,
            sent_bits,
            received,
            received_bits,
        ]
    }
}

impl Rated for EndpointRate {
    fn name(&self) -> String {
        self.interface.clone()
    }

    fn rate(&self) -> Rate {
        let ways = [self.sent, self.received].into_iter().flatten();
        ways.fold(Rate::default(), |sum, rate| Rate {
            packets_per_second: sum.packets_per_second + rate.packets_per_second,
            bytes_per_second: sum.bytes_per_second + rate.bytes_per_second,
        })
    }
}

fn bits(rate: Rate) -> String {
    const BITS_PER_BYTE: f64 = 8.0;
    scaled(rate.bytes_per_second * BITS_PER_BYTE)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{inspect::schema, top::fixture};

    #[test]
    fn for_people_it_is_lines_and_tables() {
        let mut top = fixture::top().arranged(Sort::Packets, "");
        top.peers_uncounted = Some("why not");
        assert_eq!(
            top.render(Format::Table).unwrap(),
            "over 1.0 s; the agent is running\n\
             acceleration: established; carried 98.00 % of 1.00k packets/s with a way\n\
             \n\
             HOOK           ACTION   MODE    PACKETS/S  BIT/S\n\
             from_uplink    stack    -       1.51k      12.1M\n\
             from_uplink    forward  vxlan   450        3.60M\n\
             from_workload  forward  vxlan   400        3.20M\n\
             from_workload  forward  local   80.0       640k\n\
             from_uplink    forward  direct  50.0       400k\n\
             from_workload  stack    -       37.0       296k\n\
             from_uplink    drop     -       7.0        56.0k\n\
             from_workload  drop     -       3.0        24.0k\n\
             from_workload  forward  -       1.0        8.00k\n\
             \n\
             HOOK           ACTION  REASON          PACKETS/S  BIT/S\n\
             from_uplink    drop    foreign-source  7.0        56.0k\n\
             from_workload  drop    spoofed-source  3.0        24.0k\n\
             from_uplink    stack   not-for-pod     1.50k      12.0M\n\
             from_workload  stack   no-route        25.0       200k\n\
             from_workload  stack   handshake       12.0       96.0k\n\
             from_uplink    stack   reverify        8.0        64.0k\n\
             \n\
             PEER          MODES   MTU   SENT/S  RECEIVED/S\n\
             192.168.2.12  vxlan   1450  300     200\n\
             192.168.1.11  direct  1500  0       0\n\
             (why not)\n\
             \n\
             POD         INTERFACE  MTU   SENT/S  BIT/S  RECEIVED/S  BIT/S\n\
             10.244.0.2  cali2      1450  500     4.00M  600         4.80M\n\
             10.244.0.3  cali3      1450  0       0      0           0\n\
             \n\
             MAP     ENTRIES  MAX-ENTRIES\n\
             ROUTES  8226     33554432\n\
             FLOWS   98304    131072\n"
        );
        let wide = top.render(Format::Wide).unwrap();
        assert!(wide.contains("no-route        25.0       200k   no route in the table\n"));
    }

    #[test]
    fn as_json_it_is_as_the_schema_says() {
        let text = fixture::top().render(Format::Json).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        let schema = jsonschema::validator_for(&schema()).unwrap();
        assert!(schema.is_valid(&value), "{text}");
        assert_eq!(value["kind"], "Top");
        assert_eq!(value["acceleration"]["carriedPercent"], 98.0);
        assert_eq!(value["endpoints"][0]["sent"]["packetsPerSecond"], 500.0);
    }

    #[test]
    fn rows_are_in_the_order_that_was_asked_for() {
        let mut top = fixture::top();
        top.endpoints[0].sent = Some(Rate {
            packets_per_second: 1.0,
            bytes_per_second: 9000.0,
        });
        top.endpoints[1].sent = Some(Rate {
            packets_per_second: 2.0,
            bytes_per_second: 100.0,
        });
        for row in &mut top.endpoints {
            row.received = None;
        }
        let first = |sort| top.arranged(sort, "").endpoints[0].interface.clone();
        assert_eq!(first(Sort::Packets), "cali3");
        assert_eq!(first(Sort::Bytes), "cali2");
        assert_eq!(first(Sort::Name), "cali2");
        // Where bytes are not counted.
        let peers = top.arranged(Sort::Bytes, "").peers;
        assert_eq!(peers[0].address, fixture::FAR);
        let peers = top.arranged(Sort::Name, "").peers;
        assert_eq!(peers[0].address, fixture::NEAR);
    }
}
