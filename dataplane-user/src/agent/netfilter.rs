//! What keeps acceleration right beside netfilter, for as long as the agent runs.

use std::sync::Arc;

use anyhow::Result;

use super::{companion::Companion, idle::keep_idle, rules::watch_rules};
use crate::{config::Config, dataplane::Pins, telemetry::Metrics};

/// What goes on beside the agent's loop, if netfilter is heeded.
pub(super) struct Netfilter {
    _companions: Vec<Companion>,
}

impl Netfilter {
    /// Begins, with the maps pinned below `pins`.
    pub(super) fn accompany(config: &Config, pins: &Pins, metrics: &Arc<Metrics>) -> Result<Self> {
        let companions = if config.is_established() {
            vec![
                watch_rules(pins, metrics.clone())?,
                keep_idle(pins, config.reverify, metrics.clone())?,
            ]
        } else {
            Vec::new()
        };
        Ok(Self {
            _companions: companions,
        })
    }
}
