//! What keys do.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::state::{Panel, State};

/// What is left to be done after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The screen is drawn again.
    Draw,
    /// The command ends.
    Quit,
    /// It stops until the shell has it go on.
    Suspend,
}

/// The keys, and what they do.
pub const HELP: [(&str, &str); 10] = [
    ("q, Ctrl-C", "quit"),
    ("p, space", "pause, and go on"),
    ("s", "sort by packets, bytes or name"),
    (
        "/",
        "show only rows with a text; Enter keeps it, Esc drops it",
    ),
    ("Tab, 1 to 5", "choose a panel"),
    ("up, down, j, k", "scroll the panel by a row"),
    ("PgUp, PgDn", "scroll it by ten"),
    ("Home, End", "scroll it to its first or last row"),
    ("Ctrl-Z", "suspend"),
    ("?, h", "this help; any key closes it"),
];

/// Rows that are scrolled by at once.
const PAGE: usize = 10;

impl State {
    /// Does what this key is for.
    pub fn press(&mut self, key: KeyEvent) -> Next {
        if key.kind == KeyEventKind::Release {
            return Next::Draw;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Next::Quit,
                KeyCode::Char('z') => Next::Suspend,
                _ => Next::Draw,
            };
        }
        if self.is_typing {
            self.type_filter(key.code);
            return Next::Draw;
        }
        if self.has_help {
            self.has_help = false;
            return if key.code == KeyCode::Char('q') {
                Next::Quit
            } else {
                Next::Draw
            };
        }
        self.choose(key.code)
    }

    fn type_filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(character) => self.filter.push(character),
            _ => {}
        }
        self.scrolled = 0;
    }

    fn choose(&mut self, key: KeyCode) -> Next {
        match key {
            KeyCode::Char('q') => return Next::Quit,
            KeyCode::Char('p' | ' ') => self.pause(),
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('?' | 'h') => self.has_help = true,
            KeyCode::Tab => self.go_to(self.panel.further(1)),
            KeyCode::BackTab => self.go_to(self.panel.further(Panel::ALL.len() - 1)),
            KeyCode::Char(digit @ '1'..='5') => {
                self.go_to(Panel::ALL[usize::from(digit as u8 - b'1')]);
            }
            KeyCode::Up | KeyCode::Char('k') => self.scroll(self.scrolled.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.scroll(self.scrolled + 1),
            KeyCode::PageUp => self.scroll(self.scrolled.saturating_sub(PAGE)),
            KeyCode::PageDown => self.scroll(self.scrolled + PAGE),
            KeyCode::Home => self.scroll(0),
            KeyCode::End => self.scroll(usize::MAX),
            _ => {}
        }
        Next::Draw
    }

    fn go_to(&mut self, panel: Panel) {
        self.panel = panel;
        self.scrolled = 0;
    }

    fn scroll(&mut self, to: usize) {
        self.scrolled = to.min(self.rows().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::{fixture, report::Sort};

    fn press(state: &mut State, keys: &[KeyCode]) {
        for key in keys {
            assert_eq!(state.press(KeyEvent::from(*key)), Next::Draw, "{key:?}");
        }
    }

    fn type_in(state: &mut State, text: &str) {
        let keys: Vec<_> = text.chars().map(KeyCode::Char).collect();
        press(state, &keys);
    }

    #[test]
    fn q_and_control_c_quit_and_control_z_suspends() {
        let mut state = fixture::state();
        let control = |letter| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL);
        assert_eq!(state.press(KeyCode::Char('q').into()), Next::Quit);
        assert_eq!(state.press(control('c')), Next::Quit);
        assert_eq!(state.press(control('z')), Next::Suspend);
        // Also while a filter is typed, whereas a q is a letter of it.
        type_in(&mut state, "/q");
        assert_eq!(state.press(control('c')), Next::Quit);
        assert_eq!(state.filter, "q");
    }

    #[test]
    fn s_goes_through_the_orders() {
        let mut state = fixture::state();
        for order in [Sort::Bytes, Sort::Name, Sort::Packets] {
            type_in(&mut state, "s");
            assert_eq!(state.sort, order);
        }
    }

    #[test]
    fn p_holds_what_is_shown() {
        let mut state = fixture::state();
        let before = state.shown().top.clone();
        type_in(&mut state, "p");
        assert!(state.is_paused());
        state.take(fixture::later_sample());
        assert_eq!(state.shown().top, before);
        type_in(&mut state, " ");
        assert!(!state.is_paused());
        assert_ne!(state.shown().top, before, "what came meanwhile");
    }

    #[test]
    fn a_filter_is_typed_kept_and_dropped() {
        let mut state = fixture::state();
        type_in(&mut state, "/VXLAx");
        press(&mut state, &[KeyCode::Backspace, KeyCode::Char('n')]);
        assert!(state.is_typing);
        press(&mut state, &[KeyCode::Enter]);
        assert!(!state.is_typing);
        let top = state.arranged().unwrap();
        assert!(top.traffic.iter().all(|row| row.mode == "vxlan"));
        assert!(!top.traffic.is_empty() && top.reasons.is_empty());
        press(&mut state, &[KeyCode::Esc]);
        assert_eq!(state.filter, "");
        type_in(&mut state, "/none of them");
        assert_eq!(state.rows(), 0);
        press(&mut state, &[KeyCode::Esc]);
        assert_eq!((state.is_typing, &*state.filter), (false, ""));
    }

    #[test]
    fn panels_are_chosen_and_scrolled_as_far_as_they_go() {
        let mut state = fixture::state();
        press(&mut state, &[KeyCode::BackTab]);
        assert_eq!(state.panel, Panel::Maps);
        press(&mut state, &[KeyCode::Tab]);
        assert_eq!(state.panel, Panel::Traffic);
        let last = state.rows() - 1;
        press(&mut state, &[KeyCode::Down, KeyCode::Down, KeyCode::Up]);
        assert_eq!(state.scrolled, 1);
        press(
            &mut state,
            &[KeyCode::End, KeyCode::Down, KeyCode::PageDown],
        );
        assert_eq!(state.scrolled, last);
        press(&mut state, &[KeyCode::PageUp]);
        assert_eq!(state.scrolled, last.saturating_sub(PAGE));
        type_in(&mut state, "j4");
        assert_eq!((state.panel, state.scrolled), (Panel::Endpoints, 0));
    }

    #[test]
    fn any_key_closes_the_help_and_does_nothing_else() {
        let mut state = fixture::state();
        type_in(&mut state, "?");
        assert!(state.has_help);
        type_in(&mut state, "s");
        assert!(!state.has_help);
        assert_eq!(state.sort, Sort::Packets);
        type_in(&mut state, "h");
        assert_eq!(state.press(KeyCode::Char('q').into()), Next::Quit);
    }
}
