//! A packet as it is printed.

use std::{fmt, net::Ipv4Addr};

use anyhow::Result;
use dataplane_common::{
    abi::{Event, NextHopKind, TO_POD},
    decide::inner_offset,
    headers::{ETHERNET_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4, IPV4_LEN},
    monitor::{Heading, heading, tunnel},
    parse::{IP, PROTOCOL_IPIP, PROTOCOL_TCP, PROTOCOL_UDP},
};
use humantime::format_rfc3339_micros;
use schemars::JsonSchema;
use serde::Serialize;

use super::Reader;
use crate::inspect::{
    End, Format, Row,
    envelope::{Object, Single},
    output::{aligned, cells, columns, yaml},
    protocol_name, rows,
};

/// A packet at a hook: what came, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PacketRow {
    /// When it came, to the microsecond.
    pub time: String,
    /// The hook, as `underpass counters` names it.
    pub hook: &'static str,
    /// The interface that the program sits on.
    pub interface: String,
    /// Length of the frame in bytes, as it came; of many segments in one, of all together.
    pub length: u32,
    /// Its IP header; of a packet in a tunnel, the inner one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packet: Option<HeadingRow>,
    /// The header of the tunnel that it came in, or else of the one that it is sent in, whose source port
    /// is not known yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outer: Option<HeadingRow>,
    /// What it is when it is not IPv4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<String>,
    /// `forward`, `stack` or `drop`.
    pub verdict: &'static str,
    /// Why, as `underpass counters` names it.
    pub reason: &'static str,
    /// The same for a person.
    pub meaning: &'static str,
    /// What it is sent to another node in: `none`, `ipip` or `vxlan`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encapsulation: Option<&'static str>,
    /// Where it is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub towards: Option<TowardsRow>,
}

/// An IPv4 header, and the ports behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeadingRow {
    /// Where it comes from.
    pub source: End,
    /// Where it goes.
    pub destination: End,
    /// `ipip`, `tcp`, `udp`, `sctp`, `icmp`, or a number.
    pub protocol: String,
    /// The flags of TCP that are set, a letter each: FSRPAUEC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_flags: Option<String>,
}

/// Where a packet is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TowardsRow {
    /// The node; none where it is a pod of this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<Ipv4Addr>,
    /// The neighbour it is sent to, where that is not the peer itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
    /// By which interface.
    pub interface: String,
}

impl PacketRow {
    /// The row of an event; none of one that nobody knows how to read.
    #[must_use]
    pub fn new(event: &Event, reader: &Reader) -> Option<Self> {
        let (hook, reason) = (event.hook()?, event.reason()?);
        let came = Came::read(event, reader.vxlan_port);
        let encapsulation = event.next_hop().and_then(encapsulation);
        Some(Self {
            time: format_rfc3339_micros(reader.time(event.time)).to_string(),
            hook: hook.name(),
            interface: rows::interface(event.ifindex),
            length: event.length,
            outer: came.outer.or_else(|| sent_in(event, reader.vxlan_port)),
            packet: came.packet,
            other: came.other,
            verdict: hook.action(reason).name(),
            reason: reason.name(),
            meaning: reason.description(),
            encapsulation,
            towards: TowardsRow::new(event),
        })
    }

    /// What became of it, in words.
    #[must_use]
    pub fn outcome(&self) -> String {
        let encapsulation = self.encapsulation.filter(|name| *name != "none");
        let encapsulation = encapsulation.map(|name| format!(" in {name}"));
        let towards = self
            .towards
            .as_ref()
            .map(|towards| format!(" to {towards}"));
        let parts = [encapsulation, towards].into_iter().flatten();
        format!(
            "{} ({}){}",
            self.verdict,
            self.reason,
            parts.collect::<String>()
        )
    }
}

const fn encapsulation(kind: NextHopKind) -> Option<&'static str> {
    match kind {
        NextHopKind::Direct => Some("none"),
        NextHopKind::Ipip => Some("ipip"),
        NextHopKind::Vxlan => Some("vxlan"),
        NextHopKind::Local | NextHopKind::Blackhole | NextHopKind::Multipath => None,
    }
}

