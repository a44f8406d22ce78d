//! How each command of the documents is tried.

use anyhow::{Result, bail};

/// Why `.ci/run` has a command, and nobody else.
pub(crate) const CI: &str = "run by .ci/run, as it is or with --quick";

/// What is not run here, by how the command begins, and why.
pub(crate) const ELSEWHERE: &[(&str, &str)] = &[
    ("cargo xtask lint", CI),
    ("cargo xtask test", CI),
    ("cargo xtask kernels", CI),
    ("cargo xtask bench", CI),
    ("cargo xtask deny", CI),
    ("cargo xtask documents", "would change the documents"),
    ("cargo install", "would change this machine"),
    ("cargo deny", "downloads a database"),
    (
        "cargo xtask demo",
        "tests/modes.rs walks the same paths, and this takes 35 seconds more",
    ),
    ("cargo xtask build", "what is run here was built by it"),
    (
        "cargo xtask manifests",
        "xtask's tests render and check every overlay",
    ),
    (
        "kubectl",
        "takes a cluster; xtask's tests validate what would be applied",
    ),
    (
        "scp",
        "takes a node, and containerd: tried with 1.6, which ran what it had imported",
    ),
    ("ssh node1 ctr", "the same"),
    (
        "skopeo",
        "takes a registry; tests/image.rs has it read the archive",
    ),
    ("tcpdump", "tests/monitors.rs has it read such a file"),
    (
        "underpass top",
        "takes a terminal; tests/top.rs gives it one",
    ),
    ("install", "would change this machine"),
    (
        "systemctl",
        "would change this machine; tests/health.rs is systemd for an agent",
    ),
    (
        "podman",
        "tests/image.rs runs the image, with a name of its own",
    ),
];

/// How a command is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// On a node whose pods talk, with an agent beside netfilter.
    Read,
    /// The same, where all is carried that has a route: what becomes of a packet does not depend on when
    /// its flow was seen last.
    Explain,
    /// On a node whose agent mirrors the kernel's routes.
    ReadMirror,
    /// The same, until it has printed something.
    Follow,
    /// By HTTP, of the agent at work.
    Ask,
    /// Until it is in sync.
    Agent,
    /// On a node without an agent that had one.
    Detach,
    /// By somebody else, who is in [`ELSEWHERE`] by this.
    Elsewhere(&'static str),
}

/// How `line` is tried.
pub(crate) fn way(line: &str) -> Result<Way> {
    let words: Vec<_> = line.split_whitespace().collect();
    if let Some((prefix, _)) = ELSEWHERE
        .iter()
        .find(|(prefix, _)| line.starts_with(prefix))
    {
        return Ok(Way::Elsewhere(prefix));
    }
    Ok(match &*words {
        ["curl", ..] => Way::Ask,
        ["underpass", "agent", ..] => Way::Agent,
        ["underpass", "detach", ..] => Way::Detach,
        ["underpass", "monitor", ..] | ["underpass", _, "watch", ..] => Way::Follow,
        ["underpass", "explain", ..] => Way::Explain,
        ["underpass", "routes", .., "--unmirrored"] => Way::ReadMirror,
        ["underpass", ..] => Way::Read,
        _ => bail!(
            "`{line}` is tried nowhere: say how in tests/tests/documents/commands.rs, or why not"
        ),
    })
}
