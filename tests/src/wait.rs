//! Waiting for what is going to be.

use std::env;
use std::io::{self, ErrorKind};
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

/// Calls again what a signal has interrupted, for sockets with a timeout, which `SA_RESTART` does not
/// help (signal(7)).
///
/// No test handles a signal, but a child's end interrupts some thread all the same if the one that
/// started it blocks all signals at that moment, as it does to start another.
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_interrupted_is_called_again_and_no_other_error_is() -> io::Result<()> {
        let mut outcomes = [
            Err(ErrorKind::Interrupted),
            Ok(1),
            Err(ErrorKind::WouldBlock),
        ]
        .into_iter();
        let mut call = || outcomes.next().map_or(Ok(0), |outcome| Ok(outcome?));
        assert_eq!(uninterrupted(&mut call)?, 1);
        let error = uninterrupted(&mut call).expect_err("it is not for this function to judge");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        Ok(())
    }
}
