//! What becomes of packets: parsed, decided upon and rewritten in memory, as the programs do it.
//!
//! Packets are built and read by etherparse, which knows nothing of the code under test. Who sends
//! them to whom stands in `world`.

mod arp;
mod established;
mod frames;
mod from_carrier;
mod from_stack;
mod from_uplink;
mod from_workload;
mod no_carrier;
mod programs;
mod rewrite;
mod robustness;
mod tuple;
mod walk;
mod ways;
mod world;
mod xdp_uplink;
