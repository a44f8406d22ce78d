//! A node: the programs' decisions before and behind its stack.

use std::collections::BTreeMap;

use dataplane_common::{
    decide::{self, Origin, TunnelKey, Verdict},
    memory::{MemoryPacket, MemoryTables, take_out},
    reason::{Action, Reason},
};

use super::{
    history::History,
    netfilter::{Netfilter, Services},
    segment::{Segment, Tuple},
    wire::{self, CARRIER, NODE, NODES, PODS, Place, Places, SERVICE, VNI},
};

/// The re-verification period.
pub(super) const PERIOD: u32 = 100;
/// How long a packet stays in the stack at most.
const PATIENCE: u64 = 60;
const SERVICES: Services<'_> = Services {
    node: NODE,
    service: SERVICE,
    back_ends: &[PODS[1], PODS[2], PODS[3], PODS[4]],
};

/// How the packets of a run travel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub(super) has_carrier: bool,
    pub(super) by_xdp: bool,
    /// Whether the stack treats a packet before the next one comes.
    pub(super) at_once: bool,
}

/// A packet in the stack.
#[derive(Debug)]
struct Waiting {
    segment: Segment,
    mark: u16,
    since: u64,
    /// What netfilter has made of it.
    filtered: Option<Tuple>,
}

/// What became of packets, and how often.
pub type Counts = BTreeMap<Reason, u32>;

pub(super) struct Node {
    pub(super) manner: Manner,
    pub(super) tables: MemoryTables,
    pub(super) netfilter: Netfilter,
    pub(super) places: Places,
    stack: Vec<Waiting>,
    history: History,
    next_ifindex: u32,
    pub(super) counts: Counts,
}

/// How a packet comes to the node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coming {
    /// From where.
    pub(super) place: Place,
    /// Whether its VXLAN has an outer checksum.
    pub(super) has_checksum: bool,
}

impl Node {
    pub(super) fn new(manner: Manner) -> Self {
        let places = [
            Place::Here(3),
            Place::Here(4),
            Place::There(0),
            Place::There(1),
            Place::There(2),
        ];
        let carrier = if manner.has_carrier { CARRIER } else { 0 };
        let mut node = Self {
            manner,
            tables: MemoryTables {
                config: Some(wire::config(carrier, PERIOD)),
                // So that it comes round.
                generation: u16::MAX - 1,
                now: 1000,
                ..MemoryTables::default()
            },
            netfilter: Netfilter::default(),
            places: PODS.into_iter().zip(places).collect(),
            stack: Vec::new(),
            history: History::default(),
            next_ifindex: 10,
            counts: Counts::new(),
        };
        wire::write(&mut node.tables, &node.places);
        node.remember();
        node
    }

    /// Keeps in mind what holds now.
    pub(super) fn remember(&mut self) {
        let (now, generation) = (self.tables.now, self.tables.generation);
        self.history
            .record(now, generation, &self.netfilter, &self.places);
    }

    pub(super) fn bump(&mut self) {
        self.tables.generation = self.tables.generation.wrapping_add(1);
        self.remember();
    }

    pub(super) fn pass_time(&mut self, ticks: u64) {
        let now = self.tables.now + ticks;
        self.tables.now = now;
        self.history.until(now);
        self.netfilter.pass_time(ticks);
        self.stack.retain(|packet| packet.since + PATIENCE >= now);
        self.history
            .forget_before(now.saturating_sub(u64::from(PERIOD) + PATIENCE));
        self.remember();
    }

    /// A pod is elsewhere now, and the agent has written that.
    pub(super) fn moves(&mut self, pod: [u8; 4], there: Option<usize>) {
        let place = there.map_or_else(
            || {
                self.next_ifindex += 1;
                Place::Here(self.next_ifindex)
            },
            Place::There,
        );
        if let Some(Place::Here(ifindex)) = self.places.insert(pod, place) {
            self.tables.gone.insert(ifindex);
        }
        wire::write(&mut self.tables, &self.places);
        self.remember();
    }

    /// A packet comes.
    pub(super) fn comes(&mut self, segment: Segment, coming: Coming) -> Result<Reason, String> {
        let tables = self.tables.clone();
        let verdict = self.decides(&tables, segment, coming);
        let reason = verdict.reason();
        *self.counts.entry(reason).or_default() += 1;
        match verdict {
            Verdict::Deliver(endpoint, _) => {
                self.may_be_carried(segment, coming, Place::Here(endpoint.ifindex))?;
            }
            Verdict::Send(send) => {
                let node = NODES.iter().position(|node| *node == send.next_hop.peer);
                let place = Place::There(node.ok_or("sent to no node")?);
                self.may_be_carried(segment, coming, place)?;
            }
            Verdict::Leave(reason, _) if reason.action() == Action::Drop => {}
            Verdict::Leave(_, mark) | Verdict::Inject(_, _, mark) => {
                // The kernel's reverse-path filter.
                let source = segment.tuple.source.address;
                if self.places.get(&source) == Some(&coming.place) {
                    self.stack.push(Waiting {
                        segment,
                        mark: mark.try_into().expect("16 bits"),
                        since: self.tables.now,
                        filtered: None,
                    });
                }
            }
            other => return Err(format!("{other:?}, which nobody asked for")),
        }
        if self.manner.at_once {
            self.drain()?;
        }
        Ok(reason)
    }

