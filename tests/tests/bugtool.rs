//! `underpass bugtool` makes one archive of all that a report of a fault needs, whatever is missing.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use dataplane_tests::{
    Agent, Lab, Mode, Node, NsCommand, cluster_yaml, eventually, patient, require_root,
};
use dataplane_user::inspect::schema;
use serde_json::Value;

/// An archive, unpacked by tar(1).
struct Unpacked {
    /// Keeps it.
    _place: tempfile::TempDir,
    top: PathBuf,
    manifest: Value,
}

impl Unpacked {
    fn new(archive: &Path) -> Result<Self> {
        let place = tempfile::tempdir()?;
        let mut tar = Command::new("tar");
        let tar = tar.arg("xzf").arg(archive).arg("-C").arg(place.path());
        ensure!(tar.status()?.success(), "unpack {}", archive.display());
        let tops: Vec<_> = fs::read_dir(place.path())?.collect::<Result<_, _>>()?;
        ensure!(tops.len() == 1, "one directory: {tops:?}");
        let top = tops[0].path();
        let manifest = serde_json::from_str(&fs::read_to_string(top.join("manifest.json"))?)?;
        let unpacked = Self {
            _place: place,
            top,
            manifest,
        };
        unpacked.check()?;
        Ok(unpacked)
    }

    /// What the manifest says of every part is so, and all JSON is as the schema says.
    fn check(&self) -> Result<()> {
        let schema = jsonschema::validator_for(&schema())?;
        let conforms = |name: &str| -> Result<()> {
            let value: Value = serde_json::from_str(&self.read(name)?).context(name.to_owned())?;
            let errors: Vec<_> = schema.iter_errors(&value).collect();
            ensure!(errors.is_empty(), "{name}: {value}: {errors:?}");
            Ok(())
        };
        conforms("manifest.json")?;
        let errors = self.read("errors.txt")?;
        let mut failed = 0;
        for part in self.manifest["parts"].as_array().context("parts")? {
            let name = part["name"].as_str().context("a name")?;
            match part["bytes"].as_u64() {
                Some(bytes) => {
                    let length = fs::metadata(self.top.join(name))
                        .context(name.to_owned())?
                        .len();
                    assert_eq!(length, bytes, "{name}");
                    if Path::new(name)
                        .extension()
                        .is_some_and(|kind| kind == "json")
                    {
                        conforms(name)?;
                    }
                }
                None => assert!(!self.top.join(name).exists(), "{name}"),
            }
            if let Some(error) = part["error"].as_str() {
                failed += 1;
                assert!(
                    errors.contains(&format!("{name}: {error}\n")),
                    "{name}: {errors}"
                );
            }
        }
        assert!(failed > 0 || errors.is_empty(), "{errors}");
        Ok(())
    }

    fn read(&self, name: &str) -> Result<String> {
        fs::read_to_string(self.top.join(name)).with_context(|| format!("read {name}"))
    }

    fn json(&self, name: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.read(name)?)?)
    }

    /// Why a part is not there, or not whole.
    fn error(&self, name: &str) -> Option<&str> {
        let mut parts = self.manifest["parts"].as_array()?.iter();
        parts.find(|part| part["name"] == name)?["error"].as_str()
    }
}

fn archive(node: &Node) -> PathBuf {
    node.dir().join("archive.tar.gz")
}

