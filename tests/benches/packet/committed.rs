//! The numbers that the repository holds, to compare with.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// Times as ratios to the reference program's: machines differ less in these than in nanoseconds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Committed {
    /// What they were measured on.
    pub(crate) machine: String,
    /// Nanoseconds of the reference program there.
    pub(crate) reference: f64,
    /// By the names of paths.
    pub(crate) ratios: BTreeMap<String, f64>,
}

impl Committed {
    /// What was committed last.
    pub(crate) fn read() -> Result<Self> {
        let file = file();
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("understand {}", file.display()))
    }

    /// Has the next commit hold these.
    pub(crate) fn write(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        let file = file();
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))
    }
}

fn file() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "benches/packet/committed.json"]
        .iter()
        .collect()
}
