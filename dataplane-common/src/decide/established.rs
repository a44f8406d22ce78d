//! Acceleration beside netfilter: only flows are carried that the stack has let through.
//!
//! A packet that could be carried, of a flow that may not be yet, goes to the stack with a
//! [mark](Tuple::mark). A program where packets leave the stack knows by it whether the very packet
//! that came in leaves, and as it came: [`to_workload`] and [`to_uplink`]. What netfilter drops never
//! gets there, and what it translates has another mark. A flow is carried once both ways have been
//! seen so, for a period and a generation; then each way is seen anew.
//!
//! What opens, closes or resets a connection goes to the stack, and what is known of the flow is
//! forgotten. It bears no mark, so that connection tracking has seen both ends talk before a flow is
//! carried.

use core::ops::Deref;

use super::{Arrival, Decap, Mark, Verdict};
use crate::{
    abi::{
        ARRIVAL_DIRECT, ARRIVAL_IPIP, ARRIVAL_TAKEN_OUT, ARRIVAL_VXLAN, ARRIVAL_WORKLOAD, Addr,
        Config, Direction, Endpoint, Flow, NextHop, WAY_IN, WAY_OUT, flags,
    },
    headers::ETHERTYPE_IPV4,
    packet::{Packet, Tunnel},
    parse::{self, Ipv4},
    reason::Reason,
    tables::Tables,
    tuple::Tuple,
};

use super::open;

/// Where a flow's packets come from, as it is compared with where the next one does.
#[derive(Clone, Copy)]
pub(super) struct From(u64);

impl From {
    /// From a workload, behind this interface.
    #[inline(always)]
    pub(super) const fn workload(ifindex: u32) -> Self {
        Self::new(ARRIVAL_WORKLOAD, ifindex)
    }

    /// From the wire, in no tunnel.
    #[inline(always)]
    pub(super) const fn wire() -> Self {
        Self::new(ARRIVAL_DIRECT, 0)
    }

    /// From the wire, in a tunnel of node `peer`'s.
    #[inline(always)]
    pub(super) const fn tunnel(tunnel: Tunnel, peer: Addr) -> Self {
        let arrival = match tunnel {
            Tunnel::Ipip => ARRIVAL_IPIP,
            Tunnel::Vxlan => ARRIVAL_VXLAN,
        };
        Self::new(arrival, u32::from_be_bytes(peer))
    }

    /// Out of a tunnel that XDP has judged.
    #[inline(always)]
    pub(super) const fn taken_out() -> Self {
        Self::new(ARRIVAL_TAKEN_OUT, 0)
    }

    #[inline(always)]
    const fn new(arrival: u8, detail: u32) -> Self {
        Self((arrival as u64) << 40 | detail as u64)
    }

    #[inline(always)]
    const fn with(self, way: u8) -> u64 {
        self.0 | (way as u64) << 32
    }
}

/// What is known of a packet's flow.
pub(super) enum Watch<F> {
    /// Nothing is asked: acceleration is by route alone.
    Off,
    /// It is of no flow.
    NoFlow,
    /// It may not be carried, for this reason.
    Left(Tuple, Reason, Moment),
    /// It may be carried.
    Verified(F, Tuple, Moment),
}

/// What holds while one packet is decided upon. Read first: what is then read of other tables is of
/// this generation at the earliest.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    generation: u16,
    now: u64,
}

impl Moment {
    #[inline(always)]
    fn of<T: Tables>(tables: &T) -> Self {
        Self {
            generation: tables.generation(),
            now: tables.now(),
        }
    }

    #[inline(always)]
    fn is_verified(self, direction: &Direction, config: &Config) -> bool {
        direction
            .verified
            .get(self.generation)
            .is_some_and(|then| self.now.saturating_sub(then) <= u64::from(config.reverify))
    }
}

/// What is known of the flow of packet `ip`, whose header is at `offset`.
#[inline(always)]
pub(super) fn watch<'t, P: Packet, T: Tables>(
    packet: &P,
    tables: &'t T,
    config: &Config,
    ip: &Ipv4,
    offset: usize,
) -> Watch<impl Deref<Target = Flow> + use<'t, P, T>> {
    if config.flags & flags::ESTABLISHED == 0 {
        return Watch::Off;
    }
    let Ok(tuple) = Tuple::of(packet, ip, offset) else {
        return Watch::NoFlow;
    };
    let moment = Moment::of(tables);
    if tuple.is_handshake {
        return Watch::Left(tuple, Reason::Handshake, moment);
    }
    let Some(flow) = tables.flow(tuple.key) else {
        return Watch::Left(tuple, Reason::NotEstablished, moment);
    };
    let [there, back] = &flow.directions;
    if moment.is_verified(there, config) && moment.is_verified(back, config) {
        return Watch::Verified(flow, tuple, moment);
    }
    let once = |direction: &Direction| direction.verified.parts().1 != 0;
    let reason = if once(there) && once(back) {
        Reason::Reverify
    } else {
        Reason::NotEstablished
    };
    Watch::Left(tuple, reason, moment)
}

