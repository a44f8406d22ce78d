//! What tools of others say, where they are there.

use std::{fmt::Write as _, io, process::Stdio, time::Duration};

use anyhow::{Context, Result, anyhow};
use tokio::{process::Command, time::timeout};

use super::archive::{Archive, Part};

/// A tool, and what of its output is wanted.
struct Tool {
    /// What the part is called.
    name: &'static str,
    /// Its command line, in words.
    line: &'static str,
    /// Words of which a line has to have one; none for all lines.
    lines: &'static [&'static str],
}

const fn tool(name: &'static str, line: &'static str) -> Tool {
    Tool {
        name,
        line,
        lines: &[],
    }
}

const TOOLS: [Tool; 18] = [
    tool("ip-link", "ip -d -s link"),
    tool("ip-address", "ip -d address"),
    tool("ip-route", "ip -d route show table all"),
    tool("ip-rule", "ip -d rule"),
    tool("ip-neigh", "ip -d -s neigh"),
    tool("bridge-fdb", "bridge -d fdb show"),
    tool("tc-qdisc", "tc -s qdisc show"),
    tool("bpftool-net", "bpftool net show"),
    tool("bpftool-link", "bpftool link show"),
    tool("bpftool-prog", "bpftool prog show"),
    tool("nft", "nft list ruleset"),
    tool("iptables-nft-save", "iptables-nft-save -c"),
    tool("iptables-legacy-save", "iptables-legacy-save -c"),
    tool("conntrack-count", "conntrack -C"),
    tool("conntrack-statistics", "conntrack -S"),
    tool("sockets", "ss -lunp"),
    tool(
        "journal",
        "journalctl --unit underpass --no-pager --lines 10000 --output short-iso-precise",
    ),
    Tool {
        name: "dmesg",
        line: "dmesg",
        lines: &["bpf", "xdp", "vxlan", "underpass"],
    },
];

pub(super) async fn add(archive: &mut Archive, patience: Duration) -> Result<()> {
    for tool in &TOOLS {
        archive
            .add(&format!("commands/{}.txt", tool.name), async || {
                run(tool, patience).await
            })
            .await?;
    }
    Ok(())
}

/// Runs a tool; one that does not end in time is killed.
async fn run(tool: &Tool, patience: Duration) -> Result<Part> {
    let mut words = tool.line.split_whitespace();
    let program = words.next().context("an empty command line")?;
    let child = Command::new(program)
        .args(words)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let child = child.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => anyhow!("{program} is not installed here"),
        _ => anyhow!("cannot run {program}: {error}"),
    })?;
    let output = timeout(patience, child.wait_with_output())
        .await
        .map_err(|_| {
            anyhow!(
                "`{}` took longer than {patience:?} and was killed",
                tool.line
            )
        })?
        .with_context(|| format!("cannot run {program}"))?;
    let (said, complaints) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let mut text = format!("$ {}\n{}", tool.line, wanted(&said, tool.lines));
    if !complaints.is_empty() {
        write!(text, "standard error:\n{complaints}")?;
    }
    writeln!(text, "{}", output.status)?;
    let complaint = || format!("{}: {}", output.status, complaints.trim());
    Ok(Part {
        text,
        error: (!output.status.success()).then(complaint),
    })
}

/// The lines with one of these words, whatever their case.
fn wanted(text: &str, words: &[&str]) -> String {
    let is_wanted = |line: &&str| {
        let line = line.to_lowercase();
        words.is_empty() || words.iter().any(|word| line.contains(word))
    };
    let lines = text.lines().filter(is_wanted);
    lines.flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn a_tool_is_quoted_with_its_status() {
        let part = run(&tool("echo", "echo as it is"), PATIENCE).await.unwrap();
        assert_eq!(part.text, "$ echo as it is\nas it is\nexit status: 0\n");
        assert_eq!(part.error, None);
        let part = run(&tool("ls", "ls /no/such/file"), PATIENCE)
            .await
            .unwrap();
        assert!(part.text.contains("standard error:\n"), "{}", part.text);
        assert!(part.text.ends_with("exit status: 2\n"), "{}", part.text);
        assert!(part.error.unwrap().starts_with("exit status: 2: "));
    }

    #[tokio::test]
    async fn one_that_is_not_there_or_hangs_is_told_of() {
        let said = async |line, patience| {
            let error = run(&tool("any", line), patience).await.err().unwrap();
            error.to_string()
        };
        assert_eq!(
            said("no-such-tool --at all", PATIENCE).await,
            "no-such-tool is not installed here"
        );
        assert_eq!(
            said("sleep 1000", Duration::from_millis(20)).await,
            "`sleep 1000` took longer than 20ms and was killed"
        );
    }

    #[test]
    fn of_long_logs_some_lines_are_wanted() {
        let log = "one\nXDP: two\nthree\nbpf four\n";
        assert_eq!(wanted(log, &["bpf", "xdp"]), "XDP: two\nbpf four\n");
        assert_eq!(wanted(log, &[]), log);
    }
}
