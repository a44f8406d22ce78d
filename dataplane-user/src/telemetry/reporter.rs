//! The thread that says how the agent is.

use std::{
    net::SocketAddr,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{runtime, select, sync::oneshot, time::timeout};

use super::{
    Metrics,
    http::{self, Answers},
    systemd,
};
use crate::dataplane::Pins;

/// How long systemd may take to hear that the agent ends.
const PATIENCE: Duration = Duration::from_secs(1);

/// Answers at `listen` and notifies systemd, until it is dropped.
#[derive(Debug)]
pub struct Reporter {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Reporter {
    /// Starts in the network namespace of the calling thread.
    pub fn start(listen: Option<SocketAddr>, metrics: Arc<Metrics>, pins: Pins) -> Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot make a runtime for health and metrics")?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("reporter".to_owned())
            .spawn(move || {
                runtime.block_on(report(listen, metrics, pins, stopped));
                // A systemd that does not listen must not keep us from ending.
                runtime.shutdown_background();
            })
            .context("cannot start a thread for health and metrics")?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It says itself why, if it panicked.
            let _ = thread.join();
        }
    }
}

async fn report(
    listen: Option<SocketAddr>,
    metrics: Arc<Metrics>,
    pins: Pins,
    stopped: oneshot::Receiver<()>,
) {
    if let Some(address) = listen {
        let answers = Answers {
            metrics: metrics.clone(),
            pins,
        };
        tokio::spawn(http::serve(address, Arc::new(answers)));
    }
    select! {
        () = systemd::report(&metrics.health) => {}
        _ = stopped => {
            // It is but a courtesy.
            let _ = timeout(PATIENCE, systemd::stopping()).await;
        }
    }
}
