//! What measurements were made on.

use std::fs;

use anyhow::Result;
use nix::sys::utsname::uname;

/// Processor, kernel, and how much else is going on.
pub fn machine() -> Result<String> {
    let info = fs::read_to_string("/proc/cpuinfo")?;
    let models = info
        .lines()
        .filter_map(|line| line.strip_prefix("model name"));
    let models: Vec<_> = models
        .map(|model| model.trim_start_matches([' ', '\t', ':']))
        .collect();
    let load = fs::read_to_string("/proc/loadavg")?;
    Ok(format!(
        "{} x {}, Linux {}, load average {}",
        models.len(),
        models.first().unwrap_or(&"a processor"),
        uname()?.release().to_string_lossy(),
        load.split_whitespace().next().unwrap_or("unknown"),
    ))
}
