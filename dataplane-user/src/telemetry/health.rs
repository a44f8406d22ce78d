//! Whether the agent is alive, and whether the dataplane is as it should be.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::dataplane::Attachment;

/// How long the agent's loop may give no sign of life until it is taken to be stuck. It gives one at
/// least every second while it waits; what it does in between takes seconds where there are a million
/// routes.
pub const STUCK: Duration = Duration::from_secs(30);

/// What is known of the agent's state.
#[derive(Debug)]
pub(super) struct Health {
    last_sign: Mutex<Instant>,
    sync: watch::Sender<Sync>,
    attached: Mutex<BTreeSet<Attachment>>,
}

/// Whether the maps and attachments are what the sources say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sync {
    /// Nobody has said anything yet.
    Starting,
    /// They are.
    In,
    /// They are not, for this reason.
    Out(String),
}

impl Health {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            last_sign: Mutex::new(now),
            sync: watch::Sender::new(Sync::Starting),
            attached: Mutex::default(),
        }
    }

    /// Notes that the loop was alive at `now`.
    pub(super) fn alive(&self, now: Instant) {
        let mut last_sign = lock(&self.last_sign);
        *last_sign = now.max(*last_sign);
    }

    /// Notes how the last synchronization ended.
    pub(super) fn set_sync(&self, sync: Sync) {
        self.sync.send_if_modified(|current| {
            let differs = *current != sync;
            *current = sync;
            differs
        });
    }

    /// Notes which programs are attached.
    pub(super) fn set_attached(&self, programs: &BTreeSet<Attachment>) {
        lock(&self.attached).clone_from(programs);
    }

    /// For how long the loop has been stuck at `now`, if it is.
    pub(super) fn stuck(&self, now: Instant) -> Option<Duration> {
        let last_sign = *lock(&self.last_sign);
        let silent = now.saturating_duration_since(last_sign);
        (silent > STUCK).then_some(silent)
    }

    pub(super) fn attached(&self) -> BTreeSet<Attachment> {
        lock(&self.attached).clone()
    }

    pub(super) fn sync(&self) -> Sync {
        self.sync.borrow().clone()
    }

    /// Tells of changes of [`Health::sync`].
    pub(super) fn subscribe(&self) -> watch::Receiver<Sync> {
        self.sync.subscribe()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics with this lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(1);

    #[test]
    fn a_loop_that_gives_no_sign_is_stuck_until_it_gives_one() {
        let start = Instant::now();
        let health = Health::new(start);
        assert_eq!(health.stuck(start), None);
        assert_eq!(health.stuck(start + STUCK), None);
        assert_eq!(health.stuck(start + STUCK + MOMENT), Some(STUCK + MOMENT));

        health.alive(start + STUCK * 2);
        assert_eq!(health.stuck(start + STUCK * 3), None);
        assert_eq!(health.stuck(start + STUCK * 4), Some(STUCK * 2));
    }

    #[test]
    fn a_sign_that_was_given_earlier_and_noted_later_does_not_count() {
        let start = Instant::now();
        let health = Health::new(start);
        health.alive(start + STUCK);
        health.alive(start);
        assert_eq!(health.stuck(start + STUCK * 2), None);
        // Two threads may read the clock in another order than they compare what they have read.
        assert_eq!(health.stuck(start), None);
    }

    #[test]
    fn only_a_change_of_state_is_told() {
        let health = Health::new(Instant::now());
        let mut changes = health.subscribe();
        for (sync, changed) in [
            (Sync::Out("no uplink".to_owned()), true),
            (Sync::Out("no uplink".to_owned()), false),
            (Sync::Out("no carrier".to_owned()), true),
            (Sync::In, true),
            (Sync::In, false),
        ] {
            health.set_sync(sync.clone());
            assert_eq!(changes.has_changed().unwrap(), changed, "{sync:?}");
            assert_eq!(*changes.borrow_and_update(), sync);
        }
    }
}
