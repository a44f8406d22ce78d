//! What is remembered of flows.
//!
//! Programs on several CPUs write to a flow at once, without a lock. So it is made of words, each read
//! and written by itself, and each with the generation in its upper 16 bits: a mixture of what two
//! have written is seen, and what was written before something changed says nothing any more.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{
    Addr,
    word::{Number, Word},
};

/// A tick is 2^16 ns of `CLOCK_MONOTONIC`, 65.536 us: 48 bits of them are 584 years.
pub const TICK_SHIFT: u32 = 16;

/// Which end of a flow asks. With ICMP echo the identifier alone does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Asker {
    /// Either: there are ports.
    Either = 0,
    /// The one with the lower address.
    Lower = 1,
    /// The one with the higher address.
    Higher = 2,
}

/// A flow, whichever way its packet goes.
#[repr(C, align(4))]
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
pub struct FlowKey {
    /// The lower of the two addresses; they differ.
    pub lower: Addr,
    /// The higher one.
    pub higher: Addr,
    /// The lower one's port, as on the wire; of ICMP echo, the identifier.
    pub lower_port: [u8; 2],
    /// The higher one's port; of ICMP echo, the identifier.
    pub higher_port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// An [`Asker`].
    pub asker: u8,
    /// Zero.
    pub padding: [u8; 2],
}

/// What is remembered of one direction of a flow.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Direction {
    /// When one of its packets was last handed to the stack, to be verified; in ticks.
    pub entered: Word,
    /// When one last left the stack as it had come; in ticks.
    pub verified: Word,
    /// Where its packets come from and go: one of `ARRIVAL_*`, one of `WAY_*`, and in the lower 32
    /// bits, of a workload its interface, of a tunnel its outer source.
    pub from: Word,
    /// Where they go: the number of a next hop, or of a pod on this node, plus one.
    pub to: Word,
    /// Packets that were carried, of any generation: a plain number.
    pub packets: Number,
    /// When the stack was first handed one of them; in ticks.
    pub since: Word,
}

/// From a workload.
pub const ARRIVAL_WORKLOAD: u64 = 1 << 40;
/// From an uplink, as it is.
pub const ARRIVAL_DIRECT: u64 = 2 << 40;
/// From an uplink, in IPIP.
pub const ARRIVAL_IPIP: u64 = 3 << 40;
/// From an uplink, in VXLAN.
pub const ARRIVAL_VXLAN: u64 = 4 << 40;
/// From an uplink, where `xdp_uplink` has judged it and taken it out of a tunnel: only asked for, since
/// it remembers the tunnel.
pub const ARRIVAL_TAKEN_OUT: u64 = 5 << 40;

/// To a next hop.
pub const WAY_OUT: u64 = 1 << 32;
/// To a pod on this node.
pub const WAY_IN: u64 = 2 << 32;

/// What is remembered of a flow.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Flow {
    /// From the lower address to the higher, and back.
    pub directions: [Direction; 2],
    /// A number by chance, by which this entry is known from an earlier one of the same flow; 0 until
    /// the stack is handed a packet of it.
    pub incarnation: Number,
}

/// Words of a [`Flow`].
pub const FLOW_WORDS: usize = 13;
const _: () = assert!(size_of::<Flow>() == FLOW_WORDS * size_of::<u64>());

/// A flow as userspace reads it, all at once.
impl From<[u64; FLOW_WORDS]> for Flow {
    fn from(words: [u64; FLOW_WORDS]) -> Self {
        let direction = |at: usize| {
            let word = |n: usize| Word::from(words[at + n]);
            Direction {
                entered: word(0),
                verified: word(1),
                from: word(2),
                to: word(3),
                packets: Number::from(words[at + 4]),
                since: word(5),
            }
        };
        Self {
            directions: [direction(0), direction(6)],
            incarnation: Number::from(words[12]),
        }
    }
}

/// Who counts generations: each its own, so that none takes back what the other wrote. The sum of
/// both, modulo 2^16, is the generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Generation {
    /// The agent: its tables have changed, or the rules of netfilter.
    Agent = 0,
    /// The command line: `underpass flows flush`.
    Flush = 1,
}

/// Entries of the map of generations.
pub const GENERATIONS: u32 = 2;
