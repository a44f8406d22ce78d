//! What is opened before it is a socket buffer.

use dataplane_common::{
    abi::Hook,
    decide::Decap,
    memory::MemoryPacket,
    reason::{Action, Reason},
};

use super::{Run, reading::ETHERNET, receive, same};
use crate::{Case, Surroundings};

/// A peer's packet is out of its tunnel as it was put in; the frame keeps its addresses.
pub(super) fn taken_out(run: &Run, decap: Decap) {
    assert_eq!(run.outcome.reason, Reason::TakenOut);
    assert_eq!(run.outcome.action, Action::Stack);
    let (packet, tos) = receive::opened(run, decap);
    same(&run.after[..ETHERNET], &run.before[..ETHERNET]);
    receive::is_as_before(&run.after[ETHERNET..], packet, tos);
}

/// Traffic control makes of what comes from here what it would have made of the frame.
pub(super) fn changes_nothing_but_the_place(run: &Run, left: MemoryPacket) {
    let (reason, bytes) = match run.outcome.action {
        Action::Drop => (run.outcome.reason, left.bytes),
        Action::Stack | Action::Forward => by_traffic_control(run, left),
    };
    let (expected, expected_bytes) = by_traffic_control(run, run.case.packet.clone());
    assert_eq!(
        reason, expected,
        "by XDP first, and by traffic control alone"
    );
    same(&bytes, &expected_bytes);
    let config = run.tables.config.unwrap_or_default();
    if run.outcome.reason == Reason::TakenOut && config.carrier == 0 {
        assert!(
            matches!(reason, Reason::ReceivedIpip | Reason::ReceivedVxlan),
            "opened for nobody, and no carrier is there"
        );
    }
}

fn by_traffic_control(run: &Run, packet: MemoryPacket) -> (Reason, Vec<u8>) {
    let case = Case {
        hook: Hook::FromUplink,
        packet,
        ..run.case.clone()
    };
    let mut packet = case.packet.clone();
    let around: &Surroundings = run.around;
    let outcome = case
        .decide(run.tables, around)
        .carry_out(&mut packet, run.tables);
    (outcome.reason, packet.bytes)
}
