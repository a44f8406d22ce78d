//! The screen.

mod help;
mod panel;
mod style;
#[cfg(test)]
mod tests;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::{Line, Span},
    widgets::{Paragraph, Sparkline, Wrap},
};

use self::panel::{View, height};
use super::{
    report::Top,
    state::{Panel, State},
};

pub use self::style::Style;

/// Where the panels have so many columns and lines, all of them are shown at once.
const WIDE: (u16, u16) = (150, 27);

/// Draws all of it. A panel that is scrolled further than it goes is scrolled back.
pub fn draw(frame: &mut Frame<'_>, state: &mut State, style: Style) {
    let [header, body, footer] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    draw_header(frame, header, state, style);
    if let Some(top) = state.arranged() {
        state.scrolled = draw_panels(frame, body, state, &top, style);
    } else if let Some(failure) = &state.shown().failure {
        draw_failure(frame, body, state, failure, style);
    }
    frame.render_widget(Paragraph::new(footer_line(state, style)), footer);
    if state.has_help {
        help::draw(frame, style);
    }
}

/// Whose screen it is, and how much is accelerated, with a sparkline of that behind it.
fn draw_header(frame: &mut Frame<'_>, area: Rect, state: &State, style: Style) {
    let [first, second] = Layout::vertical([Constraint::Length(1); 2]).areas(area);
    let top = state.shown().top.as_ref();
    let interval = humantime::format_duration(state.interval);
    let mut line = Line::from(vec![
        Span::styled(&*state.node, style.title()),
        Span::from(format!("  every {interval}")),
    ]);
    if let Some(top) = top {
        let agent = format!("  {}", top.agent());
        line.push_span(Span::styled(agent, style.agent(top.agent_running)));
    }
    if state.is_paused() {
        line.push_span(Span::from("  "));
        line.push_span(Span::styled(" PAUSED ", Style::notice()));
    }
    frame.render_widget(Paragraph::new(line), first);
    let Some(top) = top else {
        return;
    };
    let words = top.acceleration.words();
    let width = u16::try_from(words.len()).unwrap_or(u16::MAX);
    let [left, _, right] = Layout::horizontal([
        Constraint::Length(width),
        Constraint::Length(2),
        Constraint::Fill(1),
    ])
    .areas(second);
    frame.render_widget(Paragraph::new(words), left);
    let shares = state.shown().history.carried(right.width.into());
    let sparkline = Sparkline::default()
        .data(shares)
        .max(1000)
        .style(style.sparkline());
    frame.render_widget(sparkline, right);
}

fn draw_failure(frame: &mut Frame<'_>, area: Rect, state: &State, failure: &str, style: Style) {
    let interval = humantime::format_duration(state.interval);
    let lines = vec![
        Line::default(),
        Line::styled(failure, style.failure()),
        Line::default(),
        Line::from(format!("It is looked for again every {interval}.")),
    ];
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), area);
}

fn footer_line(state: &State, style: Style) -> Line<'_> {
    if state.is_typing {
        return Line::from(vec![
            Span::styled("/", style.title()),
            Span::from(&*state.filter),
            Span::styled(" ", Style::notice()),
        ]);
    }
    let sort = format!("sort: {}", state.sort.name());
    let filter = if state.filter.is_empty() {
        "filter".to_owned()
    } else {
        format!("filter: {}", state.filter)
    };
    let pause = if state.is_paused() { "go on" } else { "pause" };
    let mut line = Line::default();
    for (key, what) in [
        ("q", "quit"),
        ("p", pause),
        ("s", &*sort),
        ("/", &*filter),
        ("1-5", "panel"),
        ("?", "help"),
    ] {
        line.push_span(Span::styled(key, style.title()));
        line.push_span(Span::from(format!(" {what}  ")));
    }
    line
}

/// All of them where there is room; else the traffic, and the one that was chosen below it. Returns how
/// far the chosen one is scrolled.
fn draw_panels(frame: &mut Frame<'_>, area: Rect, state: &State, top: &Top, style: Style) -> usize {
    let mut scrolled = 0;
    for (panel, area) in areas(area, state.panel, top) {
        let is_chosen = panel == state.panel;
        let view = View {
            title: panel.title(),
            is_chosen,
            scrolled: if is_chosen { state.scrolled } else { 0 },
            history: &state.shown().history,
            style,
        };
        let first = match panel {
            Panel::Traffic => view.draw(frame, area, &top.traffic, None),
            Panel::Reasons => view.draw(frame, area, &top.reasons, None),
            Panel::Peers => view.draw(frame, area, &top.peers, top.peers_uncounted),
            Panel::Endpoints => view.draw(frame, area, &top.endpoints, top.received_uncounted),
            Panel::Maps => view.draw_maps(frame, area, &top.maps),
        };
        if is_chosen {
            scrolled = first;
        }
    }
    scrolled
}

/// Which panels there are, and where.
fn areas(area: Rect, chosen: Panel, top: &Top) -> Vec<(Panel, Rect)> {
    let traffic = Constraint::Max(height(top.traffic.len()).min(area.height / 2));
    if area.width < WIDE.0 || area.height < WIDE.1 {
        let below = match chosen {
            Panel::Traffic => Panel::Reasons,
            chosen => chosen,
        };
        let areas = Layout::vertical([traffic, Constraint::Fill(1)]).areas::<2>(area);
        return [Panel::Traffic, below].into_iter().zip(areas).collect();
    }
    let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).areas(area);
    let [traffic, reasons] = Layout::vertical([traffic, Constraint::Fill(1)]).areas(left);
    let [peers, endpoints, maps] = Layout::vertical([
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Length(height(top.maps.len())),
    ])
    .areas(right);
    let areas = [traffic, reasons, peers, endpoints, maps];
    Panel::ALL.into_iter().zip(areas).collect()
}
