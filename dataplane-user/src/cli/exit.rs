//! What the exit status says: the one place.

use std::{io, process::ExitCode};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// It did what was asked.
    Done = 0,
    /// It failed; standard error says why.
    Failed = 1,
    /// The arguments are wrong: clap's own.
    Usage = 2,
    /// `diff` found something.
    Different = 3,
    /// There are no pins.
    NothingPinned = 4,
    /// `get` found nothing.
    NotFound = 5,
    /// `check` found something that underpass does not work with.
    Unfit = 6,
}

impl Exit {
    /// All of them, in the order of their numbers.
    pub(super) const ALL: [Self; 7] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::Different,
        Self::NothingPinned,
        Self::NotFound,
        Self::Unfit,
    ];

    /// What it says, for the manual.
    pub(super) const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "It did what was asked.",
            Self::Failed => "It failed; standard error says why.",
            Self::Usage => "The arguments are wrong.",
            Self::Different => "underpass diff found differences, which are on standard output.",
            Self::NothingPinned => {
                "Nothing is pinned where the pins should be: no agent has run, or it was detached."
            }
            Self::NotFound => "What get was asked for is not there.",
            Self::Unfit => {
                "underpass check found something that underpass does not work with; it is on standard output."
            }
        }
    }

    /// How a command has ended that fails with `error`.
    pub(super) fn of(error: &anyhow::Error) -> Self {
        let is_broken_pipe = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
        let mut causes = error
            .chain()
            .filter_map(|cause| cause.downcast_ref::<io::Error>());
        // Whoever read our output has seen enough.
        if causes.any(is_broken_pipe) {
            return Self::Done;
        }
        match error.downcast_ref() {
            Some(Refusal::NothingPinned(_)) => Self::NothingPinned,
            Some(Refusal::NotFound(_)) => Self::NotFound,
            None => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        (exit as u8).into()
    }
}

/// A failure that has an exit status of its own.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// There are no pins in this directory.
    #[error(
        "nothing is pinned in {0} by this version: its agent has not run with these pins (see \
         --config and --pins), or has been detached"
    )]
    NothingPinned(String),
    /// What was asked for is not there.
    #[error("{0}")]
    NotFound(String),
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn numbers_are_as_published() {
        assert_eq!(Exit::ALL.map(|exit| exit as u8), [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn an_error_says_which() {
        let pipe = Err::<(), _>(io::Error::from(io::ErrorKind::BrokenPipe));
        let pipe = pipe.context("cannot write").context("list").unwrap_err();
        assert_eq!(Exit::of(&pipe), Exit::Done);
        let denied = anyhow!(io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(Exit::of(&denied), Exit::Failed);
        let nothing = anyhow!(Refusal::NothingPinned("/sys/fs/bpf".to_owned()));
        assert_eq!(Exit::of(&nothing), Exit::NothingPinned);
        let missing = anyhow!(Refusal::NotFound("no".to_owned())).context("get");
        assert_eq!(Exit::of(&missing), Exit::NotFound);
    }
}
