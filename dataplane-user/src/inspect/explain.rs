//! What would happen to a packet: `decide` on a copy of the live maps, in words.

mod far;
mod flow;
mod outer;
mod packet;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

use dataplane_common::{
    abi::{Addr, Config, Hook, NextHop, NextHopKind, WAYS, flags},
    decide::{self, Arrival, Origin, Send, Verdict},
    memory::MemoryPacket,
    packet::Tunnel,
    parse,
    reason::{Action, Reason},
    rewrite,
    tables::Tables,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{FlowRow, Snapshot, protocol_name, rows};

pub use far::{FarNode, Others};
pub use outer::OuterHeader;
pub use packet::{ICMP, Question};

/// What would happen to a packet, and why.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The packet's source.
    pub source: Ipv4Addr,
    /// The packet's destination.
    pub destination: Ipv4Addr,
    /// Its protocol: `icmp`, `tcp`, `udp`, `sctp`, or a number.
    pub protocol: String,
    /// Its source port, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// Its destination port, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<u16>,
    /// Which program sees it; none where it does not pass one here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<&'static str>,
    /// `forward`, `stack` or `drop`.
    pub action: &'static str,
    /// The counter it would count in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// How it comes about, step by step.
    pub steps: Vec<String>,
    /// What is remembered of its flow, with `acceleration: established`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowRow>,
    /// The longest packet, in bytes and before encapsulation, that would go the same way. A longer one
    /// is the stack's, which answers that it is, or fragments it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The headers that are put in front of it, in the order of the wire.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outer: Vec<OuterHeader>,
    /// What becomes of it on the node that it goes to, if it goes to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub far_node: Option<FarNode>,
}

/// Explains a packet as it would come to this node, whose maps `snapshot` is of, with what is remembered
/// of the packet's `flow`, which [`super::recall`] has put there, too.
#[must_use]
pub fn explain(
    mut snapshot: Snapshot,
    question: &Question,
    flow: Option<FlowRow>,
    others: &Others,
) -> Explanation {
    let heeds_netfilter = heed_netfilter(&mut snapshot, false);
    let by_route = tell(&snapshot, question);
    heed_netfilter(&mut snapshot, heeds_netfilter);
    let decided = tell(&snapshot, question);

    let asks_for_flow = heeds_netfilter && by_route.is_for_flows_to_decide();
    let action = decided.action();
    let mut steps = by_route.steps;
    if asks_for_flow {
        steps.push(flow::standing(question, flow.as_ref(), decided.reason));
    }
    let is_as_by_route = decided.reason == by_route.reason;
    steps.extend(decided.conclusion);
    if let Some(then) = by_route.conclusion.filter(|_| !is_as_by_route) {
        steps.push(format!("if netfilter lets it through as it is: {then}"));
    }
    Explanation {
        source: question.source,
        destination: question.destination,
        protocol: protocol_name(question.protocol),
        source_port: question.ports.map(|[source, _]| source),
        destination_port: question.ports.map(|[_, destination]| destination),
        hook: decided.hook.map(Hook::name),
        action: action.name(),
        reason: decided.reason.map(Reason::name),
        steps,
        flow,
        mtu: by_route.mtu,
        outer: by_route.outer,
        far_node: by_route
            .leaving
            .map(|leaving| far::tell(&leaving, question, others)),
    }
}

/// Whether only flows are carried that the stack has let through, and from now on are if `heeds`.
fn heed_netfilter(snapshot: &mut Snapshot, heeds: bool) -> bool {
    let Some(config) = &mut snapshot.tables.config else {
        return false;
    };
    let did = config.flags & flags::ESTABLISHED != 0;
    config.flags &= !flags::ESTABLISHED;
    config.flags |= if heeds { flags::ESTABLISHED } else { 0 };
    did
}

/// What is to be told of a packet.
#[derive(Default)]
struct Told {
    hook: Option<Hook>,
    reason: Option<Reason>,
    steps: Vec<String>,
    /// The last step: what is decided.
    conclusion: Option<String>,
    mtu: Option<u32>,
    outer: Vec<OuterHeader>,
    leaving: Option<Leaving>,
}

/// A packet on its way to another node.
struct Leaving {
    /// As it is on the wire.
    packet: MemoryPacket,
    /// What it is in.
    tunnel: Option<Tunnel>,
    /// This node's address, which it comes from.
    from: Addr,
    /// The other node's.
    peer: Addr,
}

impl Told {
    fn action(&self) -> Action {
        match (self.hook, self.reason) {
            (Some(hook), Some(reason)) => hook.action(reason),
            _ => Action::Stack,
        }
    }

    /// Whether programs ask for the flow of what they would carry by its route.
    fn is_for_flows_to_decide(&self) -> bool {
        let asks = matches!(self.hook, Some(Hook::FromWorkload | Hook::FromUplink));
        asks && self.action() == Action::Forward
    }
}

