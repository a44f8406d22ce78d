//! The BPF programs and the host's implementation of them: for the same tables and the same packet,
//! the same bytes, the same way on, the same count.

use std::{collections::BTreeMap, env};

use anyhow::{Context as _, Result};
use dataplane_common::{
    abi::Hook,
    reason::{Action, Reason},
};
use dataplane_fuzz::{choices::Choices, packets, tables};
use dataplane_tests::{Lab, differential::Differential, require_root};

/// How many packets: `UNDERPASS_CASES`, or this.
const CASES: u64 = 100_000;
/// Packets by which tables are tried.
const CASES_PER_TABLES: u64 = 250;
/// Bytes from which a case is made; whatever more it would take is zero.
const BYTES: usize = 384;

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn programs_do_to_random_packets_what_the_host_does() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 3)?;
    let mut differential = Differential::new(lab.node("node-0"))?;
    let cases = number("UNDERPASS_CASES")?.unwrap_or(CASES);
    let seed = number("UNDERPASS_SEED")?.unwrap_or_else(|| fastrand::u64(..));
    println!("{cases} cases from UNDERPASS_SEED={seed} on");

    let mut reasons = BTreeMap::<_, u64>::new();
    for round in 0..cases.div_ceil(CASES_PER_TABLES) {
        // So that a round can be repeated without those before it.
        let seed = seed.wrapping_add(round);
        try_tables(&mut differential, seed, &mut reasons)
            .with_context(|| format!("UNDERPASS_SEED={seed} repeats it"))?;
    }
    for ((hook, reason), count) in &reasons {
        println!("{:<14}{:<22}{count}", hook.name(), reason.name());
    }
    for reason in Reason::ALL {
        let was_seen = reasons.keys().any(|(_, seen)| seen == reason);
        // What comes here has never been in a tunnel, so nothing has to be cut up.
        let is_possible = reason.action() == Action::Forward && *reason != Reason::CutUp;
        assert!(
            was_seen || !is_possible || cases < CASES,
            "never {}",
            reason.name()
        );
    }
    Ok(())
}

/// Makes tables and packets by `seed`.
fn try_tables(
    differential: &mut Differential,
    seed: u64,
    reasons: &mut BTreeMap<(Hook, Reason), u64>,
) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = [0; BYTES];
    random.fill(&mut bytes);
    let around = differential.around().clone();
    let tables = tables(&mut Choices::new(&bytes), &around);
    differential.set_tables(tables.clone())?;
    for number in 0..CASES_PER_TABLES {
        random.fill(&mut bytes);
        let case = packets::case(&mut Choices::new(&bytes), &tables, &around);
        let reason = differential.compare(&case);
        let Some(reason) = reason.with_context(|| format!("case {number}"))? else {
            continue;
        };
        *reasons.entry((case.hook, reason)).or_default() += 1;
        if reason.action() == Action::Forward {
            // Once more, by the way that is known now.
            let again = differential.compare(&case);
            again.with_context(|| format!("case {number} again"))?;
        }
    }
    differential.compare_counters()
}

fn number(variable: &str) -> Result<Option<u64>> {
    let Ok(text) = env::var(variable) else {
        return Ok(None);
    };
    let number = text.parse().with_context(|| format!("{variable}={text}"))?;
    Ok(Some(number))
}
