//! `underpass prepare` readies a node for an agent that may not do so itself.

use std::env;

use anyhow::{Context as _, Result, ensure};
use dataplane_tests::{Lab, Node, beside_netfilter, require_root};

const SYSCTLS: [&str; 2] = [
    "net.netfilter.nf_conntrack_tcp_be_liberal",
    "net.netfilter.nf_conntrack_tcp_ignore_invalid_rst",
];

/// Something else at the place of the BPF file system, out of the lab's sight; then `prepare`, twice. The
/// lab's own is behind that, and the machine's may be behind both.
const TWICE: &str = "grep -c ' /sys/fs/bpf bpf ' /proc/self/mounts\n\
                     mount -t tmpfs other /sys/fs/bpf\n\
                     \"$@\"\n\
                     grep ' /sys/fs/bpf ' /proc/self/mounts | tail -n 1\n\
                     \"$@\"\n\
                     grep -c ' /sys/fs/bpf bpf ' /proc/self/mounts";

/// Runs `underpass prepare` on the node, where there is no BPF file system.
fn prepare_twice(node: &Node) -> Result<String> {
    let binary = env::var("UNDERPASS_BIN").context("run the tests by `cargo xtask test`")?;
    node.ns()
        .command("unshare")
        .args(["-m", "sh", "-ec", TWICE, "sh", &*binary, "prepare"])
        .arg("--config")
        .arg(node.dir().join("config.yaml"))
        .run()
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_bpf_file_system_is_mounted_once() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 0)?;
    let node = lab.node("node-0");
    node.write_config(&node.agent_config())?;
    let said = prepare_twice(node)?;
    let lines: Vec<&str> = said.lines().collect();
    let [before, mounted, after] = lines[..] else {
        anyhow::bail!("{said}");
    };
    // What is mounted is `bpf` or, on older kernels, `none`.
    let is_bpf = |source| mounted.starts_with(&format!("{source} /sys/fs/bpf bpf "));
    assert!(["bpf", "none"].into_iter().any(is_bpf), "{mounted}");
    for option in ["nosuid", "nodev", "noexec", "mode=700"] {
        assert!(mounted.contains(option), "{mounted}");
    }
    let [before, after] = [before, after].map(str::parse::<u32>);
    assert_eq!(after?, before? + 1, "{said}");
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn it_is_mounted_in_its_own_place_only() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 0)?;
    let node = lab.node("node-0");
    let elsewhere = lab.dir().join("pins");
    node.write_config(&format!("pins: {}\n", elsewhere.display()))?;
    let output = node.underpass(&["prepare"])?;
    let said = String::from_utf8(output.stderr)?;
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("is not on a BPF file system"), "{said}");
    assert!(said.contains("below /sys/fs/bpf"), "what to do: {said}");
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn connection_tracking_is_set_and_set_back() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 0)?;
    let node = lab.node("node-0");
    // Linux 5.10 has but the first.
    let there = match node.ns().sysctl(SYSCTLS[1]) {
        Ok(_) => &SYSCTLS[..],
        Err(_) => &SYSCTLS[..1],
    };
    let read = || -> Result<Vec<_>> { there.iter().map(|name| node.ns().sysctl(name)).collect() };
    let all = |value: &str| vec![value.to_owned(); there.len()];
    node.write_config(&node.agent_config())?;
    run(node, "prepare")?;
    assert_eq!(read()?, all("0"), "acceleration: all heeds no netfilter");

    node.write_config(&beside_netfilter(&node.agent_config()))?;
    for time in ["once", "again"] {
        run(node, "prepare")?;
        assert_eq!(read()?, all("1"), "{time}");
    }
    run(node, "detach")?;
    assert_eq!(read()?, all("0"));
    assert!(!node.pins().exists(), "no pin is left");
    Ok(())
}

fn run(node: &Node, command: &str) -> Result<()> {
    let output = node.underpass(&[command])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "underpass {command}: {said}");
    Ok(())
}
