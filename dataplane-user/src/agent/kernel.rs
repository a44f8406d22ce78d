//! The agent with the kernel's FIB as its source: what has changed, and only that, is looked up and
//! written. The kernel is the slow path as it is; nothing is written but maps.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use ipnet::Ipv4Net;
use tokio::{
    select,
    signal::unix::{SignalKind, signal},
};
use tracing::{debug, info};

use super::{netfilter::Netfilter, programs::Programs, said::Said};
use crate::{
    config::{Config, KernelSource},
    dataplane::{self, PinLock, Pins},
    fib::Dirty,
    kernel::Netlink,
    plan::{
        Destinations, NextHopKey,
        mirror::{self, Mirrored, Ways},
    },
    reconcile::{Changes, Reconciler},
    source::kernel::{KernelFib, News},
    telemetry::Metrics,
};

/// How soon what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Runs the agent by `config`, with the kernel as its source.
pub(super) async fn run(config: Config, source: KernelSource, metrics: Arc<Metrics>) -> Result<()> {
    let (netlink, _events) = Netlink::connect()?;
    let pins = Pins::new(&config.pins);
    let lock = dataplane::claim(&pins)?;
    metrics.alive();
    let programs = Programs::load(&config, &pins)?;
    let _netfilter = Netfilter::accompany(&config, &pins, &metrics)?;
    metrics.alive();
    let kernel = KernelFib::open(&config, &source, netlink.clone()).await?;
    let agent = Agent {
        reconciler: Reconciler::open(&pins)?,
        destinations: Destinations::default(),
        ways: Ways::default(),
        uplinks: BTreeSet::new(),
        kernel,
        programs,
        netlink,
        config,
        pins,
        said: Said::default(),
        metrics,
        _lock: lock,
    };
    agent.serve().await
}

struct Agent {
    config: Config,
    netlink: Netlink,
    kernel: KernelFib,
    programs: Programs,
    reconciler: Reconciler,
    /// What the routes in the maps lead to.
    destinations: Destinations,
    /// How that is reached.
    ways: Ways,
    /// Interfaces that have been uplinks, and stay so: routes come and go.
    uplinks: BTreeSet<u32>,
    said: Said,
    metrics: Arc<Metrics>,
    pins: Pins,
    _lock: PinLock,
}

/// A prefix, and where it leads; nowhere that we know, where there is no route.
type Wanted = (Ipv4Net, Option<NextHopKey>);

