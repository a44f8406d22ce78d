//! Watching how many programs are on the hooks of a node while something goes on there.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result};
use aya::programs::TcAttachType;
use nix::net::if_::if_nametoindex;

use crate::{NetNs, Node, programs};

/// A side of an interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HookSide {
    /// Name of the interface.
    pub interface: String,
    /// Whether it is what leaves, rather than what arrives.
    pub egress: bool,
}

/// Looks at hooks over and over, from a thread of its own.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<BTreeMap<HookSide, Seen>>>,
}

/// How many programs were on a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The fewest.
    pub fewest: usize,
    /// The most.
    pub most: usize,
    /// Times that the hook was looked at.
    pub looks: usize,
}

impl Watch {
    /// Watches every hook of `node` that has a program now.
    pub fn start(node: &Node) -> Result<Self> {
        let ns = node.ns().clone();
        let pods = node.pods().iter().map(|pod| pod.host_ifname().to_owned());
        let interfaces = pods.chain(["eth0", "underpass0"].map(str::to_owned));
        // Not every node has a carrier.
        let is_there = |name: &String| ns.run(|| Ok(if_nametoindex(&**name).is_ok()));
        let interfaces = interfaces.filter(|name| is_there(name).unwrap_or(false));
        let sides = interfaces.flat_map(|interface| {
            [false, true].map(|egress| HookSide {
                interface: interface.clone(),
                egress,
            })
        });
        let mut seen = BTreeMap::new();
        for side in sides {
            let now = count(&ns, &side)?;
            if now > 0 {
                seen.insert(side, Seen::first(now));
            }
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for (side, seen) in &mut seen {
                    seen.again(count(&ns, side)?);
                }
            }
            Ok(seen)
        });
        Ok(Self { stop, thread })
    }

    /// What was seen, by hook.
    pub fn stop(self) -> Result<BTreeMap<HookSide, Seen>> {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.thread.join();
        seen.unwrap_or_else(|panic| resume_unwind(panic))
            .context("watch the hooks")
    }
}

impl Seen {
    fn first(now: usize) -> Self {
        Self {
            fewest: now,
            most: now,
            looks: 1,
        }
    }

    fn again(&mut self, now: usize) {
        self.fewest = self.fewest.min(now);
        self.most = self.most.max(now);
        self.looks += 1;
    }
}

fn count(ns: &NetNs, side: &HookSide) -> Result<usize> {
    let direction = if side.egress {
        TcAttachType::Egress
    } else {
        TcAttachType::Ingress
    };
    Ok(programs::on_interface(ns, &side.interface, direction)?.len())
}
