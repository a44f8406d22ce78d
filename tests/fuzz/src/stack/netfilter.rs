//! What netfilter does on a node: connection tracking, translation, policy.
//!
//! As far as it matters here, and as Linux has it: `nf_conntrack_core`, `nf_conntrack_proto_tcp`,
//! `nf_nat_core`; the rules are those of kube-proxy and of a policy agent.

use std::collections::BTreeSet;

use dataplane_common::abi::Addr;

use super::segment::{ACK, End, FIN, Protocol, RST, SYN, Segment, Tuple};

/// Where in its life a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    SynSent,
    SynReceived,
    Established,
    /// One end has sent FIN, the original one or the other.
    HalfClosed {
        by_original: bool,
    },
    /// Both have.
    LastAck,
    /// Closed, or reset.
    Closed,
    /// UDP's and ICMP's: nothing is opened or closed.
    Stateless,
}

impl State {
    /// Whether a packet that tracking does not see leaves it stuck there.
    pub(super) const fn is_passing(self, strictly: bool) -> bool {
        match self {
            Self::SynSent | Self::SynReceived => true,
            Self::LastAck => strictly,
            _ => false,
        }
    }

    /// Ticks that an entry lives without a packet: more than a period, as all of Linux's.
    const fn lifetime(self, replied: bool) -> u64 {
        match self {
            Self::Established => 10_000,
            Self::Stateless if replied => 600,
            _ => 250,
        }
    }
}

/// A tracked connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    original: Tuple,
    /// As answers arrive.
    reply: Tuple,
    pub(super) state: State,
    replied: bool,
    lives: u64,
}

/// Rules and connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Netfilter {
    pub(super) entries: Vec<Entry>,
    /// Who may not send to whom.
    pub(super) denied: BTreeSet<(Addr, Addr)>,
    /// Whether denial is not for connections that are established.
    pub(super) accepts_established: bool,
    /// To whom pods talk in the node's name.
    pub(super) masqueraded: BTreeSet<Addr>,
}

/// Addresses of which the rules speak.
#[derive(Clone, Copy)]
pub(super) struct Services<'r> {
    pub(super) node: Addr,
    pub(super) service: Addr,
    pub(super) back_ends: &'r [Addr],
}

impl Netfilter {
    /// The entry that a packet belongs to.
    pub(super) fn entry(&self, tuple: Tuple) -> Option<&Entry> {
        self.find(tuple).map(|(index, _)| &self.entries[index])
    }

    /// The server's answer to what a client sends: as the server sees the connection.
    pub(super) fn answer(&self, sent: Tuple) -> Option<Tuple> {
        let mut entries = self.entries.iter();
        entries
            .find(|entry| entry.original == sent)
            .map(|entry| entry.reply)
    }

    pub(super) fn pass_time(&mut self, ticks: u64) {
        for entry in &mut self.entries {
            entry.lives = entry.lives.saturating_sub(ticks);
        }
        self.entries.retain(|entry| entry.lives > 0);
    }

    /// Has a packet pass, as it then is, or drops it. A new connection to the service is for back end
    /// number `choice`.
    pub(super) fn filter(
        &mut self,
        segment: Segment,
        services: Services<'_>,
        choice: usize,
    ) -> Option<Tuple> {
        if let Some((index, is_reply)) = self.find(segment.tuple) {
            let reopens = self.entries[index].state == State::Closed
                && segment.flags & (SYN | ACK) == SYN
                && !is_reply;
            if !reopens {
                return self.go_on(segment, index, is_reply);
            }
            self.entries.remove(index);
        }
        self.begin(segment, services, choice)
    }

    /// Its place, and whether the packet goes the other way.
    fn find(&self, tuple: Tuple) -> Option<(usize, bool)> {
        self.entries.iter().enumerate().find_map(|(index, entry)| {
            let is_reply = entry.reply == tuple;
            (is_reply || entry.original == tuple).then_some((index, is_reply))
        })
    }

    fn go_on(&mut self, segment: Segment, index: usize, is_reply: bool) -> Option<Tuple> {
        let entry = &self.entries[index];
        let state = next(entry.state, segment, is_reply)?;
        let (client, server) = (entry.original.source.address, entry.reply.source.address);
        let pair = if is_reply {
            (server, client)
        } else {
            (client, server)
        };
        let is_established = is_reply || entry.replied;
        if self.denied.contains(&pair) && !(is_established && self.accepts_established) {
            return None;
        }
        let entry = &mut self.entries[index];
        entry.state = state;
        entry.replied |= is_reply;
        entry.lives = state.lifetime(entry.replied);
        Some(if is_reply {
            entry.original.inverse()
        } else {
            entry.reply.inverse()
        })
    }

    fn begin(&mut self, segment: Segment, services: Services<'_>, choice: usize) -> Option<Tuple> {
        let original = segment.tuple;
        let state = match original.protocol {
            Protocol::Udp | Protocol::Request => State::Stateless,
            // Of what nobody asked.
            Protocol::Reply => return None,
            Protocol::Tcp if segment.has(RST | FIN) => return None,
            Protocol::Tcp if segment.has(SYN) && segment.has(ACK) => return None,
            Protocol::Tcp if segment.has(SYN) => State::SynSent,
            // Picked up on its way (`nf_conntrack_tcp_loose`).
            Protocol::Tcp => State::Established,
        };
        let mut sent = original;
        if sent.destination.address == services.service {
            let back_end = services.back_ends[choice % services.back_ends.len()];
            sent.destination.address = back_end;
        }
        let pair = (sent.source.address, sent.destination.address);
        if self.denied.contains(&pair) {
            return None;
        }
        if self.masqueraded.contains(&sent.destination.address) {
            sent.source.address = services.node;
        }
        self.entries.push(Entry {
            original,
            reply: self.unique(sent)?.inverse(),
            state,
            replied: false,
            lives: state.lifetime(false),
        });
        Some(self.entries.last()?.reply.inverse())
    }

    /// The packet with a port of its own, where another connection's answers look like its own would
    /// (`get_unique_tuple`).
    fn unique(&self, sent: Tuple) -> Option<Tuple> {
        let ports = [sent.source].into_iter().chain((0..100).map(|n| End {
            port: 30_000 + n,
            ..sent.source
        }));
        ports
            .map(|end| sent.with_source_port(end.port))
            .find(|sent| self.find(sent.inverse()).is_none())
    }
}

/// Where a TCP connection gets by a packet, or `None` where it is none of it.
fn next(state: State, segment: Segment, is_reply: bool) -> Option<State> {
    use State::{Closed, Established, HalfClosed, LastAck, Stateless, SynReceived, SynSent};
    if state == Stateless {
        return Some(Stateless);
    }
    if segment.has(RST) {
        return Some(Closed);
    }
    if segment.has(SYN) {
        return match (state, segment.has(ACK), is_reply) {
            (SynSent, true, true) => Some(SynReceived),
            (SynSent, false, true) | (_, true, false) | (Closed, _, true) => None,
            _ => Some(state),
        };
    }
    let by_original = !is_reply;
    match state {
        SynSent => None,
        Established | SynReceived if segment.has(FIN) => Some(HalfClosed { by_original }),
        HalfClosed { by_original: first } if segment.has(FIN) && first != by_original => {
            Some(LastAck)
        }
        SynReceived if by_original => Some(Established),
        LastAck if !segment.has(FIN) => Some(Closed),
        _ => Some(state),
    }
}
