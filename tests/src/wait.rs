//! Waiting for what is going to be.

use std::env;
use std::sync::LazyLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long what is going to be may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked at.
const POLL: Duration = Duration::from_millis(5);

/// How many times longer than usual everything may take: `UNDERPASS_TEST_PATIENCE`, 1 if not set.
/// An emulated machine takes some ten times as long as a real one.
static FACTOR: LazyLock<u32> = LazyLock::new(|| {
    let factor = env::var("UNDERPASS_TEST_PATIENCE").ok();
    factor.and_then(|text| text.parse().ok()).unwrap_or(1)
});

/// How long to wait here for what a usual machine does in `usual`.
#[must_use]
pub fn patient(usual: Duration) -> Duration {
    usual * *FACTOR
}

/// Waits until a condition holds; `what` it is stands in the error.
pub fn eventually(what: &str, condition: impl FnMut() -> Result<bool>) -> Result<()> {
    within(PATIENCE, what, condition)
}

/// As [`eventually`], for what may take so long on a usual machine.
pub(crate) fn within(
    usual: Duration,
    what: &str,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let patience = patient(usual);
    let deadline = Instant::now() + patience;
    while !condition()? {
        if Instant::now() >= deadline {
            bail!("after {patience:?}, still not so: {what}");
        }
        sleep(POLL);
    }
    Ok(())
}
