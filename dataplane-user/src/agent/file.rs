//! The agent with the cluster's table from a file: everything is read, planned and compared again
//! after every change.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use dataplane_common::abi::Hook;
use notify::RecommendedWatcher;
use tokio::{
    select,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::sleep,
};
use tracing::{debug, error, info, warn};

use super::{netfilter::Netfilter, programs::Programs, said::Said, watch::watch};
use crate::{
    cluster::Cluster,
    config::Config,
    dataplane::{self, PinLock, Pins},
    kernel::{self, CarrierSpec, Events, Netlink},
    node::{LearnedMacs, NodeState},
    plan::{self, LeftOut, Model, Plan},
    reconcile::{Changes, Reconciler},
    source::file,
    telemetry::Metrics,
};

/// Changes come in groups (a pod's link, its route, its neighbour): what follows within this time
/// is taken together.
const SETTLE: Duration = Duration::from_millis(10);
/// How soon what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How soon everything is looked at again although nothing was heard: what the kernel does not
/// announce, such as a path MTU that it found out.
const RESYNC: Duration = Duration::from_secs(30);

/// Runs the agent by `config` and the table in `cluster_file`.
pub(super) async fn run(
    config: Config,
    cluster_file: PathBuf,
    metrics: Arc<Metrics>,
) -> Result<()> {
    let (netlink, events) = Netlink::connect()?;
    // Watched before it is read, so that no change falls between.
    let inputs = Inputs::new(events, cluster_file.clone())?;
    let cluster = read_cluster(&config, &cluster_file)?;

    let pins = Pins::new(&config.pins);
    let lock = dataplane::claim(&pins)?;
    metrics.alive();
    let programs = Programs::load(&config, &pins)?;
    let _netfilter = Netfilter::accompany(&config, &pins, &metrics)?;
    metrics.alive();
    let agent = Agent {
        reconciler: Reconciler::open(&pins)?,
        pins,
        programs,
        netlink,
        config,
        cluster,
        learned: LearnedMacs::default(),
        left_out: Vec::new(),
        said: Said::default(),
        metrics,
        _lock: lock,
    };
    agent.serve(inputs).await
}

/// Reads and validates the cluster's table, in which this node has to be.
fn read_cluster(config: &Config, cluster_file: &Path) -> Result<Cluster> {
    let cluster = file::read(cluster_file)?;
    file::local_node(&cluster, cluster_file, &config.node)?;
    Ok(cluster)
}

struct Agent {
    config: Config,
    cluster: Cluster,
    netlink: Netlink,
    programs: Programs,
    reconciler: Reconciler,
    learned: LearnedMacs,
    left_out: Vec<LeftOut>,
    said: Said,
    metrics: Arc<Metrics>,
    pins: Pins,
    _lock: PinLock,
}

impl Agent {
    async fn serve(mut self, mut inputs: Inputs) -> Result<()> {
        let mut cause = "start";
        // Since when what was heard of waits to be in the maps.
        let mut heard = Some(Instant::now());
        loop {
            self.metrics.resync(cause);
            let outcome = self.synchronize().await;
            let retry = outcome.is_err();
            if let Some(heard) = heard.take_if(|_| !retry) {
                self.metrics.converged(heard.elapsed());
            }
            self.said.say(outcome, &self.metrics, &self.pins);
            let next = inputs.next(retry, &self.metrics);
            let (wake, at) = self.metrics.while_waiting(next).await?;
            cause = wake.cause();
            if wake.is_news() {
                heard.get_or_insert(at);
            }
            match wake {
                Wake::Kernel | Wake::Timer | Wake::Retry => {}
                Wake::ClusterFile => self.reload(&inputs.cluster_file),
                Wake::Stop => {
                    info!("stopping; the dataplane stays");
                    return Ok(());
                }
            }
        }
    }

    /// Brings everything to what configuration, cluster and kernel now say.
    async fn synchronize(&mut self) -> Result<()> {
        let node = self.read_node().await?;
        self.metrics.alive();
        let carrier = plan::carrier(&self.model(&node))?;
        let ifindex = self.netlink.ensure_carrier(&carrier).await?;
        let plan = plan::plan(&self.model(&node), ifindex)?;
        self.metrics.alive();
        let is_up = node.links.get(&ifindex).is_some_and(|link| link.up);
        let raise = (!is_up).then_some((carrier, ifindex));
        let begun = Instant::now();
        let applied = self.apply(&plan, raise).await;
        self.metrics.applied(begun.elapsed());
        applied
    }

    async fn read_node(&mut self) -> Result<NodeState> {
        let peers = self.cluster.nodes.iter().map(|node| node.address);
        NodeState::read(
            &self.netlink,
            &self.config.workloads,
            peers,
            &mut self.learned,
        )
        .await
    }

    fn model<'a>(&'a self, node: &'a NodeState) -> Model<'a> {
        Model {
            config: &self.config,
            cluster: &self.cluster,
            node,
        }
    }

