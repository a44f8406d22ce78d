//! Playing a case, and judging what came of it.

use anyhow::{Context as _, Result};
use dataplane_common::{
    abi::Hook,
    reason::{Action, Reason},
};
use etherparse::IpNumber;

use super::{
    Bench, Case, Frames, Played, Port,
    bench::{Counts, since},
    masks::masked,
    show,
};
use crate::{
    Mac, frames,
    programs::{DROPPED, REDIRECTED, Ran, TO_STACK},
};

/// What is wrong with what came of a case; nothing, where nothing is.
pub type Outcome = Vec<String>;

const ETHERNET_LEN: usize = 14;
/// The shortest frame of a type whose header is in it that Linux 6.18 runs a program on, in bytes.
const LEAST_RUN: usize = ETHERNET_LEN + 20;

/// Plays a case on a node with the programs attached.
pub fn play_live(bench: &Bench, case: &Case) -> Result<Outcome> {
    let (emitted, counted) = bench.play(case)?;
    let mut outcome = compare(&case.emitted, &emitted);
    outcome.extend(compare_counts(&case.counted, &without_xdp(counted)));
    Ok(outcome)
}

/// Plays a case on a node with the programs and without a carrier. What they carry on or drop is as
/// with one; what they leave, the kernel treats as it would without them, and from its devices on
/// they neither see nor count it.
pub fn play_without_carrier(bench: &Bench, case: &Case) -> Result<Outcome> {
    let (emitted, counted) = bench.play(case)?;
    if let Some((expected_counts, expected)) = &case.bare {
        let mut outcome = compare(expected, &emitted);
        outcome.extend(compare_counts(expected_counts, &without_xdp(counted)));
        return Ok(outcome);
    }
    let of_carrier =
        |(hook, _): &(Hook, Reason)| matches!(hook, Hook::FromStack | Hook::FromCarrier);
    let mut expected_counts = case.counted.clone();
    expected_counts.retain(|counted| !of_carrier(counted));
    let mut left = expected_counts
        .iter()
        .filter(|(_, reason)| reason.action() == Action::Stack);
    let expected = match &case.kernel {
        Some((_, by_kernel)) if left.next().is_some() => by_kernel,
        _ => &case.emitted,
    };
    let mut outcome = compare(expected, &emitted);
    outcome.extend(compare_counts(&expected_counts, &without_xdp(counted)));
    Ok(outcome)
}

/// What would be counted without XDP: it drops what the program behind it would, which sees all the
/// rest.
fn without_xdp(counted: Counts) -> Counts {
    let mut without = Counts::new();
    for ((hook, reason), count) in counted {
        let hook = match hook {
            Hook::XdpUplink if reason.action() == Action::Drop => Hook::FromUplink,
            Hook::XdpUplink => continue,
            _ => hook,
        };
        *without.entry((hook, reason)).or_default() += count;
    }
    without
}

/// Plays a case on a node without programs. Where the case says so, the kernel does something else;
/// that it does, is part of the case.
pub fn play_kernel(bench: &Bench, case: &Case) -> Result<Outcome> {
    let (emitted, _) = bench.play(case)?;
    let (instead, expected) = match &case.kernel {
        Some((instead, expected)) => (Some(instead), expected),
        None => (None, &case.emitted),
    };
    let mut outcome = compare(expected, &emitted);
    if let Some(instead) = instead
        && !outcome.is_empty()
    {
        outcome.insert(0, format!("the kernel was to do something else: {instead}"));
    }
    Ok(outcome)
}

