//! The kernel's FIB as a source: listening to it, and asking it again where it may have been silent.
//!
//! The kernel does not announce everything: an interface that goes down, an address or a nexthop
//! object that is removed take routes with them in silence, and a socket that is full loses
//! changes. Where that may have happened, the smallest list that tells is read again; none so often
//! that the agent does nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::Result;
use ipnet::Ipv4Net;
use tokio::time::timeout_at;
use tracing::{debug, warn};

use crate::{
    config::{Config, KernelSource},
    fib::{Dirty, Fib, Loading},
    kernel::{
        Netlink,
        fib::{Change, List, Lists, Monitor},
    },
    plan::{Destinations, NextHopKey, mirror},
    telemetry::Metrics,
};

/// How soon everything is read again although nothing was heard.
const PERIOD: Duration = Duration::from_secs(30);
/// How soon it is tried again to read.
const RETRY: Duration = Duration::from_secs(1);
/// Reading again takes at most this part of the time: one in so many.
const SHARE: u32 = 5;
/// More suspicious interfaces than this, and all routes are read at once.
const MANY: usize = 16;

/// The kernel's FIB, and what keeps it true.
pub struct KernelFib {
    /// The mirror.
    pub fib: Fib,
    monitor: Monitor,
    lists: Lists,
    netlink: Netlink,
    pending: Pending,
    /// When reading again is allowed.
    allowed: Instant,
    /// When everything is read again in any case.
    periodic: Instant,
}

/// What is to be read again.
#[derive(Debug, Default)]
struct Pending {
    everything: Option<&'static str>,
    routes: bool,
    objects: bool,
    routes_by: BTreeSet<u32>,
    underlays: bool,
}

/// What came of waiting.
#[derive(Debug, Default)]
pub struct News {
    /// What has to be looked at again.
    pub dirty: Dirty,
    /// What was read again, and why.
    pub resyncs: Vec<&'static str>,
    /// When the first of it was heard.
    pub since: Option<Instant>,
}

impl News {
    /// As if everything had changed.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            dirty: Dirty::everything(),
            ..Self::default()
        }
    }
}

impl KernelFib {
    /// Subscribes, and reads everything for the first time.
    pub async fn open(config: &Config, source: &KernelSource, netlink: Netlink) -> Result<Self> {
        let mut this = Self {
            fib: Fib::new(config.workloads.clone(), source.only.clone()),
            // Before anything is read, so that no change falls between.
            monitor: Monitor::subscribe(source.buffer)?,
            lists: Lists::connect()?,
            netlink,
            pending: Pending::default(),
            allowed: Instant::now(),
            periodic: Instant::now() + PERIOD,
        };
        this.read_everything().await?;
        Ok(this)
    }

    /// Waits until there is something to look at again, or it is `until`.
    ///
    /// Cancel-safe while it waits.
    pub async fn next(&mut self, until: Option<Instant>, metrics: &Metrics) -> Result<News> {
        let mut news = News::default();
        let next_reading = self.next_reading();
        let deadline = until.map_or(next_reading, |until| until.min(next_reading));
        let hear = timeout_at(deadline.into(), self.monitor.hear());
        if let Ok(heard) = metrics.while_waiting(hear).await {
            let heard = heard?;
            news.since = Some(Instant::now());
            for change in heard.changes {
                metrics.netlink_event(change.word());
                self.fib.apply(change);
            }
            if heard.overrun {
                metrics.netlink_event("overrun");
                self.pending.everything = Some("overrun");
            }
        }
        if self.periodic <= Instant::now() {
            self.pending.underlays = true;
            self.pending.everything.get_or_insert("periodic");
        }
        self.take(&mut news);
        if self.is_pending() && self.allowed <= Instant::now() {
            self.read_or_wait(&mut news).await;
        }
        Ok(news)
    }

    /// What the mirror has found out goes to the news, or to what is pending.
    fn take(&mut self, news: &mut News) {
        let dirty = self.fib.take_dirty();
        self.pending.routes |= dirty.suspect_routes;
        self.pending.objects |= dirty.suspect_objects;
        self.pending.routes_by.extend(&dirty.suspects);
        self.pending.underlays |= dirty.underlays;
        news.dirty.prefixes.extend(dirty.prefixes);
        news.dirty.every_prefix |= dirty.every_prefix;
        news.dirty.ways |= dirty.ways;
        news.dirty.node |= dirty.node;
    }

    fn is_pending(&self) -> bool {
        let pending = &self.pending;
        pending.everything.is_some()
            || pending.routes
            || pending.objects
            || pending.underlays
            || !pending.routes_by.is_empty()
    }

    fn next_reading(&self) -> Instant {
        if self.is_pending() {
            self.allowed
        } else {
            self.periodic
        }
    }

