//! What of the documents is made from the code; and what they show, held against what there is:
//! commands of `cargo xtask`, and links.

use anyhow::Result;

use crate::{cargo, process};

/// Writes what tests of `dataplane-user` would complain about, by those tests.
pub(crate) fn write() -> Result<()> {
    process::run(
        cargo::host("test")?
            .args(["--package", "dataplane-user", "--lib", "documents::"])
            .env("UNDERPASS_WRITE_DOCUMENTS", "1"),
    )
}

#[cfg(test)]
mod tests;
