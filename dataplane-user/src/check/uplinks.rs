//! The interfaces that lead to other nodes.

use std::fs;

use super::{Finding, node::Node, words::some_of};
use crate::kernel::Link;

pub(super) struct Facts<'n> {
    node: &'n Node,
    /// Of each uplink, whether the reverse-path filter is strict.
    strict: Vec<&'n str>,
}

pub(super) fn read(node: &Node) -> Facts<'_> {
    let names = node.uplinks.iter().map(|uplink| uplink.name.as_str());
    Facts {
        node,
        strict: names.filter(|name| is_strict(name)).collect(),
    }
}

/// Whether the stack takes only what comes in by where the way back leads out. The larger of two
/// settings holds, and 2 is loose.
fn is_strict(interface: &str) -> bool {
    let value = |of: &str| {
        let path = format!("/proc/sys/net/ipv4/conf/{of}/rp_filter");
        let text = fs::read_to_string(path).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    };
    value("all").max(value(interface)) == 1
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let node = facts.node;
    let missing = node.missing.iter().map(|missing| {
        Finding::fails("uplinks", &missing.peer)
            .means(missing.to_string())
            .remedy("correct `uplinks` in the configuration, or the cluster file")
    });
    let mut findings: Vec<_> = missing.collect();
    if node.uplinks.is_empty() && findings.is_empty() {
        findings.push(
            Finding::fails("uplinks", "none")
                .means("no route to another node and no default route says which interface leads there")
                .remedy("name them in the configuration: `uplinks: [eth0]`"),
        );
    }
    findings.extend(node.uplinks.iter().map(uplink));
    findings.extend(reverse_path(facts));
    findings
}

fn uplink(link: &Link) -> Finding {
    let subject = format!("uplink {}", link.name);
    let kind = link.kind.as_deref().unwrap_or("a device");
    if link.up && link.carrier {
        return Finding::ok(subject, kind);
    }
    let state = if link.up { "no carrier" } else { "down" };
    Finding::warning(subject, state)
        .means("nothing comes or goes by it until it is up")
        .remedy(format!("ip link set {} up, or see to its cable", link.name))
}

fn reverse_path(facts: &Facts) -> Option<Finding> {
    const SUBJECT: &str = "reverse-path filter";
    if facts.node.uplinks.is_empty() {
        return None;
    }
    let several = facts.node.uplinks.len() > 1;
    Some(match &*facts.strict {
        [] => Finding::ok(SUBJECT, "not strict"),
        strict if several => Finding::warning(
            SUBJECT,
            format!("strict: {}", some_of(strict.iter().copied())),
        )
        .means("the stack drops what comes in by another uplink than the way back leads out by")
        .remedy(
            "sysctl -w net.ipv4.conf.all.rp_filter=2, where packets come and go by several ways",
        ),
        _ => Finding::ok(SUBJECT, "strict"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::Outcome::{Fails, Ok as Fine, Warning},
        plan::LeftOut,
    };

    fn link(name: &str, up: bool, carrier: bool) -> Link {
        Link {
            name: name.to_owned(),
            up,
            carrier,
            ..Link::default()
        }
    }

    fn judged(node: &Node, strict: &[&'static str]) -> Vec<Finding> {
        judge(&Facts {
            node,
            strict: strict.to_vec(),
        })
    }

    #[test]
    fn there_has_to_be_one() {
        let found = judged(&Node::default(), &[]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].result, &*found[0].found), (Fails, "none"));
        let node = Node {
            missing: vec![LeftOut::uplink("eth7")],
            ..Node::default()
        };
        let found = judged(&node, &[]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].result, &*found[0].found), (Fails, "uplink eth7"));
    }

    #[test]
    fn one_that_is_down_is_told() {
        for (up, carrier, result) in [
            (true, true, Fine),
            (true, false, Warning),
            (false, false, Warning),
        ] {
            let node = Node {
                uplinks: vec![link("eth0", up, carrier)],
                ..Node::default()
            };
            assert_eq!(judged(&node, &[])[0].result, result, "{up} {carrier}");
        }
    }

    #[test]
    fn a_strict_filter_matters_where_there_are_several_ways() {
        let uplinks = |count: usize| Node {
            uplinks: vec![link("eth0", true, true); count],
            ..Node::default()
        };
        for (count, strict, result) in [
            (1, &[][..], Fine),
            (1, &["eth0"], Fine),
            (2, &[], Fine),
            (2, &["eth0"], Warning),
        ] {
            let node = uplinks(count);
            let found = judged(&node, strict);
            assert_eq!(found.last().unwrap().result, result, "{count} {strict:?}");
        }
    }
}
