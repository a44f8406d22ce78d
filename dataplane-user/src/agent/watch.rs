//! Watching the cluster's table.

use std::{ffi::OsStr, path::Path};

use anyhow::{Context, Result};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// Watches the directory rather than the file: editors replace files, and Kubernetes replaces the
/// directory `..data` that they are in.
pub(super) fn watch(file: &Path, changed: mpsc::UnboundedSender<()>) -> Result<RecommendedWatcher> {
    let directory = match file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let names = [file.file_name().map(OsStr::to_owned), Some("..data".into())];
    let concerns = move |event: &notify::Event| {
        // Our own reading of the file is an event, too.
        !event.kind.is_access()
            && event
                .paths
                .iter()
                .any(|path| names.contains(&path.file_name().map(OsStr::to_owned)))
    };
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // An error is an overrun: something may have changed.
        if event.as_ref().map_or(true, &concerns) {
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
