//! What is accelerated on this node, and how much.

use std::{collections::BTreeMap, fmt};

use anyhow::Result;
use dataplane_common::{
    abi::{Config, Counter, Hook, flags, maps},
    reason::{Action, Reason},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Row, counters, rows};
use crate::{
    dataplane::{self, BpfArray, Changed, Pins, time},
    kernel::Sysctl,
};

/// Which packets are carried, and how many were.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Acceleration {
    /// `established` or `all`.
    pub mode: &'static str,
    /// After how many seconds the stack sees a flow again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reverify_seconds: Option<f64>,
    /// Packets of pods that were carried.
    pub carried: u64,
    /// Those that could have been, and were left to the stack for the sake of netfilter.
    pub left: u64,
}

/// Where what comes is carried or left; what leaves the stack has been counted there.
const ENTRIES: [Hook; 2] = [Hook::FromWorkload, Hook::FromUplink];

/// Why what has a route is left to the stack.
const LEFT: [Reason; 4] = [
    Reason::NotAFlow,
    Reason::Handshake,
    Reason::NotEstablished,
    Reason::Reverify,
];

impl Acceleration {
    /// Reads it from the pinned maps.
    pub(super) fn read(pins: &Pins) -> Result<Self> {
        let config = BpfArray::<Config>::open_array(pins, maps::CONFIG)?.get(0)?;
        Ok(Self::new(&config, &counters(pins)?))
    }

    /// Of a node with this configuration, whose programs have counted this.
    pub(crate) fn new(config: &Config, counters: &BTreeMap<(Hook, Reason), Counter>) -> Self {
        let is_established = config.flags & flags::ESTABLISHED != 0;
        let sum = |counts: fn(Reason) -> bool| {
            let counted = counters.iter();
            let counted =
                counted.filter(|((hook, reason), _)| ENTRIES.contains(hook) && counts(*reason));
            counted.map(|(_, counter)| counter.packets).sum()
        };
        let period = || time(config.reverify.into()).as_secs_f64();
        Self {
            mode: if is_established { "established" } else { "all" },
            reverify_seconds: is_established.then(|| (period() * 1000.0).round() / 1000.0),
            carried: sum(is_carried),
            left: sum(|reason| LEFT.contains(&reason)),
        }
    }
}

fn is_carried(reason: Reason) -> bool {
    reason.action() == Action::Forward && reason != Reason::ArpAnswered
}

impl fmt::Display for Acceleration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { carried, left, .. } = self;
        write!(f, "acceleration: {}", self.mode)?;
        if let Some(period) = self.reverify_seconds {
            write!(f, ", the stack sees each flow again after {period} s")?;
        }
        let all = carried + left;
        if all != 0 {
            #[allow(clippy::cast_precision_loss)] // a share, for people
            let share = 100.0 * *carried as f64 / all as f64;
            write!(f, "; carried {share:.2} % of the {all} packets with a way")?;
        }
        Ok(())
    }
}

/// A sysctl that was changed for the sake of acceleration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SysctlRow {
    /// Its name.
    pub sysctl: String,
    /// What it was before.
    pub before: u32,
    /// What it is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<u32>,
}

impl From<Changed> for SysctlRow {
    fn from(changed: Changed) -> Self {
        Self {
            sysctl: Sysctl::to_string(&changed.sysctl),
            before: changed.before,
            now: changed.now,
        }
    }
}

impl Row for SysctlRow {
    const COLUMNS: &'static [&'static str] = &["CHANGED-SYSCTL", "BEFORE", "NOW"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.sysctl.clone(),
            self.before.to_string(),
            rows::optional(self.now.as_ref()),
        ]
    }
}

/// The sysctls that were changed.
pub(super) fn sysctls(pins: &Pins) -> Result<Vec<SysctlRow>> {
    let changed = dataplane::changed_sysctls(pins)?;
    Ok(changed.into_iter().map(SysctlRow::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(flags: u32, counted: &[(Hook, Reason, u64)]) -> Acceleration {
        let config = Config {
            flags,
            reverify: 30_517,
            ..Config::default()
        };
        let of = |packets| Counter {
            packets,
            ..Counter::default()
        };
        let counted = counted.iter();
        let counted = counted.map(|(hook, reason, packets)| ((*hook, *reason), of(*packets)));
        Acceleration::new(&config, &counted.collect())
    }

    #[test]
    fn the_share_is_of_what_could_be_carried() {
        let acceleration = read(
            flags::ESTABLISHED,
            &[
                (Hook::FromWorkload, Reason::SentVxlan, 90),
                (Hook::FromUplink, Reason::ReceivedVxlan, 900),
                (Hook::FromUplink, Reason::Reverify, 6),
                (Hook::FromWorkload, Reason::Handshake, 4),
                // Counted at traffic control as well.
                (Hook::XdpUplink, Reason::TakenOut, 900),
                (Hook::XdpUplink, Reason::NotEstablished, 9),
                // Of the host's own, or seen where it entered.
                (Hook::FromStack, Reason::SentVxlan, 50),
                (Hook::ToWorkload, Reason::Verified, 10),
                // What has no way, or is no pod's packet.
                (Hook::FromWorkload, Reason::ArpAnswered, 7),
                (Hook::FromWorkload, Reason::NoRoute, 70),
            ],
        );
        assert_eq!((acceleration.carried, acceleration.left), (990, 10));
        assert_eq!(
            acceleration.to_string(),
            "acceleration: established, the stack sees each flow again after 2 s; carried 99.00 % of \
             the 1000 packets with a way"
        );
    }

    #[test]
    fn by_route_alone_nothing_is_seen_again() {
        assert_eq!(read(0, &[]).to_string(), "acceleration: all");
    }
}
