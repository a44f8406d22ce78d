//! Frames that are cut off or corrupted, at every hook: nothing panics, and nothing that is wrong
//! is carried on.

use std::ops::Range;

use dataplane_common::{
    decide::{Origin, TunnelKey, Verdict},
    memory::{MemoryPacket, carry_out},
    reason::{Action, Reason},
};
use etherparse::Ipv4Header;

use crate::{
    frames::{IP, IPIP_INNER, Ip, Tamper, VXLAN_INNER, Vxlan, arp_frame, arp_question},
    programs::Program,
    world::{
        FIRST, GATEWAY, HERE, Mode, SECOND, TABLES, THERE, VNI, node, pod, pod_mac, tunnel_address,
        veth,
    },
};

/// A frame of each kind that some hook understands, with the places of its IP headers.
pub struct Sample {
    pub name: &'static str,
    /// The pod that might send it.
    pod: [u8; 4],
    pub frame: MemoryPacket,
    headers: Vec<Range<usize>>,
}

impl Sample {
    fn new(name: &'static str, frame: MemoryPacket, headers: &[usize]) -> Self {
        Self {
            name,
            pod: pod(Mode::Vxlan, HERE, FIRST),
            frame,
            headers: headers.iter().map(|at| *at..at + 20).collect(),
        }
    }

    fn programs(&self) -> [Program; 6] {
        let key = TunnelKey {
            remote: node(THERE),
            vni: VNI,
            local: None,
            cut_up: false,
        };
        [
            Program::Workload(veth(self.pod)),
            Program::Uplink,
            Program::Stack,
            Program::StackUnresolved,
            Program::Carrier(Origin::Tunnel(key)),
            Program::Carrier(Origin::Program),
        ]
    }
}

pub fn samples() -> Vec<Sample> {
    let me = pod(Mode::Vxlan, HERE, FIRST);
    let peer = pod(Mode::Vxlan, THERE, FIRST);
    let to_pod = Ip::new(peer, me).tos(2);
    let to_host = Ip::new(peer, tunnel_address(HERE));
    let outer = || Ip::new(node(THERE), node(HERE));
    let arp = arp_question(pod_mac(me), me, GATEWAY);
    let out = |mode| Ip::new(me, pod(mode, THERE, FIRST));

    let mut samples = vec![
        Sample::new("ARP", arp_frame([0xff; 6], &arp), &[]),
        Sample::new(
            "to a pod here",
            Ip::new(me, pod(Mode::Vxlan, HERE, SECOND)).frame(),
            &[IP],
        ),
        Sample::new("out, direct", out(Mode::Direct).frame(), &[IP]),
        Sample::new("out, IPIP", out(Mode::Ipip).frame(), &[IP]),
        Sample::new("out, VXLAN", out(Mode::Vxlan).frame(), &[IP]),
        Sample::new(
            "out, TCP",
            out(Mode::Vxlan).tcp(32, 3000).frame().of_segments(1000),
            &[IP],
        ),
        Sample::new(
            "out, UDP segments",
            out(Mode::Ipip).of_length(3000).frame().of_segments(1000),
            &[IP],
        ),
        Sample::new(
            "out, no payload",
            out(Mode::Ipip).payload(1, &[]).frame(),
            &[IP],
        ),
        Sample::new(
            "in, direct",
            Ip::new(
                pod(Mode::Direct, THERE, FIRST),
                pod(Mode::Direct, HERE, FIRST),
            )
            .frame(),
            &[IP],
        ),
        Sample::new(
            "in, IPIP",
            outer().ipip(&to_pod.packet()).frame(),
            &[IP, IPIP_INNER],
        ),
        Sample::new(
            "in, IPIP, for the host",
            outer().ipip(&to_host.packet()).frame(),
            &[IP, IPIP_INNER],
        ),
        Sample::new(
            "in, VXLAN",
            Vxlan::new(THERE, HERE, &to_pod).frame(),
            &[IP, VXLAN_INNER],
        ),
        Sample::new(
            "in, VXLAN, for the host",
            Vxlan::new(THERE, HERE, &to_host).frame(),
            &[IP, VXLAN_INNER],
        ),
        Sample::new(
            "in, VXLAN, TCP",
            Vxlan::new(THERE, HERE, &to_pod.clone().tcp(20, 3000))
                .frame()
                .of_segments(1000),
            &[IP, VXLAN_INNER],
        ),
    ];
    // Their headers are of another length, and not at a place that is ever changed.
    samples.push(Sample::new(
        "out, options",
        out(Mode::Vxlan).options(&[1; 8]).frame(),
        &[],
    ));
    samples.push(Sample::new(
        "in, VXLAN, options",
        Vxlan::new(THERE, HERE, &to_pod.options(&[1; 8])).frame(),
        &[IP],
    ));
    samples
}

