//! The terminal: taken, drawn on, and given back as it was.

use std::io;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, raise};
use ratatui::DefaultTerminal;

use super::{
    state::State,
    view::{self, Style},
};

/// The screen of a terminal, as long as it is ours. However this value ends, the terminal is again
/// what it was; so it is before the words of a panic.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    style: Style,
}

impl Screen {
    pub(super) fn take() -> Result<Self> {
        Ok(Self {
            terminal: ratatui::try_init().context("cannot draw on the terminal")?,
            style: Style::of_environment(),
        })
    }

    pub(super) fn draw(&mut self, state: &mut State) -> Result<()> {
        let drawn = self
            .terminal
            .draw(|frame| view::draw(frame, state, self.style));
        drawn.context("cannot draw on the terminal")?;
        Ok(())
    }

    /// Gives the terminal back, and stops until somebody has the process go on.
    pub(super) fn suspend(&mut self) -> Result<()> {
        self.give_back();
        raise(Signal::SIGSTOP).context("cannot stop")?;
        self.terminal = ratatui::try_init().context("cannot draw on the terminal again")?;
        Ok(())
    }

    /// Where it fails, there is no terminal any more.
    fn give_back(&mut self) {
        let _ = self.terminal.show_cursor();
        let _: io::Result<()> = ratatui::try_restore();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.give_back();
    }
}
