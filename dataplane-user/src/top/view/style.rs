//! Colours, for terminals and people that have them.

use std::env;

use ratatui::style::{Color, Modifier, Style as Look};

/// Whether there are colours. Nothing is said by them alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As the terminal has them.
    Coloured,
    /// Bold and reversed alone.
    Plain,
}

impl Style {
    /// As the environment says: <https://no-color.org>.
    #[must_use]
    pub fn of_environment() -> Self {
        match env::var_os("NO_COLOR") {
            Some(value) if !value.is_empty() => Self::Plain,
            _ => Self::Coloured,
        }
    }

    pub(super) fn title(self) -> Look {
        self.coloured(Color::Cyan).bold()
    }

    /// What must not be overlooked, such as that the screen is paused.
    pub(super) fn notice() -> Look {
        Look::new().add_modifier(Modifier::REVERSED)
    }

    pub(super) fn failure(self) -> Look {
        self.coloured(Color::Red).bold()
    }

    pub(super) fn agent(self, is_running: bool) -> Look {
        if is_running {
            Look::new()
        } else {
            self.coloured(Color::Yellow)
        }
    }

    pub(super) fn border(self, is_chosen: bool) -> Look {
        if is_chosen {
            self.title()
        } else {
            self.coloured(Color::DarkGray)
        }
    }

    pub(super) fn header() -> Look {
        Look::new().bold()
    }

    /// Of a row with this in one of its columns: what is lost, or goes another way, stands out.
    pub(super) fn row(self, cells: &[String]) -> Look {
        let has = |word: &str| cells.iter().any(|cell| cell == word);
        if has("drop") {
            self.coloured(Color::Red)
        } else if has("stack") {
            self.coloured(Color::Yellow)
        } else {
            Look::new()
        }
    }

    pub(super) fn sparkline(self) -> Look {
        self.coloured(Color::Green)
    }

    fn coloured(self, colour: Color) -> Look {
        match self {
            Self::Coloured => Look::new().fg(colour),
            Self::Plain => Look::new(),
        }
    }
}
