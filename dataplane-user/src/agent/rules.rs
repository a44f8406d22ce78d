//! What netfilter let through, it may not let through any more: when its rules change, every flow is
//! verified anew.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use dataplane_common::abi::Generation;
use tokio::time::sleep;
use tracing::{debug, error};

use super::companion::Companion;
use crate::{
    dataplane::{Generations, Pins},
    kernel::RuleEvents,
    telemetry::Metrics,
};

/// Rules change in storms, when a policy is written; between two generations flows have to get
/// somewhere.
const PAUSE: Duration = Duration::from_millis(100);

/// Ends the generation of flows when the rules change: at once, and then at most once a [`PAUSE`].
pub(super) fn watch_rules(pins: &Pins, metrics: Arc<Metrics>) -> Result<Companion> {
    let mut generations = Generations::open(pins, Generation::Agent)?;
    Companion::start("rules", async move || {
        let mut events = RuleEvents::subscribe()?;
        loop {
            events.changed().await?;
            debug!("the rules of nftables have changed: every flow is verified anew");
            match generations.bump() {
                Ok(()) => metrics.revoked("nftables"),
                Err(error) => error!("cannot have flows verified anew: {error:#}"),
            }
            sleep(PAUSE).await;
        }
    })
}