impl<F: Deref<Target = Flow>> Watch<F> {
    /// The next hop of the flow's packets that came from where this one did, if nothing has changed
    /// since: what there was to be asked of the tables need not be asked again.
    #[inline(always)]
    pub(super) fn way_out<'t, T: Tables>(&self, tables: &'t T, from: From) -> Option<&'t NextHop> {
        let (direction, generation) = self.known(from.with(WAY_OUT))?;
        #[allow(clippy::cast_possible_truncation)] // it was a number of 16 bits
        let number = (direction.to.get(generation)? - 1) as u16;
        let next_hop = tables.next_hop(number)?;
        direction.packets.increase();
        Some(next_hop)
    }

    /// The same, of the pod on this node that they went to, which has `address`.
    #[inline(always)]
    pub(super) fn way_in<'t, T: Tables>(
        &self,
        tables: &'t T,
        from: From,
        address: Addr,
    ) -> Option<&'t Endpoint> {
        let (direction, _) = self.known(from.with(WAY_IN))?;
        let endpoint = tables.endpoint(address)?;
        direction.packets.increase();
        Some(endpoint)
    }

    /// This direction of the flow and the generation, if its packets have come and gone like that.
    #[inline(always)]
    fn known(&self, from_and_way: u64) -> Option<(&Direction, u16)> {
        let Self::Verified(flow, tuple, moment) = self else {
            return None;
        };
        let direction = flow.directions.get(tuple.direction)?;
        let is_known = direction.from.get(moment.generation)? == from_and_way;
        is_known.then_some((direction, moment.generation))
    }

    /// What becomes of a packet that came from `from` and, going by the tables alone, would get
    /// `verdict`.
    #[inline(always)]
    pub(super) fn judge<'t, T: Tables>(
        self,
        tables: &T,
        config: &Config,
        from: From,
        verdict: Verdict<'t>,
    ) -> Verdict<'t> {
        if !matches!(verdict, Verdict::Deliver(..) | Verdict::Send(_)) {
            return verdict;
        }
        match self {
            Self::Off => verdict,
            Self::NoFlow => to_stack(config, &verdict, Reason::NotAFlow, 0),
            Self::Verified(flow, tuple, moment) => {
                if let Some(direction) = flow.directions.get(tuple.direction) {
                    remember(direction, moment, from, &verdict);
                    direction.packets.increase();
                }
                verdict
            }
            Self::Left(tuple, Reason::Handshake, _) => {
                tables.forget(tuple.key);
                to_stack(config, &verdict, Reason::Handshake, 0)
            }
            Self::Left(tuple, reason, moment) => {
                enter(tables, &tuple, moment);
                to_stack(
                    config,
                    &verdict,
                    reason,
                    tuple.mark(moment.generation).into(),
                )
            }
        }
    }
}

/// For the next packet that comes from there.
#[inline(always)]
fn remember(direction: &Direction, moment: Moment, from: From, verdict: &Verdict<'_>) {
    let generation = moment.generation;
    match verdict {
        Verdict::Send(send) => {
            let number = u64::from(send.next_hop.number());
            direction.to.set(generation, number + 1);
            direction.from.set(generation, from.with(WAY_OUT));
        }
        Verdict::Deliver(..) => direction.from.set(generation, from.with(WAY_IN)),
        _ => {}
    }
}

/// That the stack is given a packet of the flow to be verified.
#[inline(always)]
fn enter<T: Tables>(tables: &T, tuple: &Tuple, moment: Moment) {
    let Some(flow) = tables.flow_or_new(tuple.key) else {
        return;
    };
    if let Some(direction) = flow.directions.get(tuple.direction) {
        direction.entered.set(moment.generation, moment.now);
        if direction.since.parts().1 == 0 {
            direction.since.set(moment.generation, moment.now);
        }
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
        Ok(tuple) if tuple.is_handshake => {
            tables.forget(tuple.key);
            0
        }
        Ok(tuple) => {
            let moment = Moment::of(tables);
            enter(tables, &tuple, moment);
            tuple.mark(moment.generation).into()
        }
        Err(_) => 0,
    }
}

/// Learns from a packet that leaves the stack for a local pod, with this mark.
#[inline(always)]
pub fn to_workload<P: Packet, T: Tables>(packet: &P, tables: &T, mark: u16) -> Reason {
    if mark == 0 {
        return Reason::Unmarked;
    }
    verify(packet, tables, mark, parse::IP).unwrap_or(Reason::Unmarked)
}

/// Learns from a packet that leaves the stack for the wire, with this mark: as it is, or in a tunnel
/// that the kernel put it into.
#[inline(always)]
pub fn to_uplink<P: Packet, T: Tables>(packet: &P, tables: &T, mark: u16) -> Reason {
    if mark == 0 {
        return Reason::Unmarked;
    }
    leaving(packet, tables, mark).unwrap_or(Reason::Unmarked)
}

#[inline(always)]
fn leaving<P: Packet, T: Tables>(packet: &P, tables: &T, mark: u16) -> Result<Reason, Reason> {
    let config = tables.config().ok_or(Reason::NoConfig)?;
    // In arms, so that in each of them every offset is a constant.
    match open::tunnel_out(packet, config)? {
        None => verify(packet, tables, mark, parse::IP),
        Some(Tunnel::Ipip) => verify(packet, tables, mark, open::inner_offset(Tunnel::Ipip)),
        Some(Tunnel::Vxlan) => verify(packet, tables, mark, open::inner_offset(Tunnel::Vxlan)),
    }
}

/// The packet came in with this mark: if it would get the same now, it leaves as it came.
#[inline(always)]
fn verify<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    mark: u16,
    offset: usize,
) -> Result<Reason, Reason> {
    if offset == parse::IP && parse::ethertype(packet)? != ETHERTYPE_IPV4 {
        return Err(Reason::NotIpv4);
    }
    let ip = parse::ipv4(packet, offset)?;
    let tuple = Tuple::of(packet, &ip, offset)?;
    let moment = Moment::of(tables);
    if tuple.mark(moment.generation) != mark {
        return Ok(Reason::Translated);
    }
    if let Some(flow) = tables.flow(tuple.key)
        && let Some(direction) = flow.directions.get(tuple.direction)
    {
        direction.verified.set(moment.generation, moment.now);
    }
    Ok(Reason::Verified)
}
