//! The agent: source -> model -> plan -> reconcile -> kernel, once at start and after every change.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{
    select,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::sleep,
};
use tracing::{debug, error, info, warn};

use crate::{
    cluster::Cluster,
    config::{Config, Source},
    dataplane::{self, Attachments, Dataplane, Pins},
    kernel::{self, Events, Netlink},
    node::{LearnedMacs, NodeState},
    plan::{self, LeftOut, Model, Plan},
    reconcile::{Changes, Reconciler},
    source::file,
};

/// Changes come in groups (a pod's link, its route, its neighbour): what follows within this time
/// is taken together.
const SETTLE: Duration = Duration::from_millis(10);
/// How soon what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Runs the agent by the configuration in `config_file` until it is told to stop by SIGTERM or
/// SIGINT. The dataplane goes on without it.
///
/// # Errors
///
/// The configuration, the cluster table or the BPF programs are no good. Once running, errors are
/// logged, and what was there before stays.
pub async fn run(config_file: &Path) -> Result<()> {
    let config = Config::load(config_file)?;
    let Source::File(cluster_file) = config.source.clone();
    let cluster = read_cluster(&config, &cluster_file)?;

    let (netlink, events) = Netlink::connect()?;
    let pins = Pins::new(&config.pins);
    let mut dataplane = dataplane::load(&pins)?;
    dataplane.forward_logs()?;
    let agent = Agent {
        reconciler: Reconciler::open(&pins)?,
        attachments: Attachments::new(pins, config.attach),
        dataplane,
        netlink,
        config,
        cluster,
        learned: LearnedMacs::default(),
        left_out: Vec::new(),
        in_sync: false,
    };
    let inputs = Inputs::new(events, cluster_file)?;
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
    dataplane: Dataplane,
    reconciler: Reconciler,
    attachments: Attachments,
    learned: LearnedMacs,
    left_out: Vec<LeftOut>,
    in_sync: bool,
}

impl Agent {
    async fn serve(mut self, mut inputs: Inputs) -> Result<()> {
        loop {
            let outcome = self.synchronize().await;
            let retry = outcome.is_err();
            match outcome {
                Ok(()) if !self.in_sync => {
                    self.in_sync = true;
                    info!("in sync");
                }
                Ok(()) => {}
                Err(error) => error!("cannot synchronize, trying again: {error:#}"),
            }
            match inputs.next(retry).await? {
                Wake::Kernel | Wake::Retry => {}
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
        let carrier = plan::carrier(&self.model(&node))?;
        let carrier = self.netlink.ensure_carrier(&carrier).await?;
        let plan = plan::plan(&self.model(&node), carrier)?;
        self.apply(&plan).await
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

    /// Maps first, then the slow path, then the programs that use both.
    async fn apply(&mut self, plan: &Plan) -> Result<()> {
        let mut changes = self.reconciler.apply(&plan.tables)?;
        changes += self.apply_routes(plan).await?;
        let applied = self
            .attachments
            .apply(&mut self.dataplane, &plan.attachments)?;
        for attachment in &applied.attached {
            info!(
                interface = attachment.interface,
                "attached {}",
                attachment.hook.name()
            );
        }
        for name in &applied.detached {
            info!("detached {name}");
        }
        if !changes.is_empty() {
            info!(changes.written, changes.removed, "tables written");
        }
        self.report(&plan.left_out);
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

    /// Says what is left to the stack, when that has changed.
    fn report(&mut self, left_out: &[LeftOut]) {
        if self.left_out == left_out {
            return;
        }
        for peer in left_out {
            warn!("{peer}; packets to its pods are dropped until there is a way");
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
    Retry,
    Stop,
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

    /// Waits for the next reason to wake, and for what comes with it.
    async fn next(&mut self, retry: bool) -> Result<Wake> {
        let mut wake = select! {
            _ = self.terminate.recv() => return Ok(Wake::Stop),
            _ = self.interrupt.recv() => return Ok(Wake::Stop),
            changed = self.events.changed() => {
                changed?;
                Wake::Kernel
            }
            _ = self.file_changed.recv() => Wake::ClusterFile,
            _ = self.hangup.recv() => Wake::ClusterFile,
            () = sleep(RETRY), if retry => Wake::Retry,
        };
        sleep(SETTLE).await;
        // What came meanwhile is taken along, and must not be forgotten for what came first.
        while self.file_changed.try_recv().is_ok() {
            wake = Wake::ClusterFile;
        }
        Ok(wake)
    }
}

/// Watches the directory rather than the file: editors and Kubernetes replace files.
fn watch(file: &Path, changed: mpsc::UnboundedSender<()>) -> Result<RecommendedWatcher> {
    let directory = match file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Our own reading of the file is an event, too.
        if !event.is_ok_and(|event| event.kind.is_access()) {
            // The receiver is gone only when the agent is about to end.
            let _ = changed.send(());
        }
    })
    .context("cannot watch files for changes")?;
    watcher
        .watch(directory, RecursiveMode::NonRecursive)
        .with_context(|| format!("cannot watch {} for changes", directory.display()))?;
    Ok(watcher)
}
