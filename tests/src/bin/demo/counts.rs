//! Two witnesses of a node's packets: the counters of the programs, and the kernel's own.

use std::{cmp::Reverse, collections::BTreeMap, fs};

use anyhow::{Context as _, Result, ensure};
use dataplane_common::reason::{Action, Reason};
use dataplane_tests::{Lab, Node, items};
use serde::Deserialize;

/// What became of a node's IPv4 packets, each counted once.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    /// As `underpass counters` says.
    by_reason: BTreeMap<Reason, u64>,
    /// How many entered the host's IP stack, as the kernel says.
    stack_input: u64,
}

impl Counts {
    /// Reads what has been counted until now.
    pub(crate) fn read(node: &Node) -> Result<Self> {
        let mut by_reason = by_reason(node)?;
        by_reason.retain(|reason, _| !is_beside_the_point(*reason));
        Ok(Self {
            by_reason,
            stack_input: stack_input(node)?,
        })
    }

    /// What has been counted since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let before = |reason| earlier.by_reason.get(reason).copied().unwrap_or_default();
        let by_reason = self
            .by_reason
            .iter()
            .map(|(reason, packets)| (*reason, packets.saturating_sub(before(reason))))
            .filter(|(_, packets)| *packets > 0);
        Self {
            by_reason: by_reason.collect(),
            stack_input: self.stack_input.saturating_sub(earlier.stack_input),
        }
    }

    /// How many packets an action befell and why, the most frequent reason first.
    pub(crate) fn with(&self, action: Action) -> Vec<(Reason, u64)> {
        let mut counts: Vec<_> = self
            .by_reason
            .iter()
            .map(|(reason, packets)| (*reason, *packets))
            .filter(|(reason, _)| reason.action() == action)
            .collect();
        counts.sort_by_key(|(_, packets)| Reverse(*packets));
        counts
    }

    /// How many entered the host's IP stack, as the kernel says.
    pub(crate) fn stack_input(&self) -> u64 {
        self.stack_input
    }

    /// Which part was counted for one of `reasons`, from 0 to 1. Of the rest, the witness who saw
    /// more of it is believed.
    pub(crate) fn share(&self, reasons: &[Reason]) -> f64 {
        let sum = |wanted: bool| -> u64 {
            let counts = self.by_reason.iter();
            counts
                .filter(|(reason, _)| reasons.contains(reason) == wanted)
                .map(|(_, packets)| packets)
                .sum()
        };
        let carried = sum(true);
        let all = carried + sum(false).max(self.stack_input);
        if all == 0 {
            0.0
        } else {
            to_f64(carried) / to_f64(all)
        }
    }
}

/// How many questions of pods for their gateway the programs of all nodes have answered.
pub(crate) fn arp_answered(lab: &Lab) -> Result<u64> {
    let mut sum = 0;
    for node in lab.nodes() {
        sum += by_reason(node)?.get(&Reason::ArpAnswered).unwrap_or(&0);
    }
    Ok(sum)
}

/// What is not IPv4, which here is ARP, and the second look at a packet out of a tunnel, which was
/// counted as it came in.
fn is_beside_the_point(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ArpAnswered | Reason::ArpOther | Reason::NotIpv4 | Reason::Accepted
    )
}

#[expect(clippy::cast_precision_loss, reason = "no demo counts to 2^53")]
fn to_f64(packets: u64) -> f64 {
    packets as f64
}

fn by_reason(node: &Node) -> Result<BTreeMap<Reason, u64>> {
    let output = node.underpass(&["counters", "--output", "json"])?;
    ensure!(
        output.status.success(),
        "`underpass counters` failed on {}: {}",
        node.name(),
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    let rows: Vec<CounterRow> = items(&output.stdout)?;
    let mut by_reason = BTreeMap::new();
    for row in rows {
        *by_reason.entry(reason(&row.reason)?).or_default() += row.packets;
    }
    Ok(by_reason)
}

/// A counter as `underpass counters` prints it: there is one for each hook and reason.
#[derive(Deserialize)]
struct CounterRow {
    reason: String,
    packets: u64,
}

fn reason(name: &str) -> Result<Reason> {
    let mut all = Reason::ALL.iter();
    all.find(|reason| reason.name() == name)
        .copied()
        .with_context(|| format!("`underpass counters` names the reason {name}, which is unknown"))
}

/// `InReceives` of the IP group in the node's SNMP counters: what programs take on its way in never
/// gets there. Like the programs, it counts as one what the NIC or GRO has put together.
fn stack_input(node: &Node) -> Result<u64> {
    const PATH: &str = "/proc/thread-self/net/snmp";
    let text = node
        .ns()
        .run(|| fs::read_to_string(PATH).with_context(|| format!("read {PATH}")))?;
    let mut ip = text.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (names, values) = ip.next().zip(ip.next()).unwrap_or_default();
    names
        .split(' ')
        .zip(values.split(' '))
        .find(|(name, _)| *name == "InReceives")
        .and_then(|(_, value)| value.parse().ok())
        .with_context(|| format!("{PATH} has no InReceives"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_witnesses_are_heard() {
        let share = |left_to_stack, stack_input| {
            let counts = [(Reason::SentVxlan, 6), (Reason::Unresolved, left_to_stack)];
            let by_reason = counts.into_iter().collect();
            let counts = Counts {
                by_reason,
                stack_input,
            };
            counts.share(&[Reason::SentVxlan])
        };
        for (left_to_stack, stack_input, expected) in [(0, 0, 1.0), (2, 2, 0.75), (0, 6, 0.5)] {
            let difference = share(left_to_stack, stack_input) - expected;
            assert!(difference.abs() < 1e-9, "{left_to_stack}, {stack_input}");
        }
    }

    #[test]
    fn counts_grow_from_what_was_counted_before() {
        let counts = |sent, stack_input| Counts {
            by_reason: [(Reason::SentVxlan, sent), (Reason::NoRoute, 7)].into(),
            stack_input,
        };
        let grown = counts(9, 10).since(&counts(4, 10));
        assert_eq!(grown.with(Action::Forward), [(Reason::SentVxlan, 5)]);
        assert_eq!(grown.with(Action::Stack), []);
        assert_eq!(grown.stack_input(), 0);
    }
}
