//! Every command that the documents show is run, exits as they say, and prints what they show.
//!
//! What is not run here is in [`commands`], with the reason. A command that is nowhere fails.

mod blocks;
mod commands;
mod shape;

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use dataplane_tests::{
    Agent, Lab, Mode, Node, PingOptions, Talk, eventually, http, ping, require_root,
};

use nix::sys::signal::Signal;

use blocks::{Shown, shown};
use commands::{ELSEWHERE, Way, way};

/// The ports of the connection that the documents look at.
const PORTS: (u16, u16) = (40712, 5201);

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn what_reads_prints_what_is_shown() -> Result<()> {
    require_root();
    let mut at_work = AtWork::new()?;
    each(Way::Read, |command| run(at_work.node()?, command))?;
    each(Way::Follow, |command| follow(&mut at_work, command))?;
    each(Way::Ask, |command| ask(at_work.node()?, command))
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_packet_is_explained_as_shown() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 2)?;
    let _agents = lab.start_agents(Mode::Vxlan)?;
    lab.wait_resolved()?;
    let (client, server) = (lab.pod("node-0", "p0"), lab.pod("node-1", "p0"));
    // So that the nodes know each other.
    ping(client.ns(), server.address(), &PingOptions::default())?;
    each(Way::Explain, |command| run(lab.node("node-0"), command))
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn what_is_about_the_kernels_routes_prints_what_is_shown() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let node = lab.node("node-0");
    let _agent = Agent::mirror(node)?;
    each(Way::ReadMirror, |command| run(node, command))
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn an_agent_is_started_and_taken_off_as_shown() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 1)?;
    drop(lab.start_agents(Mode::Vxlan)?);
    let node = lab.node("node-0");
    each(Way::Agent, |command| {
        let words: Vec<_> = command.words().skip(1).collect();
        let mut agent = node.start_underpass("documented", &words)?;
        agent.wait_for_line("in sync", Duration::from_secs(10))?;
        agent.kill()?;
        Ok(())
    })?;
    each(Way::Detach, |command| {
        drop(lab.start_agents(Mode::Vxlan)?);
        run(node, command)
    })
}

/// What is run elsewhere is shown, and CI runs what it is said to.
#[test]
fn nothing_is_passed_over_in_silence() -> Result<()> {
    let mut used = BTreeSet::new();
    for command in every()? {
        if let Way::Elsewhere(prefix) = way(&command.line)? {
            used.insert(prefix);
        }
    }
    let script = fs::read_to_string(workspace().join(".ci/run"))?;
    for (prefix, why) in ELSEWHERE {
        ensure!(used.contains(prefix), "no document shows {prefix} any more");
        let is_run = *why != commands::CI || script.lines().any(|line| line.starts_with(prefix));
        ensure!(is_run, ".ci/run does not run {prefix}");
    }
    Ok(())
}

/// Nodes whose pods have talked, with agents beside netfilter.
struct AtWork {
    lab: Lab,
    _agents: Vec<Agent>,
    talk: Talk,
}

impl AtWork {
    fn new() -> Result<Self> {
        let lab = Lab::flat(2, 2)?;
        // Without a rule that asks for the state of a connection, none is tracked.
        for rule in [
            "add table ip documents",
            "add chain ip documents forward { type filter hook forward priority 0 ; }",
            "add rule ip documents forward ct state invalid drop",
        ] {
            let nft = lab.node("node-0").ns().command("nft");
            nft.args(rule.split(' ')).run()?;
        }
        let agents = lab.start_established(Mode::Vxlan)?;
        lab.wait_resolved()?;
        let (client, server) = (lab.pod("node-0", "p0"), lab.pod("node-1", "p0"));
        ping(client.ns(), server.address(), &PingOptions::default())?;
        let mut talk = Talk::tcp(client, server, PORTS)?;
        eventually("the connection is accelerated", || {
            talk.rounds(2)?;
            let flows = lab.node("node-0").underpass(&["flows", "list"])?;
            Ok(String::from_utf8_lossy(&flows.stdout).contains("accelerated"))
        })?;
        Ok(Self {
            lab,
            _agents: agents,
            talk,
        })
    }

