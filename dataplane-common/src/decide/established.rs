//! Acceleration beside netfilter: only flows are carried that the stack has let through.
//!
//! A packet that could be carried, of a flow that may not be yet, goes to the stack with a
//! [mark](Tuple::mark). A program where packets leave the stack knows by it whether the very packet
//! that came in leaves, and as it came: [`to_workload`] and [`to_uplink`]. What netfilter drops never
//! gets there, and what it translates has another mark. A flow is carried once both ways have been
//! seen so, for a period and a generation; then each way is seen anew.
//!
//! What opens, closes or resets a connection goes to the stack, and what is known of the flow is
//! forgotten. Of that only the answer to a SYN bears a mark: when what follows it the other way has been
//! seen, too, connection tracking takes the connection to be established, and the flow may be carried.
//! Where both ends answer each other, the second answer forgets the first.

use super::{Arrival, Decap, Mark, Verdict, open};
use crate::{
    abi::{
        ARRIVAL_DIRECT, ARRIVAL_IPIP, ARRIVAL_TAKEN_OUT, ARRIVAL_VXLAN, ARRIVAL_WORKLOAD, Addr,
        Config, Endpoint, NextHop, WAY_IN, WAY_OUT, flags,
    },
    flows::Standing,
    headers::ETHERTYPE_IPV4,
    packet::{Packet, Tunnel},
    parse::{self, Ipv4},
    reason::Reason,
    tables::Tables,
    tuple::{Role, Tuple},
};

/// Where a flow's packets come from, as it is compared with where the next one does.
#[derive(Clone, Copy)]
pub(super) struct Arrived(u64);

impl Arrived {
    /// From a workload, behind this interface.
    #[inline(always)]
    pub(super) const fn workload(ifindex: u32) -> Self {
        Self(ARRIVAL_WORKLOAD | ifindex as u64)
    }

    /// From the wire, in no tunnel.
    pub(super) const WIRE: Self = Self(ARRIVAL_DIRECT);

    /// Out of a tunnel that XDP has judged.
    pub(super) const TAKEN_OUT: Self = Self(ARRIVAL_TAKEN_OUT);

    /// From the wire, in a tunnel of node `peer`'s.
    #[inline(always)]
    pub(super) const fn tunnel(tunnel: Tunnel, peer: Addr) -> Self {
        let arrival = match tunnel {
            Tunnel::Ipip => ARRIVAL_IPIP,
            Tunnel::Vxlan => ARRIVAL_VXLAN,
        };
        Self(arrival | u32::from_be_bytes(peer) as u64)
    }
}

/// What is known of a packet's flow. No enum: see [`Verdict`].
#[derive(Clone, Copy)]
pub(super) struct Watch {
    /// Whether anything is asked; else acceleration is by route alone.
    is_on: bool,
    /// Whether it is of a flow, which is then this one.
    is_of_flow: bool,
    role: Role,
    tuple: Tuple,
    from: Arrived,
    /// Of a flow, unless the packet opens, closes or resets it.
    standing: Standing,
}

/// What is known of the flow of packet `ip`, whose header is at `offset`, and which came `from` there.
#[inline(always)]
pub(super) fn watch<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    config: &Config,
    ip: &Ipv4,
    offset: usize,
    from: Arrived,
) -> Watch {
    let mut watch = Watch {
        is_on: config.flags & flags::ESTABLISHED != 0,
        is_of_flow: false,
        role: Role::Data,
        tuple: Tuple::default(),
        from,
        standing: Standing::default(),
    };
    if !watch.is_on {
        return watch;
    }
    if let Ok((tuple, role)) = Tuple::of(packet, ip, offset) {
        watch.is_of_flow = true;
        watch.role = role;
        watch.tuple = tuple;
        if role != Role::Handshake && role != Role::Answer {
            watch.standing = tables.standing(tuple, from.0, config.reverify);
        }
    }
    watch
}

