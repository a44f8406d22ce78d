//! A node without a carrier: the table of cases, with the kernel's own tunnel devices for what the
//! programs leave.

use anyhow::Result;
use dataplane_tests::{
    Mode,
    cases::{self, Bench, Kernel, Played, World, play_without_carrier},
    require_root,
};

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn every_case_without_encapsulation() -> Result<()> {
    play(Mode::None)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_kernels_ipip_device_treats_what_the_programs_leave() -> Result<()> {
    play(Mode::Ipip)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_kernels_vxlan_device_treats_what_the_programs_leave() -> Result<()> {
    play(Mode::Vxlan)
}

fn play(mode: Mode) -> Result<()> {
    require_root();
    let kernel = Kernel::running()?;
    let mut failed = Vec::new();
    for (way, bench) in [
        ("traffic control", Bench::without_carrier(mode)?),
        ("XDP", Bench::without_carrier_with_xdp(mode)?),
    ] {
        for case in cases::table(World { mode, kernel }) {
            if matches!(case.played, Played::OnlyRun { .. }) {
                continue;
            }
            let outcome = play_without_carrier(&bench, &case)?;
            if !outcome.is_empty() {
                println!("{} {}\n{}", case.name, case.title, outcome.join("\n"));
                failed.push(format!("{} by {way}", case.name));
            }
        }
    }
    assert!(failed.is_empty(), "failed: {failed:?}");
    Ok(())
}
