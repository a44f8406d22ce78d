//! The module against the real kernel, each test in network namespaces of its own.
//!
//! What is read is set up with `ip`, and what is written is looked at with `ip`, so that neither
//! half is its own witness.

mod carrier;
mod conntrack;
mod events;
mod namespace;
mod neighbours;
mod reading;
mod routes;
mod rules;
