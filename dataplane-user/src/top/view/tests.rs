//! Screens, as they are drawn for a node with traffic.

use std::{env, fs, path::Path, time::Duration};

use crossterm::event::KeyCode;
use ratatui::{Terminal, backend::TestBackend};

use super::*;
use crate::top::{fixture, report::Sort, sample::Sample, state::State};

const NARROW: (u16, u16) = (80, 24);

/// The text on a screen of this size.
fn screen(state: &mut State, (width, height): (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw(frame, state, Style::Coloured))
        .unwrap();
    let buffer = terminal.backend().buffer();
    let cells: Vec<_> = buffer
        .content
        .iter()
        .map(ratatui::buffer::Cell::symbol)
        .collect();
    let lines = cells.chunks(width.into());
    lines
        .map(|line| line.concat().trim_end().to_owned() + "\n")
        .collect()
}

/// Whether it is as in the file of this name, which `UNDERPASS_GOLDEN=write` makes anew.
#[track_caller]
fn assert_screen(state: &mut State, size: (u16, u16), name: &str) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/top/view/screens");
    let file = directory.join(name).with_extension("txt");
    let screen = screen(state, size);
    if env::var_os("UNDERPASS_GOLDEN").is_some_and(|what| what == "write") {
        fs::write(&file, &screen).unwrap();
    }
    let expected = fs::read_to_string(&file).unwrap();
    assert_eq!(screen, expected, "\n{screen}\nis not {}", file.display());
}

fn press(state: &mut State, keys: &str) {
    for key in keys.chars() {
        state.press(KeyCode::Char(key).into());
    }
}

#[test]
fn a_wide_screen_has_every_panel() {
    assert_screen(&mut fixture::state(), (160, 40), "wide");
}

#[test]
fn a_narrow_screen_has_the_traffic_and_what_is_lost() {
    assert_screen(&mut fixture::state(), NARROW, "narrow");
}

#[test]
fn a_narrow_screen_has_the_panel_that_was_chosen() {
    let mut state = fixture::state();
    press(&mut state, "3");
    assert_screen(&mut state, NARROW, "peers");
    press(&mut state, "4");
    assert_screen(&mut state, NARROW, "pods");
    press(&mut state, "5");
    assert_screen(&mut state, NARROW, "maps");
}

#[test]
fn what_is_not_counted_is_said_and_not_made_up() {
    let mut state = State::new("node-0", Duration::from_secs(1), Sort::Packets, "");
    for second in [1, 2] {
        state.take(Sample {
            flows: None,
            counts_redirected: false,
            agent_running: false,
            ..fixture::sample(second)
        });
    }
    assert_screen(&mut state, (160, 40), "uncounted");
}

#[test]
fn the_help_is_in_front() {
    let mut state = fixture::state();
    press(&mut state, "?");
    assert_screen(&mut state, NARROW, "help");
}

#[test]
fn a_paused_screen_says_so() {
    let mut state = fixture::state();
    press(&mut state, "p");
    state.take(fixture::later_sample());
    assert_screen(&mut state, NARROW, "paused");
}

#[test]
fn a_filter_is_shown_while_it_is_typed_and_then() {
    let mut state = fixture::state();
    press(&mut state, "s/from_up");
    assert_screen(&mut state, NARROW, "typing");
    state.press(KeyCode::Enter.into());
    assert_screen(&mut state, NARROW, "filtered");
}

#[test]
fn what_cannot_be_read_is_said() {
    let mut state = fixture::state();
    state.fail("nothing is pinned in /sys/fs/bpf/underpass by this version".to_owned());
    assert_screen(&mut state, NARROW, "unpinned");
}

#[test]
fn the_last_rows_are_scrolled_to() {
    let mut state = fixture::state();
    press(&mut state, "2");
    let size = (80, 16);
    assert!(!screen(&mut state, size).contains("reverify"), "below");
    state.press(KeyCode::End.into());
    assert!(screen(&mut state, size).contains("reverify"));
    assert!(
        !screen(&mut state, size).contains("foreign-source"),
        "above"
    );
    // From where they are, however far the key went.
    state.press(KeyCode::Up.into());
    assert!(!screen(&mut state, size).contains("reverify"), "below");
}

#[test]
fn a_screen_of_any_size_is_drawn() {
    let mut state = fixture::state();
    press(&mut state, "?");
    for width in [1, 2, 10, 79, 149, 200] {
        for height in [1, 2, 3, 5, 12, 29, 30] {
            screen(&mut state, (width, height));
        }
    }
}