    /// Maps first, then the programs that use them, then the slow path. What fails does not keep
    /// the rest from being done: a pod is not to wait for an interface that is missing elsewhere.
    /// The carrier, with its index, is to be taken up if it is given.
    async fn apply(&mut self, plan: &Plan, carrier: Option<(CarrierSpec, u32)>) -> Result<()> {
        let tables = self.reconciler.apply(&plan.tables);
        let renewed = self.reconciler.renew();
        self.metrics.routes(self.reconciler.routes());
        for (map, entries, most) in self.reconciler.fill() {
            self.metrics.map_fill(map, entries, most);
        }
        let programs = self
            .programs
            .attach(&self.netlink, &plan.attachments, &plan.xdp)
            .await;
        let raised = match carrier {
            Some((carrier, ifindex)) => self.raise_carrier(carrier, ifindex).await,
            None => Ok(()),
        };
        let routes = self.apply_routes(plan).await;
        let resolved = self.resolve(plan).await;
        self.report(&plan.left_out);

        let mut changes = tables?;
        if renewed? {
            self.metrics.revoked("tables");
        }
        programs?;
        self.metrics.attached(&plan.attachments);
        raised?;
        changes += routes?;
        if !changes.is_empty() {
            info!(changes.written, changes.removed, "tables written");
        }
        resolved
    }

    /// Takes the carrier up once its programs are on it: a VXLAN device in external mode receives
    /// whatever network from whomever.
    async fn raise_carrier(&self, carrier: CarrierSpec, ifindex: u32) -> Result<()> {
        if self
            .programs
            .are_on(ifindex, &[Hook::FromStack, Hook::FromCarrier])
        {
            let carrier = CarrierSpec {
                up: true,
                ..carrier
            };
            self.netlink.ensure_carrier(&carrier).await?;
        }
        Ok(())
    }

    async fn resolve(&self, plan: &Plan) -> Result<()> {
        for pod in &plan.unresolved {
            debug!(address = %pod.address, "asking the kernel to resolve a pod");
            self.netlink
                .resolve_neighbour(pod.ifindex, pod.address)
                .await?;
        }
        Ok(())
    }

    async fn apply_routes(&self, plan: &Plan) -> Result<Changes> {
        let actual = self.netlink.own_routes().await?;
        let (add, delete) = kernel::difference(&plan.kernel_routes, &actual);
        for route in &add {
            self.netlink.add_route(route).await?;
        }
        for route in &delete {
            self.netlink.delete_route(route).await?;
        }
        Ok(Changes {
            written: add.len(),
            removed: delete.len(),
        })
    }

    /// Says which peers cannot be reached, when that has changed.
    fn report(&mut self, left_out: &[LeftOut]) {
        if self.left_out == left_out {
            return;
        }
        for peer in left_out {
            warn!("{peer}; packets to its pods are dropped until there is a way");
        }
        if left_out.is_empty() {
            info!("there is a way to every peer again");
        }
        self.left_out = left_out.to_vec();
    }

    /// Takes the cluster's table anew, or, if it is no good, keeps the one there is.
    fn reload(&mut self, cluster_file: &Path) {
        match read_cluster(&self.config, cluster_file) {
            Ok(cluster) if cluster == self.cluster => debug!("the cluster table is as it was"),
            Ok(cluster) => {
                info!(
                    nodes = cluster.nodes.len(),
                    routes = cluster.routes.len(),
                    "the cluster table has changed"
                );
                self.cluster = cluster;
            }
            Err(error) => error!("the cluster table is refused and the old one kept: {error:#}"),
        }
    }
}

/// Why the agent wakes up.
enum Wake {
    Kernel,
    ClusterFile,
    Timer,
    Retry,
    Stop,
}

impl Wake {
    /// The word for it in the metrics.
    fn cause(&self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::ClusterFile => "cluster-file",
            Self::Timer => "timer",
            Self::Retry => "retry",
            Self::Stop => "stop",
        }
    }

    /// Whether something has been heard of.
    fn is_news(&self) -> bool {
        matches!(self, Self::Kernel | Self::ClusterFile)
    }
}

/// Everything that wakes the agent.
struct Inputs {
    events: Events,
    cluster_file: PathBuf,
    file_changed: mpsc::UnboundedReceiver<()>,
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    /// Stops watching when it is dropped.
    _watcher: RecommendedWatcher,
}

impl Inputs {
    fn new(events: Events, cluster_file: PathBuf) -> Result<Self> {
        let (sender, file_changed) = mpsc::unbounded_channel();
        Ok(Self {
            _watcher: watch(&cluster_file, sender)?,
            events,
            cluster_file,
            file_changed,
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next reason to wake, and for what comes with it. Returns when it came.
    async fn next(&mut self, retry: bool, metrics: &Metrics) -> Result<(Wake, Instant)> {
        let changed = self.events.changed(|kind| metrics.netlink_event(kind));
        let mut wake = select! {
            _ = self.terminate.recv() => Wake::Stop,
            _ = self.interrupt.recv() => Wake::Stop,
            // What failed may itself have changed something, and would be tried again at once.
            changed = changed, if !retry => {
                changed?;
                Wake::Kernel
            }
            _ = self.file_changed.recv() => Wake::ClusterFile,
            _ = self.hangup.recv() => Wake::ClusterFile,
            () = sleep(RETRY), if retry => Wake::Retry,
            () = sleep(RESYNC) => Wake::Timer,
        };
        let at = Instant::now();
        if matches!(wake, Wake::Stop) {
            return Ok((wake, at));
        }
        sleep(SETTLE).await;
        // What came meanwhile is taken along, and must not be forgotten for what came first.
        while self.file_changed.try_recv().is_ok() {
            wake = Wake::ClusterFile;
        }
        Ok((wake, at))
    }
}
