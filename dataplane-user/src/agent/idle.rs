//! Keeps connection tracking's entries of connections that were accelerated, and then say nothing.
//!
//! Of an accelerated TCP connection conntrack has seen a few packets. To it, data may seem to be out
//! that nobody has acknowledged: then it forgets the connection soon, which it would keep for days had
//! it seen the acknowledgement. While the connection talks, the stack sees a packet of each way once a
//! period. When it falls silent, its entry is given the time that it would have.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use dataplane_common::abi::{Direction, Flow, FlowKey, MAX_FLOWS, maps};
use tokio::time::sleep;
use tracing::{debug, warn};

use super::companion::Companion;
use crate::{
    dataplane::{Flows, Pins, flow_tuples, now, ticks},
    kernel::{ConnectionEntry, Conntrack, Sysctl, TCP_ESTABLISHED},
    telemetry::Metrics,
};

const TCP: u8 = 6;

/// How often flows are looked at: this part of the time in which conntrack forgets a connection, but
/// at least and at most so often.
const PARTS: u32 = 5;
const LEAST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_mins(1);

/// Looks again and again which connections have fallen silent, that is, have no longer been verified
/// for `period`.
pub(super) fn keep_idle(pins: &Pins, period: Duration, metrics: Arc<Metrics>) -> Result<Companion> {
    let flows = Flows::open(pins)?;
    Companion::start("idle", async move || {
        let mut keeper = Keeper {
            flows,
            period: ticks(period),
            looked: 0,
        };
        let mut said = None;
        loop {
            let pause = match keeper.look(&metrics) {
                Ok(pause) => {
                    said = None;
                    pause
                }
                Err(error) => {
                    let text = format!("{error:#}");
                    if said.as_ref() != Some(&text) {
                        warn!("idle connections may be forgotten by conntrack: {text}");
                    }
                    said = Some(text);
                    LEAST
                }
            };
            sleep(pause).await;
        }
    })
}

struct Keeper {
    flows: Flows,
    period: u64,
    /// What was silent then, in ticks, has been seen to.
    looked: u64,
}

impl Keeper {
    /// Sees to those that have fallen silent since the last look; returns when to look again.
    fn look(&mut self, metrics: &Metrics) -> Result<Duration> {
        let Some(limits) = Limits::read()? else {
            return Ok(MOST);
        };
        let silent = now().saturating_sub(self.period);
        let unacknowledged = ticks(Duration::from_secs(limits.unacknowledged.into()));
        let mut fallen = Vec::new();
        let mut count = 0;
        self.flows.each(|key, flow| {
            count += 1;
            if key.protocol == TCP && fell_silent(&flow, self.looked..=silent, unacknowledged) {
                fallen.push(key);
            }
        })?;
        metrics.map_fill(maps::FLOWS, count, MAX_FLOWS);
        if !fallen.is_empty() {
            let kept = keep(&fallen, &limits)?;
            metrics.kept(kept);
            debug!(silent = fallen.len(), kept, "idle connections");
        }
        self.looked = silent + 1;
        Ok(limits.pause())
    }
}

/// Gives the entries of these connections the time of an idle one, where they have less; returns how
/// many.
fn keep(connections: &[FlowKey], limits: &Limits) -> Result<u64> {
    let mut conntrack = Conntrack::connect()?;
    let mut kept = 0;
    for key in connections {
        let Some([tuple, _]) = flow_tuples(key) else {
            continue;
        };
        // Of what is translated, neither of its flows was verified both ways.
        let Some(entry) = conntrack.get(&tuple)? else {
            continue;
        };
        if limits.cut_short(&entry) {
            conntrack.set_timeout(&entry, limits.established)?;
            kept += 1;
        }
    }
    Ok(kept)
}

/// Whether a connection that was verified both ways, be it in an earlier generation, said its last
/// word in this time. Where one end has long been silent when the other was not, conntrack is right:
/// what that one sent was not acknowledged.
fn fell_silent(flow: &Flow, during: RangeInclusive<u64>, unacknowledged: u64) -> bool {
    let [there, back] = flow.directions.each_ref().map(last);
    let (Some(there), Some(back)) = (there, back) else {
        return false;
    };
    during.contains(&there.max(back)) && there.abs_diff(back) < unacknowledged
}

