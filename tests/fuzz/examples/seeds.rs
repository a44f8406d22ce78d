//! Writes the seeds of the fuzzer's corpus: for each hook the shortest bytes that were found, of
//! random ones, to get to each reason. Run it when the grammar has changed:
//!
//!     cargo run --package dataplane-fuzz --example seeds

use std::{collections::BTreeMap, fs, io, path::Path};

use dataplane_common::abi::Hook;
use dataplane_fuzz::{check, stack};

const TRIES: usize = 100_000;
const STORIES: usize = 300;
const LONGEST: usize = 256;

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut random = fastrand::Rng::with_seed(1);
    for hook in Hook::DECIDING {
        let mut seeds = BTreeMap::new();
        for _ in 0..TRIES {
            let mut bytes = vec![0; LONGEST];
            random.fill(&mut bytes);
            let reason = check(hook, &bytes);
            seeds.entry(reason).or_insert(bytes);
        }
        let directory = corpus.join(hook.name());
        fs::create_dir_all(&directory)?;
        for (reason, mut bytes) in seeds {
            while let Some(last) = bytes.pop() {
                if check(hook, &bytes) != reason {
                    bytes.push(last);
                    break;
                }
            }
            fs::write(directory.join(reason.name()), bytes)?;
        }
    }
    stories(&corpus.join("stack"))
}

/// For each reason that is not in every story, the shortest bytes that were found to tell one with it.
fn stories(directory: &Path) -> io::Result<()> {
    let mut random = fastrand::Rng::with_seed(1);
    let has = |bytes: &[u8], reason| {
        let counts = stack::happens(bytes);
        counts.is_ok_and(|counts| counts.contains_key(&reason))
    };
    let mut seeds = BTreeMap::new();
    for _ in 0..STORIES {
        let mut bytes = vec![0; LONGEST];
        random.fill(&mut bytes);
        for reason in stack::happens(&bytes).unwrap_or_default().into_keys() {
            if !has(&[], reason) {
                seeds.entry(reason).or_insert_with(|| bytes.clone());
            }
        }
    }
    fs::create_dir_all(directory)?;
    for (reason, mut bytes) in seeds {
        while let Some(last) = bytes.pop() {
            if !has(&bytes, reason) {
                bytes.push(last);
                break;
            }
        }
        fs::write(directory.join(reason.name()), bytes)?;
    }
    Ok(())
}