/// Decides on a frame and carries the verdict out. What leaves is a packet whose IP header is whole
/// and within the frame.
fn run(program: Program, frame: &MemoryPacket, what: &dyn Fn() -> String) -> Verdict<'static> {
    let verdict = program.decide(frame, &*TABLES);
    if let Verdict::Leave(..) = verdict {
        return verdict;
    }
    let mut after = frame.clone();
    let outcome = carry_out(&mut after, &*TABLES, &verdict);
    assert_eq!(outcome.reason, verdict.reason(), "{}", what());
    if !matches!(verdict, Verdict::AnswerArp(..)) {
        let header = Ipv4Header::from_slice(&after.bytes[IP..]);
        let (header, _) = header.unwrap_or_else(|error| panic!("{}: {error}", what()));
        let end = IP + usize::from(header.total_len);
        assert!(end <= after.bytes.len(), "{}", what());
    }
    verdict
}

#[test]
fn every_sample_is_understood_by_some_hook() {
    for sample in samples() {
        let carried = sample.programs().into_iter().any(|program| {
            let verdict = run(program, &sample.frame, &|| sample.name.to_owned());
            verdict.reason().action() == Action::Forward || matches!(verdict, Verdict::Inject(..))
        });
        assert!(carried, "{}", sample.name);
    }
}

#[test]
fn a_truncated_frame_is_never_carried_on() {
    for sample in samples() {
        for length in 0..sample.frame.bytes.len() {
            let frame = sample.frame.clone().truncated(length);
            for program in sample.programs() {
                let what = || format!("{}, {length} bytes, {program:?}", sample.name);
                let verdict = run(program, &frame, &what);
                assert!(matches!(verdict, Verdict::Leave(..)), "{}", what());
            }
        }
    }
}

/// As truncated, but filled up to the length again, as short Ethernet frames are.
#[test]
fn what_stands_in_the_padding_is_never_read_for_the_packet() {
    for sample in samples() {
        for headers in &sample.headers {
            // The packet ends within its own payload, or with its header.
            for length in [20, 21, 27] {
                let at = headers.start;
                let frame = sample.frame.clone().with_ip(at, 2, &[0, length]);
                for program in sample.programs() {
                    let what = || format!("{}, {length} bytes, {program:?}", sample.name);
                    let verdict = run(program, &frame, &what);
                    if sample.headers.len() == 2 && at == IP {
                        assert!(matches!(verdict, Verdict::Leave(..)), "{}", what());
                    }
                    if let Verdict::Send(send) = verdict {
                        assert_eq!(send.ip.total_length, u16::from(length));
                    }
                }
            }
        }
    }
}

/// Every value in place of every byte that any program reads, so every flipped bit, too.
#[test]
fn a_corrupted_byte_never_panics_and_never_passes_in_an_ip_header() {
    const READ: usize = VXLAN_INNER + 20 + 20;
    for sample in samples() {
        let mut frame = sample.frame.clone();
        for offset in 0..READ.min(frame.bytes.len()) {
            let original = frame.bytes[offset];
            let is_ip = sample.headers.iter().any(|header| header.contains(&offset));
            for value in (0..=u8::MAX).filter(|value| *value != original) {
                frame.bytes[offset] = value;
                for program in sample.programs() {
                    let what = || {
                        let name = sample.name;
                        format!("{name}, byte {offset} {original} -> {value}, {program:?}")
                    };
                    let verdict = run(program, &frame, &what);
                    // What the stack sends is taken to be right.
                    let is_from_stack = matches!(
                        program,
                        Program::Stack
                            | Program::StackUnresolved
                            | Program::Carrier(Origin::Program)
                    );
                    if is_ip && !is_from_stack {
                        assert_ne!(verdict.reason().action(), Action::Forward, "{}", what());
                    }
                }
            }
            frame.bytes[offset] = original;
        }
    }
}

/// Several bytes at once, by a generator that gives the same numbers every time (xorshift64).
#[test]
fn random_corruption_never_panics() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % bound
    };
    let samples = samples();
    for round in 0..20_000 {
        let sample = &samples[below(samples.len())];
        let mut frame = sample.frame.clone();
        for _ in 0..=below(4) {
            let offset = below(frame.bytes.len().min(VXLAN_INNER + 40));
            frame.bytes[offset] = u8::try_from(below(256)).unwrap();
        }
        frame.gso_size = [0, 1, 1000, 65_535][below(4)];
        frame.checksum_verified = below(2) == 0;
        frame
            .bytes
            .truncate(frame.bytes.len() - below(2) * below(20));
        for program in sample.programs() {
            run(program, &frame, &|| format!("round {round}, {program:?}"));
        }
    }
}

#[test]
fn random_bytes_are_never_carried_on() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for length in 0..300 {
        let mut bytes = vec![0; length];
        for byte in &mut bytes {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            [*byte, ..] = state.to_be_bytes();
        }
        if let Some(ether_type) = bytes.get_mut(12..14) {
            ether_type.copy_from_slice(&[0x08, 0x00]);
        }
        let frame = MemoryPacket::new(bytes);
        let pod = pod(Mode::Vxlan, HERE, FIRST);
        for program in [
            Program::Workload(veth(pod)),
            Program::Uplink,
            Program::Stack,
        ] {
            let verdict = program.decide(&frame, &*TABLES);
            assert!(matches!(verdict, Verdict::Leave(..)), "{verdict:?}");
            assert_ne!(verdict.reason(), Reason::Accepted);
        }
    }
}
