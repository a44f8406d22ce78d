//! What systemd is told, where it asked for it (`sd_notify(3)`).

use std::{
    env,
    future::pending,
    time::{Duration, Instant},
};

use sd_notify::NotifyState;
use tokio::{
    select,
    sync::watch,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tracing::warn;

use super::health::{Health, STUCK, Sync};

/// How often systemd hears that the agent lives, unless its watchdog wants to oftener.
const SIGN: Duration = Duration::from_secs(10);

/// Tells systemd when the agent is in sync, why it is not, and, as long as its loop is alive, that.
/// Never ends.
pub(super) async fn report(health: &Health) {
    if !is_asked_for() {
        return pending().await;
    }
    let watchdog = sd_notify::watchdog_enabled();
    // Thrice in its time, so that one that comes late does no harm.
    let mut signs = interval(watchdog.map_or(SIGN, |limit| SIGN.min(limit / 3)));
    signs.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut changes = health.subscribe();
    // The state it has by now is news, too.
    changes.mark_changed();
    let mut ready = false;
    loop {
        select! {
            sync = changed(&mut changes) => {
                ready |= sync == Sync::In;
                tell(state(&sync)).await;
            }
            _ = signs.tick() => {
                if health.stuck(Instant::now()).is_none() {
                    tell(sign(ready).to_string()).await;
                }
            }
        }
    }
}

/// Says that the agent has been told to stop.
pub(super) async fn stopping() {
    if is_asked_for() {
        tell(NotifyState::Stopping.to_string()).await;
    }
}

/// Whether systemd wants to hear of us.
fn is_asked_for() -> bool {
    env::var_os("NOTIFY_SOCKET").is_some()
}

async fn changed(changes: &mut watch::Receiver<Sync>) -> Sync {
    match changes.changed().await {
        Ok(()) => changes.borrow_and_update().clone(),
        // Nobody is left to change it.
        Err(_) => pending().await,
    }
}

fn state(sync: &Sync) -> String {
    match sync {
        Sync::Starting => NotifyState::Status("starting").to_string(),
        Sync::In => format!("{}\n{}", NotifyState::Ready, NotifyState::Status("in sync")),
        // A line is a statement.
        Sync::Out(reason) => {
            let reason = format!("not in sync: {}", reason.replace('\n', "; "));
            NotifyState::Status(&reason).to_string()
        }
    }
}

/// Until the agent is ready there is no watchdog, but a time to start in: it is to end for an agent
/// that is stuck, not for one that keeps trying.
fn sign(ready: bool) -> NotifyState<'static> {
    if ready {
        NotifyState::Watchdog
    } else {
        let time = u32::try_from(STUCK.as_micros()).expect("under an hour");
        NotifyState::ExtendTimeoutUsec(time)
    }
}

/// Sends `news`. That waits for somebody who does not read, so a thread for such things does it: who
/// asks for our health is not to wait along.
async fn tell(news: String) {
    let told = spawn_blocking(move || sd_notify::notify(&[NotifyState::Custom(&news)])).await;
    // A panic has been printed.
    if let Ok(Err(error)) = told {
        warn!("cannot notify systemd: {error}");
    }
}
