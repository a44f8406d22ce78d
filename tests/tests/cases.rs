//! The table of cases, played with the programs and without them.
//!
//! What came of each case is printed, one line a way of playing it, which `--show-output` shows:
//! `case: <name> <mode> <way> <ok|FAIL|absent> <title>`. `absent` is what cannot be asked of this
//! kernel: its own IPIP, where it has none.

use anyhow::Result;
use dataplane_tests::{
    Mode,
    cases::{self, Bench, Case, Kernel, Outcome, Played, World, play_kernel, play_live, play_run},
    require_root,
};

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn every_case_without_encapsulation() -> Result<()> {
    play(Mode::None)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn every_case_by_ipip() -> Result<()> {
    play(Mode::Ipip)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn every_case_by_vxlan() -> Result<()> {
    play(Mode::Vxlan)
}

fn play(mode: Mode) -> Result<()> {
    require_root();
    let kernel = Kernel::running()?;
    let table = cases::table(World { mode, kernel });
    let mut report = Report {
        mode,
        failed: Vec::new(),
    };

    let by_kernel = Bench::of_the_kernel(mode, kernel)?;
    for case in table.iter().filter(|case| is_live(case)) {
        match &by_kernel {
            Some(bench) => report.add(case, "kernel", &play_kernel(bench, case)?),
            None => report.absent(case, "kernel"),
        }
    }
    drop(by_kernel);

    let mut by_programs = Bench::with_programs(mode)?;
    for case in table.iter().filter(|case| is_live(case)) {
        report.add(case, "live", &play_live(&by_programs, case)?);
    }
    for case in table.iter().filter(|case| case.played != Played::NotRun) {
        report.add(case, "run", &play_run(&mut by_programs, case)?);
    }
    drop(by_programs);

    let by_xdp = Bench::with_xdp(mode)?;
    for case in table.iter().filter(|case| is_live(case)) {
        report.add(case, "xdp", &play_live(&by_xdp, case)?);
    }
    assert!(report.failed.is_empty(), "failed: {:?}", report.failed);
    Ok(())
}

fn is_live(case: &Case) -> bool {
    !matches!(case.played, Played::OnlyRun { .. })
}

/// What came of the cases of a mode.
struct Report {
    mode: Mode,
    failed: Vec<String>,
}

impl Report {
    fn add(&mut self, case: &Case, way: &str, outcome: &Outcome) {
        if outcome.is_empty() {
            self.print(case, way, "ok");
            return;
        }
        self.print(case, way, "FAIL");
        println!("{}", outcome.join("\n"));
        self.failed.push(format!("{} {way}", case.name));
    }

    fn absent(&self, case: &Case, way: &str) {
        self.print(case, way, "absent");
    }

    fn print(&self, case: &Case, way: &str, result: &str) {
        let mode = cases::word(self.mode);
        println!("case: {} {mode} {way} {result} {}", case.name, case.title);
    }
}
