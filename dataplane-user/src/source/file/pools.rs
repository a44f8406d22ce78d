//! The section `pools`.

use ipnet::Ipv4Net;

use super::list::few;
use super::raw::RawPool;
use crate::cluster::{Pool, PoolMode, Pools, When};
use crate::document::{Located, Problems, scalar};

/// The words for when a pool's packets are encapsulated.
pub(super) const WHENS: [(&str, Option<When>); 3] = [
    ("Always", Some(When::Always)),
    ("CrossSubnet", Some(When::CrossSubnet)),
    ("Never", None),
];

/// The pools as far as they could be read.
pub(super) struct CheckedPools {
    pools: Pools,
    /// Whether all could; if not, nothing can be said to lie outside them.
    complete: bool,
}

impl CheckedPools {
    /// The fault of a prefix that lies in no pool.
    pub(super) fn cover(&self, prefix: Ipv4Net) -> Result<(), String> {
        if !self.complete || self.pools.containing(prefix).is_some() {
            return Ok(());
        }
        Err(format!(
            "is outside every pool ({}): its pool says how packets travel, so correct it or add \
             a pool",
            few(self.pools.iter().map(|pool| pool.cidr))
        ))
    }

    /// The pool that contains all of `prefix`.
    pub(super) fn containing(&self, prefix: Ipv4Net) -> Option<&Pool> {
        self.pools.containing(prefix)
    }

    pub(super) fn into_pools(self) -> Pools {
        self.pools
    }
}

/// Reads every pool, and refuses pools that overlap.
pub(super) fn check(raw: Option<Vec<Located<RawPool>>>, problems: &mut Problems) -> CheckedPools {
    let raw = raw.unwrap_or_default();
    if raw.is_empty() {
        problems.in_file("has no pools: list the networks that pods have their addresses from");
    }
    let given = raw.len();
    let mut pools: Vec<Located<Pool>> = raw
        .into_iter()
        .filter_map(|raw| pool(raw, problems))
        .collect();
    let complete = given > 0 && pools.len() == given;
    refuse_overlaps(&mut pools, problems);
    CheckedPools {
        pools: Pools::new(pools.into_iter().map(|pool| pool.value).collect()),
        complete,
    }
}

fn pool(raw: Located<RawPool>, problems: &mut Problems) -> Option<Located<Pool>> {
    let Some(cidr) = raw.value.cidr else {
        problems.at(
            raw.line,
            "a pool has no cidr: add it, such as 10.244.0.0/16",
        );
        return None;
    };
    let subject = format!("pool {}", cidr.value);
    let ipip = when("ipipMode", raw.value.ipip_mode, &subject, problems);
    let vxlan = when("vxlanMode", raw.value.vxlan_mode, &subject, problems);
    let mode = match (ipip, vxlan) {
        (None, None) => PoolMode::None,
        (Some(when), None) => PoolMode::Ipip(when),
        (None, Some(when)) => PoolMode::Vxlan(when),
        (Some(_), Some(when)) => {
            let fault = "has both ipipMode and vxlanMode on, but packets travel in one of them: \
                         set the other to Never";
            problems.at(cidr.line, format!("{subject} {fault}"));
            PoolMode::Vxlan(when)
        }
    };
    let prefix = problems.keep(cidr.line, &subject, scalar::prefix(&cidr.value))?;
    Some(cidr.with(Pool { cidr: prefix, mode }))
}

fn when(
    field: &str,
    given: Option<Located<String>>,
    subject: &str,
    problems: &mut Problems,
) -> Option<When> {
    let given = given?;
    let when = scalar::word(&given.value, &WHENS);
    let subject = format!("{field} '{}' of {subject}", given.value);
    problems.keep(given.line, subject, when).flatten()
}

/// Leaves only pools that are in no other. Two prefixes are either disjoint or one inside the
/// other, so in the order of addresses, wider first, one look back finds every overlap.
fn refuse_overlaps(pools: &mut Vec<Located<Pool>>, problems: &mut Problems) {
    pools.sort_by_key(|pool| (pool.value.cidr.network(), pool.value.cidr.prefix_len()));
    pools.dedup_by(|inner, outer| {
        let overlaps = outer.value.cidr.contains(&inner.value.cidr);
        if overlaps {
            let (later, earlier) = if inner.line > outer.line {
                (inner, outer)
            } else {
                (outer, inner)
            };
            problems.at(
                later.line,
                format!(
                    "pool {} overlaps pool {} (line {}): an address has one pool, so separate \
                     them or keep one",
                    later.value.cidr, earlier.value.cidr, earlier.line
                ),
            );
        }
        overlaps
    });
}
