//! What the agent says of itself: log lines, metrics, whether it is well, and, to systemd, that it
//! is ready.
//!
//! [`Metrics`] is what the agent's loop tells, by methods that never wait. All else is done by a
//! thread of its own, see [`Reporter`]: it can say that the loop is stuck when the loop is, and
//! whoever asks does not hold up the loop.

mod health;
mod http;
mod log;
mod metrics;
mod packets;
mod reporter;
mod systemd;

pub use health::STUCK;
pub use log::{LogFormat, init};
pub use metrics::Metrics;
pub use reporter::Reporter;

/// What `/metrics` has before a packet has come.
#[cfg(test)]
pub(crate) fn families(metrics: &Metrics) -> anyhow::Result<Vec<prometheus::proto::MetricFamily>> {
    let mut families = metrics.gather()?;
    families.extend(packets::untouched()?);
    Ok(families)
}
