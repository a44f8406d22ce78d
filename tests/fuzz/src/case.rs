//! A packet at a hook.

use dataplane_common::{
    abi::Hook,
    decide::{self, Decap, Origin, Verdict},
    memory::{MemoryPacket, MemoryTables, Outcome, carry_out, take_out},
    reason::Reason,
};

use crate::Surroundings;

/// A packet at a hook, with what the kernel says of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// Whose program sees it.
    pub hook: Hook,
    /// Index of the interface that it is on.
    pub ifindex: u32,
    /// How it came to the carrier, if that is where it is.
    pub origin: Origin,
    /// The packet.
    pub packet: MemoryPacket,
}

/// What a program decides.
#[derive(Clone, Copy, Debug)]
pub enum Decision<'t> {
    /// One of traffic control's.
    Traffic(Verdict<'t>),
    /// XDP's: how the frame is taken out of its tunnel, or why it is not.
    Xdp(Result<Decap, Reason>),
}

impl Case {
    /// What the hook's program decides, on a node that knows `tables`.
    #[must_use]
    pub fn decide<'t>(&self, tables: &'t MemoryTables, around: &Surroundings) -> Decision<'t> {
        let Self {
            hook,
            ifindex,
            origin,
            packet,
        } = self;
        Decision::Traffic(match hook {
            Hook::FromWorkload => decide::from_workload(packet, tables, *ifindex),
            Hook::FromUplink => decide::from_uplink(packet, tables),
            Hook::FromStack => decide::from_stack(packet, tables, Origin::Program, |hop| {
                around.is_resolved(hop)
            }),
            Hook::FromCarrier => decide::from_carrier(packet, tables, *origin),
            Hook::XdpUplink => return Decision::Xdp(decide::xdp_uplink(packet, tables)),
            Hook::ToWorkload | Hook::ToUplink => unreachable!("decides nothing"),
        })
    }
}

impl Decision<'_> {
    /// Does with the packet what the program does for its decision.
    pub fn carry_out(&self, packet: &mut MemoryPacket, tables: &MemoryTables) -> Outcome {
        match self {
            Self::Traffic(verdict) => carry_out(packet, tables, verdict),
            Self::Xdp(found) => take_out(packet, *found),
        }
    }
}
