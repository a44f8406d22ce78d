//! What can be said to every command.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use super::exit::Refusal;
use crate::{
    check::Configuration,
    config::{Config, DEFAULT_PINS},
    dataplane::Pins,
    inspect::Snapshot,
    telemetry::LogFormat,
};

/// Where the configuration is unless `--config` says otherwise.
pub(super) const DEFAULT_CONFIG: &str = "/etc/underpass/config.yaml";

#[derive(Debug, Args)]
pub(super) struct Global {
    /// Configuration file [default: /etc/underpass/config.yaml, where it exists].
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Pin directory, instead of the configuration's.
    #[arg(long, global = true, value_name = "DIRECTORY")]
    pins: Option<PathBuf>,
    /// How log lines are written.
    #[arg(long, global = true, value_enum, default_value_t)]
    pub(super) log_format: LogFormat,
}

impl Global {
    fn config_file(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| DEFAULT_CONFIG.into())
    }

    /// The configuration, with the pins that are named.
    pub(super) fn config(&self) -> Result<Config> {
        let mut config = Config::load(&self.config_file())?;
        if let Some(pins) = &self.pins {
            config.pins.clone_from(pins);
        }
        Ok(config)
    }

    /// The configuration, whether it is there and any good or not.
    pub(super) fn configuration(&self) -> Configuration {
        let file = self.config_file();
        let config = if self.config.is_none() && !file.exists() {
            Ok(None)
        } else {
            self.config().map(Some)
        };
        Configuration { file, config }
    }

    /// The pins that are named, else the configuration's, else the default.
    pub(super) fn pins(&self) -> Result<Pins> {
        if let Some(directory) = &self.pins {
            return Ok(Pins::new(directory));
        }
        let config = self.config_file();
        if self.config.is_none() && !config.exists() {
            return Ok(Pins::new(Path::new(DEFAULT_PINS)));
        }
        Ok(Pins::new(&Config::load(&config)?.pins))
    }

    pub(super) fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::read(&self.pinned()?)
    }

    /// The pins, which have to be there.
    pub(super) fn pinned(&self) -> Result<Pins> {
        let pins = self.pins()?;
        if pins.exist() {
            return Ok(pins);
        }
        Err(Refusal::NothingPinned(pins.base().display().to_string()).into())
    }
}
