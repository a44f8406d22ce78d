//! What the agent counts and measures about itself.

use std::{
    collections::BTreeSet,
    future::Future,
    pin::pin,
    time::{Duration, Instant},
};

use anyhow::Result;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector, proto::MetricFamily,
};
use tokio::{
    select,
    time::{MissedTickBehavior, interval},
};

use super::health::{Health, Sync};
use crate::dataplane::Attachment;

/// How often the loop gives a sign of life while it waits.
const SIGN: Duration = Duration::from_secs(1);

/// Upper bounds of what is measured, in seconds: from a map write to a million routes.
const SECONDS: [f64; 15] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// What the agent's loop tells of itself. No method waits, and any thread may call it.
#[derive(Debug)]
pub struct Metrics {
    pub(super) health: Health,
    registry: Registry,
    netlink_events: IntCounterVec,
    resyncs: IntCounterVec,
    apply: Histogram,
    convergence: Histogram,
    routes: IntGauge,
    map_entries: IntGaugeVec,
    map_max_entries: IntGaugeVec,
    revocations: IntCounterVec,
    kept: IntCounter,
}

impl Metrics {
    /// Of an agent that starts now.
    pub fn new() -> Result<Self> {
        let metrics = Self {
            health: Health::new(Instant::now()),
            registry: Registry::new(),
            netlink_events: counters(
                "underpass_netlink_events_total",
                "Messages from the kernel that something has changed, by what.",
                "kind",
            )?,
            resyncs: counters(
                "underpass_resyncs_total",
                "How often everything was read anew from its sources, by cause.",
                "cause",
            )?,
            apply: seconds(
                "underpass_apply_seconds",
                "Time to write what had to be written, in one go: maps, programs, kernel routes.",
            )?,
            convergence: seconds(
                "underpass_convergence_seconds",
                "Time from when the agent hears of a change until the maps have it.",
            )?,
            routes: IntGauge::new("underpass_routes", "Routes in the table of the programs.")?,
            map_entries: gauges(
                "underpass_map_entries",
                "Entries in use of a BPF map; of ROUTES, lines of 64 bytes.",
                "map",
            )?,
            map_max_entries: gauges(
                "underpass_map_max_entries",
                "Entries that a BPF map has room for.",
                "map",
            )?,
            revocations: counters(
                "underpass_revocations_total",
                "How often all flows had to be verified anew, by what has changed.",
                "cause",
            )?,
            kept: IntCounter::new(
                "underpass_idle_kept_total",
                "Idle connections that conntrack would have forgotten before the time.",
            )?,
        };
        // There while it is zero: the first is worth an alarm.
        metrics.netlink_events.with_label_values(&["overrun"]);
        let build = gauges(
            "underpass_build_info",
            "1, for the version that runs.",
            "version",
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let collectors: [Box<dyn Collector>; 10] = [
            Box::new(metrics.netlink_events.clone()),
            Box::new(metrics.resyncs.clone()),
            Box::new(metrics.apply.clone()),
            Box::new(metrics.convergence.clone()),
            Box::new(metrics.routes.clone()),
            Box::new(metrics.map_entries.clone()),
            Box::new(metrics.map_max_entries.clone()),
            Box::new(metrics.revocations.clone()),
            Box::new(metrics.kept.clone()),
            Box::new(build),
        ];
        for collector in collectors {
            metrics.registry.register(collector)?;
        }
        Ok(metrics)
    }

    /// The loop is alive. One that gives no sign for [`STUCK`](super::STUCK) is taken to be stuck.
    pub fn alive(&self) {
        self.health.alive(Instant::now());
    }

    /// Waits for `event`, with signs of life meanwhile.
    pub async fn while_waiting<T>(&self, event: impl Future<Output = T>) -> T {
        let mut event = pin!(event);
        let mut signs = interval(SIGN);
        signs.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            select! {
                outcome = &mut event => {
                    self.alive();
                    return outcome;
                }
                _ = signs.tick() => self.alive(),
            }
        }
    }

