//! Where maps and links would be pinned.

use anyhow::Result;

use super::Finding;
use crate::dataplane::{self, Pins};

pub(super) struct Facts {
    base: String,
    file_system: Result<()>,
    /// Whether everything in our places is ours.
    audit: Result<()>,
    /// Whether a process works with them.
    are_locked: Result<bool>,
    /// Whether this version has any.
    exist: bool,
    /// Whether other versions have.
    others: bool,
}

pub(super) fn read(pins: &Pins) -> Facts {
    Facts {
        base: pins.base().display().to_string(),
        file_system: pins.check_file_system(),
        audit: dataplane::audit(pins).map(drop),
        are_locked: pins.are_locked(),
        exist: pins.exist(),
        others: pins.others().is_ok_and(|others| !others.is_empty()),
    }
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    const SUBJECT: &str = "BPF file system";
    match &facts.file_system {
        Ok(()) => vec![Finding::ok(SUBJECT, &facts.base), pinned(facts)],
        Err(error) => vec![Finding::refused(SUBJECT, "none", error)],
    }
}

fn pinned(facts: &Facts) -> Finding {
    const SUBJECT: &str = "pins";
    if let Err(error) = &facts.audit {
        return Finding::refused(SUBJECT, "not ours", error);
    }
    match &facts.are_locked {
        Ok(true) => Finding::ok(SUBJECT, "an agent is running")
            .means("another one with the same pins would be refused"),
        Ok(false) if facts.exist => {
            Finding::ok(SUBJECT, "an agent has run").means("the next one goes on with them")
        }
        Ok(false) if facts.others => Finding::ok(SUBJECT, "of another version")
            .means("the agent adopts its links, and removes the rest once it is in sync"),
        Ok(false) => Finding::ok(SUBJECT, "none"),
        Err(error) => Finding::unknown(SUBJECT, error),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;
    use crate::check::Outcome;

    fn free() -> Facts {
        Facts {
            base: "/sys/fs/bpf/underpass".to_owned(),
            file_system: Ok(()),
            audit: Ok(()),
            are_locked: Ok(false),
            exist: false,
            others: false,
        }
    }

    #[test]
    fn pins_are_nobodys_or_ours() {
        let found = |facts: Facts| judge(&facts)[1].found.clone();
        assert_eq!(found(free()), "none");
        let exist = true;
        assert_eq!(found(Facts { exist, ..free() }), "an agent has run");
        let others = true;
        assert_eq!(found(Facts { others, ..free() }), "of another version");
        let are_locked = Ok(true);
        let running = Facts {
            are_locked,
            exist,
            ..free()
        };
        assert_eq!(found(running), "an agent is running");
    }

    #[test]
    fn what_the_agent_would_refuse_fails() {
        let file_system = Err(anyhow!("not on a BPF file system"));
        let none = judge(&Facts {
            file_system,
            ..free()
        });
        assert_eq!(none.len(), 1);
        assert_eq!(none[0].result, Outcome::Fails);
        let audit = Err(anyhow!("somebody's"));
        let strange = judge(&Facts { audit, ..free() });
        assert_eq!(strange[1].result, Outcome::Fails);
    }
}
