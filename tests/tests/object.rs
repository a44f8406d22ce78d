//! What the BPF object is made of.

use std::{env, fs};

use anyhow::{Context as _, Result};
use dataplane_common::abi::{Hook, maps};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, read::File};

/// The panic handler calls a symbol that is defined nowhere; the linker drops handler and call
/// together unless something reaches them.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn no_panic_is_reachable() -> Result<()> {
    let bytes = object()?;
    let undefined: Vec<_> = File::parse(&*bytes)?
        .symbols()
        .filter(object::ObjectSymbol::is_undefined)
        .filter_map(|symbol| symbol.name().ok().map(str::to_owned))
        .filter(|name| !name.is_empty())
        .collect();
    assert_eq!(undefined, [""; 0]);
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn every_hook_has_a_program_and_every_map_its_name() -> Result<()> {
    let bytes = object()?;
    let file = File::parse(&*bytes)?;
    let names: Vec<_> = file
        .symbols()
        .filter_map(|symbol| symbol.name().ok())
        .collect();
    let wanted = Hook::ALL.map(Hook::name).into_iter().chain(maps::ALL);
    for name in wanted {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    Ok(())
}

/// The kernel lends some of its helpers only to what says so.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn every_object_declares_its_licence() -> Result<()> {
    for variable in ["UNDERPASS_BPF_OBJECT", "UNDERPASS_FLOOR_OBJECT"] {
        let bytes = built(variable)?;
        let file = File::parse(&*bytes)?;
        let license = file.section_by_name("license").context("no licence")?;
        assert_eq!(license.data()?, b"GPL\0", "{variable}");
    }
    Ok(())
}

fn object() -> Result<Vec<u8>> {
    built("UNDERPASS_BPF_OBJECT")
}

fn built(variable: &str) -> Result<Vec<u8>> {
    let path = env::var(variable)
        .with_context(|| format!("{variable} is not set: run the tests by `cargo xtask test`"))?;
    fs::read(&path).with_context(|| format!("read {path}"))
}