/// The header that is put in front of a packet.
fn sent_in(event: &Event, vxlan_port: u16) -> Option<HeadingRow> {
    let end = |address: [u8; 4], port| End {
        address: address.into(),
        port,
    };
    let (protocol, port) = match event.next_hop()? {
        NextHopKind::Ipip => (PROTOCOL_IPIP, None),
        NextHopKind::Vxlan => (PROTOCOL_UDP, Some(vxlan_port)),
        _ => return None,
    };
    Some(HeadingRow {
        source: end(event.source, None),
        destination: end(event.peer, port),
        protocol: name_of(protocol),
        tcp_flags: None,
    })
}

/// What the beginning of a frame says.
#[derive(Default)]
struct Came {
    packet: Option<HeadingRow>,
    outer: Option<HeadingRow>,
    other: Option<String>,
}

impl Came {
    fn read(event: &Event, vxlan_port: u16) -> Self {
        let at = |offset| heading(&event.frame, event.captured, offset);
        let ethertype = [event.frame[ETHERNET_LEN - 2], event.frame[ETHERNET_LEN - 1]];
        let Some(outer) = at(IP).filter(|_| ethertype == ETHERTYPE_IPV4) else {
            return Self {
                other: Some(other(event, ethertype)),
                ..Self::default()
            };
        };
        let row = |heading: &Heading, offset| HeadingRow::new(heading, event, offset);
        let inner = tunnel(&outer, vxlan_port).map(inner_offset);
        match inner.and_then(|offset| Some((at(offset)?, offset))) {
            Some((inner, offset)) => Self {
                packet: Some(row(&inner, offset)),
                outer: Some(row(&outer, IP)),
                other: None,
            },
            None => Self {
                packet: Some(row(&outer, IP)),
                ..Self::default()
            },
        }
    }
}

/// What is not IPv4.
fn other(event: &Event, ethertype: [u8; 2]) -> String {
    const OPERATION: usize = ETHERNET_LEN + 6;
    const SENDER: usize = ETHERNET_LEN + 14;
    const TARGET: usize = ETHERNET_LEN + 24;
    let frame = &event.frame[..event.captured as usize];
    let address = |offset: usize| {
        let bytes: [u8; 4] = frame.get(offset..offset + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(bytes))
    };
    let arp = || match (
        frame.get(OPERATION..OPERATION + 2)?,
        address(SENDER)?,
        address(TARGET)?,
    ) {
        ([0, 1], sender, target) => Some(format!("ARP: {sender} asks for {target}")),
        ([0, 2], sender, target) => Some(format!("ARP: {sender} answers {target}")),
        _ => None,
    };
    if frame.len() < ETHERNET_LEN {
        return "no whole Ethernet header".to_owned();
    }
    let arp = (ethertype == ETHERTYPE_ARP).then(arp).flatten();
    arp.unwrap_or_else(|| format!("ethertype {:#06x}", u16::from_be_bytes(ethertype)))
}

impl HeadingRow {
    fn new(heading: &Heading, event: &Event, offset: usize) -> Self {
        let [source, destination] = heading.addresses.map(Ipv4Addr::from);
        let [from, to] = heading.ports.map_or([None; 2], |ports| ports.map(Some));
        let end = |address, port| End { address, port };
        let flags = offset + IPV4_LEN + 13;
        let has_flags = heading.protocol == PROTOCOL_TCP
            && heading.ports.is_some()
            && flags < event.captured as usize;
        Self {
            source: end(source, from),
            destination: end(destination, to),
            protocol: name_of(heading.protocol),
            tcp_flags: has_flags.then(|| tcp_flags(event.frame[flags])),
        }
    }
}

fn tcp_flags(byte: u8) -> String {
    let letters = "FSRPAUEC".chars().enumerate();
    let set = letters.filter(|(bit, _)| byte >> bit & 1 != 0);
    set.map(|(_, letter)| letter).collect()
}

fn name_of(protocol: u8) -> String {
    match protocol {
        PROTOCOL_IPIP => "ipip".to_owned(),
        other => protocol_name(other),
    }
}