/// Collects on the node, with these arguments besides.
fn collect(node: &Node, arguments: &[&str]) -> Result<Unpacked> {
    let archive = archive(node);
    let path = archive.display().to_string();
    let output = node.underpass(&[&["bugtool", "--output", &path], arguments].concat())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    assert_eq!(String::from_utf8(output.stdout)?, format!("{path}\n"));
    let mode = fs::metadata(&archive)?.permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "others' eyes");
    Unpacked::new(&archive)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn with_an_agent_all_that_underpass_knows_is_there() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let mut agents = lab.start_established(Mode::Vxlan)?;
    lab.wait_resolved()?;
    let node = lab.node("node-0");
    let unpacked = collect(node, &[])?;
    for name in [
        "version.txt",
        "config.yaml",
        "cluster.yaml",
        "check.json",
        "status.json",
        "routes.json",
        "next-hops.json",
        "endpoints.json",
        "peers.json",
        "flows.json",
        "counters.json",
        "links.json",
        "maps.json",
        "programs.json",
        "diff.json",
        "snapshot.txt",
        "agent/healthz.txt",
        "agent/readyz.txt",
        "agent/metrics.txt",
        "node/kernel.txt",
        "node/sysctls.txt",
        "node/links.txt",
        "node/routes.txt",
        "node/programs.txt",
        "commands/ip-link.txt",
    ] {
        assert_eq!(unpacked.error(name), None, "{name}");
        assert!(!unpacked.read(name)?.is_empty(), "{name}");
    }
    assert_eq!(unpacked.json("routes.json")?["kind"], "RouteList");
    assert_eq!(unpacked.json("status.json")?["agentRunning"], true);
    assert_eq!(unpacked.json("diff.json")?["items"], serde_json::json!([]));
    let address = node.pod("p0").address().to_string();
    let endpoints = unpacked.json("endpoints.json")?;
    assert_eq!(endpoints["items"][0]["address"], address);
    let ready = unpacked.read("agent/readyz.txt")?;
    assert!(ready.starts_with("HTTP/1.1 200 "), "{ready}");
    assert!(unpacked.read("agent/metrics.txt")?.contains("\nunderpass_"));
    let sysctls = unpacked.read("node/sysctls.txt")?;
    assert!(sysctls.contains("net.ipv4.ip_forward = 1\n"), "{sysctls}");
    let programs = unpacked.read("node/programs.txt")?;
    assert!(programs.contains("eth0 ingress "), "{programs}");

    // A dead agent's maps are there still, and it says nothing.
    for agent in &mut agents {
        agent.process().kill()?;
    }
    let unpacked = collect(node, &[])?;
    assert_eq!(unpacked.json("status.json")?["agentRunning"], false);
    assert_eq!(unpacked.error("routes.json"), None);
    let error = unpacked
        .error("agent/readyz.txt")
        .context("nobody answers")?;
    assert!(
        error.contains("no agent answers at http://127.0.0.1:9478"),
        "{error}"
    );
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn without_pins_what_the_kernel_says_is_there() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let node = lab.node("node-0");
    node.write_config(&node.agent_config())?;
    node.write_cluster(&cluster_yaml(&lab, "Never", "Always"))?;
    let unpacked = collect(node, &[])?;
    let error = unpacked.error("routes.json").context("there are none")?;
    assert!(error.starts_with("nothing is pinned in "), "{error}");
    for name in ["check.json", "node/routes.txt", "node/links.txt"] {
        assert_eq!(unpacked.error(name), None, "{name}");
    }
    let links = unpacked.read("node/links.txt")?;
    assert!(links.contains("eth0"), "{links}");
    assert!(!node.pins().exists(), "something is pinned");
    Ok(())
}

/// The bytes differ by times alone.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn names_come_in_the_same_order() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let node = lab.node("node-0");
    node.write_config(&node.agent_config())?;
    node.write_cluster(&cluster_yaml(&lab, "Never", "Always"))?;
    let names = || -> Result<Vec<String>> {
        collect(node, &[])?;
        let output = Command::new("tar").arg("tzf").arg(archive(node)).output()?;
        let names = String::from_utf8(output.stdout)?;
        let names = names.lines().filter_map(|name| name.split_once('/'));
        Ok(names.map(|(_, name)| name.to_owned()).collect())
    };
    let first = names()?;
    assert!(first.len() > 10, "{first:?}");
    assert_eq!(names()?, first);
    Ok(())
}

