//! `underpass completion`.

use anyhow::{Context, Result};
use clap::{Command, ValueEnum};
use clap_complete::{generate, shells};

/// A shell that commands are completed in.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    /// The script for it.
    pub(super) fn script(self, mut command: Command) -> Result<String> {
        let mut script = Vec::new();
        let name = command.get_name().to_owned();
        match self {
            Self::Bash => generate(shells::Bash, &mut command, name, &mut script),
            Self::Zsh => generate(shells::Zsh, &mut command, name, &mut script),
            Self::Fish => generate(shells::Fish, &mut command, name, &mut script),
        }
        String::from_utf8(script).context("the completion script is not UTF-8")
    }
}