fn tell(snapshot: &Snapshot, question: &Question) -> Told {
    let mut story = Story {
        snapshot,
        question,
        told: Told::default(),
    };
    if let Some((hook, verdict)) = story.tell() {
        story.told.hook = Some(hook);
        story.told.reason = Some(verdict.reason());
        story.told.conclusion = Some(conclusion(hook, &verdict));
    }
    story.told
}

struct Story<'s> {
    snapshot: &'s Snapshot,
    question: &'s Question,
    told: Told,
}

impl<'s> Story<'s> {
    /// Where the packet enters, and what is decided there; `None` where no program sees it.
    fn tell(&mut self) -> Option<(Hook, Verdict<'s>)> {
        let (source, destination) = (self.question.source, self.question.destination);
        let (source, destination) = (source.octets(), destination.octets());
        let tables = &self.snapshot.tables;
        let Some(config) = tables.config() else {
            self.say("the agent has not written the configuration: every packet is the stack's");
            return None;
        };
        let packet = self.question.packet();

        if let Some(endpoint) = tables.endpoint(source) {
            let interface = rows::interface(endpoint.ifindex);
            self.say(format!(
                "{} is a pod on this node, behind {interface}",
                Ipv4Addr::from(source)
            ));
            self.look_up("destination", destination);
            let verdict = decide::from_workload(&packet, tables, endpoint.ifindex);
            self.choose(destination, &verdict);
            self.measure(&packet, config, &verdict);
            return Some((Hook::FromWorkload, verdict));
        }

        self.look_up("source", source);
        let origin = tables.route(source).map(|hop| self.first_way(hop));
        let is_remote = origin.is_some_and(|hop| hop.kind().is_some_and(NextHopKind::is_remote));
        if let (true, Some(origin)) = (is_remote, origin) {
            // A node sends to what it has no route for, such as a node's own address, by its stack.
            let packet = match tables.route(destination) {
                Some(_) => self.arrive(config, origin, packet),
                None => self.arrive_plain(packet),
            };
            self.look_up("destination", destination);
            return Some((Hook::FromUplink, decide::from_uplink(&packet, tables)));
        }
        if is_own(tables, config, source) {
            self.say(format!("{} is this node's own", Ipv4Addr::from(source)));
            self.look_up("destination", destination);
            let kind = tables.route(destination).and_then(NextHop::kind);
            let is_tunnelled = matches!(kind, Some(NextHopKind::Ipip | NextHopKind::Vxlan));
            if is_tunnelled && config.carrier != 0 {
                self.say("the stack routes it to the carrier");
                let verdict = decide::from_stack(&packet, tables, Origin::Program, |_| true);
                self.choose(destination, &verdict);
                self.measure(&packet, config, &verdict);
                return Some((Hook::FromStack, verdict));
            }
            self.say("no program sees it: it is the stack's alone");
            if let (Some(NextHopKind::Direct), Some(hop)) = (kind, tables.route(destination)) {
                self.told.leaving = Some(Leaving {
                    packet,
                    tunnel: None,
                    from: config.node,
                    peer: hop.peer,
                });
            }
            return None;
        }
        self.say("as it stands on the wire, without a tunnel:");
        Some((Hook::FromUplink, decide::from_uplink(&packet, tables)))
    }

    /// The packet as it comes from the node that `origin` leads to: in the mode in which this node
    /// would answer.
    fn arrive(&mut self, config: &Config, origin: &NextHop, packet: MemoryPacket) -> MemoryPacket {
        let tunnel = match origin.kind() {
            Some(NextHopKind::Ipip) => Tunnel::Ipip,
            Some(NextHopKind::Vxlan) => Tunnel::Vxlan,
            _ => return self.arrive_plain(packet),
        };
        let peer = Ipv4Addr::from(origin.peer);
        self.say(format!("it comes from {peer} by {}", rows::kind(origin)));
        let back = NextHop {
            peer: config.node,
            source: origin.peer,
            vtep_mac: config.vtep_mac,
            ..*origin
        };
        let mut tunnelled = packet;
        let sent = parse::ipv4(&tunnelled, parse::IP).and_then(|ip| {
            let send = Send {
                next_hop: &back,
                encap: Some(tunnel),
                ip,
                ports: parse::ports(&tunnelled, &ip, parse::IP),
                forwarded: true,
            };
            rewrite::send(&mut tunnelled, config, &send)
        });
        debug_assert!(sent.is_ok(), "a packet of ours has room: {sent:?}");
        tunnelled
    }

    fn arrive_plain(&mut self, packet: MemoryPacket) -> MemoryPacket {
        self.say("it comes over the wire as it is");
        packet
    }

