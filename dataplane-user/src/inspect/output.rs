//! How rows are printed: the one place that does.

#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use clap::ValueEnum;
use comfy_table::{ColumnConstraint, Table, Width, presets};
use serde::Serialize;

use super::{
    Explanation, FarNode, FlowRow, OuterHeader, Status,
    envelope::{List, Object, Single},
};
use crate::{
    bugtool::Manifest,
    check::{Finding, Outcome},
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
    render_object(explanation, format, story)
}

/// Renders what was found before installing: for people a table, then what is not as it should be, in
/// words.
pub fn render_findings(findings: &[Finding], format: Format) -> Result<String> {
    match format {
        Format::Table => {
            let table = table(findings, format);
            let notes = findings
                .iter()
                .filter(|finding| finding.result != Outcome::Ok);
            let notes: String = notes.map(note).collect();
            Ok(format!("{table}\n{notes}{}\n", conclusion(findings)))
        }
        Format::Wide | Format::Json | Format::Yaml => render(findings, format),
    }
}

/// Renders what is in an archive, in JSON alone.
pub fn render_manifest(manifest: &Manifest) -> Result<String> {
    json(&Object::new(manifest))
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
    render_object(status, format, overview)
}

/// Renders something of which there is one, for people in these words.
pub(crate) fn render_object<T: Single>(
    object: &T,
    format: Format,
    words: impl FnOnce(&T) -> String,
) -> Result<String> {
    match format {
        Format::Table | Format::Wide => Ok(words(object)),
        Format::Json => json(&Object::new(object)),
        Format::Yaml => yaml(&Object::new(object)),
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
    let flow = explanation.flow.iter().flat_map(FlowRow::details);
    let flow = flow.map(|line| format!("  {line}"));
    let hook = explanation.hook.unwrap_or("no program");
    let reason = explanation.reason.unwrap_or("not seen");
    let verdict = format!("{hook}: {} ({reason})", explanation.action);
    let lines = [title].into_iter().chain(steps).chain(flow).chain(outer);
    let lines = lines.chain(mtu).chain([verdict]);
    let lines: Vec<_> = lines
        .chain(explanation.far_node.iter().flat_map(far_story))
        .collect();
    lines.join("\n") + "\n"
}

fn note(finding: &Finding) -> String {
    let Finding {
        subject,
        result,
        found,
        meaning,
        remedy,
    } = finding;
    let meaning = meaning.iter().map(|meaning| format!("  {meaning}\n"));
    let remedy = remedy.iter().map(|remedy| format!("  do: {remedy}\n"));
    let lines: String = meaning.chain(remedy).collect();
    format!("{}: {subject}: {found}\n{lines}\n", result.name())
}

fn conclusion(findings: &[Finding]) -> String {
    let count = |result| {
        findings
            .iter()
            .filter(|finding| finding.result == result)
            .count()
    };
    match (count(Outcome::Fails), count(Outcome::Warning)) {
        (0, 0) => "underpass works here".to_owned(),
        (0, warnings) => format!(
            "underpass works here, with {}",
            counted(warnings, "warning")
        ),
        (failures, _) => format!(
            "underpass does not work here: {}",
            counted(failures, "failure")
        ),
    }
}

fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// What becomes of a packet on the node that it goes to, a line each.
fn far_story(far: &FarNode) -> Vec<String> {
    let FarNode {
        address,
        name,
        action,
        reason,
        steps,
        end,
        unknown,
    } = far;
    let title = match name {
        Some(name) => format!("on {name} ({address}), by the cluster file:"),
        None => format!("on {address}:"),
    };
    let mut lines = vec![title];
    lines.extend(steps.iter().map(|step| format!("  {step}")));
    lines.push(format!("  not known: {unknown}"));
    lines.push(match action.zip(*reason) {
        Some((action, reason)) => format!("from_uplink: {action} ({reason}): {end}"),
        None => end.clone(),
    });
    lines
}

/// Rows below the titles of their columns.
pub(crate) fn table<R: Row>(rows: &[R], format: Format) -> String {
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
