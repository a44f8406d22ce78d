//! Errors, and lists of names, in a line.

use aya::programs::ProgramError;

/// An error with its causes. Of what the verifier says of a program, the last line is the reason.
pub(super) fn brief(error: &anyhow::Error) -> String {
    let mut parts = Vec::new();
    for cause in error.chain() {
        if let Some(ProgramError::LoadError {
            io_error,
            verifier_log,
        }) = cause.downcast_ref()
        {
            parts.push(io_error.to_string());
            parts.extend(verdict(&verifier_log.to_string()));
            break;
        }
        parts.push(cause.to_string());
    }
    parts.join(": ")
}

/// What the verifier says at last, before its statistics.
fn verdict(log: &str) -> Option<String> {
    /// How its statistics begin.
    const STATISTICS: [&str; 3] = ["processed ", "verification time ", "stack depth "];
    let lines = log.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut lines = lines.filter(|line| !STATISTICS.iter().any(|begin| line.starts_with(begin)));
    lines
        .next_back()
        .map(|line| format!("the verifier says: {line}"))
}

/// Names with commas, of which there may be a node's full.
pub(super) fn some_of<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    const SHOWN: usize = 4;
    let names: Vec<_> = names.into_iter().collect();
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use anyhow::Context as _;

    #[test]
    fn of_the_verifiers_log_the_reason_is_told() {
        let log = "0: (bf) r6 = r1\n1: (85) call unknown#199\ninvalid func unknown#199\n\n\
                   verification time 77 usec\nstack depth 0\n\
                   processed 2 insns (limit 1000000) max_states_per_insn 0\n";
        assert_eq!(
            verdict(log).unwrap(),
            "the verifier says: invalid func unknown#199"
        );
        assert_eq!(verdict("processed 2 insns\n"), None);
        assert_eq!(verdict(""), None);
    }

    #[test]
    fn an_error_is_told_with_its_causes() {
        let denied = Err::<(), _>(io::Error::from(io::ErrorKind::PermissionDenied));
        let error = denied.context("cannot load it").unwrap_err();
        assert_eq!(brief(&error), "cannot load it: permission denied");
    }

    #[test]
    fn a_long_list_is_cut() {
        assert_eq!(some_of([]), "");
        assert_eq!(some_of(["a", "b", "c", "d"]), "a, b, c, d");
        assert_eq!(
            some_of(["a", "b", "c", "d", "e", "f"]),
            "a, b, c, d and 2 more"
        );
    }
}
