//! What the rates were before: the data of sparklines.

use std::collections::{BTreeMap, VecDeque};

use super::report::{Rated, Top};

/// The last rates of every row, in tenths of packets a second.
#[derive(Clone, Debug, Default)]
pub struct History {
    rows: BTreeMap<String, VecDeque<u64>>,
    /// The share that is carried, in tenths of a percent.
    carried: VecDeque<u64>,
}

/// How many are kept: as many as a wide sparkline has columns.
const LENGTH: usize = 120;

impl History {
    /// Takes in the rates of another interval. Rows that are gone are forgotten; one that is new was
    /// nothing before.
    pub fn push(&mut self, top: &Top) {
        let mut rows = BTreeMap::new();
        rows.extend(rates(&top.traffic));
        rows.extend(rates(&top.reasons));
        rows.extend(rates(&top.peers));
        rows.extend(rates(&top.endpoints));
        self.rows.retain(|name, _| rows.contains_key(name));
        for (name, rate) in rows {
            push(self.rows.entry(name).or_default(), tenths(rate));
        }
        let carried = top.acceleration.carried_percent.unwrap_or_default();
        push(&mut self.carried, tenths(carried));
    }

    /// The last rates of a row, the newest at the end; not more than `most`.
    #[must_use]
    pub fn of<R: Rated>(&self, row: &R, most: usize) -> Vec<u64> {
        self.rows
            .get(&row.name())
            .map_or_else(Vec::new, |rates| last(rates, most))
    }

    /// The last shares that were carried, likewise.
    #[must_use]
    pub fn carried(&self, most: usize) -> Vec<u64> {
        last(&self.carried, most)
    }
}

fn rates<R: Rated>(rows: &[R]) -> impl Iterator<Item = (String, f64)> {
    rows.iter()
        .map(|row| (row.name(), row.rate().packets_per_second))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a rate, for a bar's height
fn tenths(rate: f64) -> u64 {
    (rate * 10.0).round() as u64
}

fn push(ring: &mut VecDeque<u64>, value: u64) {
    if ring.len() == LENGTH {
        ring.pop_front();
    }
    ring.push_back(value);
}

fn last(ring: &VecDeque<u64>, most: usize) -> Vec<u64> {
    let skipped = ring.len().saturating_sub(most);
    ring.iter().skip(skipped).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::fixture;

    #[test]
    fn it_keeps_the_last_of_each_row() {
        let mut history = History::default();
        let mut top = fixture::top();
        for packets in 0..130 {
            top.traffic[0].rate.packets_per_second = f64::from(packets);
            history.push(&top);
        }
        let row = &top.traffic[0];
        assert_eq!(history.of(row, 3), [1270, 1280, 1290]);
        assert_eq!(history.of(row, 1000).len(), LENGTH);
        assert_eq!(history.carried(2), [980, 980]);
    }

    #[test]
    fn a_row_that_is_gone_begins_anew() {
        let mut history = History::default();
        let top = fixture::top();
        history.push(&top);
        let without = Top {
            peers: Vec::new(),
            ..top.clone()
        };
        history.push(&without);
        assert_eq!(history.of(&top.peers[0], 9), [0; 0]);
        history.push(&top);
        assert_eq!(history.of(&top.peers[0], 9).len(), 1);
        assert_eq!(history.of(&top.traffic[0], 9).len(), 3);
    }
}