    fn decides<'t>(
        &self,
        tables: &'t MemoryTables,
        segment: Segment,
        coming: Coming,
    ) -> Verdict<'t> {
        let Place::There(peer) = coming.place else {
            let Place::Here(ifindex) = coming.place else {
                unreachable!("here or there")
            };
            return decide::from_workload(&wire::bare(segment), tables, ifindex);
        };
        let to_node = segment.tuple.destination.address == NODE;
        let tunnel = coming.place.tunnel().filter(|_| !to_node);
        let Some(tunnel) = tunnel else {
            return decide::from_uplink(&wire::bare(segment), tables);
        };
        let ends = [NODES[peer], NODE];
        let mut frame = wire::tunnelled(tunnel, ends, segment, coming.has_checksum);
        if self.manner.by_xdp {
            match decide::xdp_uplink(&frame, tables) {
                Ok(decap) => {
                    take_out(&mut frame, Ok(decap));
                }
                Err(reason) if reason.action() == Action::Drop => return reason.into(),
                Err(_) => {}
            }
        }
        let verdict = decide::from_uplink(&frame, tables);
        if verdict.reason() == Reason::OuterChecksum && self.manner.has_carrier {
            // The kernel's own receiver takes it out.
            let key = TunnelKey {
                remote: NODES[peer],
                vni: VNI,
                local: Some(NODE),
                cut_up: false,
            };
            return decide::from_carrier(&wire::bare(segment), tables, Origin::Tunnel(key));
        }
        verdict
    }

    /// Nothing is carried that the stack would have changed or dropped.
    fn may_be_carried(&self, segment: Segment, coming: Coming, place: Place) -> Result<(), String> {
        let Segment { tuple, .. } = segment;
        let generation = self.tables.generation;
        let holds = |what: &str, holds: bool| {
            holds
                .then_some(())
                .ok_or_else(|| format!("carried to {place:?}: {what}: {segment:?}"))
        };
        holds(
            "opens, closes or resets a connection",
            !segment.is_handshake(),
        )?;
        holds(
            "the stack would have changed or dropped it for longer than the period",
            self.history.would_pass(generation, segment, SERVICES),
        )?;
        holds(
            "the stack has not let both ways through within the period",
            self.history.has_passed_both_ways(generation, tuple),
        )?;
        let entry = self.netfilter.entry(tuple);
        let is_stuck = entry.is_some_and(|entry| entry.state.is_passing(self.manner.at_once));
        holds(
            "connection tracking waits for it to open or close the connection",
            !is_stuck,
        )?;
        let of = |address, place| self.history.was(generation, address, place);
        holds(
            "from where the source is not",
            of(tuple.source.address, coming.place),
        )?;
        holds(
            "to where the destination is not",
            of(tuple.destination.address, place),
        )?;
        let is_gone = matches!(place, Place::Here(ifindex) if self.tables.gone.contains(&ifindex));
        holds("to an interface that is gone", !is_gone)
    }

    /// Packets that are in the stack.
    pub(super) fn waiting(&self) -> usize {
        self.stack.len()
    }

    /// Everything that is in the stack leaves it.
    pub(super) fn drain(&mut self) -> Result<(), String> {
        while !self.stack.is_empty() {
            self.advance(0)?;
        }
        Ok(())
    }

    /// The first packet in the stack that goes the way of the one at `place` gets on: through
    /// netfilter, and then out. None overtakes another of its own.
    pub(super) fn advance(&mut self, place: usize) -> Result<(), String> {
        let tuple = self.stack[place].segment.tuple;
        let first = self.stack.iter().position(|w| w.segment.tuple == tuple);
        let first = first.unwrap_or(place);
        let now = self.tables.now;
        let waiting = &mut self.stack[first];
        let Some(out) = waiting.filtered else {
            let choice = usize::from(waiting.mark) + usize::from(tuple.source.port);
            waiting.filtered = self.netfilter.filter(waiting.segment, SERVICES, choice);
            match waiting.filtered {
                Some(out) if out == tuple => {
                    self.history.passed(now, self.tables.generation, tuple);
                }
                Some(_) => {}
                None => drop(self.stack.remove(first)),
            }
            self.remember();
            return Ok(());
        };
        let Waiting { segment, mark, .. } = self.stack.remove(first);
        let left = Segment {
            tuple: out,
            ..segment
        };
        let reason = self.leaves(left, mark);
        *self.counts.entry(reason).or_default() += 1;
        let is_possible = matches!(
            reason,
            Reason::Unmarked | Reason::Verified | Reason::Translated
        );
        is_possible
            .then_some(())
            .ok_or_else(|| format!("counts as {reason:?} where it leaves"))
    }

    fn leaves(&self, segment: Segment, mark: u16) -> Reason {
        let place = self.places.get(&segment.tuple.destination.address);
        let frame: MemoryPacket = match place.and_then(|place| place.tunnel()) {
            Some(tunnel) => {
                let Some(Place::There(node)) = place else {
                    unreachable!("a tunnel to here")
                };
                wire::tunnelled(tunnel, [NODE, NODES[*node]], segment, false)
            }
            None => wire::bare(segment),
        };
        match place {
            Some(Place::Here(_)) => decide::to_workload(&frame, &self.tables, mark),
            _ => decide::to_uplink(&frame, &self.tables, mark),
        }
    }
}
