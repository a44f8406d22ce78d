//! The clippy that lints the BPF programs: the BPF toolchain's own.
//!
//! The host's clippy would see them compiled for the host, where aya-ebpf's helpers are other code;
//! it cannot see them compiled for BPF, for which the host's toolchain has no `core`.

use std::process::Command;

use crate::{
    lookup, process,
    setup::{Need, Remedy},
    toolchain::Toolchain,
};

/// The BPF toolchain's clippy as a thing to have.
pub(crate) fn needs() -> Vec<Need> {
    // Where there is no toolchain yet, it will be Debian's.
    let toolchain = Toolchain::find();
    let found = toolchain.as_ref().and_then(|toolchain| {
        let clippy = toolchain.bin.join("cargo-clippy");
        lookup::is_executable(&clippy).then(|| clippy.display().to_string())
    });
    let remedy = match toolchain.and_then(|toolchain| toolchain.rustup_name()) {
        Some(name) => add_component(&name),
        None => Remedy::Packages(&["rust-web-clippy"]),
    };
    vec![Need {
        name: "BPF clippy".to_owned(),
        why: "lints the BPF programs",
        found,
        remedy,
    }]
}

fn add_component(toolchain: &str) -> Remedy {
    let mut command = Command::new("rustup");
    command.args(["component", "add", "clippy", "--toolchain", toolchain]);
    let line = process::line(&command);
    Remedy::Command {
        line,
        command: Box::new(command),
    }
}
