//! The properties, on cases by a generator of random numbers; and the generator itself: that its
//! cases get everywhere.

use std::collections::BTreeSet;

use dataplane_common::{abi::Hook, reason::Reason};
use dataplane_fuzz::check;

const CASES_PER_HOOK: usize = 15_000;

#[test]
fn everything_holds_of_random_cases_which_get_everywhere() {
    let mut random = fastrand::Rng::with_seed(1);
    let mut bytes = [0; 512];
    let mut reasons = BTreeSet::new();
    for hook in Hook::DECIDING {
        for _ in 0..CASES_PER_HOOK {
            random.fill(&mut bytes);
            reasons.insert(check(hook, &bytes));
        }
    }
    let missed: Vec<_> = Reason::ALL
        .iter()
        .filter(|r| !reasons.contains(r))
        .collect();
    // Those are for what only a kernel does, or what leaves its stack: see `stack.rs`.
    let others = [
        Reason::CutUp,
        Reason::NoMetadata,
        Reason::Unmarked,
        Reason::Verified,
        Reason::Translated,
        Reason::Rewrite,
    ];
    assert_eq!(missed, others.iter().collect::<Vec<_>>());
}
