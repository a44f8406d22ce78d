//! The dataplane outlives its agent.

mod pins;
mod restart;
mod reuse;
mod scene;