    /// These programs are attached; `/readyz` looks whether they stay so.
    pub fn attached(&self, programs: &BTreeSet<Attachment>) {
        self.health.set_attached(programs);
    }

    /// Everything is as the sources say: maps written, programs attached.
    pub fn in_sync(&self) {
        self.health.set_sync(Sync::In);
    }

    /// It is not, for `reason`.
    pub fn out_of_sync(&self, reason: &str) {
        self.health.set_sync(Sync::Out(reason.to_owned()));
    }

    /// The kernel has told of a change of `kind`, such as `route`.
    pub fn netlink_event(&self, kind: &'static str) {
        self.netlink_events.with_label_values(&[kind]).inc();
    }

    /// Everything is read anew, for `cause`, such as `timer`.
    pub fn resync(&self, cause: &'static str) {
        self.resyncs.with_label_values(&[cause]).inc();
    }

    /// Writing what had to be written took `duration`.
    pub fn applied(&self, duration: Duration) {
        self.apply.observe(duration.as_secs_f64());
    }

    /// The maps have what the agent heard of `duration` ago.
    pub fn converged(&self, duration: Duration) {
        self.convergence.observe(duration.as_secs_f64());
    }

    /// The table has this many routes.
    pub fn routes(&self, number: usize) {
        self.routes.set(i64::try_from(number).unwrap_or(i64::MAX));
    }

    /// The map called `map`, as in [`dataplane_common::abi::maps`], has this many entries in use, and
    /// room for `most`.
    pub fn map_fill(&self, map: &'static str, entries: usize, most: u32) {
        let entries = i64::try_from(entries).unwrap_or(i64::MAX);
        self.map_entries.with_label_values(&[map]).set(entries);
        self.map_max_entries
            .with_label_values(&[map])
            .set(most.into());
    }

    /// All flows have to be verified anew, since something has changed: `nftables` or `tables`.
    pub fn revoked(&self, cause: &'static str) {
        self.revocations.with_label_values(&[cause]).inc();
    }

    /// So many idle connections are kept in conntrack.
    pub fn kept(&self, number: u64) {
        self.kept.inc_by(number);
    }

    /// All of it, and whether the dataplane is in sync.
    pub(super) fn gather(&self) -> Result<Vec<MetricFamily>> {
        let in_sync = IntGauge::new(
            "underpass_in_sync",
            "1 while maps and programs are what the sources say, else 0.",
        )?;
        in_sync.set(i64::from(self.health.sync() == Sync::In));
        let mut families = self.registry.gather();
        families.extend(in_sync.collect());
        Ok(families)
    }
}

fn counters(name: &str, help: &str, label: &str) -> Result<IntCounterVec> {
    Ok(IntCounterVec::new(Opts::new(name, help), &[label])?)
}

fn gauges(name: &str, help: &str, label: &str) -> Result<IntGaugeVec> {
    Ok(IntGaugeVec::new(Opts::new(name, help), &[label])?)
}

fn seconds(name: &str, help: &str) -> Result<Histogram> {
    let options = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
    Ok(Histogram::with_opts(options)?)
}

#[cfg(test)]
mod tests {
    use tokio::{runtime, task::yield_now, time::timeout};

    use super::*;
    use crate::telemetry::STUCK;

    #[test]
    fn a_loop_that_waits_gives_signs_of_life() {
        let metrics = Metrics {
            health: Health::new(Instant::now().checked_sub(STUCK * 2).unwrap()),
            ..Metrics::new().unwrap()
        };
        assert!(metrics.health.stuck(Instant::now()).is_some());
        let event = async {
            while metrics.health.stuck(Instant::now()).is_some() {
                yield_now().await;
            }
        };
        let runtime = runtime::Builder::new_current_thread().enable_time().build();
        let seen = async { timeout(STUCK, metrics.while_waiting(event)).await };
        runtime.unwrap().block_on(seen).unwrap();
    }
}
