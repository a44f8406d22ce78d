//! Where the cluster's routes come from. A source reads and validates; it never touches a map.

pub mod file;
pub mod kernel;
