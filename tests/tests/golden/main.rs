//! What every command prints, against the files in `tests/golden`.
//!
//! With `UNDERPASS_RENEW_GOLDEN=1` the files are written instead, to be looked at as a change is.

mod cases;
mod form;
mod kept;
mod pipes;
mod scene;
mod varying;

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use clap::Command;
use dataplane_user::cli;

use cases::{Case, ELSEWHERE, FLUSHED, WITH_AGENT, WITHOUT_AGENT};
use form::Form;
use kept::Kept;
use scene::Scene;

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn every_command_prints_what_is_in_its_golden_files() -> Result<()> {
    let commands = cli::command();
    let mut kept = Kept::open()?;
    let mut scene = Scene::new()?;
    for case in WITH_AGENT {
        compare(&mut kept, &mut scene, &commands, case)?;
    }
    scene.be_silent();
    for case in FLUSHED {
        compare(&mut kept, &mut scene, &commands, case)?;
    }
    scene.lose_agent()?;
    for case in WITHOUT_AGENT {
        compare(&mut kept, &mut scene, &commands, case)?;
    }
    kept.conclude()
}

fn compare(kept: &mut Kept, scene: &mut Scene, commands: &Command, case: &Case) -> Result<()> {
    for form in forms(commands, case) {
        let printed = scene.run(case, form);
        let printed = printed.with_context(|| format!("{} as {form:?}", case.stem()))?;
        kept.compare(&format!("{}.{}", case.stem(), form.extension()), &printed)?;
    }
    Ok(())
}

/// Those that the case's command has.
fn forms(commands: &Command, case: &Case) -> Vec<Form> {
    let words = case.command.split(' ').filter(|word| !word.is_empty());
    let command = words.fold(commands, |command, word| {
        let found = command.find_subcommand(word);
        found.unwrap_or_else(|| panic!("there is no command {}", case.command))
    });
    let mut arguments = command.get_arguments();
    match arguments.find(|argument| argument.get_long() == Some("output")) {
        Some(output) if !case.is_one_form => {
            let values = output.get_possible_values();
            values
                .iter()
                .map(|value| Form::of(value.get_name()))
                .collect()
        }
        _ => vec![Form::Plain],
    }
}

/// Of each that does something by itself.
#[test]
fn every_command_has_a_golden_file() {
    let cases = || [WITH_AGENT, FLUSHED, WITHOUT_AGENT].into_iter().flatten();
    let known: BTreeSet<_> = cases().map(|case| case.command.to_owned()).collect();
    let mut missing = Vec::new();
    each(&cli::command(), "", &mut |command| {
        if !known.contains(command) && !ELSEWHERE.contains(&command) {
            missing.push(command.to_owned());
        }
    });
    assert!(
        missing.is_empty(),
        "nothing is kept of what these print: {missing:?}; each needs a line in \
         tests/tests/golden/cases.rs, and the files are renewed as CONTRIBUTING.md says"
    );
    let stems: BTreeSet<_> = cases().map(Case::stem).collect();
    assert_eq!(
        stems.len(),
        cases().count(),
        "two cases have the same files"
    );
}

fn each(command: &Command, path: &str, see: &mut impl FnMut(&str)) {
    if !command.is_subcommand_required_set() {
        see(path);
    }
    for subcommand in command.get_subcommands() {
        let path = format!("{path} {}", subcommand.get_name());
        each(subcommand, path.trim_start(), see);
    }
}
