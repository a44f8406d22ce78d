//! The arrays that the routes' trie is in, mapped into this process: a word is read and written as
//! memory is, atomically and without a system call.

use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result};
use aya::maps::{Array, ArrayOfMaps, Map, MapData, MapError};
use dataplane_common::{
    abi::maps,
    trie::{CHUNK, Line, WORDS},
};

use super::{
    Full, Pins,
    mapping::{Access, Mapping},
    maps::cannot_open,
    trie::Memory,
};

/// `BPF_F_MMAPABLE` of the kernel's `bpf.h` (Linux 5.5).
const MMAPABLE: u32 = 1 << 10;

/// Words of an array.
const CHUNK_WORDS: NonZeroUsize = NonZeroUsize::new((CHUNK * WORDS) as usize).unwrap();

/// The arrays, and the map they are in.
#[derive(Debug)]
pub(super) struct Chunks {
    map: Map,
    mapped: Vec<Mapping<AtomicU32>>,
}

impl Chunks {
    /// Maps all arrays there are; to write, at least one.
    pub(super) fn open(pins: &Pins, access: Access) -> Result<Self> {
        let path = pins.map(maps::ROUTES);
        let data = MapData::from_pin(&path).with_context(|| cannot_open(&path))?;
        let mut chunks = Self {
            map: Map::ArrayOfMaps(data),
            mapped: Vec::new(),
        };
        while chunks.mapped.len() < chunks.len() as usize
            && let Some(array) = chunks.array()?
        {
            let mapping = Mapping::new(&array, CHUNK_WORDS, access)
                .context("cannot read the BPF map ROUTES")?;
            chunks.mapped.push(mapping);
        }
        if access == Access::Write && chunks.mapped.is_empty() {
            chunks.grow()?;
        }
        Ok(chunks)
    }

    /// The most lines there can be.
    pub(super) fn most(&self) -> u32 {
        self.len() * CHUNK
    }

    /// The number of arrays there is room for.
    fn len(&self) -> u32 {
        ArrayOfMaps::<_, MapData>::try_from(&self.map).map_or(0, |map| map.len())
    }

    /// The first array that is not mapped, if there is one.
    fn array(&self) -> Result<Option<MapData>> {
        let map = ArrayOfMaps::<_, MapData>::try_from(&self.map)?;
        match map.get(&self.next()?, 0) {
            Ok(array) => Ok(Some(array)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error).context("cannot read the BPF map ROUTES"),
        }
    }

    fn next(&self) -> Result<u32> {
        Ok(u32::try_from(self.mapped.len())?)
    }

    fn add(&mut self) -> Result<Mapping<AtomicU32>> {
        let number = self.next()?;
        let array = Array::<MapData, Line>::create(CHUNK, MMAPABLE)?;
        ArrayOfMaps::<_, Array<MapData, Line>>::try_from(&mut self.map)?.set(number, &array, 0)?;
        let array = self.array()?.context("it is gone")?;
        Ok(Mapping::new(&array, CHUNK_WORDS, Access::Write)?)
    }

    fn word(&self, word: u32) -> Option<&AtomicU32> {
        let word = word as usize;
        self.mapped
            .get(word / CHUNK_WORDS)?
            .words()
            .get(word % CHUNK_WORDS)
    }
}

impl Memory for Chunks {
    fn get(&self, word: u32) -> u32 {
        // To a reader, what has been added since is not there.
        self.word(word)
            .map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn set(&mut self, word: u32, value: u32) {
        if let Some(word) = self.word(word) {
            word.store(value, Ordering::Release);
        }
    }

    fn lines(&self) -> u32 {
        u32::try_from(self.mapped.len()).unwrap_or(0) * CHUNK
    }

    fn grow(&mut self) -> Result<(), Full> {
        let full = |why| Full::new(maps::ROUTES, why);
        if self.mapped.len() >= self.len() as usize {
            return Err(full(format!("it has all of its {} arrays", self.len())));
        }
        let mapping = self.add().map_err(|error| full(format!("{error:#}")))?;
        self.mapped.push(mapping);
        Ok(())
    }
}