/// When a packet that way was last seen, if one was ever verified.
fn last(direction: &Direction) -> Option<u64> {
    let (_, entered) = direction.entered.parts();
    let (_, verified) = direction.verified.parts();
    (verified != 0).then(|| verified.max(entered))
}

/// How long conntrack keeps what nothing is heard of, in seconds.
struct Limits {
    established: u32,
    unacknowledged: u32,
    retransmitted: u32,
}

impl Limits {
    /// `None` where there is no connection tracking.
    fn read() -> Result<Option<Self>> {
        let Some(established) = Sysctl::TimeoutEstablished.read()? else {
            return Ok(None);
        };
        let get = |sysctl: Sysctl| {
            let value = sysctl.read()?;
            value.with_context(|| format!("the kernel has no {sysctl}"))
        };
        Ok(Some(Self {
            established,
            unacknowledged: get(Sysctl::TimeoutUnacknowledged)?,
            retransmitted: get(Sysctl::TimeoutMaxRetrans)?,
        }))
    }

    fn pause(&self) -> Duration {
        let shortest = self.unacknowledged.min(self.retransmitted);
        (Duration::from_secs(shortest.into()) / PARTS).clamp(LEAST, MOST)
    }

    /// Whether `entry` is of an established connection, and is forgotten before the time.
    fn cut_short(&self, entry: &ConnectionEntry) -> bool {
        let longest = self.unacknowledged.max(self.retransmitted);
        entry.tcp_state == Some(TCP_ESTABLISHED)
            && !entry.is_fixed
            && longest < self.established
            && entry.timeout.is_some_and(|left| left <= longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNACKNOWLEDGED: u64 = 1000;

    /// A flow whose directions were entered and verified at these times.
    fn flow(times: [[u64; 2]; 2]) -> Flow {
        let flow = Flow::default();
        for (direction, [entered, verified]) in flow.directions.iter().zip(times) {
            // Of an earlier generation, each of another.
            direction.entered.set(3, entered);
            direction.verified.set(2, verified);
        }
        flow
    }

    #[test]
    fn a_connection_falls_silent_once() {
        let silent = flow([[100, 110], [90, 95]]);
        for (during, expected) in [
            (0..=109, false),
            (0..=110, true),
            (110..=200, true),
            (111..=200, false),
        ] {
            assert_eq!(
                fell_silent(&silent, during.clone(), UNACKNOWLEDGED),
                expected,
                "{during:?}"
            );
        }
    }

    #[test]
    fn a_packet_that_has_not_come_out_is_a_word_too() {
        assert!(!fell_silent(
            &flow([[300, 110], [90, 95]]),
            0..=200,
            UNACKNOWLEDGED
        ));
        assert!(fell_silent(
            &flow([[300, 110], [90, 95]]),
            0..=300,
            UNACKNOWLEDGED
        ));
    }

    #[test]
    fn what_was_not_verified_both_ways_was_never_accelerated() {
        for times in [[[100, 110], [90, 0]], [[100, 0], [90, 95]], [[0; 2]; 2]] {
            assert!(
                !fell_silent(&flow(times), 0..=1000, UNACKNOWLEDGED),
                "{times:?}"
            );
        }
    }

    #[test]
    fn what_nobody_acknowledged_is_conntracks_to_forget() {
        assert!(fell_silent(
            &flow([[0, 5000], [0, 4001]]),
            0..=9000,
            UNACKNOWLEDGED
        ));
        assert!(!fell_silent(
            &flow([[0, 5000], [0, 4000]]),
            0..=9000,
            UNACKNOWLEDGED
        ));
    }

    #[test]
    fn it_is_looked_well_before_conntrack_forgets() {
        let limits = |unacknowledged, retransmitted| Limits {
            established: 432_000,
            unacknowledged,
            retransmitted,
        };
        assert_eq!(limits(300, 300).pause(), Duration::from_mins(1));
        assert_eq!(limits(100, 300).pause(), Duration::from_secs(20));
        assert_eq!(limits(300, 20).pause(), Duration::from_secs(4));
        assert_eq!(limits(2, 300).pause(), Duration::from_secs(1));
    }
}
