//! Waiting for what is going to be.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long what is going to be may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked at.
const POLL: Duration = Duration::from_millis(5);

/// Waits until a condition holds; `what` it is stands in the error.
pub fn eventually(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !condition()? {
        if Instant::now() >= deadline {
            bail!("after {PATIENCE:?}, still not so: {what}");
        }
        sleep(POLL);
    }
    Ok(())
}
