//! What is remembered of flows: when it lets a packet be carried, and what is written there.
//!
//! Each function takes and returns plain numbers: in the programs each is a function of its own, which
//! the verifier looks at once, instead of with every path that leads to it.

use core::ops::Deref;

use crate::{
    abi::{
        ARRIVAL_IPIP, ARRIVAL_TAKEN_OUT, ARRIVAL_VXLAN, Direction, Flow, FlowKey, WAY_IN, WAY_OUT,
    },
    reason::Reason,
    tuple::Tuple,
};

/// Where flows are remembered.
pub trait FlowTable {
    /// What is remembered of a flow.
    fn flow(&self, key: FlowKey) -> Option<impl Deref<Target = Flow> + use<'_, Self>>;

    /// As [`FlowTable::flow`], of one that there may be none of yet.
    fn flow_or_new(&self, key: FlowKey) -> Option<impl Deref<Target = Flow> + use<'_, Self>>;

    /// The generation that holds now.
    fn generation(&self) -> u16;

    /// Any number.
    fn chance(&self) -> u32;

    /// Now, in [ticks](crate::abi::TICK_SHIFT).
    fn now(&self) -> u64;
}

/// Whether packets of a flow may be carried, and where those that came from one place have gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing(u64);

impl Standing {
    const ESTABLISHED: u64 = 1 << 16;
    const ONCE: u64 = 1 << 17;
    const OUT: u64 = 1 << 18;
    const IN: u64 = 1 << 19;
    const NUMBER: u32 = 32;

    /// Whether the stack has let the flow through both ways, lately.
    #[inline(always)]
    #[must_use]
    pub const fn is_established(self) -> bool {
        self.0 & Self::ESTABLISHED != 0
    }

    /// The number of the next hop that packets from there go to, without anything more being looked
    /// up.
    #[inline(always)]
    #[must_use]
    pub const fn way_out(self) -> Option<u16> {
        self.number(Self::OUT)
    }

    /// The same, of the pod on this node that they go to.
    #[inline(always)]
    #[must_use]
    pub const fn way_in(self) -> Option<u16> {
        self.number(Self::IN)
    }

    #[inline(always)]
    #[allow(clippy::cast_possible_truncation)] // a field
    const fn number(self, way: u64) -> Option<u16> {
        if self.0 & way == 0 {
            None
        } else {
            Some((self.0 >> Self::NUMBER) as u16)
        }
    }

    /// The generation that this holds in. What is read of other tables afterwards is of this one at the
    /// earliest.
    #[inline(always)]
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // a field
    pub const fn generation(self) -> u16 {
        self.0 as u16
    }

    /// Why packets may not be carried.
    #[inline(always)]
    #[must_use]
    pub const fn why_not(self) -> Reason {
        if self.0 & Self::ONCE == 0 {
            Reason::NotEstablished
        } else {
            Reason::Reverify
        }
    }

    /// The number that it is.
    #[inline(always)]
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// That of a number that was one.
    #[inline(always)]
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// How the flow of `tuple` stands, whose packets come from `from` ([`Direction::from`] without a way),
/// if the stack sees it anew after `reverify` ticks. A packet whose way is known is counted; but if XDP
/// has taken it out of a tunnel, there.
#[inline(always)]
pub fn standing<T: FlowTable>(table: &T, tuple: Tuple, from: u64, reverify: u32) -> Standing {
    let generation = table.generation();
    let nothing = Standing(generation.into());
    let Some(flow) = table.flow(tuple.key()) else {
        return nothing;
    };
    let (there, back) = (tuple.direction(&flow), tuple.back().direction(&flow));
    let now = table.now();
    let is_verified = |direction: &Direction| {
        let then = direction.verified.get(generation);
        then.is_some_and(|then| now.saturating_sub(then) <= u64::from(reverify))
    };
    if !is_verified(there) || !is_verified(back) {
        let once = |direction: &Direction| direction.verified.parts().1 != 0;
        return if once(there) && once(back) {
            Standing(nothing.0 | Standing::ONCE)
        } else {
            nothing
        };
    }
    let established = Standing(nothing.0 | Standing::ESTABLISHED);
    let way = match there.from.get(generation) {
        Some(known) if known == from | WAY_IN => Standing::IN,
        Some(known) if known == from | WAY_OUT => Standing::OUT,
        Some(known) if from == ARRIVAL_TAKEN_OUT && is_out_of_tunnel_and_in(known) => Standing::IN,
        _ => return established,
    };
    let Some(to) = there.to.get(generation) else {
        return established;
    };
    if from != ARRIVAL_TAKEN_OUT {
        there.packets.increase();
    }
    Standing(established.0 | way | (to - 1) << Standing::NUMBER)
}

/// Whether packets that come so, in a tunnel, go to a pod on this node.
#[inline(always)]
const fn is_out_of_tunnel_and_in(known: u64) -> bool {
    const ARRIVALS: u64 = 0xff << 40;
    const WAYS: u64 = WAY_IN | WAY_OUT;
    let arrival = known & ARRIVALS;
    known & WAYS == WAY_IN && (arrival == ARRIVAL_IPIP || arrival == ARRIVAL_VXLAN)
}

/// For the next packet of the flow that comes from there: its way, and the number of what it goes `to`
/// by it. What it is made of was read in this generation at the earliest.
#[inline(always)]
pub fn remember<T: FlowTable>(
    table: &T,
    tuple: Tuple,
    generation: u16,
    from_and_way: u64,
    to: u16,
) {
    if let Some(flow) = table.flow(tuple.key()) {
        let direction = tuple.direction(&flow);
        direction.to.set(generation, u64::from(to) + 1);
        direction.from.set(generation, from_and_way);
        direction.packets.increase();
    }
}

/// That the stack is handed a packet of the flow, which bears what is returned; 0 where nothing is
/// remembered. An acknowledgement `begins` none: for the last one of a connection, and for one of many
/// that are as short, there would be an entry in vain.
#[inline(always)]
pub fn enter<T: FlowTable>(table: &T, tuple: Tuple, begins: bool) -> u16 {
    let generation = table.generation();
    let now = table.now();
    let key = tuple.key();
    if !begins && table.flow(key).is_none() {
        return 0;
    }
    let Some(flow) = table.flow_or_new(key) else {
        return 0;
    };
    let direction = tuple.direction(&flow);
    direction.entered.set(generation, now);
    if direction.since.parts().1 == 0 {
        direction.since.set(generation, now);
    }
    if flow.incarnation.get() == 0 {
        flow.incarnation.set(u64::from(table.chance()) | 1 << 32);
    }
    tuple.mark(generation, flow.incarnation.get())
}

/// That a packet of the flow leaves the stack that bears `mark`. If it would get the same now, it is
/// as it came in: that is noted, and returned.
#[inline(always)]
pub fn leave<T: FlowTable>(table: &T, tuple: Tuple, mark: u16) -> bool {
    let generation = table.generation();
    let Some(flow) = table.flow(tuple.key()) else {
        return false;
    };
    if tuple.mark(generation, flow.incarnation.get()) != mark {
        return false;
    }
    let now = table.now();
    tuple.direction(&flow).verified.set(generation, now);
    true
}
