//! What has to happen to a packet, case by case: the agreed list of cases as a table.
//!
//! A case says what is sent where, what then comes out of the node under test, byte by byte, and
//! what the programs count. It is played with the programs attached (`live`), with tunnels opened by
//! XDP besides (`xdp`), by `BPF_PROG_TEST_RUN` (`run`), and without the programs on a node that is
//! set up as Calico sets it up (`kernel`). Since the kernel has to give the same bytes as the programs, the expectation is the
//! kernel's and not ours; where a case expects something else of the kernel, it says why. What two
//! stacks may choose differently, and so is not compared, stands in `masks.rs`.
//!
//! Packets are built and read by etherparse, never by the code under test.

mod arp;
mod bench;
mod ecn;
mod forgeries;
mod forwarding;
mod fragments;
mod icmp;
mod links;
mod malformed;
mod masks;
mod packets;
mod paths;
mod play;
mod routing;
mod set_up;
mod show;
mod tunnels;
mod world;

use dataplane_common::{abi::Hook, reason::Reason};

use crate::Mode;

use packets::{forwarded, on_wire, to_p0};
use world::{NODE, PEER};

pub use bench::Bench;
pub use play::{Outcome, play_kernel, play_live, play_run, play_without_carrier};
pub use world::{Kernel, World};

/// Where frames go into the node under test, and come out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Port {
    /// The first pod's interface.
    P0,
    /// The second pod's.
    P1,
    /// The wire at the node's uplink.
    Wire,
    /// The node's own stack, for packets without a link-layer header: it only sends.
    Host,
}

/// Frames, each at its port.
pub type Frames = Vec<(Port, Vec<u8>)>;

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Case {
    /// The number in the list of cases, and a letter for this row.
    pub name: String,
    /// What has to happen.
    pub title: String,
    /// What is sent.
    pub sent: Frames,
    /// What comes out, in this order at each port.
    pub emitted: Frames,
    /// What the programs count, in the order of what is sent.
    pub counted: Vec<(Hook, Reason)>,
    /// What comes out without the programs, where that is something else, and why.
    pub kernel: Option<(&'static str, Frames)>,
    /// What is counted and comes out on a node without a carrier, where that is something else.
    pub bare: Option<(Vec<(Hook, Reason)>, Frames)>,
    /// Commands on the node before, and others after.
    pub around: [Vec<&'static str>; 2],
    /// How it can be played.
    pub played: Played,
}

/// How a case can be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Played {
    /// In every way.
    Every,
    /// Not by `BPF_PROG_TEST_RUN`, which cannot give a program such a packet, or cannot show what
    /// the program does with it.
    NotRun,
    /// Only by `BPF_PROG_TEST_RUN`: a packet that a device has yet to cut into segments with this
    /// many bytes each, which a packet socket does not send.
    OnlyRun {
        /// Bytes of payload in a segment.
        gso_size: u32,
    },
}

impl Case {
    fn new(name: impl Into<String>, title: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            title: title.into(),
            sent: Frames::new(),
            emitted: Frames::new(),
            counted: Vec::new(),
            kernel: None,
            bare: None,
            around: [Vec::new(), Vec::new()],
            played: Played::Every,
        }
    }

    /// Adds a frame that is sent.
    fn sends(mut self, port: Port, frame: Vec<u8>) -> Self {
        self.sent.push((port, frame));
        self
    }

    /// Adds frames that are sent.
    fn sends_all(mut self, port: Port, frames: impl IntoIterator<Item = Vec<u8>>) -> Self {
        self.sent
            .extend(frames.into_iter().map(|frame| (port, frame)));
        self
    }

    /// Adds a frame that comes out.
    fn emits(mut self, port: Port, frame: Vec<u8>) -> Self {
        self.emitted.push((port, frame));
        self
    }

    /// Adds frames that come out.
    fn emits_all(mut self, port: Port, frames: impl IntoIterator<Item = Vec<u8>>) -> Self {
        self.emitted
            .extend(frames.into_iter().map(|frame| (port, frame)));
        self
    }

    /// Adds what is counted, once.
    fn counts(self, hook: Hook, reason: Reason) -> Self {
        self.counts_all([(hook, reason)])
    }

    /// Adds what is counted.
    fn counts_all(mut self, counted: impl IntoIterator<Item = (Hook, Reason)>) -> Self {
        self.counted.extend(counted);
        self
    }

    /// Says what the kernel does instead, and what then comes out.
    fn kernel_instead(mut self, does: &'static str, emitted: Frames) -> Self {
        self.kernel = Some((does, emitted));
        self
    }

    /// Says what a node without a carrier counts instead, and what then comes out.
    fn bare_instead(
        mut self,
        counted: impl IntoIterator<Item = (Hook, Reason)>,
        emitted: Frames,
    ) -> Self {
        self.bare = Some((counted.into_iter().collect(), emitted));
        self
    }

    /// Puts commands on the node around the case.
    fn between(mut self, before: &[&'static str], after: &[&'static str]) -> Self {
        self.around = [before.to_vec(), after.to_vec()];
        self
    }

    /// Adds what becomes of what the programs leave to the kernel's receiver: there is one for VXLAN,
    /// which the carrier judges, and none for IPIP.
    fn left_to_the_receiver(self, world: World, outer: &[u8], inner: &[u8]) -> Self {
        let delivered = to_p0(&forwarded(inner));
        if world.mode == Mode::Vxlan {
            return self
                .counts(Hook::FromCarrier, Reason::Accepted)
                .emits(Port::P0, delivered);
        }
        let answer = icmp::unreachable(NODE, PEER, world.nobodys_tunnel(), outer);
        self.emits(Port::Wire, on_wire(PEER, &answer))
            .kernel_instead("its tunnel takes it", vec![(Port::P0, delivered)])
    }

    fn played(mut self, played: Played) -> Self {
        self.played = played;
        self
    }
}

