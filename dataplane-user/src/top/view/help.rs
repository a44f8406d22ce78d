//! The help, in front of everything.

use ratatui::{
    Frame,
    layout::Constraint,
    text::{Line, Span},
    widgets::{Block, Clear, Paragraph},
};

use super::Style;
use crate::top::keys::HELP;

/// What the screen does not say by itself.
const NOTES: [&str; 4] = [
    "Rates are over the last interval. A packet that TCP or GRO made of many",
    "segments counts once. Traffic: what programs did, by hook and mode. Peers:",
    "packets that were carried of flows; what the stack carries is not counted",
    "there. Pods: all that went through their interfaces, whoever carried it.",
];

pub(super) fn draw(frame: &mut Frame<'_>, style: Style) {
    let keys = HELP.iter().map(|(keys, what)| {
        Line::from(vec![
            Span::styled(format!(" {keys:<15}"), style.title()),
            Span::from(*what),
        ])
    });
    let notes = NOTES.iter().map(|note| Line::from(format!(" {note}")));
    let lines: Vec<_> = keys.chain([Line::default()]).chain(notes).collect();
    let longest = lines.iter().map(Line::width).max().unwrap_or_default();
    let size = [longest + 3, lines.len() + 2];
    let [width, height] = size.map(|length| u16::try_from(length).unwrap_or(u16::MAX));
    let area = frame
        .area()
        .centered(Constraint::Length(width), Constraint::Length(height));
    let block = Block::bordered()
        .title(" Help ")
        .border_style(style.border(true));
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(block), area);
}
