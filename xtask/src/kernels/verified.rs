//! What the verifier took, as the test `verifier` prints it.

/// What the verifier of one kernel took.
pub(crate) struct Verified {
    /// The kernel, as `uname -r` says it.
    pub(crate) release: String,
    /// Of each program, what it took.
    pub(crate) programs: Vec<Program>,
    /// Whether it accepted all of them, within their budgets.
    pub(crate) is_success: bool,
}

/// What it took for one program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// Its name.
    pub(crate) name: String,
    /// Instructions that were looked at, and how many may be: `2952/3400`.
    pub(crate) instructions: String,
    /// Bytes of stack, and how many there may be.
    pub(crate) stack: String,
    /// How long loading took, in microseconds.
    pub(crate) load: String,
}

impl Program {
    /// Reads a line of what the test has printed, if it is about a program:
    /// `verified: from_stack instructions 2952/3400 stack 200/256 load-us 879`.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let words: Vec<_> = line
            .strip_prefix("verified: ")?
            .split_whitespace()
            .collect();
        let [name, _, instructions, _, stack, _, load] = words[..] else {
            return None;
        };
        Some(Self {
            name: name.to_owned(),
            instructions: instructions.to_owned(),
            stack: stack.to_owned(),
            load: load.to_owned(),
        })
    }
}
