//! `cargo xtask bench`: see [`dataplane_tests::suite`].

use std::path::Path;

use anyhow::Result;
use dataplane_tests::suite;

fn main() -> Result<()> {
    suite::run(&Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench"))
}
