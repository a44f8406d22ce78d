//! What is wrong with a file, told all at once and line by line.

use std::fmt;
use std::path::{Path, PathBuf};

/// More problems than this are counted, not printed: they share a cause, or hide the first ones.
const MOST_PRINTED: usize = 20;

/// The mistakes found in one file so far.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

#[derive(Debug)]
struct Problem {
    /// Counted from 1; absent when the problem is the file as a whole.
    line: Option<u64>,
    text: String,
}

impl Problems {
    /// Notes what is wrong in `line`, counted from 1: what, why, and what to do.
    pub(crate) fn at(&mut self, line: u64, text: impl Into<String>) {
        self.push(Some(line), text);
    }

    /// Notes what is wrong, at no line in particular.
    pub(crate) fn in_file(&mut self, text: impl Into<String>) {
        self.push(None, text);
    }

    /// The value of `result`, or else nothing, and a note that `subject` has the fault it names.
    pub(crate) fn keep<T>(
        &mut self,
        line: u64,
        subject: impl fmt::Display,
        result: Result<T, String>,
    ) -> Option<T> {
        result
            .map_err(|fault| self.at(line, format!("{subject} {fault}")))
            .ok()
    }

    /// The refusal of `file`, if anything has been noted.
    pub(crate) fn into_result(mut self, file: &Path) -> Result<(), FileError> {
        if self.0.is_empty() {
            return Ok(());
        }
        self.0.sort_by_key(|problem| problem.line);
        Err(FileError {
            file: file.to_owned(),
            problems: self.0,
        })
    }

    fn push(&mut self, line: Option<u64>, text: impl Into<String>) {
        self.0.push(Problem {
            line,
            text: text.into(),
        });
    }
}

/// A file was refused. Prints one `FILE:LINE: REASON` per mistake, in the order of the lines, at
/// most 20 of them.
#[derive(Debug)]
pub struct FileError {
    file: PathBuf,
    problems: Vec<Problem>,
}

impl FileError {
    /// `file` is refused for one reason: `text`, in `line` if it is to be found in one.
    pub(crate) fn new(file: &Path, line: Option<u64>, text: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            problems: vec![Problem {
                line,
                text: text.into(),
            }],
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        for (index, Problem { line, text }) in self.problems.iter().take(MOST_PRINTED).enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            match line {
                Some(line) => write!(f, "{separator}{file}:{line}: {text}")?,
                None => write!(f, "{separator}{file}: {text}")?,
            }
        }
        match self.problems.len().saturating_sub(MOST_PRINTED) {
            0 => Ok(()),
            more => write!(f, "\n{file}: ... and {more} more"),
        }
    }
}

impl std::error::Error for FileError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_noted_is_no_refusal() {
        assert!(Problems::default().into_result(Path::new("a")).is_ok());
    }

    #[test]
    fn problems_come_in_the_order_of_the_lines_and_the_whole_file_first() {
        let mut problems = Problems::default();
        problems.at(9, "late");
        problems.at(2, "early");
        problems.in_file("everywhere");
        assert_eq!(problems.keep(3, "this", Ok::<_, String>(7)), Some(7));
        assert_eq!(problems.keep::<()>(3, "that", Err("fails".into())), None);
        let error = problems.into_result(Path::new("dir/a.yaml")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "dir/a.yaml: everywhere\n\
             dir/a.yaml:2: early\n\
             dir/a.yaml:3: that fails\n\
             dir/a.yaml:9: late"
        );
    }

    #[test]
    fn more_than_twenty_are_counted() {
        for (count, last) in [(20, "a:20: x"), (21, "a: ... and 1 more")] {
            let mut problems = Problems::default();
            for line in 1..=count {
                problems.at(line, "x");
            }
            let text = problems
                .into_result(Path::new("a"))
                .unwrap_err()
                .to_string();
            assert_eq!(text.lines().last(), Some(last));
        }
    }
}
