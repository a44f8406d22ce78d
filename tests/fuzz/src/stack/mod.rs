//! A node with netfilter, and the programs on both sides of it: whatever happens in whatever order,
//! no packet is carried that the stack would have changed or dropped, beyond the period after which
//! it is asked again.
//!
//! What netfilter does stands in [`netfilter`], as plain as it gets; what the programs do is what they
//! do. Connections to a service, and the same to its back ends without it, share ports, so that they
//! get in each other's way.

mod history;
mod netfilter;
mod node;
mod segment;
mod story;
mod wire;

pub use node::Counts;

/// What went wrong, and what led there.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What does not hold.
    pub what: String,
    /// What happened until then.
    pub steps: Vec<String>,
}

/// Has happen what `bytes` say. Returns what became of packets.
///
/// # Errors
///
/// Something does not hold that has to.
pub fn happens(bytes: &[u8]) -> Result<Counts, Failure> {
    story::Story::new(bytes).tell()
}

/// As [`happens`], for a fuzzer.
///
/// # Panics
///
/// When something does not hold.
pub fn check(bytes: &[u8]) {
    if let Err(Failure { what, steps }) = happens(bytes) {
        panic!("{what}\nafter:\n{}", steps.join("\n"));
    }
}
