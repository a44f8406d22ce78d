//! What happens, by any bytes.

use dataplane_common::reason::Reason;

use super::{
    Counts, Failure,
    node::{Coming, Manner, Node, PERIOD},
    segment::{ACK, End, FIN, Protocol, RST, SYN, Segment, Tuple},
    wire::{PODS, Place, SERVICE},
};
use crate::choices::Choices;

const STEPS: usize = 160;
/// The client that stays on this node.
const HERE: [u8; 4] = PODS[0];

pub(super) struct Story<'a> {
    choices: Choices<'a>,
    node: Node,
    /// What clients send, of which there are few, so that much happens to each.
    talks: Vec<Tuple>,
    agent_lives: bool,
    /// Whether the agent has seen rules change, but not counted it yet.
    has_changed: bool,
    /// Whether it has written tables, but not counted it yet: no time passes until then.
    has_written: bool,
    steps: Vec<String>,
}

impl<'a> Story<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let mut choices = Choices::new(bytes);
        let manner = Manner {
            has_carrier: !choices.maybe(),
            by_xdp: choices.maybe(),
            at_once: choices.maybe(),
        };
        let talks = (0..4).map(|_| talk(&mut choices)).collect();
        Self {
            choices,
            node: Node::new(manner),
            steps: vec![format!("{manner:?}")],
            talks,
            agent_lives: true,
            has_changed: false,
            has_written: false,
        }
    }

    pub(super) fn tell(mut self) -> Result<Counts, Failure> {
        match self.go_on() {
            Ok(()) => Ok(self.node.counts),
            Err(what) => Err(Failure {
                what,
                steps: self.steps,
            }),
        }
    }

    fn go_on(&mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            if !self.choices.are_left() {
                break;
            }
            self.step()?;
        }
        self.peace()
    }

    fn say(&mut self, what: impl Into<String>) {
        self.steps
            .push(format!("{:>6}  {}", self.node.tables.now, what.into()));
    }

    fn step(&mut self) -> Result<(), String> {
        match self.choices.below(32) {
            0..=15 => self.one_talks(),
            16..=18 => self.one_connects(),
            19..=21 if self.node.waiting() > 0 => {
                let place = self.choices.below(self.node.waiting());
                self.say(format!("packet {place} in the stack gets on"));
                self.node.advance(place)
            }
            19..=22 => {
                self.say("the stack is drained");
                self.node.drain()
            }
            23..=25 => {
                if self.has_written {
                    self.agent_acts();
                }
                let period = u64::from(PERIOD);
                let ticks = self.choices.of(&[1, 10, 40, period, period + 1, 300]);
                self.node.pass_time(ticks);
                self.say("is the time");
                Ok(())
            }
            26 | 27 => {
                self.rules_change();
                Ok(())
            }
            28 => {
                self.agent_acts();
                Ok(())
            }
            _ => {
                self.something_else();
                Ok(())
            }
        }
    }

    fn one_talks(&mut self) -> Result<(), String> {
        let sent = self.choices.of(&self.talks);
        let tuple = if self.choices.maybe() {
            // As the server knows it, or one that knows of no service.
            let answer = self.node.netfilter.answer(sent);
            answer.unwrap_or_else(|| sent.inverse())
        } else {
            sent
        };
        // Who is asked may ask, too, by the same identifier.
        let tuple = if tuple.protocol == Protocol::Reply && self.choices.maybe() {
            Tuple {
                protocol: Protocol::Request,
                ..tuple
            }
        } else {
            tuple
        };
        let flags =
            self.choices
                .of(&[ACK, ACK, ACK, ACK, ACK, SYN, SYN | ACK, FIN | ACK, RST, ACK]);
        self.comes(tuple, flags)?;
        Ok(())
    }

    fn one_connects(&mut self) -> Result<(), String> {
        let sent = self.choices.of(&self.talks);
        for (is_answer, flags) in [
            (false, SYN),
            (true, SYN | ACK),
            (false, ACK),
            (true, ACK),
            (false, ACK),
            (true, ACK),
        ] {
            let answer = self.node.netfilter.answer(sent).unwrap_or(sent.inverse());
            self.comes(if is_answer { answer } else { sent }, flags)?;
            if self.choices.mostly() {
                self.node.drain()?;
            }
        }
        Ok(())
    }

    /// A packet comes from where its source is, or from elsewhere.
    fn comes(&mut self, tuple: Tuple, flags: u8) -> Result<Option<Reason>, String> {
        let Some(place) = self.node.places.get(&tuple.source.address).copied() else {
            return Ok(None);
        };
        let destination = self.node.places.get(&tuple.destination.address);
        let is_there = |place| matches!(place, Some(&Place::There(_)));
        if is_there(Some(&place)) && is_there(destination) {
            return Ok(None);
        }
        let place = if self.choices.below(16) == 15 {
            self.choices.of(&[
                Place::Here(4),
                Place::Here(3),
                Place::There(0),
                Place::There(1),
                Place::There(2),
            ])
        } else {
            place
        };
        let coming = Coming {
            place,
            has_checksum: self.choices.below(16) == 15,
        };
        let segment = Segment {
            tuple,
            flags: if tuple.protocol == Protocol::Tcp {
                flags
            } else {
                0
            },
        };
        self.say(format!("{segment:?} from {place:?}"));
        let reason = self.node.comes(segment, coming)?;
        self.steps.push(format!("{:>8}{}", "", reason.name()));
        Ok(Some(reason))
    }

    /// Whether or not the agent gets to know.
    fn rules_change(&mut self) {
        let pods = (self.choices.of(&PODS), self.choices.of(&PODS));
        let netfilter = &mut self.node.netfilter;
        match self.choices.below(8) {
            0..=3 => {
                if !netfilter.denied.remove(&pods) {
                    netfilter.denied.insert(pods);
                }
            }
            4 => netfilter.denied.clear(),
            5 => {
                if !netfilter.masqueraded.remove(&pods.0) {
                    netfilter.masqueraded.insert(pods.0);
                }
            }
            6 => netfilter.accepts_established ^= true,
            _ => netfilter.entries.clear(),
        }
        let rules = format!(
            "denied {:?}, masqueraded {:?}, established accepted {}, {} connections",
            netfilter.denied,
            netfilter.masqueraded,
            netfilter.accepts_established,
            netfilter.entries.len()
        );
        self.say(rules);
        self.node.remember();
        self.has_changed |= self.agent_lives && self.choices.maybe();
        if self.choices.maybe() {
            self.agent_acts();
        }
    }

    fn agent_acts(&mut self) {
        if self.has_written || self.agent_lives && self.has_changed {
            self.has_changed = false;
            self.has_written = false;
            self.node.bump();
            self.say(format!("generation {}", self.node.tables.generation));
        }
    }

    fn something_else(&mut self) {
        match self.choices.below(4) {
            0 => {
                self.node.bump();
                self.say("all flows are flushed");
            }
            1 => {
                let keys: Vec<_> = self.node.tables.flows().keys().copied().collect();
                if let Some(key) = self.choices.of_any(keys.into_iter()) {
                    self.node.tables.flows().remove(&key);
                    self.say(format!("evicted: {key:?}"));
                }
            }
            2 if self.agent_lives => {
                let pod = self.choices.of(&PODS[1..]);
                let there = self.choices.of(&[None, Some(0), Some(1), Some(2)]);
                self.node.moves(pod, there);
                self.has_written = true;
                self.say(format!("{pod:?} moves to {:?}", self.node.places[&pod]));
            }
            _ => {
                self.agent_lives ^= true;
                // It counts when it begins.
                self.has_changed |= self.agent_lives;
                self.say(format!("the agent lives: {}", self.agent_lives));
            }
        }
    }

    /// Whatever there was: a flow that the rules let through, unchanged, is soon carried.
    fn peace(&mut self) -> Result<(), String> {
        self.node.drain()?;
        self.node.netfilter = super::netfilter::Netfilter::default();
        self.node.manner.at_once = true;
        self.node.bump();
        self.say("from now on everything is allowed");
        for (pod, port) in PODS[1..].iter().zip(40_000..) {
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Request] {
                self.is_carried(Tuple {
                    protocol,
                    source: End {
                        address: HERE,
                        port,
                    },
                    destination: End {
                        address: *pod,
                        port: match protocol {
                            Protocol::Request => port,
                            _ => 80,
                        },
                    },
                })?;
            }
        }
        Ok(())
    }

    fn is_carried(&mut self, there: Tuple) -> Result<(), String> {
        let back = there.inverse();
        if there.protocol == Protocol::Tcp {
            self.arrives(there, SYN)?;
            self.arrives(back, SYN | ACK)?;
        }
        self.arrives(there, ACK)?;
        self.arrives(back, ACK)?;
        for tuple in [there, back, there, back] {
            let reason = self.arrives(tuple, ACK)?;
            if !is_carried(reason) {
                return Err(format!("{tuple:?} is not carried, but {}", reason.name()));
            }
        }
        Ok(())
    }

    /// From where it should.
    fn arrives(&mut self, tuple: Tuple, flags: u8) -> Result<Reason, String> {
        let coming = Coming {
            place: self.node.places[&tuple.source.address],
            has_checksum: false,
        };
        let flags = if tuple.protocol == Protocol::Tcp {
            flags
        } else {
            0
        };
        let segment = Segment { tuple, flags };
        self.say(format!("{segment:?}"));
        self.node.comes(segment, coming)
    }
}

