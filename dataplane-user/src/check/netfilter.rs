//! Netfilter: whether its word is heard, and whether it is passed by.

use std::fs;

use anyhow::Result;

use super::Finding;
use crate::{config::Config, kernel::RuleEvents};

/// The tables of iptables-legacy that there are.
const LEGACY_TABLES: &str = "/proc/net/ip_tables_names";
/// How many connections are tracked.
const TRACKED: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

pub(super) struct Facts {
    is_established: bool,
    /// Whether the kernel tells of rules that change.
    events: Result<()>,
    has_legacy_tables: bool,
    /// Whether connections are tracked.
    tracks: bool,
}

pub(super) fn read(config: &Config) -> Facts {
    let tables = fs::read_to_string(LEGACY_TABLES).unwrap_or_default();
    let tracked = fs::read_to_string(TRACKED).unwrap_or_default();
    Facts {
        is_established: config.is_established(),
        events: RuleEvents::subscribe().map(drop),
        has_legacy_tables: !tables.trim().is_empty(),
        tracks: tracked.trim().parse().unwrap_or(0) > 0,
    }
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    vec![if facts.is_established {
        heeded(facts)
    } else {
        passed_by(facts)
    }]
}

const SUBJECT: &str = "netfilter";

fn heeded(facts: &Facts) -> Finding {
    match &facts.events {
        Err(error) => Finding::refused(SUBJECT, "not heard", error)
            .remedy("a kernel with nf_tables, or `acceleration: all` where nothing filters pods"),
        Ok(()) if facts.has_legacy_tables => Finding::warning(SUBJECT, "iptables-legacy")
            .means(
                "of its changes the kernel tells nothing: a flow that a rule begins to drop is carried \
                 for up to `reverify` more",
            )
            .remedy("iptables-nft, a shorter `reverify`, or `underpass flows flush` after a change"),
        Ok(()) => Finding::ok(SUBJECT, "heeded"),
    }
}

fn passed_by(facts: &Facts) -> Finding {
    if facts.has_legacy_tables || facts.tracks {
        return Finding::warning(SUBJECT, "passed by")
            .means(
                "with `acceleration: all` what kube-proxy, a NetworkPolicy or masquerading would do to a \
                 packet between two pods does not happen",
            )
            .remedy("`acceleration: established`, unless netfilter has no part in pods' traffic");
    }
    Finding::ok(SUBJECT, "passed by").means("it tracks no connections here")
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;
    use crate::check::Outcome::{self, Fails, Ok as Fine, Warning};

    fn result(facts: &Facts) -> Outcome {
        judge(facts)[0].result
    }

    fn facts(is_established: bool) -> Facts {
        Facts {
            is_established,
            events: Ok(()),
            has_legacy_tables: false,
            tracks: false,
        }
    }

    #[test]
    fn rules_that_change_have_to_be_heard_of() {
        assert_eq!(result(&facts(true)), Fine);
        let events = Err(anyhow!("no nf_tables"));
        assert_eq!(
            result(&Facts {
                events,
                ..facts(true)
            }),
            Fails
        );
        let has_legacy_tables = true;
        assert_eq!(
            result(&Facts {
                has_legacy_tables,
                ..facts(true)
            }),
            Warning
        );
    }

    #[test]
    fn what_is_passed_by_is_told_where_it_does_something() {
        assert_eq!(result(&facts(false)), Fine);
        let tracks = true;
        assert_eq!(
            result(&Facts {
                tracks,
                ..facts(false)
            }),
            Warning
        );
        // Nobody listens then.
        let events = Err(anyhow!("no nf_tables"));
        assert_eq!(
            result(&Facts {
                events,
                ..facts(false)
            }),
            Fine
        );
    }
}
