//! The cases on the kernels, as a table for docs/testing.md.

use std::{collections::BTreeMap, fmt::Write as _, fs, ops::RangeInclusive};

use anyhow::{Context as _, Result, ensure};

use crate::{
    build::{Layout, Profile},
    cargo, image, kernels, setup,
};

/// The parts of the list of cases, by their numbers.
const PARTS: [(RangeInclusive<u8>, &str); 7] = [
    (1..=9, "forwarding: TTL, MTU, ICMP"),
    (10..=22, "odd packets: fragments, options, malformed, VLAN"),
    (23..=30, "tunnel security"),
    (31..=32, "ECN and DSCP"),
    (33..=36, "ARP"),
    (37..=41, "every pair of ends"),
    (42..=54, "routes, neighbours, addresses"),
];

/// Plays the cases on the running kernel, and prints what came of them here and, when they were
/// last run there, in the virtual machines of the kernel matrix.
pub(crate) fn cases() -> Result<()> {
    let mut columns = Vec::new();
    for path in kernels::consoles()? {
        let console = fs::read_to_string(&path);
        let console = console.with_context(|| format!("cannot read {}", path.display()))?;
        columns.extend(Column::read(&console));
    }
    columns.push(Column::here()?);
    print!("{}", table(&columns));
    Ok(())
}

/// What came of the cases on one kernel.
#[derive(Debug, Default)]
struct Column {
    release: String,
    /// By the place of their part in [`PARTS`].
    tallies: BTreeMap<usize, Tally>,
}

/// How many there are: one for each row of the table of cases, in one mode, played in one way.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Tally {
    passed: usize,
    failed: usize,
    absent: usize,
}

impl Column {
    /// Plays the cases on the running kernel.
    fn here() -> Result<Self> {
        setup::ensure(setup::RUN)?;
        let built = image::program(Profile::Dev, Layout::Own)?;
        let mut command = cargo::host("test")?;
        built.tell(&mut command).args(["--test", "cases"]).args([
            "--",
            "--include-ignored",
            "--show-output",
        ]);
        // Some may fail, which the table is there to say.
        let output = command.output().context("cannot start cargo")?;
        let mut column = Self {
            release: fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
            ..Self::default()
        };
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().for_each(|line| column.add(line));
        ensure!(
            !column.tallies.is_empty(),
            "no case was played:\n{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(column)
    }

    /// Reads a machine's console; `None` where no case was played on it.
    fn read(console: &str) -> Option<Self> {
        let mut column = Self::default();
        for line in console.lines() {
            match line.strip_prefix("underpass-vm: up ") {
                Some(release) => release.clone_into(&mut column.release),
                None => column.add(line),
            }
        }
        (!column.tallies.is_empty()).then_some(column)
    }

    /// Reads one line of what the tests print: `case: 31b vxlan live ok ECT(1) in ...`.
    fn add(&mut self, line: &str) {
        let Some(words) = line.strip_prefix("case: ") else {
            return;
        };
        let words: Vec<_> = words.split(' ').take(4).collect();
        let [name, _mode, _way, result] = words[..] else {
            return;
        };
        let number = name.trim_end_matches(|letter: char| letter.is_ascii_lowercase());
        let part = number.parse().ok().and_then(|number: u8| {
            PARTS
                .iter()
                .position(|(numbers, _)| numbers.contains(&number))
        });
        let Some(part) = part else {
            return;
        };
        let tally = self.tallies.entry(part).or_default();
        match result {
            "ok" => tally.passed += 1,
            "absent" => tally.absent += 1,
            _ => tally.failed += 1,
        }
    }
}

/// The columns side by side, in Markdown.
fn table(columns: &[Column]) -> String {
    let mut table = "| cases |".to_owned();
    for column in columns {
        let _ = write!(table, " {} |", version(&column.release));
    }
    let _ = writeln!(table, "\n|---|{}", "---|".repeat(columns.len()));
    for (part, (numbers, title)) in PARTS.iter().enumerate() {
        let _ = write!(table, "| {}–{} {title} |", numbers.start(), numbers.end());
        for column in columns {
            let tally = column.tallies.get(&part).copied().unwrap_or_default();
            let _ = write!(table, " {} |", cell(tally));
        }
        table += "\n";
    }
    table
}

/// What is left of a release without what a distribution adds.
fn version(release: &str) -> &str {
    release.split(['-', '+']).next().unwrap_or(release)
}

fn cell(tally: Tally) -> String {
    let mut cell = tally.passed.to_string();
    if tally.failed > 0 {
        let _ = write!(cell, ", **{} failed**", tally.failed);
    }
    if tally.absent > 0 {
        let _ = write!(cell, ", {} absent", tally.absent);
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_is_read_into_a_column() {
        let console = "\
booting
underpass-vm: up 6.1.0-1
case: 1a vxlan live ok TTL 1 is answered
case: 31b vxlan kernel FAIL ECT(1) in Not-ECT becomes ECT(1)
    case: 31c is only quoted
case: 31d ipip kernel absent CE in Not-ECT
test every_case_by_vxlan ... FAILED
";
        let column = Column::read(console).unwrap();
        let forwarding = Tally {
            passed: 1,
            ..Tally::default()
        };
        let ecn = Tally {
            failed: 1,
            absent: 1,
            ..Tally::default()
        };
        assert_eq!(column.tallies, BTreeMap::from([(0, forwarding), (3, ecn)]));
        let table = table(&[column]);
        assert!(
            table.starts_with("| cases | 6.1.0 |\n|---|---|\n"),
            "{table}"
        );
        assert!(table.contains("| 31–32 ECN and DSCP | 0, **1 failed**, 1 absent |"));
    }

    #[test]
    fn a_console_without_cases_is_no_column() {
        assert!(Column::read("underpass-vm: up 6.1.0-1\ntest walk ... ok\n").is_none());
    }

    #[test]
    fn every_number_is_in_one_part() {
        for number in 1..=54 {
            let parts = PARTS
                .iter()
                .filter(|(numbers, _)| numbers.contains(&number));
            assert_eq!(parts.count(), 1, "{number}");
        }
    }
}
