//! What changes of a list, from one look at it to the next.

use std::{collections::BTreeMap, time::SystemTime};

use anyhow::{Context, Result};
use humantime::format_rfc3339_millis;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Format, Listed,
    envelope::Event,
    output::{aligned, cells, columns, yaml},
};

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It was there at the first look.
    Present,
    /// It has come.
    Added,
    /// It says something else.
    Changed,
    /// It is gone; it says what it said last.
    Removed,
}

impl Change {
    const fn name(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }
}

/// A list as it was at the last look, and how its changes are printed.
#[derive(Debug)]
pub struct Watch<R> {
    format: Format,
    known: Option<BTreeMap<String, R>>,
    widths: Vec<u16>,
}

impl<R: Listed> Watch<R> {
    /// Nothing has been looked at yet.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self {
            format,
            known: None,
            widths: Vec::new(),
        }
    }

    /// What is to be printed of `rows`, as they are at `time`: at first all of them, then what differs
    /// from the last look.
    pub fn look(&mut self, rows: Vec<R>, time: SystemTime) -> Result<String> {
        let is_first = self.known.is_none();
        let changes = self.changes(rows);
        match self.format {
            Format::Table | Format::Wide => Ok(self.lines(is_first, &changes, time)),
            Format::Json => each(&changes, |change, row| {
                let line = serde_json::to_string(&Event::new(change, time, row));
                Ok(line.context("cannot write JSON")? + "\n")
            }),
            Format::Yaml => each(&changes, |change, row| {
                Ok(format!("---\n{}", yaml(&Event::new(change, time, row))?))
            }),
        }
    }

    fn changes(&mut self, rows: Vec<R>) -> Vec<(Change, R)> {
        let now: BTreeMap<_, _> = rows.into_iter().map(|row| (row.key(), row)).collect();
        let Some(before) = self.known.replace(now.clone()) else {
            let present = now.into_values();
            return present.map(|row| (Change::Present, row)).collect();
        };
        let gone = before.iter().filter(|(key, _)| !now.contains_key(*key));
        let gone: Vec<_> = gone
            .map(|(_, row)| (Change::Removed, row.clone()))
            .collect();
        let come = now
            .into_iter()
            .filter_map(|(key, row)| match before.get(&key) {
                None => Some((Change::Added, row)),
                Some(known) if !known.says_as(&row) => Some((Change::Changed, row)),
                Some(_) => None,
            });
        gone.into_iter().chain(come).collect()
    }

    fn lines(&mut self, is_first: bool, changes: &[(Change, R)], time: SystemTime) -> String {
        if changes.is_empty() && !is_first {
            return String::new();
        }
        let titles = ["TIME", "CHANGE"].map(str::to_owned).into_iter();
        let header = is_first.then(|| titles.chain(columns::<R>(self.format)).collect());
        let time = format_rfc3339_millis(time).to_string();
        let rows = changes.iter().map(|(change, row)| {
            let first = [time.clone(), change.name().to_owned()].into_iter();
            first.chain(cells(row, self.format)).collect()
        });
        aligned(header, rows.collect(), &mut self.widths)
    }
}

fn each<R>(
    changes: &[(Change, R)],
    render: impl Fn(Change, &R) -> Result<String>,
) -> Result<String> {
    let lines = changes.iter().map(|(change, row)| render(*change, row));
    lines.collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use serde_json::{Value, json};

    use super::*;
    use crate::inspect::UnmirroredRow;

    fn row(prefix: &str, why: &str) -> UnmirroredRow {
        UnmirroredRow {
            prefix: prefix.parse().unwrap(),
            why: why.to_owned(),
        }
    }

    fn look(watch: &mut Watch<UnmirroredRow>, rows: &[UnmirroredRow], second: u64) -> String {
        let time = UNIX_EPOCH + Duration::from_secs(second);
        watch.look(rows.to_vec(), time).unwrap()
    }

    #[test]
    fn a_table_begins_with_all_and_goes_on_below_its_columns() {
        let mut watch = Watch::new(Format::Table);
        let (one, two) = (
            row("10.0.0.0/8", "of one"),
            row("192.168.100.0/24", "of two"),
        );
        assert_eq!(
            look(&mut watch, &[one.clone(), two.clone()], 0),
            "TIME                      CHANGE   PREFIX            WHY\n\
             1970-01-01T00:00:00.000Z  present  10.0.0.0/8        of one\n\
             1970-01-01T00:00:00.000Z  present  192.168.100.0/24  of two\n"
        );
        assert_eq!(look(&mut watch, &[one.clone(), two.clone()], 1), "");
        let (other, new) = (row("10.0.0.0/8", "of another"), row("10.9.0.0/16", "new"));
        assert_eq!(
            look(&mut watch, &[other, new], 2),
            "1970-01-01T00:00:02.000Z  removed  192.168.100.0/24  of two\n\
             1970-01-01T00:00:02.000Z  changed  10.0.0.0/8        of another\n\
             1970-01-01T00:00:02.000Z  added    10.9.0.0/16       new\n"
        );
    }

    #[test]
    fn a_table_of_nothing_has_its_titles() {
        let mut watch = Watch::new(Format::Wide);
        assert_eq!(look(&mut watch, &[], 0), "TIME  CHANGE  PREFIX  WHY\n");
        assert_eq!(look(&mut watch, &[], 1), "");
    }

    #[test]
    fn json_is_a_line_a_change() {
        let mut watch = Watch::new(Format::Json);
        assert_eq!(look(&mut watch, &[], 0), "");
        let text = look(&mut watch, &[row("10.0.0.0/8", "new")], 1);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert_eq!(
            serde_json::from_str::<Value>(&text).unwrap(),
            json!({
                "apiVersion": "underpass/v1",
                "kind": "UnmirroredRouteEvent",
                "change": "added",
                "time": "1970-01-01T00:00:01.000Z",
                "item": { "prefix": "10.0.0.0/8", "why": "new" },
            })
        );
    }

    #[test]
    fn yaml_is_a_document_a_change() {
        let mut watch = Watch::new(Format::Yaml);
        let text = look(&mut watch, &[row("10.0.0.0/8", "old")], 0);
        assert!(
            text.starts_with("---\napiVersion: underpass/v1\n"),
            "{text}"
        );
        assert!(text.contains("change: present\n"), "{text}");
    }
}
