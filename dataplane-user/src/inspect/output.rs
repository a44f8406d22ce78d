//! How rows are printed: the one place that does.

#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use clap::ValueEnum;
use comfy_table::{ColumnConstraint, Table, Width, presets};
use serde::Serialize;

use super::{
    Explanation, FlowRow, OuterHeader, Status,
    envelope::{List, Object},
};

/// The form of what is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns, for people.
    #[default]
    Table,
    /// More columns.
    Wide,
    /// JSON, as `underpass schema` says.
    Json,
    /// YAML, likewise.
    Yaml,
}

/// Something that is printed as a line of a table.
pub trait Row: Serialize {
    /// The titles of the columns.
    const COLUMNS: &'static [&'static str];
    /// The titles of those that [`Format::Wide`] has besides.
    const MORE: &'static [&'static str] = &[];

    /// What stands in them.
    fn cells(&self) -> Vec<String>;

    /// What stands in [`Row::MORE`].
    fn more(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A row of a list that is printed by itself.
pub trait Listed: Row + Clone {
    /// What it is called in JSON and YAML.
    const KIND: &'static str;

    /// What it is told by from the others of its list.
    fn key(&self) -> String;

    /// Whether it says the same as `other`: what goes by the clock alone is no change.
    fn says_as(&self, other: &Self) -> bool;
}

/// Renders rows in `format`, with a line feed at the end.
pub fn render<R: Listed>(rows: &[R], format: Format) -> Result<String> {
    match format {
        Format::Table | Format::Wide => Ok(table(rows, format)),
        Format::Json => json(&List::new(rows)),
        Format::Yaml => yaml(&List::new(rows)),
    }
}

/// Renders an explanation: for people its steps and its verdict, a line each.
pub fn render_explanation(explanation: &Explanation, format: Format) -> Result<String> {
    match format {
        Format::Table | Format::Wide => Ok(story(explanation)),
        Format::Json => json(&Object::new(explanation)),
        Format::Yaml => yaml(&Object::new(explanation)),
    }
}

/// Renders flows, for people in words.
pub fn render_stories(flows: &[FlowRow], format: Format) -> Result<String> {
    match format {
        Format::Table | Format::Wide => Ok(flows.iter().map(FlowRow::story).collect()),
        Format::Json | Format::Yaml => render(flows, format),
    }
}

/// Renders the status: for people a line about the agent, one about what is accelerated, and tables.
pub fn render_status(status: &Status, format: Format) -> Result<String> {
    match format {
        Format::Table | Format::Wide => Ok(overview(status)),
        Format::Json => json(&Object::new(status)),
        Format::Yaml => yaml(&Object::new(status)),
    }
}

fn overview(status: &Status) -> String {
    let agent = if status.agent_running {
        "the agent is running"
    } else {
        "no agent is running; the dataplane is as the last one left it"
    };
    let pins = &status.pins;
    let acceleration = status.acceleration.iter();
    let acceleration = acceleration.map(|acceleration| format!("{acceleration}\n"));
    let lines = format!("{agent} (pins: {pins})\n") + &acceleration.collect::<String>();
    let tables = [
        table(&status.hooks, Format::Table),
        table(&status.maps, Format::Table),
    ];
    let mut parts = vec![lines];
    parts.extend(tables);
    if !status.sysctls.is_empty() {
        parts.push(table(&status.sysctls, Format::Table));
    }
    parts.join("\n")
}

fn json<T: Serialize>(value: &T) -> Result<String> {
    let text = serde_json::to_string_pretty(value).context("cannot write JSON")?;
    Ok(text + "\n")
}

pub(super) fn yaml<T: Serialize>(value: &T) -> Result<String> {
    serde_saphyr::to_string(value).context("cannot write YAML")
}

fn story(explanation: &Explanation) -> String {
    let with_port = |address: Ipv4Addr, port: Option<u16>| match port {
        Some(port) => format!("{address}:{port}"),
        None => address.to_string(),
    };
    let title = format!(
        "{} -> {}, {}",
        with_port(explanation.source, explanation.source_port),
        with_port(explanation.destination, explanation.destination_port),
        explanation.protocol
    );
    let steps = explanation.steps.iter().map(|step| format!("  {step}"));
    let outer = explanation.outer.iter().map(|outer| {
        let OuterHeader {
            header,
            bytes,
            meaning,
        } = outer;
        format!("  {header}: {meaning}\n    {bytes}")
    });
    let mtu = explanation.mtu.iter();
    let mtu = mtu.map(|mtu| format!("  packets of up to {mtu} bytes go this way"));
    let hook = explanation.hook.unwrap_or("no program");
    let reason = explanation.reason.unwrap_or("not seen");
    let verdict = format!("{hook}: {} ({reason})", explanation.action);
    let lines = [title].into_iter().chain(steps).chain(outer).chain(mtu);
    let lines: Vec<_> = lines.chain([verdict]).collect();
    lines.join("\n") + "\n"
}

fn table<R: Row>(rows: &[R], format: Format) -> String {
    let cells: Vec<_> = rows.iter().map(|row| cells(row, format)).collect();
    let mut text = aligned(Some(columns::<R>(format)), cells, &mut Vec::new());
    if rows.is_empty() {
        text.push_str("(none)\n");
    }
    text
}

/// The titles of the columns in `format`.
pub(super) fn columns<R: Row>(format: Format) -> Vec<String> {
    let more = if format == Format::Wide { R::MORE } else { &[] };
    let titles = R::COLUMNS.iter().chain(more);
    titles.map(|title| (*title).to_owned()).collect()
}

/// What stands in them.
pub(super) fn cells<R: Row>(row: &R, format: Format) -> Vec<String> {
    let mut cells = row.cells();
    if format == Format::Wide {
        cells.extend(row.more());
    }
    cells
}

/// Lines with their cells below each other, in columns that are at least as wide as `widths`, which
/// grow.
pub(super) fn aligned(
    header: Option<Vec<String>>,
    rows: Vec<Vec<String>>,
    widths: &mut Vec<u16>,
) -> String {
    const GAP: u16 = 2;
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if let Some(header) = header {
        table.set_header(header);
    }
    table.add_rows(rows);
    let needed = table.column_max_content_widths();
    widths.resize(needed.len(), 0);
    for (width, needed) in widths.iter_mut().zip(needed) {
        *width = needed.max(*width);
    }
    for (column, width) in table.column_iter_mut().zip(widths) {
        column.set_padding((0, GAP));
        column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(*width + GAP)));
    }
    table
        .lines()
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect()
}