    fn look_up(&mut self, role: &str, address: Addr) {
        let shown = Ipv4Addr::from(address);
        let Some(((length, network), next_hop)) = self.snapshot.tables.route_entry(address) else {
            self.say(format!("{role} {shown} has no route"));
            return;
        };
        let prefix = format!("{}/{length}", Ipv4Addr::from(network));
        let to = match rows::ways(next_hop, &self.snapshot.tables) {
            ways if ways.is_empty() => described(next_hop),
            ways => {
                let ways = ways
                    .iter()
                    .map(|(way, share)| format!("for {share} of {WAYS} flows {}", described(way)));
                format!("multipath, {}", ways.collect::<Vec<_>>().join(", "))
            }
        };
        self.say(format!("{role} {shown} matches {prefix}: {to}"));
    }

    /// Of a next hop with many ways the first, which stands for the others where there is no flow to
    /// choose by.
    fn first_way(&self, next_hop: &'s NextHop) -> &'s NextHop {
        match next_hop.kind() {
            Some(NextHopKind::Multipath) => self.snapshot.tables.way(next_hop, 0),
            _ => None,
        }
        .unwrap_or(next_hop)
    }

    /// Says by which of the ways to `destination` a packet is sent, if there are many.
    fn choose(&mut self, destination: Addr, verdict: &Verdict) {
        let kind = self
            .snapshot
            .tables
            .route(destination)
            .and_then(NextHop::kind);
        if let (Some(NextHopKind::Multipath), Verdict::Send(send)) = (kind, verdict) {
            let way = described(send.next_hop);
            self.say(match self.question.ports {
                Some(_) => format!("this flow, by its addresses and ports, takes {way}"),
                None => format!(
                    "this flow, without ports, takes {way}; one with ports may take another way"
                ),
            });
        }
    }

    /// Remembers what is put in front of the packet, how long it may be, and how it leaves.
    fn measure(&mut self, packet: &MemoryPacket, config: &Config, verdict: &Verdict) {
        match verdict {
            Verdict::Send(send) => {
                self.told.mtu = Some(send.next_hop.mtu.into());
                let mut packet = packet.clone();
                let rewritten = rewrite::send(&mut packet, config, send);
                debug_assert!(
                    rewritten.is_ok(),
                    "a packet of ours has room: {rewritten:?}"
                );
                self.told.outer = outer::headers(&packet, send.encap);
                self.told.leaving = Some(Leaving {
                    packet,
                    tunnel: send.encap,
                    from: config.node,
                    peer: send.next_hop.peer,
                });
            }
            Verdict::Deliver(endpoint, _) => self.told.mtu = Some(endpoint.mtu),
            _ => {}
        }
    }

    fn say(&mut self, step: impl Into<String>) {
        self.told.steps.push(step.into());
    }
}

fn conclusion(hook: Hook, verdict: &Verdict) -> String {
    let reason = verdict.reason();
    match verdict {
        Verdict::Leave(..)
        | Verdict::AnswerArp(..)
        | Verdict::Detour
        | Verdict::CarrierEncap(..) => {
            format!("{}: {}", hook.action(reason).name(), reason.description())
        }
        Verdict::Inject(..) => format!(
            "out of the tunnel to the stack, on the carrier: {}",
            reason.description()
        ),
        Verdict::Deliver(endpoint, arrival) => {
            let interface = rows::interface(endpoint.ifindex);
            let tunnel = match arrival {
                Arrival::Local | Arrival::Direct | Arrival::TakenOut(_) => "",
                Arrival::Tunnelled(_) => "out of its tunnel and ",
            };
            format!("{tunnel}straight into the pod behind {interface}")
        }
        Verdict::Send(send) => sent(send),
    }
}

/// A next hop by its kind, and, where that leads to another node, where to.
fn described(next_hop: &NextHop) -> String {
    let kind = rows::kind(next_hop);
    if !next_hop.kind().is_some_and(NextHopKind::is_remote) {
        return kind.to_owned();
    }
    let to = if next_hop.peer == Addr::default() {
        next_hop.gateway
    } else {
        next_hop.peer
    };
    format!("{kind} to {}, MTU {}", Ipv4Addr::from(to), next_hop.mtu)
}

fn sent(send: &Send) -> String {
    let hop = send.next_hop;
    let outer = match send.encap {
        None => String::new(),
        Some(tunnel) => format!(
            "in an outer header {} -> {} ({} bytes more), ",
            Ipv4Addr::from(hop.source),
            Ipv4Addr::from(hop.peer),
            tunnel.overhead()
        ),
    };
    format!(
        "{outer}out of {} to neighbour {}",
        rows::interface(hop.ifindex),
        Ipv4Addr::from(hop.gateway)
    )
}

fn is_own(tables: &impl Tables, config: &Config, address: Addr) -> bool {
    address == config.node
        || tables
            .route(address)
            .is_some_and(|hop| hop.kind() == Some(NextHopKind::Local))
}
