//! Whether the programs would work here, found out by loading them, and by attaching one of them where
//! nobody is. Nothing of it stays.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
    thread,
};

use anyhow::{Context, Result, anyhow};
use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, TcAttachType,
    tc::{self, NlOptions, TcAttachOptions},
};
use dataplane_common::abi::Hook;
use nix::sched::{CloneFlags, unshare};

use super::{Dataplane, bpf_object, clsact, load, probe};
use crate::config::Attach;

/// The interface that every network namespace has.
const LOOPBACK: &str = "lo";

/// What came of it.
#[derive(Debug)]
pub struct Trial {
    /// Whether `bpf_skb_adjust_room` takes the flag that says that an inner Ethernet header follows.
    pub knows_inner_ethernet: bool,
    /// Whether the kernel can be told that a packet has left its tunnel.
    pub forgets_tunnels: bool,
    /// The programs that the kernel has verified.
    pub verified: Vec<Hook>,
    /// Those that it refuses, and why.
    pub refused: Vec<(Hook, anyhow::Error)>,
    /// Whether it compiles them.
    pub is_compiled: bool,
    /// How they are attached; nothing where there is none to be attached.
    pub way: Option<Result<Way>>,
}

/// How programs are attached to traffic control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By tcx links.
    Tcx,
    /// By filters of a clsact queueing discipline.
    Clsact,
}

/// Loads every program, with maps of its own, and attaches one as `attach` says.
///
/// # Errors
///
/// The maps cannot be created, or it cannot be found out what this kernel can do.
pub fn trial(attach: Attach) -> Result<Trial> {
    let object = bpf_object()?;
    let abilities = probe::abilities(object)?;
    let mut dataplane = load::create(object, &abilities, None)?;
    let mut verified = Vec::new();
    let mut refused = Vec::new();
    for hook in Hook::ALL {
        match dataplane.load(hook) {
            Ok(()) => verified.push(hook),
            Err(error) => refused.push((hook, error)),
        }
    }
    let to_attach = verified
        .iter()
        .copied()
        .find(|hook| *hook != Hook::XdpUplink);
    let is_compiled = match to_attach {
        Some(hook) => is_compiled(dataplane.program(hook)?)?,
        None => false,
    };
    Ok(Trial {
        knows_inner_ethernet: abilities.knows_inner_ethernet,
        forgets_tunnels: abilities.forgets_tunnels,
        verified,
        refused,
        is_compiled,
        way: to_attach.map(|hook| way(&mut dataplane, hook, attach)),
    })
}

/// Whether the kernel has made machine code of a program.
fn is_compiled(program: &SchedClassifier) -> Result<bool> {
    let program = program.fd().context("the program is not loaded")?;
    let path = format!("/proc/self/fdinfo/{}", program.as_fd().as_raw_fd());
    let facts = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let mut facts = facts.lines().filter_map(|line| line.split_once(':'));
    Ok(facts.any(|(name, value)| name == "prog_jited" && value.trim() == "1"))
}

/// Attaches the program in a network namespace that goes with the thread that it is for.
fn way(dataplane: &mut Dataplane, hook: Hook, attach: Attach) -> Result<Way> {
    let program = dataplane.program(hook)?;
    let tried = thread::scope(|scope| {
        let trying = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .context("cannot make a network namespace to attach a program in")?;
            attach_as(program, attach)
        });
        trying.join()
    });
    tried.map_err(|_| anyhow!("attaching a program has panicked"))?
}

fn attach_as(program: &mut SchedClassifier, attach: Attach) -> Result<Way> {
    match attach {
        Attach::Tcx => attach_tcx(program),
        Attach::Clsact => attach_clsact(program),
        Attach::Auto => match attach_tcx(program) {
            Err(_) if !clsact::kernel_has_tcx() => attach_clsact(program),
            result => result,
        },
    }
}

fn attach_tcx(program: &mut SchedClassifier) -> Result<Way> {
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    attach_and_detach(program, options).context("cannot attach a program by tcx")?;
    Ok(Way::Tcx)
}

fn attach_clsact(program: &mut SchedClassifier) -> Result<Way> {
    tc::qdisc_add_clsact(LOOPBACK).context("cannot add a clsact qdisc")?;
    let options = TcAttachOptions::Netlink(NlOptions::default());
    attach_and_detach(program, options).context("cannot attach a program as a filter of clsact")?;
    Ok(Way::Clsact)
}

/// A filter has to be taken off where it is: elsewhere its interface is another.
fn attach_and_detach(
    program: &mut SchedClassifier,
    options: TcAttachOptions,
) -> Result<(), ProgramError> {
    let link = program.attach_with_options(LOOPBACK, TcAttachType::Ingress, options)?;
    program.detach(link)
}
