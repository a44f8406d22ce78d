//! A panel: rows in columns, each with a sparkline of what it was.

use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    symbols,
    text::{Line, Text},
    widgets::{Block, LineGauge, Paragraph, Row as Cells, Sparkline, Table},
};

use super::Style;
use crate::{
    inspect::{FillRow, Row},
    top::{history::History, report::Rated},
};

/// Columns between two.
const GAP: u16 = 2;

/// Columns that a sparkline has at the least, if it is there.
const SPARKLINE: u16 = 8;

/// How a panel is drawn.
pub(super) struct View<'s> {
    pub(super) title: &'static str,
    pub(super) is_chosen: bool,
    pub(super) scrolled: usize,
    pub(super) history: &'s History,
    pub(super) style: Style,
}

/// Lines that a panel of so many rows takes: with its frame and the titles of its columns.
pub(super) fn height(rows: usize) -> u16 {
    const BESIDES: u16 = 3;
    u16::try_from(rows.max(1)).map_or(u16::MAX, |rows| rows.saturating_add(BESIDES))
}

impl View<'_> {
    /// Draws rows, with sparklines where there is room, and a note below. Returns the number of the first
    /// row that is shown.
    pub(super) fn draw<R: Rated>(
        &self,
        frame: &mut Frame<'_>,
        area: Rect,
        rows: &[R],
        note: Option<&'static str>,
    ) -> usize {
        let inner = self.frame(frame, area, rows.len());
        let noted = u16::from(note.is_some());
        let [inner, below] =
            Layout::vertical([Constraint::Fill(1), Constraint::Length(noted)]).areas(inner);
        if let Some(note) = note {
            frame.render_widget(Paragraph::new(note), below);
        }
        let needed = widths(rows).iter().map(|width| width + GAP).sum::<u16>();
        let room = inner.width.saturating_sub(needed);
        let [table, sparklines] = Layout::horizontal([
            Constraint::Length(needed),
            Constraint::Length(if room >= SPARKLINE { room } else { 0 }),
        ])
        .areas(inner);
        let first = self.draw_table(frame, table, rows);
        for (row, line) in rows[first..].iter().zip(sparklines.rows().skip(1)) {
            let before = self.history.of(row, line.width.into());
            let sparkline = Sparkline::default()
                .data(before)
                .style(self.style.sparkline());
            frame.render_widget(sparkline, line);
        }
        first
    }

    /// Draws the maps likewise, with gauges.
    pub(super) fn draw_maps(&self, frame: &mut Frame<'_>, area: Rect, rows: &[FillRow]) -> usize {
        let inner = self.frame(frame, area, rows.len());
        let needed = widths(rows).iter().map(|width| width + GAP).sum();
        let [table, gauges] =
            Layout::horizontal([Constraint::Length(needed), Constraint::Fill(1)]).areas(inner);
        let first = self.draw_table(frame, table, rows);
        for (row, line) in rows[first..].iter().zip(gauges.rows().skip(1)) {
            let share = f64::from(row.entries) / f64::from(row.max_entries.max(1));
            let gauge = LineGauge::default()
                .ratio(share.min(1.0))
                .label(format!("{:5.1} %", share * 100.0))
                .filled_symbol(symbols::line::THICK_HORIZONTAL)
                .filled_style(self.style.sparkline());
            frame.render_widget(gauge, line);
        }
        first
    }

    /// Draws the frame of a panel with so many rows, and returns what is inside.
    fn frame(&self, frame: &mut Frame<'_>, area: Rect, rows: usize) -> Rect {
        let block = Block::bordered()
            .title(format!(" {} ({rows}) ", self.title))
            .border_style(self.style.border(self.is_chosen));
        let inner = block.inner(area);
        frame.render_widget(block, area);
        inner
    }

    /// Draws rows below the titles of their columns, as many as there is room for, and returns the number
    /// of the first.
    fn draw_table<R: Row>(&self, frame: &mut Frame<'_>, area: Rect, rows: &[R]) -> usize {
        let room = usize::from(area.height.saturating_sub(1));
        // Rows may have gone since it was scrolled.
        let first = self.scrolled.min(rows.len().saturating_sub(room));
        let lines = rows[first..].iter().take(room).map(|row| {
            let cells = row.cells();
            let style = self.style.row(&cells);
            Cells::new(R::COLUMNS.iter().zip(cells).map(cell)).style(style)
        });
        let titles = R::COLUMNS.iter().map(|title| (title, (*title).to_owned()));
        let titles = Cells::new(titles.map(cell)).style(Style::header());
        let table = Table::new(lines, widths(rows))
            .header(titles)
            .column_spacing(GAP);
        frame.render_widget(table, area);
        if rows.is_empty()
            && let Some(line) = area.rows().nth(1)
        {
            frame.render_widget(Paragraph::new("(none)"), line);
        }
        first
    }
}

/// How wide each column has to be.
fn widths<R: Row>(rows: &[R]) -> Vec<u16> {
    let titles = R::COLUMNS.iter().map(|title| title.len());
    let mut widths: Vec<usize> = titles.collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row.cells()) {
            *width = cell.len().max(*width);
        }
    }
    let widths = widths.into_iter();
    widths
        .map(|width| u16::try_from(width).unwrap_or(u16::MAX))
        .collect()
}

/// Rates are below each other by their last digits.
fn cell((title, text): (&&'static str, String)) -> Text<'static> {
    let alignment = if title.ends_with("/S") {
        Alignment::Right
    } else {
        Alignment::Left
    };
    Line::from(text).alignment(alignment).into()
}
