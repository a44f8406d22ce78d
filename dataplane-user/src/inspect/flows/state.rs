//! How a flow stands: whether it is accelerated, and if not, why not.

use clap::ValueEnum;
use dataplane_common::abi::{Direction, Flow};
use schemars::JsonSchema;
use serde::Serialize;

use crate::kernel::{ConnTuple, ConnectionEntry};

/// How a flow stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its packets are carried.
    Accelerated,
    /// It was verified both ways, but longer ago than the period: idle.
    Stale,
    /// It was verified both ways, but rules or routes have changed since.
    Revoked,
    /// One way has not been seen yet, or does not come through this node.
    OneWay,
    /// The stack translates its addresses or ports.
    Translated,
    /// The stack does not let it through, or nobody answers.
    Policy,
    /// What went into the stack has not come out as it was, and conntrack does not say why.
    Unverified,
}

impl State {
    /// The word that is printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accelerated => "accelerated",
            Self::Stale => "stale",
            Self::Revoked => "revoked",
            Self::OneWay => "one-way",
            Self::Translated => "translated",
            Self::Policy => "policy",
            Self::Unverified => "unverified",
        }
    }
}

/// How one direction of a flow stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The stack lets it through.
    Verified,
    /// It did, longer ago than the period.
    Stale,
    /// It did, in an earlier generation.
    Revoked,
    /// A packet has entered the stack since, and has not left it as it came.
    Entered,
    /// No packet has come.
    Never,
}

/// How `flow` stands in this generation, by what the programs know alone: [`State::Translated`] and
/// [`State::Policy`] are [`State::Unverified`] to them. `now` and `period` are in ticks.
#[must_use]
pub fn state(flow: &Flow, generation: u16, now: u64, period: u64) -> State {
    let seen = flow
        .directions
        .each_ref()
        .map(|direction| seen(direction, generation, now, period));
    // In the order of what says most.
    [
        (Seen::Entered, State::Unverified),
        (Seen::Never, State::OneWay),
        (Seen::Revoked, State::Revoked),
        (Seen::Stale, State::Stale),
    ]
    .into_iter()
    .find_map(|(kind, state)| seen.contains(&kind).then_some(state))
    .unwrap_or(State::Accelerated)
}

/// How a direction stands, as [`state()`].
#[must_use]
pub fn seen(direction: &Direction, generation: u16, now: u64, period: u64) -> Seen {
    let (_, entered) = direction.entered.parts();
    let (of, verified) = direction.verified.parts();
    if of == generation && verified != 0 && now.saturating_sub(verified) <= period {
        Seen::Verified
    } else if entered > verified {
        Seen::Entered
    } else if verified == 0 {
        Seen::Never
    } else if of == generation {
        Seen::Stale
    } else {
        Seen::Revoked
    }
}

/// Why what came with `tuple` did not leave as it came, by the entry that conntrack has for it.
#[must_use]
pub fn why_unverified(tuple: &ConnTuple, entry: Option<&ConnectionEntry>) -> State {
    match entry {
        Some(entry) if entry.leaves_as(tuple) != *tuple => State::Translated,
        Some(entry) if entry.has_reply => State::Unverified,
        _ => State::Policy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GENERATION: u16 = 7;
    const NOW: u64 = 1000;
    const PERIOD: u64 = 100;

    /// When a packet entered and left, and the generation of that.
    type Times = (u64, u64, u16);

    const FRESH: Times = (900, 900, GENERATION);
    const NEVER: Times = (0, 0, 0);

    fn state_of(directions: [Times; 2]) -> State {
        let flow = Flow::default();
        for (direction, (entered, verified, generation)) in flow.directions.iter().zip(directions) {
            direction.entered.set(generation, entered);
            direction.verified.set(generation, verified);
        }
        state(&flow, GENERATION, NOW, PERIOD)
    }

    #[track_caller]
    fn assert_state(directions: [Times; 2], expected: State) {
        let [there, back] = directions;
        assert_eq!(state_of([there, back]), expected);
        assert_eq!(state_of([back, there]), expected, "the other way round");
    }

    #[test]
    fn it_is_accelerated_while_both_ways_are_fresh() {
        assert_state([FRESH, FRESH], State::Accelerated);
        assert_state([FRESH, (1000, 1000, GENERATION)], State::Accelerated);
        // On its way to be verified anew.
        assert_state([FRESH, (1000, 950, GENERATION)], State::Accelerated);
        // Of a clock that is read elsewhere, and later.
        assert_state([FRESH, (1001, 1001, GENERATION)], State::Accelerated);
    }

    #[test]
    fn past_the_period_it_is_stale() {
        assert_state([FRESH, (899, 899, GENERATION)], State::Stale);
        assert_state([(10, 20, GENERATION), (11, 12, GENERATION)], State::Stale);
    }

    #[test]
    fn of_another_generation_it_is_revoked_however_fresh() {
        assert_state([FRESH, (1000, 1000, GENERATION - 1)], State::Revoked);
        assert_state([(1, 1, GENERATION), (1, 1, GENERATION - 1)], State::Revoked);
        assert_state([(950, 950, 0), (950, 950, 0)], State::Revoked);
    }

    #[test]
    fn what_has_not_been_seen_is_one_way() {
        assert_state([FRESH, NEVER], State::OneWay);
        assert_state([(10, 20, GENERATION - 1), NEVER], State::OneWay);
    }

    #[test]
    fn what_entered_and_did_not_leave_says_most() {
        assert_state([(900, 0, GENERATION), NEVER], State::Unverified);
        assert_state([(900, 0, GENERATION), FRESH], State::Unverified);
        assert_state([(900, 0, GENERATION - 1), FRESH], State::Unverified);
        // It was let through once, and is no longer.
        assert_state([(990, 500, GENERATION), FRESH], State::Unverified);
    }

    #[test]
    fn nothing_at_all_is_one_way() {
        assert_state([NEVER, NEVER], State::OneWay);
    }
}