impl TowardsRow {
    fn new(event: &Event) -> Option<Self> {
        let is_remote = event.next_hop().is_some_and(NextHopKind::is_remote);
        if !is_remote && event.towards != TO_POD {
            return None;
        }
        let peer = is_remote.then_some(Ipv4Addr::from(event.peer));
        Some(Self {
            peer: peer.filter(|peer| !peer.is_unspecified()),
            gateway: (is_remote && event.gateway != event.peer).then(|| event.gateway.into()),
            interface: rows::interface(event.egress),
        })
    }
}

impl fmt::Display for HeadingRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            source,
            destination,
            protocol,
            tcp_flags,
        } = self;
        write!(f, "{source} > {destination} {protocol}")?;
        match tcp_flags {
            Some(flags) if !flags.is_empty() => write!(f, " {flags}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for TowardsRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(to) = self.gateway.or(self.peer) {
            write!(f, "{to} on ")?;
        }
        f.write_str(&self.interface)
    }
}

impl Row for PacketRow {
    const COLUMNS: &'static [&'static str] = &[
        "TIME",
        "HOOK",
        "INTERFACE",
        "LENGTH",
        "PACKET",
        "TUNNEL",
        "VERDICT",
        "REASON",
        "TOWARDS",
    ];
    const MORE: &'static [&'static str] = &["ENCAPSULATION", "MEANING"];

    fn cells(&self) -> Vec<String> {
        // Of the day; the day is known to whoever looks.
        let time = self.time.split(['T', 'Z']).nth(1).unwrap_or(&self.time);
        let packet = self.packet.as_ref().map(ToString::to_string);
        vec![
            time.to_owned(),
            self.hook.to_owned(),
            self.interface.clone(),
            self.length.to_string(),
            rows::optional(packet.as_ref().or(self.other.as_ref())),
            rows::optional(self.outer.as_ref()),
            self.verdict.to_owned(),
            self.reason.to_owned(),
            rows::optional(self.towards.as_ref()),
        ]
    }

    fn more(&self) -> Vec<String> {
        vec![
            rows::optional(self.encapsulation.as_ref()),
            self.meaning.to_owned(),
        ]
    }
}

impl Single for PacketRow {
    const KIND: &'static str = "Packet";
}

/// Packets as they are printed, one after the other.
#[derive(Debug)]
pub struct PacketTable {
    format: Format,
    widths: Vec<u16>,
    is_begun: bool,
}

impl PacketTable {
    /// What most packets take, so that the first lines are below their titles, too.
    const WIDTHS: [u16; 9] = [15, 13, 15, 6, 48, 43, 7, 15, 0];

