//! Embeds the BPF object that `cargo xtask build` names in `UNDERPASS_BPF_OBJECT`. Without it, as
//! in a plain `cargo build`, the binary has no programs to load and says so when it has to.

use std::{env, fs, path::PathBuf};

const VARIABLE: &str = "UNDERPASS_BPF_OBJECT";

fn main() {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    let target = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("bpf.o");
    match env::var_os(VARIABLE) {
        Some(object) => {
            println!("cargo::rerun-if-changed={}", object.to_string_lossy());
            if let Err(error) = fs::copy(&object, &target) {
                panic!("{VARIABLE}={}: {error}", object.to_string_lossy());
            }
        }
        None => fs::write(&target, []).expect("OUT_DIR can be written"),
    }
}
