//! The agent: source -> model -> plan -> reconcile -> kernel, once at start and after every change.

pub(crate) mod capabilities;
mod companion;
mod file;
mod idle;
mod kernel;
mod netfilter;
mod programs;
mod rules;
mod said;
mod watch;

use std::sync::Arc;

use anyhow::Result;

use crate::{
    config::{Config, Source},
    dataplane::Pins,
    telemetry::{Metrics, Reporter},
};

/// Runs the agent by `config`, until it is told to stop by SIGTERM or SIGINT. The dataplane goes on
/// without it.
///
/// # Errors
///
/// A capability is missing, or the configuration, the source or the BPF programs are no good. Once running, errors are logged,
/// and what was there before stays.
pub async fn run(config: Config) -> Result<()> {
    capabilities::check()?;
    let metrics = Arc::new(Metrics::new()?);
    let _reporter = Reporter::start(config.listen, metrics.clone(), Pins::new(&config.pins))?;
    match config.source.clone() {
        Source::File(cluster_file) => file::run(config, cluster_file, metrics).await,
        Source::Kernel(source) => kernel::run(config, source, metrics).await,
    }
}
