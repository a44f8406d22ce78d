//! docs/metrics.md: every metric, as the agent's registry has it, and every alert.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use prometheus::proto::{Metric, MetricFamily, MetricType};
use serde_json::Value;

use super::{assert_has, examples, read, table};
use crate::{document, telemetry};

const DOCUMENT: &str = "docs/metrics.md";

#[test]
fn it_has_every_metric() {
    let rows = families().into_iter().map(|family| {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => "counter",
            MetricType::HISTOGRAM => "histogram",
            _ => "gauge",
        };
        let labels: Vec<_> = labels(&family)
            .into_iter()
            .map(|label| format!("`{label}`"))
            .collect();
        vec![
            format!("`{}`", family.name()),
            kind.to_owned(),
            labels.join(", "),
            family.help().to_owned(),
        ]
    });
    let made = table(&["metric", "type", "labels", "meaning"], rows);
    assert_has(DOCUMENT, "metrics", &made);
}

/// A family that the agent makes and [`families`] does not have would be in no document.
#[test]
fn none_is_made_that_it_has_not() {
    let sources = [
        include_str!("../telemetry/metrics.rs"),
        include_str!("../telemetry/packets.rs"),
    ];
    let code = sources.map(|source| source.split("#[cfg(test)]").next().unwrap_or_default());
    let made: BTreeSet<_> = code.iter().flat_map(|code| names(code)).collect();
    let has: BTreeSet<_> = families()
        .iter()
        .map(|family| family.name().to_owned())
        .collect();
    assert_eq!(made, has);
}

#[test]
fn it_says_what_to_do_for_every_alert() {
    let alerts = alerts();
    let headings: BTreeSet<_> = read(DOCUMENT)
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(str::to_owned)
        .collect();
    assert_eq!(headings, alerts.keys().cloned().collect());
    assert!(alerts.len() > 4, "{alerts:?}");
    let has: BTreeSet<_> = families()
        .iter()
        .map(|family| family.name().to_owned())
        .collect();
    for (alert, expression) in alerts {
        for name in names(&expression) {
            assert!(
                has.contains(&name),
                "{alert} asks for {name}, which is no metric"
            );
        }
    }
}

/// Every metric that is named anywhere is one.
#[test]
fn documents_name_those_that_there_are() {
    let has: BTreeSet<_> = families()
        .iter()
        .map(|family| family.name().to_owned())
        .collect();
    for document in examples::documents() {
        for name in names(&read(&document)) {
            let is_one = has.iter().any(|metric| {
                let parts = ["_bucket", "_sum", "_count"].map(|part| format!("{metric}{part}"));
                *metric == name || parts.contains(&name)
            });
            assert!(is_one, "{document}: {name}");
        }
    }
}

/// The expression of each alert, by its name.
fn alerts() -> BTreeMap<String, String> {
    let text = read("deploy/prometheus/alerts.yaml");
    let alerts: Option<Value> = document::parse("alerts.yaml".as_ref(), &text).unwrap();
    let alerts = alerts.unwrap_or_default();
    let rules = alerts["groups"][0]["rules"].as_array().cloned();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rules = rules.into_iter().flatten();
    rules
        .map(|rule| (text(&rule["alert"]), text(&rule["expr"])))
        .collect()
}

/// Words in `text` that begin as our metrics do.
fn names(text: &str) -> Vec<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = text.split(|letter: char| !is_part(letter));
    let ours = words.filter(|word| word.starts_with("underpass_") && !word.ends_with('_'));
    ours.map(str::to_owned).collect()
}

fn labels(family: &MetricFamily) -> BTreeSet<String> {
    let series = family.get_metric().iter();
    let labels = series.flat_map(Metric::get_label);
    labels.map(|label| label.name().to_owned()).collect()
}

/// One of each, with a series at least.
fn families() -> Vec<MetricFamily> {
    let metrics = telemetry::Metrics::new().unwrap();
    metrics.netlink_event("route");
    metrics.resync("timer");
    metrics.applied(Duration::ZERO);
    metrics.converged(Duration::ZERO);
    metrics.map_fill("ROUTES", 0, 1);
    metrics.revoked("nftables");
    let mut families = telemetry::families(&metrics).unwrap();
    families.sort_by(|one, other| one.name().cmp(other.name()));
    families
}
