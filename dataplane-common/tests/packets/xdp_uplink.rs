//! What the wire brings, before it is a socket buffer: opened there or not, the same comes of it.

use dataplane_common::{
    decide::{self, Verdict},
    memory::{MemoryPacket, carry_out, take_out},
    packet::Tunnel,
    reason::{Action, Reason},
};

use crate::{
    frames::{Ip, Tamper as _, VXLAN_INNER, Vxlan},
    programs::Program,
    robustness::samples,
    world::{FIRST, HERE, Mode, OUTSIDE, TABLES, THERE, node, pod},
};

/// What becomes of a frame: why, and its bytes.
type Outcome = (Reason, Vec<u8>);

/// By `from_uplink` alone.
fn by_traffic_control(frame: &MemoryPacket) -> Outcome {
    let mut frame = frame.clone();
    let verdict = Program::Uplink.decide(&frame, &*TABLES);
    let reason = carry_out(&mut frame, &*TABLES, &verdict).reason;
    (reason, frame.bytes)
}

/// By `xdp_uplink`, and by `from_uplink` behind it.
fn by_xdp_first(frame: &MemoryPacket) -> Outcome {
    let mut frame = frame.clone();
    let found = decide::xdp_uplink(&frame, &*TABLES);
    let outcome = take_out(&mut frame, found);
    match outcome.action {
        Action::Drop => (outcome.reason, frame.bytes),
        Action::Stack | Action::Forward => by_traffic_control(&frame),
    }
}

#[test]
fn xdp_changes_nothing_but_the_place() {
    let mut taken_out = 0;
    for sample in samples() {
        let frame = sample.frame.of_segments(0);
        taken_out += u32::from(decide::xdp_uplink(&frame, &*TABLES).is_ok());
        assert_eq!(
            by_xdp_first(&frame),
            by_traffic_control(&frame),
            "{}",
            sample.name
        );
    }
    assert!(taken_out > 4, "{taken_out}");
}

/// Every value in place of every byte that is read.
#[test]
fn nor_does_it_with_a_corrupted_byte() {
    const READ: usize = VXLAN_INNER + 20 + 20;
    for sample in samples() {
        let mut frame = sample.frame.of_segments(0);
        for offset in 0..READ.min(frame.bytes.len()) {
            let original = frame.bytes[offset];
            for value in 0..=u8::MAX {
                frame.bytes[offset] = value;
                // To many: there the kernel tells, here the first bit of the frame does.
                frame.to_interface = frame.bytes[0] & 1 == 0;
                assert_eq!(
                    by_xdp_first(&frame),
                    by_traffic_control(&frame),
                    "{}, byte {offset} {original} -> {value}",
                    sample.name
                );
            }
            frame.bytes[offset] = original;
        }
    }
}

mod taken_out {
    use super::*;

    /// From the first pod there to the first pod here, taken out of a tunnel.
    fn frame() -> MemoryPacket {
        let mut frame = inner().frame();
        frame.taken_out_of = Some(Tunnel::Vxlan);
        frame
    }

    fn inner() -> Ip {
        Ip::new(
            pod(Mode::Vxlan, THERE, FIRST),
            pod(Mode::Vxlan, HERE, FIRST),
        )
    }

    fn verdict(frame: &MemoryPacket) -> Verdict<'static> {
        Program::Uplink.decide(frame, &*TABLES)
    }

    #[test]
    fn without_the_mark_it_would_not_be_delivered() {
        let marked = verdict(&frame());
        assert_eq!(marked.reason(), Reason::ReceivedVxlan);
        let unmarked = verdict(&inner().frame());
        assert_eq!(unmarked, Verdict::Leave(Reason::SourceOutside, 0));
    }

    /// A device takes a tag off before XDP sees the frame.
    #[test]
    fn on_a_vlan_it_is_dropped() {
        let mut frame = frame();
        frame.vlan_tag = true;
        assert_eq!(verdict(&frame), Verdict::Leave(Reason::NotInner, 0));
    }

    #[test]
    fn for_another_station_it_is_left_to_the_stack_which_drops_it() {
        let mut frame = frame();
        frame.to_interface = false;
        assert_eq!(verdict(&frame), Verdict::Leave(Reason::OtherHost, 0));
    }

    #[test]
    fn aggregates_are_delivered_if_their_segments_fit() {
        let tcp = |segment| {
            let mut frame = inner().tcp(20, 3000).frame().of_segments(segment);
            frame.taken_out_of = Some(Tunnel::Vxlan);
            frame
        };
        assert_eq!(verdict(&tcp(1000)).reason(), Reason::ReceivedVxlan);
        let too_big = Verdict::Inject(None, Reason::TooBig, 0);
        assert_eq!(verdict(&tcp(1450)), too_big);
        // An aggregate may be longer than its length field can say.
        let mut big = tcp(1000);
        big.bytes[16..18].fill(0);
        assert_eq!(verdict(&big), Verdict::Inject(None, Reason::BigTcp, 0));
    }
}

#[test]
fn what_is_not_for_this_nodes_own_address_is_not_looked_into() {
    let inner = Ip::new(pod(Mode::Ipip, THERE, FIRST), pod(Mode::Ipip, HERE, FIRST));
    for destination in [node(THERE), pod(Mode::Ipip, HERE, FIRST), OUTSIDE] {
        let frame = Ip::new(node(THERE), destination)
            .ipip(&inner.packet())
            .frame();
        let found = decide::xdp_uplink(&frame, &*TABLES);
        assert_eq!(found, Err(Reason::NotForHost), "{destination:?}");
    }
}

/// A program without a socket buffer cannot know whether the device verified it.
#[test]
fn an_outer_checksum_is_left_to_traffic_control() {
    let inner = Ip::new(
        pod(Mode::Vxlan, THERE, FIRST),
        pod(Mode::Vxlan, HERE, FIRST),
    );
    let mut frame = Vxlan::new(THERE, HERE, &inner).frame();
    frame.bytes[40..42].copy_from_slice(&[0x12, 0x34]);
    let found = decide::xdp_uplink(&frame, &*TABLES);
    assert_eq!(found, Err(Reason::OuterChecksum));
}
