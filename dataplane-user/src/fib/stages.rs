//! The rules as stages that a lookup goes through.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::kernel::fib::{Action, Rule};

/// One place where a packet of a pod's may be decided upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stage {
    /// The destinations it is for.
    pub(super) within: Option<Ipv4Net>,
    /// What is done there.
    pub(super) action: StageAction,
    /// Why it may not hold for some packets, so that they are the stack's.
    pub(super) doubt: Option<&'static str>,
}

/// What is done at a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StageAction {
    /// The longest prefix in a table decides, unless it has at most this length.
    Lookup(u32, Option<u8>),
    /// Dropped in silence.
    Blackhole,
    /// Dropped, and the sender told; or something that cannot be foreseen.
    Stack,
}

const SOME: &str = "a rule that is for some packets only";

/// The stages for packets that come from the pods with `addresses`.
pub(super) fn stages(
    rules: &[Rule],
    addresses: &[Ipv4Addr],
    is_workload: impl Fn(&str) -> bool,
) -> Vec<Stage> {
    let mut stages = Vec::new();
    let mut from = 0;
    for rule in rules {
        let selected = rule.selects(addresses, &is_workload);
        if rule.priority < from || selected == Some(false) {
            continue;
        }
        let is_doubtful = selected.is_none() || rule.inverted && rule.to.is_some();
        let within = if rule.inverted { None } else { rule.to };
        let action = match rule.action {
            Action::Lookup(table) => StageAction::Lookup(table, rule.suppress_prefix_len),
            Action::Blackhole => StageAction::Blackhole,
            Action::Nothing => continue,
            Action::Goto(priority) if !is_doubtful && within.is_none() => {
                from = priority;
                continue;
            }
            // Of a jump that some packets take nobody knows where it ends.
            Action::Refuse | Action::Goto(_) => StageAction::Stack,
        };
        stages.push(Stage {
            within,
            action,
            doubt: is_doubtful.then_some(SOME),
        });
    }
    stages
}
