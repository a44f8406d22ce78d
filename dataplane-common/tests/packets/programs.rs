//! The four programs, but for what only the kernel can do: redirecting.

use dataplane_common::{
    decide::{self, Origin, Verdict},
    memory,
    packet::Packet,
    tables::Tables,
};

/// A program, by where its packets come from.
#[derive(Clone, Copy, Debug)]
pub enum Program {
    /// A pod, on the interface with this index.
    Workload(u32),
    Uplink,
    /// The host's stack, with the neighbour on the uplink resolved.
    Stack,
    /// The same, but not resolved.
    StackUnresolved,
    /// The carrier, with what the kernel says of how it came there.
    Carrier(Origin),
}

impl Program {
    pub fn decide<'t>(self, packet: &impl Packet, tables: &'t impl Tables) -> Verdict<'t> {
        match self {
            Self::Workload(ifindex) => decide::from_workload(packet, tables, ifindex),
            Self::Uplink => decide::from_uplink(packet, tables),
            Self::Stack => decide::from_stack(packet, tables, Origin::Program, |_| true),
            Self::StackUnresolved => decide::from_stack(packet, tables, Origin::Program, |_| false),
            Self::Carrier(origin) => decide::from_carrier(packet, tables, origin),
        }
    }
}

/// Does with the packet what `verdict` says, which succeeds.
#[track_caller]
pub fn carry_out(packet: &mut impl Packet, tables: &impl Tables, verdict: &Verdict) {
    let outcome = memory::carry_out(packet, tables, verdict);
    assert_eq!(outcome.reason, verdict.reason());
}
