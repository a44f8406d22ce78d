//! Agents are killed, restarted and replaced by other versions, and not a packet is lost.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::programs::links::{FdLink, PinnedLink};
use dataplane_tests::{
    Agent, Build, Lab, Node, eventually, require_root,
    steps::{self, Step},
};

use crate::scene::{Scene, Setup, cluster, version, versions};

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn killed_and_restarted_it_loses_nothing() -> Result<()> {
    require_root();
    for setup in Setup::ALL {
        let mut scene = Scene::begin(setup)?;
        for _ in 0..3 {
            scene.kill()?;
            scene.restart(Build::Tested)?;
        }
        scene.end(&format!("{setup:?}"))?;
    }
    Ok(())
}

/// A link that is replaced in place keeps its number; one that is made anew leaves, or doubles, what
/// is on the hook for a moment.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn every_program_is_replaced_in_the_link_that_holds_it() -> Result<()> {
    require_root();
    let mut scene = Scene::begin(Setup::File("xdp: native\n"))?;
    let mut before = links(scene.node(), Build::Tested)?;
    for build in [Build::Tested, Build::OtherLayout, Build::Tested] {
        scene.kill()?;
        scene.restart(build)?;
        let after = links(scene.node(), build)?;
        assert_eq!(before.len(), 5, "{before:?}");
        for (name, (link, program)) in &before {
            let (link_now, program_now) = after[name];
            assert_eq!(*link, link_now, "{build:?}: {name}");
            assert_ne!(*program, program_now, "{build:?}: {name}");
        }
        before = after;
    }
    scene.end("replaced in place")
}

/// The pinned links, each with its number and that of its program.
fn links(node: &Node, build: Build) -> Result<BTreeMap<String, (u32, u32)>> {
    let mut links = BTreeMap::new();
    for directory in ["links", "xdp"] {
        let directory = node.pins().join(version(build)).join(directory);
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let link: FdLink = PinnedLink::from_pin(entry.path())?.into();
            let info = link.info()?;
            let name = entry.file_name().to_string_lossy().into_owned();
            links.insert(name, (info.id(), info.program_id()));
        }
    }
    Ok(links)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn restarted_while_its_routes_are_rewritten_it_loses_nothing() -> Result<()> {
    require_root();
    for setup in [Setup::File(""), Setup::Kernel] {
        let mut scene = Scene::begin(setup)?;
        let storm = Storm::begin(&scene.lab, setup);
        for _ in 0..5 {
            storm.wait()?;
            scene.kill()?;
            scene.restart(Build::Tested)?;
        }
        storm.end()?;
        scene.end(&format!("{setup:?}, in a storm"))?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn upgrade_and_downgrade_to_another_layout_lose_nothing() -> Result<()> {
    require_root();
    for setup in Setup::ALL {
        let mut scene = Scene::begin(setup)?;
        for build in [Build::OtherLayout, Build::Tested, Build::OtherLayout] {
            scene.kill()?;
            scene.restart(build)?;
            assert_eq!(versions(scene.node())?, [version(build)], "{setup:?}");
        }
        scene.end(&format!("{setup:?}"))?;
    }
    Ok(())
}

/// Whether the agent then comes back, or the one that was there before.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn killed_at_any_step_of_an_upgrade_or_downgrade_it_loses_nothing() -> Result<()> {
    require_root();
    let mut scene = Scene::begin(Setup::File(""))?;
    scene.kill()?;
    let node = scene.lab.node("node-0");
    let (there, back) = (Build::OtherLayout, Build::Tested);
    let up = steps::ends_of_runs(&steps::steps(node, there)?);
    let down = steps::ends_of_runs(&steps::steps(node, back)?);
    let mut killed = 0;
    for (turn, step) in up.iter().enumerate() {
        killed += usize::from(interrupt(node, there, step)?);
        let next = if turn % 2 == 0 { there } else { back };
        settle(node, next, step)?;
        if next == there
            && let Some(step) = down.get(turn)
        {
            killed += usize::from(interrupt(node, back, step)?);
            settle(node, back, step)?;
        }
    }
    assert!(killed > up.len(), "killed only {killed} times");
    scene.end("killed at steps")
}

/// Has an agent of this build killed at `step`; returns whether it was.
fn interrupt(node: &Node, build: Build, step: &Step) -> Result<bool> {
    steps::killed_at(node, build, step).with_context(|| format!("{build:?}, {step}"))
}

/// Has an agent of this build put in order what another has left when it was killed at `step`.
fn settle(node: &Node, build: Build, step: &Step) -> Result<()> {
    let mut agent =
        Agent::restart(node, build).with_context(|| format!("{build:?} after {step}"))?;
    assert_eq!(versions(node)?, [version(build)], "after {step}");
    agent.process().kill()?;
    Ok(())
}

/// Routes of the first node that are rewritten all the time.
struct Storm {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
    thread: thread::JoinHandle<Result<()>>,
}

impl Storm {
    fn begin(lab: &Lab, setup: Setup) -> Self {
        let node = lab.node("node-0");
        let (path, ns) = (node.dir().join("cluster.yaml"), node.ns().clone());
        let gateway = lab.node("node-1").tunnel_address();
        let texts = [0, 1].map(|half| match setup {
            Setup::File(_) => cluster(lab, &routes_yaml(half)),
            Setup::Kernel => ip_batch(half, gateway),
        });
        let (stop, written) = (Arc::default(), Arc::default());
        let thread = thread::spawn({
            let (stop, written): (Arc<AtomicBool>, Arc<AtomicUsize>) =
                (Arc::clone(&stop), Arc::clone(&written));
            move || {
                for text in texts.iter().cycle() {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    match setup {
                        Setup::File(_) => replace(&path, text)?,
                        Setup::Kernel => {
                            ns.command("ip").args(["-batch", "-"]).input(text)?.run()?;
                        }
                    }
                    written.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(20));
                }
                Ok(())
            }
        });
        Self {
            stop,
            written,
            thread,
        }
    }

    /// Waits until the routes have been rewritten a few times more.
    fn wait(&self) -> Result<()> {
        let before = self.written.load(Ordering::Relaxed);
        eventually("the routes are rewritten", || {
            Ok(self.written.load(Ordering::Relaxed) > before + 3)
        })
    }

    fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join();
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Routes that come and go in a storm.
const ROUTES: usize = 1000;

/// Half of the routes have this number, the other half, in another table, another.
fn storm_prefix(number: usize, half: usize) -> String {
    let (high, low) = (number / 256, number % 256);
    format!("10.244.{}.{low}/32", 16 + 2 * high + half)
}

fn routes_yaml(half: usize) -> String {
    let routes = (0..ROUTES).map(|number| {
        let prefix = storm_prefix(number, half);
        format!(
            "  - {{ cidr: {prefix}, node: node-{} }}\n",
            (number + half) % 2
        )
    });
    format!("routes:\n{}", routes.collect::<String>())
}

/// What ip(8) reads to bring one half, and to take away the other.
fn ip_batch(half: usize, gateway: Ipv4Addr) -> String {
    let routes = (0..ROUTES).map(|number| {
        let (add, remove) = (storm_prefix(number, half), storm_prefix(number, 1 - half));
        format!(
            "route replace {add} via {gateway} dev vxlan.calico onlink\n\
             route replace blackhole {remove}\nroute delete blackhole {remove}\n"
        )
    });
    routes.collect()
}

fn replace(path: &Path, text: &str) -> Result<()> {
    let draft = path.with_extension("storm");
    std::fs::write(&draft, text)?;
    Ok(std::fs::rename(&draft, path)?)
}
