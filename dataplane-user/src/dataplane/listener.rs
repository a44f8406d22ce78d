//! Listening to what the programs tell of packets.

use std::{
    fs::{File, TryLockError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::{Map, MapData, PerCpuArray, RingBuf};
use dataplane_common::abi::{EVENT_HEAD, Event, MAX_SNAP, Monitor, Observed, maps};
use zerocopy::{FromZeros as _, IntoBytes as _};

use super::{BpfArray, BpfMap, Pins, maps::cannot_open, monotonic_time};

/// The one who listens. The programs tell nothing any more once this is dropped, or, where the process is
/// killed, a moment later.
pub struct Listener {
    monitor: Monitor,
    map: BpfArray<Monitor>,
    events: RingBuf<MapData>,
    observed: BpfMap<PerCpuArray<MapData, Observed>>,
    lost_before: u64,
    pins: Pins,
    /// Holds the lock.
    _directory: File,
}

impl Listener {
    /// How often [`Listener::stay`] has to be called, at the least.
    pub const PERIOD: Duration = Duration::from_millis(500);

    /// How long the programs tell what they see without that.
    const PATIENCE: Duration = Duration::from_secs(2);

    /// Begins to listen to what `monitor` asks for; its session and its end are set here.
    ///
    /// # Errors
    ///
    /// Somebody else listens, or there are no such maps.
    pub fn start(pins: &Pins, monitor: Monitor) -> Result<Self> {
        let directory = lock(pins)?;
        let path = pins.map(maps::EVENTS);
        let events = MapData::from_pin(&path)
            .and_then(|data| RingBuf::try_from(Map::RingBuf(data)))
            .with_context(|| cannot_open(&path))?;
        let mut listener = Self {
            monitor,
            map: BpfArray::open_array(pins, maps::MONITOR)?,
            events,
            observed: BpfMap::open(pins, maps::OBSERVED, Map::PerCpuArray)?,
            lost_before: 0,
            pins: pins.clone(),
            _directory: directory,
        };
        listener.silence()?;
        listener.lost_before = listener.lost()?;
        // What was asked for is to be there before it is looked at.
        listener.map.set(
            0,
            Monitor {
                session: 0,
                ..monitor
            },
        )?;
        listener.monitor.session = now();
        listener.stay()?;
        Ok(listener)
    }

    /// Goes on listening.
    ///
    /// # Errors
    ///
    /// The programs are gone that tell, or have other maps by now.
    pub fn stay(&mut self) -> Result<()> {
        ensure!(
            self.pins.map(maps::MONITOR).exists(),
            "the BPF maps are gone: underpass was detached, or replaced by another version; start \
             `underpass monitor` again"
        );
        let patience = u64::try_from(Self::PATIENCE.as_nanos())?;
        self.monitor.until = now() + patience;
        self.map.set(0, self.monitor)
    }

    /// Hands over what was told since the last time, oldest first, until `each` has had enough and
    /// returns false.
    pub fn drain(&mut self, mut each: impl FnMut(&Event) -> Result<bool>) -> Result<()> {
        while let Some(told) = self.events.next() {
            // Of others, who listened before.
            match read(&told).filter(|event| event.session == self.monitor.session) {
                Some(event) if !each(&event)? => break,
                _ => {}
            }
        }
        Ok(())
    }

    /// How many packets could not be told of since this began, for want of room.
    pub fn lost(&self) -> Result<u64> {
        let observed = self.observed.inner().get(&0, 0);
        let observed = observed.context("cannot read the BPF map OBSERVED")?;
        let lost: u64 = observed.iter().map(|observed| observed.lost).sum();
        Ok(lost - self.lost_before)
    }

    fn silence(&mut self) -> Result<()> {
        self.map.set(0, Monitor::OFF)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // If it cannot be said, they find out by themselves.
        let _ = self.silence();
    }
}

/// An event from the bytes that were told of it.
fn read(told: &[u8]) -> Option<Event> {
    let mut event = Event::new_zeroed();
    let bytes = event.as_mut_bytes();
    let is_whole = (EVENT_HEAD..=EVENT_HEAD + MAX_SNAP).contains(&told.len());
    bytes.get_mut(..told.len())?.copy_from_slice(told);
    is_whole.then_some(event)
}

/// The buffer has one reader.
fn lock(pins: &Pins) -> Result<File> {
    let path = pins.maps();
    let directory =
        File::open(&path).with_context(|| format!("cannot open the pins {}", path.display()))?;
    match directory.try_lock() {
        Ok(()) => Ok(directory),
        Err(TryLockError::WouldBlock) => bail!(
            "another `underpass monitor` listens on this node, and what the programs tell can be read \
             once: end that one first, or have it write a file (-w)"
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock the pins {}", path.display()))
        }
    }
}

/// Nanoseconds of `CLOCK_MONOTONIC`.
fn now() -> u64 {
    u64::try_from(monotonic_time().as_nanos()).unwrap_or(u64::MAX)
}
