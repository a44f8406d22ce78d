//! How it went, said when that changes.

use anyhow::Result;
use tracing::{error, info, warn};

use crate::{
    dataplane::{self, Pins},
    telemetry::Metrics,
};

/// How the last synchronization ended, once there was one.
#[derive(Debug, Default)]
pub(super) struct Said(Option<Result<(), String>>);

impl Said {
    /// Says when the agent comes to be in sync, and why it is not: once, not with every attempt.
    pub(super) fn say(&mut self, outcome: Result<()>, metrics: &Metrics, pins: &Pins) {
        let state = outcome.map_err(|error| format!("{error:#}"));
        match &state {
            Ok(()) => metrics.in_sync(),
            Err(error) => metrics.out_of_sync(error),
        }
        if self.0.as_ref() == Some(&state) {
            return;
        }
        match &state {
            Ok(()) => {
                remove_other_versions(pins);
                info!("in sync");
            }
            Err(error) => error!("cannot synchronize, trying again: {error}"),
        }
        self.0 = Some(state);
    }
}

/// Every hook has a program of ours by now, and nothing needs the maps of another version.
fn remove_other_versions(pins: &Pins) {
    match dataplane::remove_others(pins) {
        Ok(left) => left.iter().for_each(|removal| warn!("{removal}")),
        Err(error) => warn!("{error:#}"),
    }
}
