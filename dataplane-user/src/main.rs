//! underpass
fn main() {}
