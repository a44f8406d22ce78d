//! The kernel's routes are the source: whoever has programmed them, and whatever they are, packets
//! go as the kernel would send them.
//!
//! Where the kernel has no IPIP device, the tests that take one are not run, which `cargo xtask test`
//! says; they run on the kernels of `cargo xtask kernels`.

mod networks;
mod routes;
