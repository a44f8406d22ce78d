//! The programs on both sides of netfilter, in random stories; and that the stories get everywhere.

use dataplane_common::reason::Reason;
use dataplane_fuzz::stack::{Counts, Failure, happens};

const STORIES: u64 = 1_500;
const BYTES: usize = 640;

#[test]
fn nothing_is_carried_that_the_stack_would_have_changed_or_dropped() {
    let mut counts = Counts::new();
    for seed in 0..STORIES {
        let mut bytes = [0; BYTES];
        fastrand::Rng::with_seed(seed).fill(&mut bytes);
        match happens(&bytes) {
            Ok(more) => {
                for (reason, count) in more {
                    *counts.entry(reason).or_default() += count;
                }
            }
            Err(_) => tell_the_shortest(bytes.to_vec()),
        }
    }
    for (reason, count) in &counts {
        println!("{:<18}{count}", reason.name());
    }
    for reason in [
        Reason::DeliveredLocal,
        Reason::SentDirect,
        Reason::SentIpip,
        Reason::SentVxlan,
        Reason::ReceivedDirect,
        Reason::ReceivedIpip,
        Reason::ReceivedVxlan,
        Reason::NotEstablished,
        Reason::Reverify,
        Reason::Handshake,
        Reason::Accepted,
        Reason::SpoofedSource,
        Reason::ForeignSource,
        Reason::Verified,
        Reason::Translated,
    ] {
        assert!(
            counts.get(&reason).is_some_and(|count| *count > 100),
            "{reason:?}"
        );
    }
}

/// Leaves out what can be left out of a story that goes wrong, and tells it.
fn tell_the_shortest(mut bytes: Vec<u8>) -> ! {
    let mut chunk = bytes.len() / 2;
    while chunk > 0 {
        let mut begin = 0;
        while begin < bytes.len() {
            let end = (begin + chunk).min(bytes.len());
            let mut shorter = bytes.clone();
            shorter.drain(begin..end);
            if happens(&shorter).is_err() {
                bytes = shorter;
            } else {
                begin += chunk;
            }
        }
        chunk /= 2;
    }
    match happens(&bytes) {
        Err(Failure { what, steps }) => panic!("{what}\nafter:\n{}", steps.join("\n")),
        Ok(_) => unreachable!("it went wrong"),
    }
}
