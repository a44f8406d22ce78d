//! How rows are printed: the one place that does.

use anyhow::{Context, Result};
use clap::ValueEnum;
use comfy_table::{Table, presets};
use serde::Serialize;

use super::{Explanation, FlowRow, Status};

/// The form of what is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns, for people.
    #[default]
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// Something that is printed as a line of a table.
pub trait Row: Serialize {
    /// The titles of the columns.
    const COLUMNS: &'static [&'static str];

    /// What stands in them.
    fn cells(&self) -> Vec<String>;
}

/// Renders rows in `format`, with a line feed at the end.
pub fn render<R: Row>(rows: &[R], format: Format) -> Result<String> {
    match format {
        Format::Table => Ok(table(rows)),
        Format::Json => json(&rows),
        Format::Yaml => yaml(&rows),
    }
}

/// Renders an explanation: for people its steps and its verdict, a line each.
pub fn render_explanation(explanation: &Explanation, format: Format) -> Result<String> {
    match format {
        Format::Table => Ok(story(explanation)),
        Format::Json => json(explanation),
        Format::Yaml => yaml(explanation),
    }
}

/// Renders flows, for people in words.
pub fn render_stories(flows: &[FlowRow], format: Format) -> Result<String> {
    match format {
        Format::Table => Ok(flows.iter().map(FlowRow::story).collect()),
        Format::Json => json(&flows),
        Format::Yaml => yaml(&flows),
    }
}

/// Renders the status: for people a line about the agent, one about what is accelerated, and tables.
pub fn render_status(status: &Status, format: Format) -> Result<String> {
    match format {
        Format::Table => Ok(overview(status)),
        Format::Json => json(status),
        Format::Yaml => yaml(status),
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
    let mut parts = vec![lines, table(&status.hooks), table(&status.maps)];
    if !status.sysctls.is_empty() {
        parts.push(table(&status.sysctls));
    }
    parts.join("\n")
}

fn json<T: Serialize>(value: &T) -> Result<String> {
    let text = serde_json::to_string_pretty(value).context("cannot write JSON")?;
    Ok(text + "\n")
}

fn yaml<T: Serialize>(value: &T) -> Result<String> {
    serde_saphyr::to_string(value).context("cannot write YAML")
}

fn story(explanation: &Explanation) -> String {
    let title = format!("{} -> {}", explanation.source, explanation.destination);
    let steps = explanation.steps.iter().map(|step| format!("  {step}"));
    let hook = explanation.hook.unwrap_or("no program");
    let reason = explanation.reason.unwrap_or("not seen");
    let verdict = format!("{hook}: {} ({reason})", explanation.action);
    let lines: Vec<_> = [title].into_iter().chain(steps).chain([verdict]).collect();
    lines.join("\n") + "\n"
}

fn table<R: Row>(rows: &[R]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(R::COLUMNS);
    for row in rows {
        table.add_row(row.cells());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text: String = table
        .lines()
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect();
    if rows.is_empty() {
        text.push_str("(none)\n");
    }
    text
}