/// `underpass bugtool` on a node whose tools are all in this directory.
fn with_tools(node: &Node, directory: &Path, arguments: &[&str]) -> Result<NsCommand> {
    let binary = std::env::var("UNDERPASS_BIN").context("run the tests by `cargo xtask test`")?;
    let path = format!("PATH={}", directory.display());
    let command = node.ns().command("env").args([&*path, &*binary, "bugtool"]);
    Ok(command.args(["--config", "/nowhere.yaml"]).args(arguments))
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_tool_that_hangs_is_cut_off() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 0)?;
    let node = lab.node("node-0");
    let tools = tempfile::tempdir()?;
    let pid = tools.path().join("pid");
    for (name, script) in [
        ("nft", format!("echo $$ > {}\nkill -STOP $$", pid.display())),
        ("conntrack", "echo 7\nexit 3".to_owned()),
    ] {
        let tool = tools.path().join(name);
        fs::write(&tool, format!("#!/bin/sh\n{script}\n"))?;
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755))?;
    }
    let path = archive(node).display().to_string();
    let timeout = patient(Duration::from_millis(500));
    let milliseconds = format!("{}ms", timeout.as_millis());
    let arguments = ["--output", &path, "--timeout", &milliseconds];
    with_tools(node, tools.path(), &arguments)?.run()?;
    let unpacked = Unpacked::new(&archive(node))?;
    let error = unpacked.error("commands/nft.txt").context("it hangs")?;
    assert_eq!(
        error,
        format!("`nft list ruleset` took longer than {timeout:?} and was killed")
    );
    let process = format!("/proc/{}", fs::read_to_string(&pid)?.trim());
    eventually("the tool is gone", || Ok(!Path::new(&process).exists()))?;
    // What another said before it failed is kept.
    let said = unpacked.read("commands/conntrack-count.txt")?;
    assert_eq!(said, "$ conntrack -C\n7\nexit status: 3\n");
    assert!(unpacked.error("commands/conntrack-count.txt").is_some());
    let error = unpacked.error("commands/ip-link.txt").context("no ip")?;
    assert_eq!(error, "ip is not installed here");
    // A configuration that is not there keeps nothing from being collected.
    assert!(unpacked.error("config.yaml").is_some());
    assert_eq!(unpacked.error("node/links.txt"), None);
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn an_agent_that_is_stuck_is_cut_off() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let node = lab.node("node-0");
    let cluster = cluster_yaml(&lab, "Never", "Always");
    let mut agent = Agent::start(node, &node.agent_config(), &cluster)?;
    agent.process().signal(nix::sys::signal::Signal::SIGSTOP)?;
    let unpacked = collect(node, &["--timeout", "500ms"])?;
    agent.process().signal(nix::sys::signal::Signal::SIGCONT)?;
    let error = unpacked
        .error("agent/metrics.txt")
        .context("it is stopped")?;
    assert!(error.ends_with("it took too long"), "{error}");
    assert_eq!(unpacked.error("routes.json"), None);
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn it_is_written_to_standard_output_or_whole_or_not_at_all() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 0)?;
    let node = lab.node("node-0");
    node.write_config(&node.agent_config())?;
    let output = node.underpass(&["bugtool", "-o", "-"])?;
    ensure!(output.status.success());
    let piped = node.dir().join("piped.tar.gz");
    fs::write(&piped, &output.stdout)?;
    Unpacked::new(&piped)?;

    let missing = node.dir().join("no/such/archive.tar.gz");
    let output = node.underpass(&["bugtool", "-o", &missing.display().to_string()])?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write to "), "{said}");
    assert!(said.contains("--output FILE"), "what to do: {said}");
    assert!(output.stdout.is_empty());

    // A file system that is full.
    let full = node.dir().join("full");
    fs::create_dir(&full)?;
    let output = node
        .ns()
        .command("sh")
        .args(["-ec", "mount -t tmpfs -o size=4k tmpfs \"$1\"; shift; \"$@\" || status=$?; ls -A \"$0\"; umount \"$0\"; exit $status"])
        .arg(&full)
        .arg(&full)
        .arg(std::env::var("UNDERPASS_BIN")?)
        .args(["bugtool", "-o"])
        .arg(full.join("archive.tar.gz"))
        .arg("--config")
        .arg(node.dir().join("config.yaml"))
        .output()?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write to "), "{said}");
    assert_eq!(String::from_utf8(output.stdout)?, "", "half a file is left");
    Ok(())
}