    /// Reads again what is pending; if that fails, everything, a little later.
    async fn read_or_wait(&mut self, news: &mut News) {
        if let Err(error) = self.read_again(news).await {
            warn!("cannot read the kernel's state again, trying later: {error:#}");
            self.pending.everything = Some("retry");
            self.allowed = Instant::now() + RETRY;
        }
    }

    /// Reads again what is pending, the most that is asked for standing for the rest.
    async fn read_again(&mut self, news: &mut News) -> Result<()> {
        let begun = Instant::now();
        let mut pending = std::mem::take(&mut self.pending);
        if let Some(cause) = pending.everything {
            news.resyncs.push(cause);
            self.read_everything().await?;
        } else {
            if pending.routes_by.len() > MANY {
                pending.routes = true;
            }
            if pending.objects {
                news.resyncs.push("objects");
                self.read_objects().await?;
            }
            if pending.routes {
                news.resyncs.push("routes");
                self.read_routes().await?;
            } else if !pending.routes_by.is_empty() {
                news.resyncs.push("interface");
                for index in pending.routes_by {
                    self.read_routes_by(index).await?;
                }
            }
        }
        self.take(news);
        // What was read may itself be reason to ask for ways again.
        if pending.underlays || self.pending.underlays {
            self.pending.underlays = false;
            news.dirty.underlays = true;
        }
        let took = begun.elapsed();
        self.allowed = Instant::now() + took * (SHARE - 1);
        debug!(?took, causes = ?news.resyncs, "read again");
        Ok(())
    }

    async fn read_everything(&mut self) -> Result<()> {
        const EVERYTHING: [List; 7] = [
            List::Links,
            List::Addresses,
            List::Rules,
            List::Objects,
            List::Neighbours,
            List::Fdb,
            List::Routes,
        ];
        let begun = Instant::now();
        let mut loading = Loading::default();
        for list in EVERYTHING {
            let fib = &mut self.fib;
            let is_steady = self
                .lists
                .read(list, |change| fib.load(&mut loading, change))
                .await?;
            if !is_steady {
                // It is used all the same: what has changed since is heard of.
                self.pending.everything = Some("unsteady");
            }
        }
        self.fib.loaded(loading);
        self.periodic = Instant::now() + PERIOD.max(begun.elapsed() * 10 * SHARE);
        Ok(())
    }

    async fn read_routes(&mut self) -> Result<()> {
        let mut loading = Loading::default();
        let fib = &mut self.fib;
        self.lists
            .read(List::Routes, |change| fib.load(&mut loading, change))
            .await?;
        self.fib.loaded_routes(loading);
        Ok(())
    }

    async fn read_routes_by(&mut self, index: u32) -> Result<()> {
        let mut routes = Vec::new();
        let take = |change| {
            if let Change::Route(route) = change {
                routes.push(route);
            }
        };
        self.lists.read(List::RoutesBy(index), take).await?;
        self.fib.loaded_routes_by(index, routes);
        Ok(())
    }

    async fn read_objects(&mut self) -> Result<()> {
        let mut objects = Vec::new();
        let take = |change| {
            if let Change::Object(object) = change {
                objects.push(object);
            }
        };
        self.lists.read(List::Objects, take).await?;
        self.fib.loaded_objects(objects);
        Ok(())
    }

    /// Finds out how each of `remotes` is reached: by asking the kernel, which knows its rules, and
    /// path MTUs that it has found out.
    pub async fn read_underlays(&mut self, remotes: BTreeSet<Ipv4Addr>) -> Result<()> {
        let mut underlays = BTreeMap::new();
        for remote in remotes {
            underlays.insert(remote, self.netlink.route_to(remote).await?);
        }
        self.fib.set_underlays(underlays);
        Ok(())
    }
}

/// The kernel's FIB as it is now, and where its prefixes lead.
pub struct Survey {
    /// The mirror.
    pub fib: Fib,
    /// Where each prefix leads.
    pub routes: BTreeMap<Ipv4Net, NextHopKey>,
    /// What these keys stand for.
    pub destinations: Destinations,
}

/// Reads the kernel's FIB once, for whoever wants to compare.
pub async fn survey(config: &Config, source: &KernelSource) -> Result<Survey> {
    let (netlink, _events) = Netlink::connect()?;
    let mut kernel = KernelFib::open(config, source, netlink).await?;
    kernel.fib.set_pods(&mirror::pod_addresses(&kernel.fib));
    let mut destinations = Destinations::default();
    let prefixes = kernel.fib.prefixes();
    let routes = prefixes.filter_map(|prefix| {
        let destination = kernel.fib.destination(prefix)?;
        Some((prefix, destinations.key(destination)))
    });
    let routes = routes.collect();
    let vias = destinations.iter();
    let vias = vias.flat_map(|(_, destination)| mirror::vias(destination));
    let remotes = kernel.fib.remotes(vias);
    kernel.read_underlays(remotes).await?;
    Ok(Survey {
        fib: kernel.fib,
        routes,
        destinations,
    })
}
