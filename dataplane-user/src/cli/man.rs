//! `underpass man`: what clap knows of the commands, and what it does not.

use anyhow::{Context, Result};
use clap::{Arg, Command, builder::PossibleValue};
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use super::{exit::Exit, global::DEFAULT_CONFIG};
use crate::config::DEFAULT_PINS;

const FILES: [(&str, &str); 3] = [
    (
        DEFAULT_CONFIG,
        "The configuration, unless --config says otherwise.",
    ),
    (
        DEFAULT_PINS,
        "Where maps and links are pinned, unless --pins or the configuration says otherwise. It has to \
         be on a BPF file system. What is pinned there outlives the agent.",
    ),
    (
        "/proc/sys/net/netfilter",
        "Where the agent sets what connection tracking has to bear with acceleration: established.",
    ),
];

const ENVIRONMENT: [(&str, &str); 3] = [
    (
        "NODE_NAME",
        "The name of this node, where the configuration has none; else it is the hostname.",
    ),
    (
        "RUST_LOG",
        "Which log lines are written to standard error: error, warn, info (the default), debug or trace.",
    ),
    (
        "NO_COLOR",
        "If it is set, help and underpass top are without colour on a terminal, too. Nothing else is ever \
         in colour.",
    ),
];

/// The manual page in roff, as man(1) reads it.
pub(super) fn page(mut command: Command) -> Result<String> {
    command.build();
    let man = Man::new(command.clone())
        .section("8")
        .manual("System administration");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut rest = Roff::new();
    rest.control("SH", ["COMMANDS"]);
    for subcommand in command.get_subcommands() {
        describe(subcommand, &mut rest);
    }
    let exits = Exit::ALL.map(|exit| ((exit as u8).to_string(), exit.meaning()));
    section("EXIT STATUS", exits, &mut rest);
    section("FILES", FILES, &mut rest);
    section("ENVIRONMENT", ENVIRONMENT, &mut rest);
    rest.to_writer(&mut page)?;
    String::from_utf8(page).context("the manual page is not UTF-8")
}

/// A command, where it is one by itself, and those below it.
fn describe(command: &Command, roff: &mut Roff) {
    if command.get_name() == "help" {
        return;
    }
    if !command.is_subcommand_required_set() {
        describe_itself(command, roff);
    }
    for subcommand in command.get_subcommands() {
        describe(subcommand, roff);
    }
}

fn describe_itself(command: &Command, roff: &mut Roff) {
    roff.control("SS", [command.get_bin_name().unwrap_or_default()]);
    let about = command.get_about().map(ToString::to_string);
    roff.text([roman(about.unwrap_or_default())]);
    let arguments = command.get_arguments();
    // Those of every command are in a section of their own.
    let own = arguments.filter(|argument| !argument.is_global_set() && argument.get_id() != "help");
    for argument in own {
        item(&argument.to_string(), &help(argument), roff);
    }
}

fn help(argument: &Arg) -> String {
    let help = argument.get_help().map(ToString::to_string);
    let mut parts = vec![help.unwrap_or_default()];
    if argument.get_action().takes_values() {
        let values = argument.get_possible_values();
        let values: Vec<_> = values.iter().map(PossibleValue::get_name).collect();
        if !values.is_empty() {
            parts.push(format!("one of {}", values.join(", ")));
        }
        let defaults = argument.get_default_values().iter();
        parts.extend(defaults.map(|value| format!("by default {}", value.display())));
    }
    parts.join("; ")
}

fn section<T: AsRef<str>, const N: usize>(title: &str, items: [(T, &str); N], roff: &mut Roff) {
    roff.control("SH", [title]);
    for (name, text) in items {
        item(name.as_ref(), text, roff);
    }
}

fn item(name: &str, text: &str, roff: &mut Roff) {
    roff.control("TP", []);
    roff.text([bold(name)]);
    roff.text([roman(text)]);
}