impl Agent {
    async fn serve(mut self) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut news = News::everything();
        // Since when what was heard of waits to be in the maps.
        let mut heard = Some(Instant::now());
        self.metrics.resync("start");
        loop {
            let begun = Instant::now();
            let outcome = self.synchronize(news).await;
            let outcome = self.renew().and(outcome);
            self.metrics.applied(begun.elapsed());
            let retry = outcome.is_err().then(|| Instant::now() + RETRY);
            if let Some(heard) = heard.take_if(|_| retry.is_none()) {
                self.metrics.converged(heard.elapsed());
            }
            self.said.say(outcome, &self.metrics, &self.pins);
            news = select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                news = self.kernel.next(retry, &self.metrics) => news?,
            };
            heard = heard.or(news.since);
            news.resyncs
                .iter()
                .for_each(|cause| self.metrics.resync(cause));
            if retry.is_some() {
                news.dirty = Dirty::everything();
            }
        }
        info!("stopping; the dataplane stays");
        Ok(())
    }

    /// Brings the maps and programs to what the mirror now says.
    async fn synchronize(&mut self, news: News) -> Result<()> {
        let mut dirty = self.find_stages(news.dirty);
        // Where there was no room for all, one that comes may cover one that is missing; and there
        // may be room by now.
        let any = !dirty.prefixes.is_empty() || !news.resyncs.is_empty();
        dirty.every_prefix |= any && self.reconciler.is_short();
        let known = self.destinations.len();
        let wanted = self.wanted(&dirty);
        let ways_changed = dirty.ways || dirty.underlays || self.destinations.len() != known;
        if ways_changed {
            self.find_ways(dirty.underlays).await?;
        }
        let mut changes = Changes::default();
        let mut mirrored = (ways_changed || dirty.node).then(|| self.mirrored());
        if let Some(mirrored) = &mirrored {
            changes += self.reconciler.write_tables(&mirrored.tables)?;
        }
        let routes = self.write_routes(&wanted, dirty.every_prefix);
        self.renew()?;
        // With the routes in place: until then another version's programs go by its own.
        let programs = match &mirrored {
            Some(mirrored) => self.attach(mirrored).await,
            None => Ok(()),
        };
        if self.destinations.sweep() {
            self.ways = mirror::ways(&self.kernel.fib, &self.destinations);
            let without = self.mirrored();
            changes += self.reconciler.write_tables(&without.tables)?;
            mirrored = Some(without);
        }
        if let Some(mirrored) = &mirrored {
            changes += self.reconciler.sweep_tables(&mirrored.tables)?;
        }
        changes += routes?;
        if !changes.is_empty() {
            debug!(changes.written, changes.removed, "tables written");
        }
        self.metrics.routes(self.reconciler.routes());
        for (map, entries, most) in self.reconciler.fill() {
            self.metrics.map_fill(map, entries, most);
        }
        programs
    }

    /// Flows that remember what was written before are seen anew.
    fn renew(&mut self) -> Result<()> {
        if self.reconciler.renew()? {
            self.metrics.revoked("tables");
        }
        Ok(())
    }

    /// A program that cannot be attached does not keep pods from being asked for.
    async fn attach(&mut self, mirrored: &Mirrored) -> Result<()> {
        let attached = self
            .programs
            .attach(&self.netlink, &mirrored.attachments, &mirrored.xdp)
            .await;
        for pod in &mirrored.unresolved {
            debug!(address = %pod.address, "asking the kernel to resolve a pod");
            self.netlink
                .resolve_neighbour(pod.ifindex, pod.address)
                .await?;
        }
        attached?;
        self.metrics.attached(&mirrored.attachments);
        Ok(())
    }

    /// What the rules come to depends on the pods that there are.
    fn find_stages(&mut self, mut dirty: Dirty) -> Dirty {
        if dirty.node {
            let fib = &mut self.kernel.fib;
            fib.set_pods(&mirror::pod_addresses(fib));
            dirty.every_prefix |= fib.take_dirty().every_prefix;
        }
        dirty
    }

    /// Where the prefixes lead that have to be looked at, all of them if need be.
    fn wanted(&mut self, dirty: &Dirty) -> Vec<Wanted> {
        let fib = &self.kernel.fib;
        let destinations = &mut self.destinations;
        let want = |prefix: Ipv4Net| {
            let destination = fib.destination(prefix);
            (
                prefix,
                destination.map(|destination| destinations.key(destination)),
            )
        };
        if !dirty.every_prefix {
            return dirty.prefixes.iter().copied().map(want).collect();
        }
        let mut wanted: Vec<Wanted> = fib.prefixes().map(want).collect();
        // A prefix may be in several tables.
        wanted.sort_unstable_by_key(|(prefix, _)| *prefix);
        wanted.dedup();
        wanted
    }

    /// Finds out how the destinations are reached; asks for the ways between nodes where that is
    /// needed.
    async fn find_ways(&mut self, underlays_too: bool) -> Result<()> {
        let destinations = self.destinations.iter();
        let vias = destinations.flat_map(|(_, destination)| mirror::vias(destination));
        let remotes = self.kernel.fib.remotes(vias);
        let are_known = remotes
            .iter()
            .all(|remote| self.kernel.fib.has_underlay(*remote));
        if underlays_too || !are_known {
            self.kernel.read_underlays(remotes).await?;
        }
        self.ways = mirror::ways(&self.kernel.fib, &self.destinations);
        Ok(())
    }

    fn mirrored(&mut self) -> Mirrored {
        let fib = &self.kernel.fib;
        let pods = mirror::pods(fib);
        self.uplinks.retain(|index| fib.links().contains_key(index));
        let used = mirror::uplinks(&self.config, fib, &self.ways);
        self.uplinks.extend(used.iter().map(|link| link.index));
        let uplinks: Vec<_> = self
            .uplinks
            .iter()
            .filter_map(|index| fib.links().get(index))
            .collect();
        mirror::mirrored(&self.config, fib, &pods, &uplinks, &self.ways)
    }

    /// Writes where prefixes lead, all that there are or those that have changed.
    fn write_routes(&mut self, wanted: &[Wanted], are_all: bool) -> Result<Changes> {
        if !are_all {
            return self.write_changed(wanted);
        }
        let routes = wanted.iter();
        let routes = routes.filter_map(|(prefix, key)| Some((*prefix, (*key)?)));
        self.destinations.recount();
        for (_, key) in routes.clone() {
            self.destinations.take(key);
        }
        self.reconciler.write_routes(routes)
    }

    fn write_changed(&mut self, wanted: &[Wanted]) -> Result<Changes> {
        let mut changes = Changes::default();
        for (prefix, key) in wanted {
            let Some(old) = self.reconciler.route(*prefix, *key)? else {
                continue;
            };
            if let Some(old) = old {
                self.destinations.release(old);
            }
            if let Some(key) = key {
                self.destinations.take(*key);
            }
            changes.written += usize::from(key.is_some());
            changes.removed += usize::from(key.is_none());
        }
        Ok(changes)
    }
}
