//! What a machine's console says.

use std::{fmt::Write as _, time::Duration};

use super::{
    cases::Cases,
    verified::{Program, Verified},
};

/// What the tests said on one machine.
pub(super) struct Report {
    name: String,
    release: String,
    booted: Option<Duration>,
    took: Duration,
    passed: usize,
    failed: Vec<String>,
    /// The status that the machine gave itself at its end.
    exit: Option<String>,
    cases: Cases,
    verified: Vec<Program>,
    measured: Vec<String>,
}

/// What the lines for us begin with.
const PREFIX: &str = "underpass-vm: ";

impl Report {
    /// Of a machine that has said nothing yet.
    pub(super) fn new(name: &str, release: &str) -> Self {
        Self {
            name: name.to_owned(),
            release: release.to_owned(),
            booted: None,
            took: Duration::ZERO,
            passed: 0,
            failed: Vec::new(),
            exit: None,
            cases: Cases::default(),
            verified: Vec::new(),
            measured: Vec::new(),
        }
    }

    /// Reads one more line of the console.
    pub(super) fn read(&mut self, line: &str, since_start: Duration) {
        if let Some(words) = line.strip_prefix(PREFIX) {
            if words.starts_with("up ") {
                self.booted = Some(since_start);
            } else if let Some(status) = words.strip_prefix("exit ") {
                self.exit = Some(status.to_owned());
            }
        } else if let Some(program) = Program::read(line) {
            self.verified.push(program);
        } else if let Some(case) = line.strip_prefix("case: ") {
            self.cases.read(case);
        } else if let Some(line) = line.strip_prefix("measured:") {
            let line = line.strip_prefix(' ').unwrap_or(line);
            self.measured.push(line.to_owned());
        } else if let Some(test) = line.strip_prefix("test ") {
            self.read_test(test);
        }
    }

    /// `name ... ok`, `name - should panic ... FAILED` and so on; with other words between where
    /// something else was printed meanwhile.
    fn read_test(&mut self, test: &str) {
        let Some((name, _)) = test.split_once(" ... ") else {
            return;
        };
        if test.ends_with("ok") {
            self.passed += 1;
        } else if test.ends_with("FAILED") {
            self.failed.push(name.to_owned());
        }
    }

    /// Whether the machine has booted.
    pub(super) fn is_up(&self) -> bool {
        self.booted.is_some()
    }

    /// Sets how long the machine has run.
    pub(super) fn took(&mut self, took: Duration) {
        self.took = took;
    }

    /// Whether the machine came to its end, and all was well until there.
    pub(super) fn has_ended_well(&self) -> bool {
        self.exit.as_deref() == Some("0")
    }

    /// Whether it did, and tests have passed, and none failed.
    pub(super) fn is_success(&self) -> bool {
        self.has_ended_well() && self.failed.is_empty() && self.passed > 0
    }

    /// What a benchmark has printed in the end.
    pub(super) fn measured(&self) -> &[String] {
        &self.measured
    }

    /// What the kernel's verifier took.
    pub(super) fn into_verified(self) -> Verified {
        Verified {
            is_success: self.is_success(),
            release: self.release,
            programs: self.verified,
        }
    }
}

/// All reports, for people; at the end a line for each, as test runners close with.
pub(super) fn table(reports: &[Report]) -> String {
    let mut table = format!(
        "{:<12}{:<28}{:>8}{:>10}{:>8}{:>8}{:>15}  result\n",
        "MACHINE", "KERNEL", "BOOT", "TOOK", "PASSED", "FAILED", "CASES"
    );
    for report in reports {
        let _ = writeln!(
            table,
            "{:<12}{:<28}{:>8}{:>10}{:>8}{:>8}{:>15}  {}",
            report.name,
            report.release,
            report.booted.map_or_else(|| "-".to_owned(), seconds),
            seconds(report.took),
            report.passed,
            report.failed.len(),
            report.cases.summary().unwrap_or_else(|| "-".to_owned()),
            result(report)
        );
        for name in &report.failed {
            let _ = writeln!(table, "    failed    {name}");
        }
        for case in report.cases.others() {
            let _ = writeln!(table, "    case      {case}");
        }
    }
    table.push('\n');
    for report in reports {
        let _ = writeln!(
            table,
            "kernel-{}: {} passed, {} failed",
            report.name,
            report.passed,
            report.failed.len()
        );
    }
    table
}

fn result(report: &Report) -> &'static str {
    if report.is_success() {
        "ok"
    } else if !report.is_up() {
        "did not boot"
    } else if report.exit.is_none() {
        "did not end"
    } else {
        "FAILED"
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_benchmark_has_measured_is_kept_line_by_line() {
        let mut report = Report::new("7-right", "7.3.4");
        for line in [
            "underpass-vm: up 7.3.4",
            "round 1 of 1: IPIP, TC ...",
            "measured: 1 round",
            "measured:",
            "measured:   busy, %",
        ] {
            report.read(line, Duration::ZERO);
        }
        assert_eq!(report.measured(), ["1 round", "", "  busy, %"]);
        assert!(!report.has_ended_well());
        report.read("underpass-vm: exit 0", Duration::ZERO);
        assert!(report.has_ended_well());
        assert!(!report.is_success(), "no test has passed");
    }
}
