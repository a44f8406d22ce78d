//! Processors: keeping to one, and how long they have been at work.

use std::{fs, thread, time::Duration};

use anyhow::{Context as _, Result};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::{Pid, SysconfVar, sysconf},
};

/// A processor for a client and one for a server, if there are two.
#[must_use]
pub fn two_processors() -> Option<(u8, u8)> {
    let several = thread::available_parallelism().is_ok_and(|number| number.get() > 1);
    several.then_some((0, 1))
}

/// Runs `work` with the calling thread, and what it starts, on one processor, if one is given.
pub fn on_processor<T>(processor: Option<u8>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let Some(processor) = processor else {
        return work();
    };
    let this_thread = Pid::from_raw(0);
    let before = sched_getaffinity(this_thread).context("ask for the thread's processors")?;
    let mut only = CpuSet::new();
    only.set(processor.into())?;
    sched_setaffinity(this_thread, &only)
        .with_context(|| format!("keep to processor {processor}"))?;
    let done = work();
    sched_setaffinity(this_thread, &before).context("go back to all processors")?;
    done
}

/// Does `work`, and returns with what comes of it how long all processors together were at work
/// meanwhile: for programs, in the kernel, and with interrupts.
pub fn busy_during<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let before = busy()?;
    let done = work()?;
    Ok((done, busy()?.saturating_sub(before)))
}

/// The same, since the machine's start.
fn busy() -> Result<Duration> {
    const PATH: &str = "/proc/stat";
    let text = fs::read_to_string(PATH).with_context(|| format!("read {PATH}"))?;
    let ticks = busy_ticks(&text).with_context(|| format!("understand {PATH}"))?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("ticks have no length")?;
    let tick = Duration::from_secs(1) / u32::try_from(per_second)?;
    Ok(tick * u32::try_from(ticks)?)
}

/// The sum of what /proc/stat has for all processors, but for idleness and for guests, who are in
/// it already: see proc(5).
fn busy_ticks(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks = line.split_whitespace().map(|word| word.parse::<u64>().ok());
    let ticks: Vec<_> = ticks.collect::<Option<_>>()?;
    let [user, nice, system, _idle, _waiting, hard, soft, ..] = ticks[..] else {
        return None;
    };
    Some(user + nice + system + hard + soft)
}

#[cfg(test)]
mod tests {
    use super::busy_ticks;

    #[test]
    fn what_is_idle_or_a_guests_is_not_busy() {
        let stat = "cpu  1 20 300 4000 50000 600000 7000000 8 9 10\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(busy_ticks(stat), Some(7_600_321));
        assert_eq!(busy_ticks("cpu0 1 2 3\n"), None);
    }
}
