//! The image, as podman loads and runs it on a node.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use dataplane_common::abi;
use dataplane_tests::{
    Agent, Build, Counters, Exchange, Lab, Mode, NetNs, Node, PingOptions, Pinging, Transfer,
    Watch, cluster_yaml, eventually, patient, ping, podman, podman::Podman, require_root,
};

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn it_says_what_it_is_and_has_nothing_but_underpass_to_run() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 0)?;
    let podman = Podman::of(&lab)?;
    let image = podman.load(Build::Tested)?;
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(image, format!("localhost/underpass:{version}"));

    let shown = &podman.inspect(&image)?[0];
    let label = |name: &str| &shown["Labels"][format!("org.opencontainers.image.{name}")];
    assert_eq!(label("title"), "underpass");
    assert_eq!(label("version"), version);
    assert_eq!(label("licenses"), "GPL-2.0-only");
    assert_eq!(label("created"), &shown["Created"]);
    let head = NetNs::current()?.exec(&format!(
        "git -C {} rev-parse HEAD",
        env!("CARGO_MANIFEST_DIR")
    ))?;
    let revision = label("revision").as_str().context("it has no revision")?;
    // As long as a test is worked on, files are not as in the commit.
    assert_eq!(revision.trim_end_matches("-dirty"), head.trim_end());

    let said = podman.output(&[&image, "--version"])?;
    assert_eq!(said.trim_end(), format!("underpass {version}"));
    let shell = podman.output(&["--entrypoint=/bin/sh", &image]);
    assert!(shell.is_err(), "{shell:?}");
    Ok(())
}

/// As whoever copies it to a registry does, which podman's own reading need not say.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn skopeo_reads_the_archive() -> Result<()> {
    let archive = podman::archive(Build::Tested)?;
    let archive = format!("oci-archive:{}", archive.display());
    let skopeo = NetNs::current()?.command("skopeo");
    let shown = skopeo.args(["inspect", &archive]).run()?;
    let shown: serde_json::Value = serde_json::from_str(&shown)?;
    assert_eq!(shown["Os"], "linux");
    assert_eq!(
        shown["Labels"]["org.opencontainers.image.title"],
        "underpass"
    );
    assert_eq!(shown["Layers"].as_array().map(Vec::len), Some(2));
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn pods_talk_in_every_mode() -> Result<()> {
    require_root();
    for (mode, word) in Mode::ON_ONE_SUBNET {
        let lab = Lab::flat(2, 1)?;
        let podman = Podman::of(&lab)?;
        let image = podman.load(Build::Tested)?;
        let (near, far) = (lab.node("node-0"), lab.node("node-1"));
        let cluster = cluster_yaml(&lab, mode.ipip_mode(), mode.vxlan_mode());
        let _container = podman.start(near, &image, &near.agent_config(), &cluster)?;
        let _far = Agent::start(far, &far.agent_config(), &cluster)?;
        lab.wait_resolved()?;

        let (client, server) = (lab.pod("node-0", "p0"), lab.pod("node-1", "p0"));
        let report = ping(client.ns(), server.address(), &PingOptions::default())?;
        assert!(report.is_lossless(), "{mode}: {report:?}");
        let counters = Counters::read(near)?;
        for (hook, reason) in [("from_workload", "sent"), ("from_uplink", "received")] {
            let count = counters.get(hook, &format!("{reason}-{word}"));
            assert_eq!(count.packets, u64::from(report.sent), "{mode}: {reason}");
        }
    }
    Ok(())
}

/// As a `DaemonSet` has it happen: the kubelet starts what has ended, replaces what has changed, and
/// removes what is deleted.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn killed_upgraded_and_removed_it_loses_nothing() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let podman = Podman::of(&lab)?;
    let image = podman.load(Build::Tested)?;
    let other = podman.load(Build::OtherLayout)?;
    let (near, far) = (lab.node("node-0"), lab.node("node-1"));
    let cluster = cluster_yaml(&lab, Mode::Vxlan.ipip_mode(), Mode::Vxlan.vxlan_mode());
    let start = |image: &str| podman.start(near, image, &near.agent_config(), &cluster);
    let container = start(&image)?;
    let _far = Agent::start(far, &far.agent_config(), &cluster)?;
    lab.wait_resolved()?;
    let traffic = Traffic::begin(&lab)?;

    container.kill()?;
    container.start()?;
    container.remove()?;
    let container = start(&other)?;
    wait_pinned(near, 1000 + abi::VERSION)?;
    container.remove()?;
    let container = start(&image)?;
    wait_pinned(near, abi::VERSION)?;
    container.remove()?;
    assert_eq!(podman.containers()?, [""; 0]);
    let remote = lab.pod("node-1", "p0").address();
    let report = ping(
        lab.pod("node-0", "p0").ns(),
        remote,
        &PingOptions::default(),
    )?;
    assert!(report.is_lossless(), "without an agent: {report:?}");
    traffic.end()
}

/// Packets between the nodes of which each is accounted for.
struct Traffic {
    exchange: Exchange,
    transfer: Transfer,
    pinging: Pinging,
    watch: Watch,
}

impl Traffic {
    fn begin(lab: &Lab) -> Result<Self> {
        let (near, remote) = (lab.pod("node-0", "p0"), lab.pod("node-1", "p0"));
        let options = PingOptions {
            interval: patient(Duration::from_millis(10)),
            ..PingOptions::default()
        };
        Ok(Self {
            exchange: Exchange::start(near.ns(), remote.ns(), remote.address())?,
            transfer: Transfer::start(remote.ns(), near.address(), near.ns())?,
            pinging: Pinging::start(lab.node("node-0").ns(), remote.address(), &options)?,
            watch: Watch::start(lab.node("node-0"))?,
        })
    }

    fn end(self) -> Result<()> {
        let exchange = self.exchange.stop()?;
        let lost = exchange.lost();
        assert!(
            exchange.is_lossless(),
            "lost {lost:?} of {}",
            exchange.sent.len()
        );
        assert!(self.transfer.stop()? > 0);
        let pings = self.pinging.stop()?;
        assert!(pings.is_lossless(), "{pings:?}");
        for (side, seen) in self.watch.stop()? {
            assert_eq!((seen.fewest, seen.most), (1, 1), "{side:?}: {seen:?}");
        }
        Ok(())
    }
}

/// Waits until what is pinned is of this layout, and of no other: an agent is ready before it removes
/// what another has left.
fn wait_pinned(node: &Node, layout: u32) -> Result<()> {
    eventually(&format!("only layout {layout} is pinned"), || {
        let mut names = Vec::new();
        for entry in fs::read_dir(node.pins())? {
            names.push(entry?.file_name());
        }
        Ok(names == [&*format!("v{layout}")])
    })
}
