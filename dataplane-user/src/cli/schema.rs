//! Which schema is printed.

use anyhow::Result;
use clap::ValueEnum;

use crate::{config, inspect, source};

/// What there is a schema of.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum Schema {
    /// What `-o json` prints.
    #[default]
    Output,
    /// The configuration, config.yaml.
    Config,
    /// The cluster file, cluster.yaml.
    Cluster,
}

impl Schema {
    /// As JSON.
    pub(super) fn text(self) -> Result<String> {
        let schema = match self {
            Self::Output => inspect::schema(),
            Self::Config => config::schema(),
            Self::Cluster => source::file::schema(),
        };
        Ok(serde_json::to_string_pretty(&schema)? + "\n")
    }
}
