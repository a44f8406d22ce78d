//! Making an image again elsewhere.

use std::{env, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::{build::Profile, cargo, lookup, process};

use super::commit::Commit;

/// Makes the image again, from a clone in another directory, with nothing of what has been built
/// here but this xtask, of which nothing is in an image; and compares it with the one at `first`.
pub(super) fn compare(profile: Profile, first: &Path) -> Result<()> {
    ensure!(
        Commit::checked_out()?.is_clean(),
        "a clone has what is committed, and here are changes: commit them, or leave out --twice"
    );
    let directory = tempfile::Builder::new()
        .prefix("underpass-image-")
        .tempdir()
        .context("cannot create a directory for a clone")?;
    let clone = directory.path().join("clone");
    let mut git = Command::new("git");
    git.args(["clone", "--quiet", "--shared"]);
    process::run(git.arg(lookup::workspace()).arg(&clone))?;

    let second = directory.path().join("second.oci.tar");
    let xtask = env::current_exe().context("cannot find this xtask to run it again")?;
    let mut again = Command::new(xtask);
    cargo::forget_package(&mut again);
    again
        .args(["image", "--profile", profile.name(), "--output"])
        .arg(&second)
        .current_dir(&clone)
        .env(lookup::MANIFEST_DIR, clone.join("xtask"))
        .env("CARGO_TARGET_DIR", directory.path().join("target"));
    process::run(&mut again)?;

    let read = |path: &Path| {
        fs::read(path).with_context(|| format!("cannot read {} to compare it", path.display()))
    };
    if read(first)? == read(&second)? {
        return Ok(());
    }
    let kept = first.with_extension("second.tar");
    fs::copy(&second, &kept).with_context(|| format!("cannot write {}", kept.display()))?;
    anyhow::bail!(
        "two builds of one commit are not equal: see in what by `diffoscope {} {}`",
        first.display(),
        kept.display()
    )
}
