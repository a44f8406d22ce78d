//! The agent: source -> model -> plan -> reconcile -> kernel, once at start and after every change.

mod file;
mod programs;
mod watch;

use anyhow::Result;

use crate::config::{Config, Source};

/// Runs the agent by `config`, until it is told to stop by SIGTERM or SIGINT. The dataplane goes on
/// without it.
///
/// # Errors
///
/// The configuration, the source or the BPF programs are no good. Once running, errors are logged,
/// and what was there before stays.
pub async fn run(config: Config) -> Result<()> {
    let Source::File(cluster_file) = config.source.clone();
    file::run(config, cluster_file).await
}
