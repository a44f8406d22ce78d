//! The userspace half of underpass: the agent that fills the BPF maps, and the command line that
//! inspects them.
//!
//! Read it as the data flows: a [`source`] gives the [`cluster`], the kernel gives the [`node`],
//! [`plan`] makes of both what should be, [`reconcile`] makes the maps so, [`kernel`] and
//! [`dataplane`] are where the system is touched, and [`agent`] is the loop around it all.
//! [`inspect`] needs none of it but the pins; [`check`] is before all of it.

pub mod address;
pub mod agent;
pub mod bugtool;
pub mod check;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod dataplane;
pub mod detach;
mod document;
#[cfg(test)]
mod documents;
pub mod fib;
pub mod inspect;
pub mod kernel;
pub mod node;
pub mod plan;
pub mod prepare;
pub mod reconcile;
pub mod source;
pub mod telemetry;
pub mod top;

pub use document::FileError;
