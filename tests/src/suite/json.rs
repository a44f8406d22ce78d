//! What was measured, as JSON.

use crate::statistics::{Spread, quantile_of_sorted, ratio};
use anyhow::Result;
use serde::Serialize;

use super::{
    About, Results,
    report::FLOORS,
    results::{Quantity, Series},
};

/// Of the document's shape. It rises when something is renamed or removed.
const VERSION: u32 = 1;

/// Parts of all answers that the document tells the times of.
const PARTS: u32 = 200;

/// Everything, with the values of every round.
#[derive(Serialize)]
pub(crate) struct Document {
    version: u32,
    machine: String,
    command: String,
    rounds: usize,
    not_run: Vec<NotRun>,
    /// What headers take of the wire at MTU 1500, as parts of 1.
    floors: Vec<Floor>,
    measured: Vec<Measured>,
    latencies: Vec<Latencies>,
    by_routes: Vec<RouteCost>,
}

#[derive(Serialize)]
struct NotRun {
    what: String,
    reason: &'static str,
}

#[derive(Serialize)]
struct Floor {
    encapsulation: &'static str,
    overhead: f64,
}

#[derive(Serialize)]
struct Measured {
    way: String,
    path: String,
    what: &'static str,
    unit: &'static str,
    rounds: Vec<f64>,
    #[serde(flatten)]
    spread: Quartiles,
    to_host: Option<f64>,
    to_kernel: Option<f64>,
    to_floor: Option<f64>,
    /// Of floods, nanoseconds for each packet.
    beyond_generator_ns: Option<Vec<f64>>,
}

#[derive(Serialize)]
struct Quartiles {
    first_quartile: f64,
    median: f64,
    third_quartile: f64,
}

#[derive(Serialize)]
struct Latencies {
    way: String,
    path: String,
    samples: usize,
    /// Pairs of a part of all answers, and the microseconds in which that part had come.
    distribution: Vec<(f64, f64)>,
}

#[derive(Serialize)]
struct RouteCost {
    way: String,
    routes: u32,
    /// Beyond the generator.
    nanoseconds: Vec<f64>,
}

impl Document {
    pub(crate) fn of(about: &About, results: &Results) -> Self {
        let not_run = about.not_run.iter().map(|(what, reason)| NotRun {
            what: what.clone(),
            reason,
        });
        let floors = FLOORS.map(|(encapsulation, overhead)| Floor {
            encapsulation,
            overhead,
        });
        let by_routes = results.by_routes.iter().map(|cost| RouteCost {
            way: cost.way.to_string(),
            routes: cost.routes,
            nanoseconds: cost.values.clone(),
        });
        let measured = results.series.iter();
        Self {
            version: VERSION,
            machine: about.machine.clone(),
            command: about.command.clone(),
            rounds: about.rounds,
            not_run: not_run.collect(),
            floors: floors.into(),
            measured: measured.filter_map(|of| measured_of(results, of)).collect(),
            latencies: latencies(results),
            by_routes: by_routes.collect(),
        }
    }

    pub(crate) fn text(&self) -> Result<String> {
        Ok(serde_json::to_string(self)?)
    }
}

fn measured_of(results: &Results, series: &Series) -> Option<Measured> {
    let &Series {
        way,
        path,
        quantity,
        ref values,
    } = series;
    let (what, unit) = quantity.name();
    let spread = Spread::of(values)?;
    let is_flood = matches!(quantity, Quantity::Sent | Quantity::Arrived);
    Some(Measured {
        way: way.to_string(),
        path: path.to_string(),
        what,
        unit,
        rounds: values.clone(),
        spread: Quartiles {
            first_quartile: spread.low,
            median: spread.median,
            third_quartile: spread.high,
        },
        to_host: ratio(values, results.of_hosts(quantity)),
        to_kernel: ratio(values, results.of_kernel(way, path, quantity)),
        to_floor: ratio(values, results.of_floor(way, path, quantity)),
        beyond_generator_ns: is_flood.then(|| results.beyond_generator(way, path, quantity)),
    })
}

fn latencies(results: &Results) -> Vec<Latencies> {
    let medians = results.series.iter();
    let medians = medians.filter(|series| series.quantity == Quantity::LatencyMedian);
    medians
        .map(|series| {
            let times = results.latencies(series.way, series.path);
            let parts = (0..=PARTS).map(|part| f64::from(part) / f64::from(PARTS));
            let time = |part| Some((part, quantile_of_sorted(&times, part)?));
            Latencies {
                way: series.way.to_string(),
                path: series.path.to_string(),
                samples: times.len(),
                distribution: parts.filter_map(time).collect(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::suite::{Path, Way};

    #[test]
    fn the_document_has_each_round_and_what_comes_of_them() {
        let mut results = Results::default();
        for value in [1.0, 3.0, 2.0] {
            results.add(Way::Bare, Path::HostToHost, Quantity::LatencyMedian, value);
        }
        results.add_latencies(Way::Bare, Path::HostToHost, &[2.0, 1.0]);
        let about = About {
            machine: "a machine".to_owned(),
            command: "cargo xtask bench --json".to_owned(),
            rounds: 3,
            not_run: vec![("a way".to_owned(), "a reason")],
        };
        let text = Document::of(&about, &results).text().expect("JSON");
        let document: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(document["version"], 1);
        assert_eq!(
            document["not_run"],
            json!([{"what": "a way", "reason": "a reason"}])
        );
        let measured = &document["measured"][0];
        assert_eq!(measured["way"], "host to host");
        assert_eq!(measured["rounds"], json!([1.0, 3.0, 2.0]));
        assert_eq!(measured["median"], 2.0);
        assert_eq!(measured["to_host"], 1.0);
        assert_eq!(measured["to_kernel"], Value::Null);
        let latencies = &document["latencies"][0];
        assert_eq!(latencies["samples"], 2);
        assert_eq!(latencies["distribution"][100], json!([0.5, 1.5]));
        assert_eq!(latencies["distribution"][200], json!([1.0, 2.0]));
    }
}
