//! The generation of what is known of flows.

use std::fs::File;

use anyhow::{Context, Result};
use dataplane_common::abi::{Generation, maps};

use super::{BpfArray, Pins};

/// The map of generations, of which each writer has a place of its own.
pub struct Generations {
    map: BpfArray<u32>,
    of: Generation,
    /// Where the map is pinned, to be locked while it is counted up.
    pins: Pins,
}

impl Generations {
    /// The map pinned below `pins`, to be counted up at the place `of`.
    pub fn open(pins: &Pins, of: Generation) -> Result<Self> {
        Ok(Self {
            map: BpfArray::open_array(pins, maps::GENERATIONS)?,
            of,
            pins: pins.clone(),
        })
    }

    /// Has all that was known of flows say nothing any more: the stack sees each of them anew.
    ///
    /// Others that count up the same place wait meanwhile: a number from before another's would bring
    /// back what was verified then.
    pub fn bump(&mut self) -> Result<()> {
        let path = self.pins.maps();
        let lock = File::open(&path).and_then(|directory| directory.lock().map(|()| directory));
        let _lock = lock.with_context(|| format!("cannot lock {}", path.display()))?;
        let place = self.of as u32;
        let next = self.map.get(place)?.wrapping_add(1);
        self.map.set(place, next)
    }

    /// The generation that holds now.
    #[allow(clippy::cast_possible_truncation)] // modulo 2^16, as the programs
    pub fn current(&self) -> Result<u16> {
        let count = |of: Generation| self.map.get(of as u32);
        Ok(count(Generation::Agent)?.wrapping_add(count(Generation::Flush)?) as u16)
    }
}