/// The table.
#[must_use]
pub fn table(world: World) -> Vec<Case> {
    [
        forwarding::cases,
        fragments::cases,
        malformed::cases,
        links::cases,
        tunnels::cases,
        forgeries::cases,
        ecn::cases,
        arp::cases,
        paths::cases,
        routing::cases,
    ]
    .iter()
    .flat_map(|cases| cases(world))
    .collect()
}

/// The word for a mode in reports.
#[must_use]
pub fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::None => "none",
        Mode::Ipip => "ipip",
        Mode::Vxlan => "vxlan",
        Mode::CrossSubnet => "cross-subnet",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Numbers without a row, and why.
    const ELSEWHERE: [(u8, &str); 14] = [
        (36, "takes a pod that speaks by itself: arp.rs"),
        (37, "netfilter: beneath it, this version does not work"),
        (38, "netfilter"),
        (39, "netfilter"),
        (40, "netfilter"),
        (44, "takes an agent that hears of the change: agent.rs"),
        (
            46,
            "in the table for single packets; the agent's part: agent.rs",
        ),
        (48, "takes a pod that is replaced: agent.rs, arp.rs"),
        (
            49,
            "in the table for addresses; nodes that are replaced: agent.rs",
        ),
        (51, "takes a full map"),
        (52, "takes agents that end: agent.rs, detach.rs"),
        (
            53,
            "takes the segmentation of real streams: modes.rs, interop.rs",
        ),
        (54, "no program is on a tunnel device of the kernel's"),
        (
            9,
            "in the table for what is not for us; nothing learns from it",
        ),
    ];

    fn worlds() -> impl Iterator<Item = World> {
        let kernels = [true, false].map(|has| Kernel {
            ipip: has,
            tells_outer_destination: has,
        });
        let modes = [Mode::None, Mode::Ipip, Mode::Vxlan];
        modes
            .into_iter()
            .flat_map(move |mode| kernels.map(|kernel| World { mode, kernel }))
    }

    #[test]
    fn every_number_is_in_the_table_or_accounted_for() {
        let in_table = worlds().flat_map(table).map(|case| {
            let number = case.name.trim_end_matches(|c: char| c.is_ascii_lowercase());
            number.parse::<u8>().expect("a number")
        });
        let accounted = ELSEWHERE.iter().map(|(number, _)| *number);
        let numbers: BTreeSet<_> = in_table.chain(accounted).collect();
        assert_eq!(numbers, (1..=54).collect());
    }

    #[test]
    fn names_are_unique() {
        for world in worlds() {
            let mut names = BTreeSet::new();
            for case in table(world) {
                assert!(names.insert(case.name.clone()), "{} twice", case.name);
            }
        }
    }
}
