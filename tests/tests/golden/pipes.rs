//! Who reads what is printed: a terminal, a pipe, nobody.

use std::{env, fmt::Write as _};

use anyhow::{Context as _, Result};
use dataplane_tests::{Agent, Lab, Mode, Node, cluster_yaml, require_root};

/// Of them, more than a pipe holds.
const ROUTES: u32 = 10_000;

fn lab() -> Result<(Lab, Agent)> {
    require_root();
    let lab = Lab::flat(2, 0)?;
    let node = lab.node("node-0");
    let mut cluster = cluster_yaml(&lab, Mode::None.ipip_mode(), Mode::None.vxlan_mode());
    cluster += "routes:\n";
    for n in 0..ROUTES {
        let (high, low) = (n >> 8, n & 0xff);
        writeln!(
            cluster,
            "  - {{ cidr: 10.244.{}.{low}/32, blackhole: true }}",
            128 + high
        )?;
    }
    let agent = Agent::start(node, &node.agent_config(), &cluster)?;
    Ok((lab, agent))
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn who_reads_no_more_is_not_complained_to() -> Result<()> {
    let (lab, _agent) = lab()?;
    let node = lab.node("node-0");
    // Each is read to its first line: of a list that does not fit into the pipe, of one that does and
    // that is then watched for changes which do not come.
    for (command, first) in [
        ("routes list", "PREFIX"),
        ("routes list -o json", "{"),
        ("routes list -o yaml", "apiVersion:"),
        ("routes watch --interval 10ms", "TIME"),
        ("peers watch --interval 10ms", "TIME"),
        ("peers watch --interval 10ms -o json", "{"),
    ] {
        let line = format!("\"$UNDERPASS\" {command} --config \"$CONFIG\" | head --lines 1");
        let told = shell(node, &format!("{line}; echo \"exit ${{PIPESTATUS[0]}}\""))?;
        let (printed, exit) = told.split_once('\n').context("a line")?;
        assert!(printed.starts_with(first), "{command}: {told}");
        assert_eq!(exit, "exit 0\n", "{command}: {told}");
    }
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn only_help_on_a_terminal_is_in_colour_and_not_with_no_color() -> Result<()> {
    const ESCAPE: char = '\u{1b}';
    let (lab, _agent) = lab()?;
    let node = lab.node("node-0");
    let terminal = |variables: &str, command: &str| {
        let line = format!("{variables} \\\"\\$UNDERPASS\\\" {command}");
        shell(
            node,
            &format!("TERM=xterm script --quiet --command \"{line}\" /dev/null"),
        )
    };
    assert!(terminal("", "--help")?.contains(ESCAPE));
    assert!(!terminal("NO_COLOR=1", "--help")?.contains(ESCAPE));
    assert!(!shell(node, "\"$UNDERPASS\" --help")?.contains(ESCAPE));
    for command in ["peers list", "status", "explain 10.244.0.2 10.244.1.2"] {
        let config = "--config \\\"\\$CONFIG\\\"";
        let printed = terminal("", &format!("{command} {config}"))?;
        assert!(
            printed.contains("192.168.1.11") || printed.contains("agent"),
            "{printed}"
        );
        assert!(!printed.contains(ESCAPE), "{command}: {printed}");
    }
    Ok(())
}

/// What a line of bash(1) prints, standard error with it.
fn shell(node: &Node, line: &str) -> Result<String> {
    let binary = env::var("UNDERPASS_BIN").context("run the tests by `cargo xtask test`")?;
    let command = node
        .ns()
        .command("bash")
        .args(["-c", &format!("{{ {line}; }} 2>&1")]);
    let command = command.env("UNDERPASS", binary);
    command.env("CONFIG", node.dir().join("config.yaml")).run()
}
