//! What the table of packet cases says of one kernel.

/// How the cases ended.
#[derive(Default)]
pub(super) struct Cases {
    passed: usize,
    /// Lines of those that failed, and of those that this kernel has not what it takes for.
    others: Vec<String>,
}

impl Cases {
    /// Reads a line of the table: `<number> <mode> <runner> <ok|FAIL|absent> <title>`.
    pub(super) fn read(&mut self, line: &str) {
        if line.split_whitespace().nth(3) == Some("ok") {
            self.passed += 1;
        } else {
            self.others.push(line.to_owned());
        }
    }

    /// How many passed, of how many; nothing if none was run.
    pub(super) fn summary(&self) -> Option<String> {
        let all = self.passed + self.others.len();
        (all > 0).then(|| format!("{} of {all}", self.passed))
    }

    /// The lines of those that did not pass.
    pub(super) fn others(&self) -> &[String] {
        &self.others
    }
}
