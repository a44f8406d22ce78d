//! Threads beside the agent's loop, for what must not wait for it or have it wait.

use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use tokio::{runtime, select, sync::oneshot};
use tracing::error;

/// A thread with a runtime of its own, until this is dropped.
#[derive(Debug)]
pub(super) struct Companion {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Companion {
    /// Does `work`, which has no end unless it fails, in the network namespace of the calling thread.
    /// It is stopped where it waits.
    pub(super) fn start(
        name: &'static str,
        work: impl AsyncFnOnce() -> Result<()> + Send + 'static,
    ) -> Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .with_context(|| format!("cannot make a runtime for {name}"))?;
        let (stop, stopped) = oneshot::channel();
        let until_stopped = async move || {
            select! {
                _ = stopped => {}
                result = work() => if let Err(error) = result {
                    error!("{name}: {error:#}");
                },
            }
        };
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || runtime.block_on(until_stopped()))
            .with_context(|| format!("cannot start a thread for {name}"))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It says itself why, if it panicked.
            let _ = thread.join();
        }
    }
}
