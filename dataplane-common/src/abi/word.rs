//! Words that programs on several CPUs write, each at once.
//!
//! They are read and written by single volatile accesses of eight aligned bytes, which no CPU tears:
//! LLVM has no atomic loads and stores for the BPF instruction set that old kernels have. On the host
//! they are one thread's.

use core::sync::atomic::AtomicU64;

/// A word of a [`super::Flow`]: the generation, and 48 bits. Zero is what nobody wrote.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Word(Shared);

impl Word {
    const BITS: u32 = 48;

    /// Writes it.
    #[inline(always)]
    pub fn set(&self, generation: u16, value: u64) {
        let value = value & ((1 << Self::BITS) - 1);
        self.0.set(u64::from(generation) << Self::BITS | value);
    }

    /// Its 48 bits, if they were written in this generation.
    #[inline(always)]
    #[must_use]
    pub fn get(&self, generation: u16) -> Option<u64> {
        let (of, value) = self.parts();
        (of == generation && value != 0).then_some(value)
    }

    /// Its generation and 48 bits, for people to read.
    #[inline(always)]
    #[must_use]
    pub fn parts(&self) -> (u16, u64) {
        let word = self.0.get();
        #[allow(clippy::cast_possible_truncation)] // the upper 16 of 64 bits
        let generation = (word >> Self::BITS) as u16;
        (generation, word & ((1 << Self::BITS) - 1))
    }
}

impl From<u64> for Word {
    fn from(word: u64) -> Self {
        Self(Shared(AtomicU64::new(word)))
    }
}

/// A number that several CPUs write, or count up, without minding each other.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Number(Shared);

impl Number {
    /// One more.
    #[inline(always)]
    pub fn increase(&self) {
        self.0.set(self.get().wrapping_add(1));
    }

    /// Writes it.
    #[inline(always)]
    pub fn set(&self, number: u64) {
        self.0.set(number);
    }

    /// What was counted, or written.
    #[inline(always)]
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self(Shared(AtomicU64::new(number)))
    }
}

#[derive(Debug, Default)]
#[repr(transparent)]
struct Shared(AtomicU64);

impl Shared {
    #[inline(always)]
    fn get(&self) -> u64 {
        // SAFETY: the word's own place, which is aligned, and any number is one. A race is of whole
        // words: see above.
        unsafe { self.0.as_ptr().read_volatile() }
    }

    #[inline(always)]
    fn set(&self, value: u64) {
        // SAFETY: as in `get`.
        unsafe { self.0.as_ptr().write_volatile(value) }
    }
}
