//! Tables and packets made of any bytes, and what must hold of every one.
//!
//! A fuzzer finds the bytes in `targets/`, by what they make the code do; the tests of this crate
//! have them from a generator of random numbers, and so has the one that holds the BPF programs
//! against the host's implementation (`tests/tests/differential.rs`).

#![forbid(unsafe_code)]

mod addresses;
mod case;
pub mod choices;
mod flows;
pub mod packets;
pub mod properties;
pub mod stack;
mod surroundings;
mod tables;

use dataplane_common::{abi::Hook, reason::Reason};

use crate::choices::Choices;

pub use case::{Case, Decision};
pub use surroundings::{Interface, Surroundings};
pub use tables::tables;

/// Makes tables and a packet at `hook` of any bytes, and looks at what becomes of it. Returns what it
/// is counted as.
///
/// # Panics
///
/// When something does not hold that has to: see [`properties`].
#[allow(clippy::must_use_candidate)] // for most it is enough that it returns
pub fn check(hook: Hook, bytes: &[u8]) -> Reason {
    let around = Surroundings::imaginary();
    let mut choices = Choices::new(bytes);
    let tables = tables(&mut choices, &around);
    let case = packets::case_at(hook, &mut choices, &tables, &around);
    properties::check(&case, &tables, &around)
}
