//! What the verifier makes of the programs.

use std::{fmt::Write as _, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::{sys::utsname::uname, unistd::geteuid};

use crate::{
    build::{Layout, Profile},
    cargo, image,
    kernels::{self, Program, Verified},
    setup,
};

/// Has the programs verified on these kernels of the matrix, or on the one that runs here and on
/// all of them; prints what it took, and fails past the budget.
pub(crate) fn verify(names: &[String]) -> Result<()> {
    let mut kernels = Vec::new();
    if names.is_empty() {
        kernels.push(here()?);
    }
    kernels.extend(kernels::verified(names)?);
    print!("\n{}", table(&kernels));
    ensure!(
        kernels.iter().all(|kernel| kernel.is_success),
        "programs are past their budget, or were refused: the test's words are above"
    );
    Ok(())
}

/// On the kernel that runs here.
fn here() -> Result<Verified> {
    setup::ensure(setup::RUN)?;
    ensure!(
        geteuid().is_root(),
        "to have the kernel that runs here verify programs takes root; naming kernels \
         (`cargo xtask verify 6.1 6.12`) takes none"
    );
    let built = image::program(Profile::Dev, Layout::Own)?;
    let mut command = cargo::host("test")?;
    built
        .tell(&mut command)
        .args(["--test", "verifier"])
        .args(["--", "--include-ignored", "--show-output"])
        .stderr(Stdio::inherit());
    let output = command.output().context("cannot start cargo")?;
    let printed = String::from_utf8_lossy(&output.stdout);
    print!("{printed}");
    Ok(Verified {
        release: uname()?.release().to_string_lossy().into_owned(),
        programs: printed.lines().filter_map(Program::read).collect(),
        is_success: output.status.success(),
    })
}

/// One line a program and kernel.
fn table(kernels: &[Verified]) -> String {
    let mut table = format!(
        "{:<16}{:<28}{:>16}{:>12}{:>12}\n",
        "PROGRAM", "KERNEL", "INSTRUCTIONS", "STACK", "LOAD"
    );
    let mut lines: Vec<_> = kernels
        .iter()
        .flat_map(|kernel| kernel.programs.iter().map(move |program| (program, kernel)))
        .collect();
    // Stable: the kernels of a program stay in their order.
    lines.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    for (program, kernel) in lines {
        let Program {
            name,
            instructions,
            stack,
            load,
        } = program;
        let _ = writeln!(
            table,
            "{name:<16}{:<28}{instructions:>16}{stack:>12}{:>12}",
            kernel.release,
            format!("{load} us")
        );
    }
    table += "taken/allowed; loading is timed where it happens, which in a machine is emulated\n";
    table
}
