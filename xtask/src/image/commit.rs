//! The commit that an image is made from.

use std::{
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};

use crate::{lookup, process};

/// What is checked out.
pub(super) struct Commit {
    /// Its hash, and whether files are not as they are in it.
    pub(super) revision: String,
    /// When it was made, in seconds since 1970: the date of everything in the image.
    pub(super) seconds: u64,
}

impl Commit {
    pub(super) fn checked_out() -> Result<Self> {
        let hash = git(&["rev-parse", "HEAD"])?;
        let seconds = git(&["show", "--no-patch", "--format=%ct", "HEAD"])?;
        let changed = !git(&["status", "--porcelain"])?.is_empty();
        Ok(Self {
            revision: if changed { hash + "-dirty" } else { hash },
            seconds: seconds
                .parse()
                .with_context(|| format!("git says that HEAD is of {seconds:?}, not seconds"))?,
        })
    }

    /// Whether every file is as it is in the commit.
    pub(super) fn is_clean(&self) -> bool {
        !self.revision.ends_with("-dirty")
    }

    /// When it was made, by RFC 3339.
    pub(super) fn created(&self) -> String {
        let time: SystemTime = UNIX_EPOCH + Duration::from_secs(self.seconds);
        humantime::format_rfc3339_seconds(time).to_string()
    }
}

/// What git says about this workspace.
fn git(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(lookup::workspace()).args(arguments);
    let said = process::output(&mut command).context(
        "an image is of a commit, after which it is labelled and dated: make it in a git checkout",
    )?;
    Ok(said.trim_end().to_owned())
}
