//! The seeds of the fuzzer's corpus: everything holds of them, too, and they are still what their
//! names say.

use std::{fs, io, path::Path};

use dataplane_common::abi::Hook;
use dataplane_fuzz::{check, stack};

#[test]
fn every_seed_gets_where_its_name_says() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for hook in Hook::DECIDING {
        let mut seeds = 0;
        for seed in fs::read_dir(corpus.join(hook.name()))? {
            let seed = seed?;
            let reason = check(hook, &fs::read(seed.path())?);
            assert_eq!(
                *reason.name(),
                *seed.file_name(),
                "at {hook:?}: run `cargo run --package dataplane-fuzz --example seeds` where the \
                 grammar has changed"
            );
            seeds += 1;
        }
        assert!(seeds > 10, "{seeds} seeds at {hook:?}");
    }
    Ok(())
}

#[test]
fn every_story_has_in_it_what_its_name_says() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/stack");
    let mut seeds = 0;
    for seed in fs::read_dir(corpus)? {
        let seed = seed?;
        let counts = stack::happens(&fs::read(seed.path())?).expect("a story that goes well");
        assert!(
            counts
                .keys()
                .any(|reason| *reason.name() == *seed.file_name()),
            "{}: run `cargo run --package dataplane-fuzz --example seeds` where the grammar has changed",
            seed.path().display()
        );
        seeds += 1;
    }
    assert!(seeds > 5, "{seeds} seeds");
    Ok(())
}
