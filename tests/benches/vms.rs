//! `cargo xtask bench --vms`: see [`dataplane_tests::vms`].

use anyhow::Result;
use dataplane_tests::vms;

fn main() -> Result<()> {
    vms::run()
}
