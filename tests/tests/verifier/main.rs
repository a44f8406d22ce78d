//! What the kernel's verifier makes of the programs.

mod budget;
mod verified;

use anyhow::Result;
use dataplane_common::abi::Hook;
use dataplane_tests::{Lab, require_root};
use dataplane_user::dataplane::{self, Pins};
use nix::sys::utsname::uname;

use self::{budget::Budget, verified::Verified};

/// Prints what each program takes; `cargo xtask verify` and `cargo xtask kernels` read it.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn every_program_is_accepted_within_its_budget() -> Result<()> {
    require_root();
    let release = uname()?.release().to_string_lossy().into_owned();
    let lab = Lab::flat(1, 0)?;
    let mut dataplane = dataplane::load(&Pins::new(lab.node("node-0").pins()))?;
    let mut past = Vec::new();
    for hook in Hook::ALL {
        let name = hook.name();
        let verified = match hook {
            Hook::XdpUplink => Verified::by_loading(dataplane.xdp()?)?,
            _ => Verified::by_loading(dataplane.program(hook)?)?,
        };
        let budget = Budget::of(name, &release)?;
        println!(
            "verified: {name} instructions {}/{} stack {}/{} load-us {}",
            verified.instructions,
            budget.instructions,
            verified.stack,
            budget.stack,
            verified.load.as_micros(),
        );
        if verified.instructions > budget.instructions || verified.stack > budget.stack {
            past.push(name);
        }
    }
    assert!(
        past.is_empty(),
        "past the budget on {release}: {}. Make them smaller, or raise the budget in \
         tests/tests/verifier/budget.rs and say in the commit what the instructions are for",
        past.join(", ")
    );
    Ok(())
}
