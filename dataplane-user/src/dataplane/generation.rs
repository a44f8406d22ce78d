//! The generation of what is known of flows.

use anyhow::Result;
use dataplane_common::abi::{Generation, maps};

use super::{BpfArray, Pins};

/// The map of generations, of which each writer has a place of its own.
pub struct Generations {
    map: BpfArray<u32>,
    of: Generation,
}

impl Generations {
    /// The map pinned below `pins`, to be counted up at the place `of`.
    pub fn open(pins: &Pins, of: Generation) -> Result<Self> {
        Ok(Self {
            map: BpfArray::open_array(pins, maps::GENERATIONS)?,
            of,
        })
    }

    /// Has all that was known of flows say nothing any more: the stack sees each of them anew.
    pub fn bump(&mut self) -> Result<()> {
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
