//! What the programs have counted, as metrics.

use std::collections::BTreeMap;

use anyhow::Result;
use dataplane_common::{
    abi::{Counter, Hook},
    reason::{Action, Reason},
};
use prometheus::{IntCounterVec, Opts, core::Collector, proto::MetricFamily};

use crate::{dataplane::Pins, inspect};

/// Reads the counters that are pinned.
pub(super) fn gather(pins: &Pins) -> Result<Vec<MetricFamily>> {
    families(&inspect::counters(pins)?)
}

/// Every series is there from the start, also while it is zero: of one that appears with its first
/// packets, their increase is not seen.
fn families(counters: &BTreeMap<(Hook, Reason), Counter>) -> Result<Vec<MetricFamily>> {
    let packets = by(
        "underpass_packets_total",
        "Packets at each hook, a segmentation-offloaded one counted once.",
        &["hook", "verdict", "mode"],
    )?;
    let bytes = by(
        "underpass_bytes_total",
        "Their bytes, from the Ethernet header on.",
        &["hook", "verdict", "mode"],
    )?;
    let drops = by(
        "underpass_drops_total",
        "Packets dropped, by reason.",
        &["hook", "reason"],
    )?;
    let to_stack = by(
        "underpass_to_stack_total",
        "Packets left to the kernel's stack, by reason.",
        &["hook", "reason"],
    )?;
    for ((hook, reason), counter) in counters {
        let action = hook.action(*reason);
        let labels = [hook.name(), action.name(), inspect::mode(*reason)];
        packets.with_label_values(&labels).inc_by(counter.packets);
        bytes.with_label_values(&labels).inc_by(counter.bytes);
        let by_reason = match action {
            Action::Forward => continue,
            Action::Stack => &to_stack,
            Action::Drop => &drops,
        };
        by_reason
            .with_label_values(&[hook.name(), reason.name()])
            .inc_by(counter.packets);
    }
    Ok([packets, bytes, drops, to_stack]
        .iter()
        .flat_map(Collector::collect)
        .collect())
}

fn by(name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec> {
    Ok(IntCounterVec::new(Opts::new(name, help), labels)?)
}

/// What there is before a packet has come.
#[cfg(test)]
pub(super) fn untouched() -> Result<Vec<MetricFamily>> {
    families(&untouched_counters())
}

#[cfg(test)]
fn untouched_counters() -> BTreeMap<(Hook, Reason), Counter> {
    let at = |hook| Reason::ALL.iter().map(move |reason| (hook, *reason));
    let keys = Hook::ALL.into_iter().flat_map(at);
    keys.map(|key| (key, Counter::default())).collect()
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    fn exposition(of: &[(Hook, Reason, u64)]) -> String {
        let mut counters = untouched_counters();
        for (hook, reason, packets) in of {
            let counter = Counter {
                packets: *packets,
                bytes: packets * 100,
            };
            counters.insert((*hook, *reason), counter);
        }
        let families = families(&counters).unwrap();
        TextEncoder::new().encode_to_string(&families).unwrap()
    }

    #[track_caller]
    fn assert_has(exposition: &str, series: &str) {
        assert!(
            exposition.lines().any(|line| line == series),
            "{series} in:\n{exposition}"
        );
    }

    #[test]
    fn reasons_of_one_verdict_and_mode_are_one_series() {
        let exposition = exposition(&[
            (Hook::FromUplink, Reason::ReceivedVxlan, 5),
            (Hook::FromUplink, Reason::SentVxlan, 2),
            (Hook::FromUplink, Reason::NotIpv4, 3),
            (Hook::FromUplink, Reason::Fragment, 4),
        ]);
        for series in [
            r#"underpass_packets_total{hook="from_uplink",mode="vxlan",verdict="forward"} 7"#,
            r#"underpass_bytes_total{hook="from_uplink",mode="vxlan",verdict="forward"} 700"#,
            r#"underpass_packets_total{hook="from_uplink",mode="none",verdict="stack"} 7"#,
            r#"underpass_to_stack_total{hook="from_uplink",reason="fragment"} 4"#,
        ] {
            assert_has(&exposition, series);
        }
    }

    /// What leaves by the carrier and is not sent on is dropped by the device.
    #[test]
    fn a_drop_is_what_is_one_at_its_hook() {
        let exposition = exposition(&[
            (Hook::FromStack, Reason::NoRoute, 1),
            (Hook::FromWorkload, Reason::NoRoute, 2),
        ]);
        for series in [
            r#"underpass_drops_total{hook="from_stack",reason="no-route"} 1"#,
            r#"underpass_to_stack_total{hook="from_workload",reason="no-route"} 2"#,
            r#"underpass_drops_total{hook="from_workload",reason="blackhole"} 0"#,
        ] {
            assert_has(&exposition, series);
        }
    }
}
