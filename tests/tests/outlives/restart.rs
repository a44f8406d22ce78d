//! Agents are killed, restarted and replaced by other versions, and not a packet is lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::programs::links::{FdLink, PinnedLink};
use dataplane_tests::{
    Agent, Build, Lab, Node, require_root,
    steps::{self, Step},
};

use crate::scene::{Scene, cluster, version, versions};

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn killed_and_restarted_it_loses_nothing() -> Result<()> {
    require_root();
    for config in ["", "attach: clsact\n", "xdp: native\n"] {
        let mut scene = Scene::begin(config)?;
        for _ in 0..3 {
            scene.kill()?;
            scene.restart(Build::Tested)?;
        }
        scene.end(config)?;
    }
    Ok(())
}

/// A link that is replaced in place keeps its number; one that is made anew leaves, or doubles, what
/// is on the hook for a moment.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn every_program_is_replaced_in_the_link_that_holds_it() -> Result<()> {
    require_root();
    let mut scene = Scene::begin("xdp: native\n")?;
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
    let mut scene = Scene::begin("")?;
    let storm = Storm::begin(&scene.lab)?;
    for _ in 0..5 {
        scene.agent()?.process().skip_log()?;
        scene
            .agent()?
            .process()
            .wait_for_line("the cluster table has changed", Duration::from_secs(5))?;
        scene.kill()?;
        scene.restart(Build::Tested)?;
    }
    let tables = storm.end()?;
    assert!(tables > 10, "{tables} tables are no storm");
    scene.end("in a storm")
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn upgrade_and_downgrade_to_another_layout_lose_nothing() -> Result<()> {
    require_root();
    for config in ["", "attach: clsact\n", "xdp: native\n"] {
        let mut scene = Scene::begin(config)?;
        for build in [Build::OtherLayout, Build::Tested, Build::OtherLayout] {
            scene.kill()?;
            scene.restart(build)?;
            assert_eq!(versions(scene.node())?, [version(build)], "{config}");
        }
        scene.end(config)?;
    }
    Ok(())
}

/// Whether the agent then comes back, or the one that was there before.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn killed_at_any_step_of_an_upgrade_or_downgrade_it_loses_nothing() -> Result<()> {
    require_root();
    let mut scene = Scene::begin("")?;
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

/// A cluster's table that is rewritten all the time.
struct Storm {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Result<usize>>,
}

impl Storm {
    /// Rewrites the table of the first node.
    fn begin(lab: &Lab) -> Result<Self> {
        /// Routes that come and go.
        const ROUTES: usize = 1000;
        let tables: Vec<String> = (0..2)
            .map(|half| {
                let routes = (0..ROUTES).map(|number| {
                    let (high, low) = (number / 256, number % 256);
                    let node = (number + half) % 2;
                    format!(
                        "  - {{ cidr: 10.244.{}.{low}/32, node: node-{node} }}\n",
                        16 + 2 * high + half
                    )
                });
                cluster(lab, &format!("routes:\n{}", routes.collect::<String>()))
            })
            .collect();
        let path = lab.node("node-0").dir().join("cluster.yaml");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut written = 0;
            while !stopped.load(Ordering::Relaxed) {
                let draft = path.with_extension("storm");
                std::fs::write(&draft, &tables[written % 2])?;
                std::fs::rename(&draft, &path)?;
                written += 1;
                thread::sleep(Duration::from_millis(20));
            }
            Ok(written)
        });
        Ok(Self { stop, thread })
    }

    /// How many tables were written.
    fn end(self) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        let written = self.thread.join();
        written.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
