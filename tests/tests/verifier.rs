//! What the kernel's verifier makes of the programs.

use anyhow::Result;
use dataplane_common::abi::Hook;
use dataplane_tests::{Lab, require_root};
use dataplane_user::dataplane::{self, Pins};

/// Prints, for whoever asks to see it, how many instructions the verifier looked at: programs are
/// to stay far from its limit of a million, on every kernel.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn every_program_is_accepted() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 0)?;
    let mut dataplane = dataplane::load(&Pins::new(lab.node("node-0").pins()))?;
    for hook in Hook::ALL {
        let info = match hook {
            Hook::XdpUplink => dataplane.xdp()?.info()?,
            _ => dataplane.program(hook)?.info()?,
        };
        let instructions = info
            .verified_instruction_count()
            .map_or_else(|| "?".to_owned(), |count| count.to_string());
        let size = info
            .size_translated()
            .map_or_else(|| "?".to_owned(), |bytes| (bytes / 8).to_string());
        println!(
            "verified: {:<14}{instructions:>8} instructions of {size}",
            hook.name()
        );
    }
    Ok(())
}
