//! Running other programs.

use std::{ffi::OsStr, os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

/// Runs `command` to its end; anything but success is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    ensure!(status.success(), "`{}` failed: {status}", line(command));
    Ok(())
}

/// Runs `command` in place of this process, so that its exit code is ours, and an interrupt from
/// the terminal reaches it alone: no parent that dies first leaves it cleaning up unattended.
///
/// Returns only if `command` cannot be started.
pub(crate) fn run_instead(command: &mut Command) -> Result<()> {
    let error = command.exec();
    Err(anyhow!(error).context(format!("cannot start `{}`", line(command))))
}

/// What `command` prints on its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{}` failed: {}: {}",
            line(command),
            output.status,
            stderr.trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `command` as one would type it, without its environment.
pub(crate) fn line(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    format!("{program} {}", arguments(command))
}

/// The arguments of `command` as one would type them.
pub(crate) fn arguments(command: &Command) -> String {
    let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    arguments.join(" ")
}
