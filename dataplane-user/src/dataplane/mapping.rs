//! An array of a BPF map in this process's memory: a word is read and written as memory is, atomically
//! and without a system call.

use std::{
    io,
    num::NonZeroUsize,
    os::fd::AsFd as _,
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64},
};

use aya::maps::MapData;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// What is done with an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    /// By one process at a time.
    Write,
}

/// A word that others may change at any time.
///
/// # Safety
///
/// Every bit pattern is a value of the type, and it is changed through shared references, at once.
pub(super) unsafe trait SharedWord {}

// SAFETY: an integer, and atomic.
unsafe impl SharedWord for AtomicU32 {}
// SAFETY: as above.
unsafe impl SharedWord for AtomicU64 {}

/// An array that was made with `BPF_F_MMAPABLE`, as words.
#[derive(Debug)]
pub(super) struct Mapping<W: SharedWord> {
    start: NonNull<W>,
    words: NonZeroUsize,
}

impl<W: SharedWord> Mapping<W> {
    /// Maps the first `words` of an array, which must not be fewer.
    pub(super) fn new(array: &MapData, words: NonZeroUsize, access: Access) -> io::Result<Self> {
        let protection = match access {
            Access::Read => ProtFlags::PROT_READ,
            Access::Write => ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
        };
        let length = Self::length(words);
        // SAFETY: a new mapping, at an address that the kernel chooses, takes nothing from anybody.
        let start = unsafe {
            mmap(
                None,
                length,
                protection,
                MapFlags::MAP_SHARED,
                array.fd().as_fd(),
                0,
            )
        }?;
        Ok(Self {
            start: start.cast(),
            words,
        })
    }

    /// The words. What was mapped to be read must not be written to.
    pub(super) fn words(&self) -> &[W] {
        // SAFETY: the kernel has mapped so many, or refused; they are of a type that may change, and are
        // there as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words.get()) }
    }

    const fn length(words: NonZeroUsize) -> NonZeroUsize {
        words.saturating_mul(NonZeroUsize::new(size_of::<W>()).unwrap())
    }
}

impl<W: SharedWord> Drop for Mapping<W> {
    fn drop(&mut self) {
        let length = Self::length(self.words);
        // SAFETY: it was mapped at this address and length, and nothing refers to it any more.
        let unmapped = unsafe { munmap(self.start.cast(), length.get()) };
        debug_assert!(unmapped.is_ok());
    }
}

// SAFETY: the memory belongs to no thread, and is changed by atomic operations only.
unsafe impl<W: SharedWord> Send for Mapping<W> {}