/// Whether it passed beneath the stack.
pub(super) fn is_carried(reason: Reason) -> bool {
    use Reason::{
        DeliveredLocal, ReceivedDirect, ReceivedIpip, ReceivedVxlan, SentDirect, SentIpip,
        SentVxlan,
    };
    matches!(
        reason,
        DeliveredLocal
            | ReceivedDirect
            | ReceivedIpip
            | ReceivedVxlan
            | SentDirect
            | SentIpip
            | SentVxlan
    )
}

/// What a client sends: to a pod or to the service, often the same pod and port.
fn talk(choices: &mut Choices) -> Tuple {
    let client = choices.of(&[HERE, HERE, HERE, HERE, PODS[1], PODS[2], PODS[3], PODS[4]]);
    let server = choices.of(&[
        PODS[1], PODS[2], PODS[3], PODS[4], SERVICE, SERVICE, SERVICE, HERE,
    ]);
    let protocol = choices.of(&[
        Protocol::Tcp,
        Protocol::Tcp,
        Protocol::Udp,
        Protocol::Udp,
        Protocol::Request,
    ]);
    let port = choices.of(&[1000, 1000, 1001]);
    let server = if client == server { PODS[2] } else { server };
    Tuple {
        protocol,
        source: End {
            address: client,
            port,
        },
        destination: End {
            address: server,
            port: match protocol {
                Protocol::Request => port,
                _ => 80,
            },
        },
    }
}