    /// The node to look at, whose pod has just talked.
    fn node(&mut self) -> Result<&Node> {
        self.talk.rounds(2)?;
        Ok(self.lab.node("node-0"))
    }
}

/// Does `what` with each command that is tried in this way; there has to be one.
fn each(tried: Way, mut what: impl FnMut(&Shown) -> Result<()>) -> Result<()> {
    let mut count = 0;
    for command in every()? {
        if way(&command.line)? == tried {
            what(&command).with_context(|| format!("{}: {}", command.document, command.line))?;
            count += 1;
        }
    }
    ensure!(count > 0, "no document shows any");
    Ok(())
}

/// Every command, in the order of the documents.
fn every() -> Result<Vec<Shown>> {
    let mut names = vec!["README.md".to_owned(), "CONTRIBUTING.md".to_owned()];
    names.push("deploy/README.md".to_owned());
    for entry in fs::read_dir(workspace().join("docs"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "md") {
            let name = path.file_name().and_then(|name| name.to_str());
            names.push(format!("docs/{}", name.context("a name that is no text")?));
        }
    }
    names.sort();
    let mut commands = Vec::new();
    for name in names {
        let text = fs::read_to_string(workspace().join(&name))?;
        commands.extend(shown(&name, &text));
    }
    Ok(commands)
}

fn workspace() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// Runs `underpass` on the node. What a shell would write to a file is only printed.
fn run(node: &Node, command: &Shown) -> Result<()> {
    let mut words: Vec<_> = command.words().skip(1).collect();
    let archive = node.dir().join("bugtool.tar.gz");
    if words == ["bugtool"] {
        // It would be written where the test runs.
        words.extend([
            "--output",
            archive.to_str().context("a path that is no text")?,
        ]);
    }
    let output = node.underpass(&words)?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}", output.status);
    shape::compare(&command.output, &printed)?;
    if words.first() == Some(&"explain") && !command.output.is_empty() {
        let [shown, printed] = [&*command.output, &*printed].map(|text| text.lines().next());
        ensure!(shown == printed, "it is asked {printed:?}, not {shown:?}");
    }
    if words == ["counters"] {
        let all = String::from_utf8(node.underpass(&["counters", "--all"])?.stdout)?;
        shape::compare_rows(&command.output, &all)?;
    }
    Ok(())
}

/// Runs `underpass` until it has printed what it prints of pods that talk, or written to its file, which
/// is put in the node's directory.
fn follow(at_work: &mut AtWork, command: &Shown) -> Result<()> {
    let mut words: Vec<_> = command.words().skip(1).map(str::to_owned).collect();
    let mut file = None;
    if let Some(place) = words.iter().position(|word| word == "-w") {
        let path = at_work.node()?.dir().join(&words[place + 1]);
        words[place + 1] = path.display().to_string();
        file = Some(path);
    }
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let mut process = at_work.node()?.start_underpass("followed", &words)?;
    let least = command.output.lines().count().clamp(1, 2);
    eventually("it has printed something", || {
        at_work.talk.rounds(2)?;
        Ok(match &file {
            Some(file) => fs::metadata(file).is_ok_and(|file| file.len() > 0),
            None => process.log()?.lines().count() >= least,
        })
    })?;
    process.signal(Signal::SIGINT)?;
    let status = process.wait(Duration::from_secs(10))?;
    ensure!(status.success(), "{status}");
    shape::compare(&command.output, &process.log()?)
}

/// Asks the node's agent what the document asks with curl(1).
fn ask(node: &Node, command: &Shown) -> Result<()> {
    let address = format!("http://{}", http::AGENT);
    let Some((_, path)) = command.line.split_once(&address) else {
        bail!("asks nobody at {address}")
    };
    let answer = http::get(node, path)?;
    ensure!(answer.status == 200, "{answer:?}");
    shape::compare(&command.output, &answer.body)?;
    if path == "/metrics" {
        let document = fs::read_to_string(workspace().join("docs/metrics.md"))?;
        for line in answer.body.lines() {
            let name = line
                .strip_prefix("# TYPE ")
                .and_then(|rest| rest.split(' ').next());
            let is_there = name.is_none_or(|name| document.contains(&format!("`{name}`")));
            ensure!(is_there, "the document has not {line}");
        }
    }
    Ok(())
}