/// Plays a case by running the program that each of its frames meets first.
pub fn play_run(bench: &mut Bench, case: &Case) -> Result<Outcome> {
    let gso_size = match case.played {
        Played::OnlyRun { gso_size } => gso_size,
        Played::Every | Played::NotRun => 0,
    };
    let mut outcome = Outcome::new();
    let mut to_count = case.counted.clone();
    let mut expected = Vec::new();
    let before = bench.counts()?;
    for (port, frame) in &case.sent {
        let (programs, hook, interface) = bench.programs_at(*port)?;
        // What is counted at a hook stands in the order of what arrives there.
        let Some(next) = to_count.iter().position(|(at, _)| *at == hook) else {
            continue;
        };
        let (_, reason) = to_count.remove(next);
        if frame.len() < LEAST_RUN {
            continue;
        }
        expected.push((hook, reason));
        // The stack gives a packet to the carrier with a link-layer header of no meaning.
        let frame = match port {
            Port::Host => &frames::ethernet(Mac::ZERO, Mac::ZERO, frame),
            _ => frame,
        };
        let ran = programs
            .run_offloaded(hook, &interface, frame, gso_size)
            .with_context(|| format!("run on {} bytes", frame.len()))?;
        outcome.extend(judge(case, hook, reason, frame, &ran));
    }
    outcome.extend(compare_counts(&expected, &since(&bench.counts()?, &before)));
    Ok(outcome)
}

/// Whether a program did with a frame what its reason says.
fn judge(case: &Case, hook: Hook, reason: Reason, frame: &[u8], ran: &Ran) -> Outcome {
    let is_emitted = |got: &[u8]| {
        case.emitted.iter().any(|(port, expected)| {
            // The neighbour subsystem writes the link-layer header of what goes to the wire.
            let from = if *port == Port::Wire { ETHERNET_LEN } else { 0 };
            masked(expected)[from..] == masked(&[&expected[..from], &got[from..]].concat())[from..]
        })
    };
    let is_injected = |got: &[u8]| {
        got.len() + overhead(frame) == frame.len() && frame.ends_with(&got[ETHERNET_LEN..])
    };
    let is_right = match (hook.action(reason), ran.action) {
        (Action::Drop, action) => action == DROPPED,
        (Action::Forward, REDIRECTED) => is_emitted(&ran.frame),
        (Action::Stack, TO_STACK) => ran.frame == frame,
        // Out of its tunnel, onto the carrier.
        (Action::Stack, REDIRECTED) => hook == Hook::FromUplink && is_injected(&ran.frame),
        _ => false,
    };
    if is_right {
        return Outcome::new();
    }
    vec![format!(
        "    {} is to {}, for {}; it returned {} with\n{}",
        hook.name(),
        hook.action(reason).name(),
        reason.name(),
        ran.action,
        show::frame(&ran.frame)
    )]
}

/// How much longer a tunnel packet is than the one in it, in bytes: IPIP, or else VXLAN.
fn overhead(frame: &[u8]) -> usize {
    const PROTOCOL: usize = ETHERNET_LEN + 9;
    if frame[PROTOCOL] == IpNumber::IPV4.0 {
        20
    } else {
        50
    }
}

fn compare(expected: &Frames, got: &Frames) -> Outcome {
    let mut outcome = Outcome::new();
    for port in [Port::P0, Port::P1, Port::Wire] {
        let at = |frames: &Frames| -> Vec<Vec<u8>> {
            let here = frames.iter().filter(|(at, _)| *at == port);
            here.map(|(_, frame)| masked(frame)).collect()
        };
        let (expected, got) = (at(expected), at(got));
        for index in 0..expected.len().max(got.len()) {
            outcome.extend(match (expected.get(index), got.get(index)) {
                (Some(expected), Some(got)) if expected == got => None,
                (Some(expected), Some(got)) => Some(format!(
                    "    another frame {index} at {port:?}\n{}",
                    show::difference(expected, got)
                )),
                (Some(expected), None) => Some(format!(
                    "    no frame {index} at {port:?}, expected\n{}",
                    show::frame(expected)
                )),
                (None, Some(got)) => Some(format!(
                    "    an unexpected frame {index} at {port:?}\n{}",
                    show::frame(got)
                )),
                (None, None) => None,
            });
        }
    }
    outcome
}

fn compare_counts(expected: &[(Hook, Reason)], got: &Counts) -> Outcome {
    let mut counts = Counts::new();
    for key in expected {
        *counts.entry(*key).or_default() += 1;
    }
    if counts == *got {
        return Outcome::new();
    }
    let words = |counts: &Counts| {
        let words = counts
            .iter()
            .map(|((hook, reason), count)| format!("{} {} {count}", hook.name(), reason.name()));
        words.collect::<Vec<_>>().join(", ")
    };
    vec![format!(
        "    counted {}\n    instead {}",
        words(&counts),
        words(got)
    )]
}