impl Watch {
    /// The next hop of the flow's packets that came from where this one did, if nothing has changed
    /// since: what there was to be asked of the tables need not be asked again.
    #[inline(always)]
    pub(super) fn way_out<'t, T: Tables>(&self, tables: &'t T) -> Option<&'t NextHop> {
        tables.next_hop(self.standing.way_out()?)
    }

    /// The same, of the pod on this node that they went to.
    #[inline(always)]
    pub(super) fn way_in<'t, T: Tables>(&self, tables: &'t T) -> Option<&'t Endpoint> {
        tables.numbered_endpoint(self.standing.way_in()?)
    }

    /// What becomes of a packet that, going by the tables alone, would be delivered to a pod on this
    /// node.
    #[inline(always)]
    pub(super) fn judge_in<'t, T: Tables>(
        &self,
        tables: &T,
        config: &Config,
        verdict: Verdict<'t>,
    ) -> Verdict<'t> {
        let Verdict::Deliver(endpoint, _) = &verdict else {
            return verdict;
        };
        if !self.is_on {
            return verdict;
        }
        if self.standing.is_established() {
            self.note_in(tables, endpoint);
            return verdict;
        }
        self.left(tables, config, &verdict)
    }

    /// Notes that packets from there go to the pod on this node that is `endpoint`, if they may be
    /// carried and that is not known. What XDP has taken out of its tunnel it has noted itself.
    #[inline(always)]
    pub(super) fn note_in<T: Tables>(&self, tables: &T, endpoint: &Endpoint) {
        let is_known = self.standing.way_in().is_some() || self.from.0 == ARRIVAL_TAKEN_OUT;
        if self.standing.is_established() && !is_known {
            self.remember(tables, WAY_IN, endpoint.number);
        }
    }

    /// As [`Self::judge_in`], of one that would be sent to another node. In a function of its own, since
    /// LLVM would look for the next hop's number in a pod's entry before it knows which of both it has.
    #[inline(always)]
    pub(super) fn judge_out<'t, T: Tables>(
        &self,
        tables: &T,
        config: &Config,
        verdict: Verdict<'t>,
    ) -> Verdict<'t> {
        let Verdict::Send(send) = &verdict else {
            return verdict;
        };
        if !self.is_on {
            return verdict;
        }
        if self.standing.is_established() {
            self.remember(tables, WAY_OUT, send.next_hop.number());
            return verdict;
        }
        self.left(tables, config, &verdict)
    }

    /// To the stack, of what may not be carried.
    #[inline(always)]
    fn left<'t, T: Tables>(
        &self,
        tables: &T,
        config: &Config,
        verdict: &Verdict<'_>,
    ) -> Verdict<'t> {
        if !self.is_of_flow {
            return to_stack(config, verdict, Reason::NotAFlow, 0);
        }
        let mark = entered(tables, self.tuple, self.role);
        let reason = match self.role {
            Role::Handshake | Role::Answer => Reason::Handshake,
            Role::Acknowledgement | Role::Data => self.standing.why_not(),
        };
        to_stack(config, verdict, reason, mark)
    }

    /// For the next packet that comes from there.
    #[inline(always)]
    fn remember<T: Tables>(&self, tables: &T, way: u64, to: u16) {
        let generation = self.standing.generation();
        tables.remember(self.tuple, generation, self.from.0 | way, to);
    }
}

/// To the stack, as it takes a packet from there: what comes in a tunnel, by the carrier, if there is
/// one.
#[inline(always)]
fn to_stack<'t>(config: &Config, verdict: &Verdict<'_>, reason: Reason, mark: Mark) -> Verdict<'t> {
    let decap: Option<Decap> = match verdict {
        Verdict::Deliver(_, Arrival::Tunnelled(decap)) => Some(*decap),
        Verdict::Deliver(_, Arrival::TakenOut(_)) => None,
        _ => return Verdict::Leave(reason, mark),
    };
    if config.carrier == 0 {
        Verdict::Leave(reason, mark)
    } else {
        Verdict::Inject(decap, reason, mark)
    }
}

/// Marks a packet for a local pod that the kernel itself took out of its tunnel: there it enters the
/// stack. Returns the mark.
#[inline(always)]
pub(super) fn entering<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    config: &Config,
    ip: &Ipv4,
) -> Mark {
    if config.flags & flags::ESTABLISHED == 0 {
        return 0;
    }
    match Tuple::of(packet, ip, parse::IP) {
        Ok((tuple, role)) => entered(tables, tuple, role),
        Err(_) => 0,
    }
}

/// That the stack is handed a packet of a flow. Returns its mark.
#[inline(always)]
fn entered<T: Tables>(tables: &T, tuple: Tuple, role: Role) -> Mark {
    match role {
        Role::Handshake => {
            tables.forget(tuple);
            0
        }
        Role::Answer => {
            tables.forget(tuple);
            tables.enter(tuple, true).into()
        }
        Role::Acknowledgement => tables.enter(tuple, false).into(),
        Role::Data => tables.enter(tuple, true).into(),
    }
}

/// Learns from a packet that leaves the stack for a local pod, with this mark.
#[inline(always)]
pub fn to_workload<P: Packet, T: Tables>(packet: &P, tables: &T, mark: u16) -> Reason {
    if parse::ethertype(packet) != Ok(ETHERTYPE_IPV4) {
        return Reason::Unmarked;
    }
    leave(packet, tables, mark, parse::IP).unwrap_or(Reason::Unmarked)
}

/// Learns from a packet that leaves the stack for the wire, with this mark: as it is, or in a tunnel
/// that the kernel put it into.
#[inline(always)]
pub fn to_uplink<P: Packet, T: Tables>(packet: &P, tables: &T, mark: u16) -> Reason {
    leave_for_wire(packet, tables, mark).unwrap_or(Reason::Unmarked)
}

#[inline(always)]
fn leave_for_wire<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    mark: u16,
) -> Result<Reason, Reason> {
    let config = tables.config().ok_or(Reason::NoConfig)?;
    // In arms, so that in each of them every offset is a constant.
    match open::tunnel_out(packet, config)? {
        None => leave(packet, tables, mark, parse::IP),
        Some(Tunnel::Ipip) => leave(packet, tables, mark, open::inner_offset(Tunnel::Ipip)),
        Some(Tunnel::Vxlan) => leave(packet, tables, mark, open::inner_offset(Tunnel::Vxlan)),
    }
}

#[inline(always)]
fn leave<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    mark: u16,
    offset: usize,
) -> Result<Reason, Reason> {
    let ip = parse::ipv4(packet, offset)?;
    let (tuple, _) = Tuple::of(packet, &ip, offset)?;
    if tables.leave(tuple, mark) {
        Ok(Reason::Verified)
    } else {
        Ok(Reason::Translated)
    }
}
