//! A lab leaves nothing behind, whatever ends its process.
//!
//! Each test starts itself again as a process that holds a lab, ends that process in its own way,
//! and looks for traces.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context as _, Result, bail};
use dataplane_tests::{Background, Daemon, Lab, Node, Speaker, patient, require_root};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Tells the process that holds the lab from the one that looks for traces.
const HOLDER: &str = "LAB_CLEANUP_HOLDER";

/// One lab at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// What introduces the line in which the holder tells the observer its traces.
const TRACES: &str = "traces: ";
const SEPARATOR: &str = ", ";

/// What a lab consists of, as seen from outside: command lines and namespaces.
type Traces = Vec<String>;

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn sigint_leaves_nothing() -> Result<()> {
    leaves_nothing("sigint_leaves_nothing", |holder| {
        signal(holder, Signal::SIGINT)
    })
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn sigkill_leaves_nothing() -> Result<()> {
    leaves_nothing("sigkill_leaves_nothing", |holder| {
        signal(holder, Signal::SIGKILL)
    })
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_panic_leaves_nothing() -> Result<()> {
    // The end of its input makes the holder panic.
    leaves_nothing("a_panic_leaves_nothing", |holder| {
        drop(holder.stdin.take());
        Ok(())
    })
}

/// Runs the test called `test` as a holder, has `end` end it, and checks that its traces are gone.
fn leaves_nothing(test: &str, end: impl FnOnce(&mut Child) -> Result<()>) -> Result<()> {
    require_root();
    if env::var_os(HOLDER).is_some() {
        return hold_a_lab();
    }
    // The kernel gives the number of a namespace that is gone to the next: another's lab.
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = machine()?;
    let mut holder = start_holder(test)?;
    let traces = read_traces(&mut holder)?;
    assert_eq!(found(&traces), traces, "not all of the lab can be seen");
    assert_eq!(machine()?, before, "the lab shows on the machine");
    end(&mut holder)?;
    assert!(!holder.wait()?.success());
    let deadline = Instant::now() + patient(Duration::from_secs(10));
    while !found(&traces).is_empty() && Instant::now() < deadline {
        sleep(Duration::from_millis(5));
    }
    assert_eq!(found(&traces), Traces::new(), "traces are left");
    assert_eq!(machine()?, before, "something is left on the machine");
    Ok(())
}

/// Builds a lab with processes in it, prints what there is to see of it, and waits to be ended.
fn hold_a_lab() -> Result<()> {
    let lab = Lab::routed(2, 1)?;
    let (node, pod) = (lab.node("node-0"), lab.pod("node-0", "p0"));
    fs::create_dir(node.pins())?;
    let duration = format!("1000.{}", std::process::id());
    let _on_node = node.start("sleep", node.ns().command("sleep").arg(&duration))?;
    // What ignores a polite request goes as well.
    let deaf = format!("trap '' TERM INT HUP; exec sleep {duration}");
    let _on_pod = Background::start_unnamed(pod.ns().command("sh").args(["-c", &deaf]))?;
    // Who gives up root would forget whose end is to be theirs.
    let speakers = Speaker::mesh(&lab, Daemon::Frr, false)?;
    speakers.iter().try_for_each(Speaker::wait_established)?;

    let mut traces = vec![format!("sleep {duration}"), namespace("mnt")?];
    for ns in lab.nodes().iter().map(Node::ns).chain([pod.ns()]) {
        traces.push(ns.run(|| namespace("net"))?);
    }
    println!("{TRACES}{}", traces.join(SEPARATOR));
    std::io::stdin().read_line(&mut String::new())?;
    panic!("on purpose, with a lab in hand");
}

/// The name of a namespace of the calling thread, such as `net:[4026532000]`.
fn namespace(kind: &str) -> Result<String> {
    let link = fs::read_link(format!("/proc/thread-self/ns/{kind}"))?;
    Ok(link.to_string_lossy().into_owned())
}

fn start_holder(test: &str) -> Result<Child> {
    Command::new(env::current_exe()?)
        .args([test, "--exact", "--include-ignored", "--nocapture"])
        .env(HOLDER, "")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("start the test again as a holder")
}

fn read_traces(holder: &mut Child) -> Result<Traces> {
    let stdout = BufReader::new(holder.stdout.as_mut().context("the holder has no output")?);
    for line in stdout.lines() {
        if let Some((_, traces)) = line?.split_once(TRACES) {
            return Ok(traces.split(SEPARATOR).map(str::to_owned).collect());
        }
    }
    bail!("the holder ended before it had a lab")
}

fn signal(holder: &mut Child, signal: Signal) -> Result<()> {
    Ok(kill(Pid::from_raw(holder.id().cast_signed()), signal)?)
}

/// Those of the traces that some process still shows: as its command line, as a namespace it is in,
/// or as one it holds open.
fn found(traces: &Traces) -> Traces {
    let seen = everything_seen();
    traces
        .iter()
        .filter(|trace| seen.contains(*trace))
        .cloned()
        .collect()
}

fn everything_seen() -> HashSet<String> {
    let mut seen = HashSet::new();
    for process in entries("/proc") {
        let command_line = fs::read(process.join("cmdline")).unwrap_or_default();
        let command_line = String::from_utf8_lossy(&command_line).replace('\0', " ");
        seen.insert(command_line.trim_end().to_owned());
        for thread in entries(process.join("task")) {
            let links = entries(thread.join("ns")).chain(entries(thread.join("fd")));
            seen.extend(links.filter_map(|link| {
                fs::read_link(link)
                    .ok()?
                    .into_os_string()
                    .into_string()
                    .ok()
            }));
        }
    }
    seen
}

/// The entries of a directory; none if it is gone, as processes go while one looks at them.
fn entries(directory: impl AsRef<Path>) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
}

/// What the machine itself shows where labs have theirs: links, files, pins and mounts.
fn machine() -> Result<Vec<String>> {
    let links = entries("/sys/class/net").filter(|link| name(link).starts_with("cali"));
    let files = entries("/run").filter(|file| name(file).starts_with("lab-"));
    let pins = entries("/sys/fs/bpf").filter(|pin| name(pin).starts_with("node-"));
    let paths = links
        .chain(files)
        .chain(pins)
        .map(|path| path.display().to_string());
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo")?;
    let is_a_labs = |mount: &&str| mount.contains(" /run ") || mount.contains(" /sys/fs/bpf ");
    Ok(paths
        .chain(mounts.lines().filter(is_a_labs).map(str::to_owned))
        .collect())
}

fn name(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}