    /// Nothing has been printed yet.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self {
            format,
            widths: Self::WIDTHS.into(),
            is_begun: false,
        }
    }

    /// What is to be printed of these packets.
    pub fn render(&mut self, packets: &[PacketRow]) -> Result<String> {
        match self.format {
            Format::Table | Format::Wide => Ok(self.lines(packets)),
            Format::Json => packets
                .iter()
                .map(|packet| Ok(serde_json::to_string(&Object::new(packet))? + "\n"))
                .collect(),
            Format::Yaml => packets
                .iter()
                .map(|packet| Ok(format!("---\n{}", yaml(&Object::new(packet))?)))
                .collect(),
        }
    }

    fn lines(&mut self, packets: &[PacketRow]) -> String {
        let is_first = !std::mem::replace(&mut self.is_begun, true);
        if packets.is_empty() && !is_first {
            return String::new();
        }
        let header = is_first.then(|| columns::<PacketRow>(self.format));
        let rows = packets.iter().map(|packet| cells(packet, self.format));
        aligned(header, rows.collect(), &mut self.widths)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::UNIX_EPOCH;

    use dataplane_common::{abi::Hook, reason::Reason};
    use zerocopy::FromZeros as _;

    use super::*;

    pub(in super::super) const READER: Reader = Reader {
        vxlan_port: 4789,
        boot: UNIX_EPOCH,
    };

    /// A frame at a hook, 1.5 seconds after the machine started, on an interface that is gone.
    pub(in super::super) fn event(hook: Hook, reason: Reason, frame: &[u8]) -> Event {
        let mut event = Event::new_zeroed();
        event.time = 1_500_000_000;
        event.ifindex = 4_000_000;
        event.hook = hook as u8;
        event.reason = reason as u8;
        event.length = u32::try_from(frame.len()).unwrap();
        event.captured = event.length;
        event.frame[..frame.len()].copy_from_slice(frame);
        event
    }

    pub(in super::super) fn frame(ethertype: [u8; 2], rest: &[u8]) -> Vec<u8> {
        [&[2; 12][..], &ethertype, rest].concat()
    }

    /// From pod to pod, the flags SYN and ECE set.
    pub(in super::super) fn tcp() -> Vec<u8> {
        let ip = [
            0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 244, 0, 2, 10, 244, 1, 2,
        ];
        let tcp = [
            0x9c, 0x40, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x42, 0, 0, 0, 0, 0, 0,
        ];
        frame(ETHERTYPE_IPV4, &[ip, tcp].concat())
    }

    fn row(event: &Event) -> PacketRow {
        PacketRow::new(event, &READER).unwrap()
    }

    #[test]
    fn a_packet_that_is_sent_in_a_tunnel_has_both_headers() {
        let mut sent = event(Hook::FromWorkload, Reason::SentVxlan, &tcp());
        sent.towards = NextHopKind::Vxlan as u8;
        (sent.source, sent.peer, sent.gateway) = ([192, 0, 2, 1], [192, 0, 2, 2], [192, 0, 2, 9]);
        let row = row(&sent);
        let cells = row.cells();
        assert_eq!(row.time, "1970-01-01T00:00:01.500000Z");
        assert_eq!(cells[0], "00:00:01.500000");
        assert_eq!(cells[4], "10.244.0.2:40000 > 10.244.1.2:80 tcp SE");
        assert_eq!(cells[5], "192.0.2.1 > 192.0.2.2:4789 udp");
        assert_eq!(cells[8], "192.0.2.9 on #0 (gone)");
        let outcome = "forward (sent-vxlan) in vxlan to 192.0.2.9 on #0 (gone)";
        assert_eq!(row.outcome(), outcome);
    }

    #[test]
    fn what_is_not_ipv4_is_said_in_words() {
        let mut arp = [0; 28];
        arp[7] = 1;
        arp[14..18].copy_from_slice(&[10, 244, 0, 2]);
        arp[24..28].copy_from_slice(&[169, 254, 1, 1]);
        let arp = frame(ETHERTYPE_ARP, &arp);
        for (bytes, words) in [
            (&arp[..], "ARP: 10.244.0.2 asks for 169.254.1.1"),
            (&arp[..arp.len() - 1], "ethertype 0x0806"),
            (&frame([0x86, 0xdd], &[]), "ethertype 0x86dd"),
            (&tcp()[..33], "ethertype 0x0800"),
            (&[], "no whole Ethernet header"),
        ] {
            let row = row(&event(Hook::FromWorkload, Reason::NotIpv4, bytes));
            assert_eq!((row.packet, row.other.as_deref()), (None, Some(words)));
        }
    }

    #[test]
    fn a_verdict_is_the_one_at_its_hook() {
        let verdict = |hook| row(&event(hook, Reason::NoRoute, &tcp())).verdict;
        assert_eq!(verdict(Hook::FromWorkload), "stack");
        assert_eq!(verdict(Hook::FromStack), "drop");
    }

    #[test]
    fn what_nobody_knows_is_no_row() {
        let mut unknown = event(Hook::FromWorkload, Reason::NoRoute, &tcp());
        unknown.reason = 200;
        assert_eq!(PacketRow::new(&unknown, &READER), None);
    }

    #[test]
    fn a_table_has_its_titles_once() {
        let packets = [row(&event(Hook::FromWorkload, Reason::NoRoute, &tcp()))];
        let mut table = PacketTable::new(Format::Wide);
        let first = table.render(&packets).unwrap();
        let [titles, line] = first.lines().collect::<Vec<_>>()[..] else {
            panic!("{first}")
        };
        assert_eq!(titles.find("VERDICT"), line.find("stack"), "{first}");
        assert!(line.ends_with("no route in the table"), "{first}");
        assert_eq!(table.render(&packets).unwrap().lines().count(), 1);
        assert_eq!(table.render(&[]).unwrap(), "");
    }
}
