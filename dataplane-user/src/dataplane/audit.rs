//! Whether what is pinned where this version pins is what it would have pinned there.
//!
//! Invariant: an agent that finds anything else in a place of its own refuses to start, having
//! changed nothing; what it finds in no place of its own it leaves alone.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use aya::programs::SchedClassifier;
use aya_obj::generated::{BPF_F_RDONLY_PROG, bpf_map_type};
use dataplane_common::abi::{Hook, maps};

use super::{
    LoadedPrograms, Pins,
    attach::{self, hook_and_index, side},
    bpf_object, clsact,
    pinned::{Link, Pinned, Shape, look},
    pins, sysctls, xdp,
};
use crate::kernel::interface_name;

/// Refuses what is no pin of underpass in a place where one should be; returns what is in no such
/// place, which is nothing to underpass.
pub fn audit(pins: &Pins) -> Result<Vec<PathBuf>> {
    let mut audit = Audit::default();
    audit.version(pins)?;
    for other in pins.others()? {
        audit.other_version(&other)?;
    }
    if audit.problems.is_empty() {
        return Ok(audit.strangers);
    }
    bail!(
        "cannot work with the pins in {}:\n  {}\nunderpass neither uses nor removes what it has not \
         pinned itself, so it has changed nothing: programs that are attached go on as they are, and \
         what they leave is the host stack's. Find out whose these are (bpftool map|prog|link show \
         pinned PATH) and remove them (rm PATH, or rmdir), or set `pins:` to another directory",
        pins.base().display(),
        audit.problems.join("\n  ")
    )
}

#[derive(Default)]
struct Audit {
    problems: Vec<String>,
    strangers: Vec<PathBuf>,
}

impl Audit {
    /// Everything below the directory of this version.
    fn version(&mut self, pins: &Pins) -> Result<()> {
        let directories = [pins.maps(), pins.links(), pins.xdp(), pins.sysctls()];
        if !self.is_directory(&pins.version())? {
            return Ok(());
        }
        for name in pins::names(&pins.version())? {
            let path = pins.version().join(name);
            if !directories.contains(&path) {
                self.strangers.push(path);
            }
        }
        if self.is_directory(&pins.maps())? {
            self.maps(&pins.maps())?;
        }
        self.attached(pins, true)
    }

    /// What of another version would become ours.
    fn other_version(&mut self, other: &Pins) -> Result<()> {
        if self.is_directory(&other.version())? {
            self.attached(other, false)?;
        }
        Ok(())
    }

    fn maps(&mut self, directory: &Path) -> Result<()> {
        let shapes = shapes()?;
        for name in pins::names(directory)? {
            let path = directory.join(&name);
            let Some(wanted) = shapes.get(&*name) else {
                self.strangers.push(path);
                continue;
            };
            match look(&path)? {
                None => {}
                Some(Pinned::Map(shape)) if shape == *wanted => {}
                Some(found) => self.problem(&path, &format!("the map {name} ({wanted})"), &found),
            }
        }
        Ok(())
    }

    /// Links, and the records that stand for them. What has another name is a stranger in the
    /// directory of this version, and another version's business in its own.
    fn attached(&mut self, pins: &Pins, ours: bool) -> Result<()> {
        if self.is_directory(&pins.links())? {
            for name in pins::names(&pins.links())? {
                let path = pins.links().join(&name);
                if attach::understands(&name) {
                    self.link(&path, &name)?;
                } else if ours {
                    self.strangers.push(path);
                }
            }
        }
        if self.is_directory(&pins.xdp())? {
            for name in pins::names(&pins.xdp())? {
                let path = pins.xdp().join(&name);
                if xdp::understands(&name) {
                    self.xdp(&path, &name)?;
                } else if ours {
                    self.strangers.push(path);
                }
            }
        }
        if self.is_directory(&pins.sysctls())? {
            for name in pins::names(&pins.sysctls())? {
                let path = pins.sysctls().join(&name);
                if sysctls::understands(&name) {
                    self.sysctl(&path)?;
                } else if ours {
                    self.strangers.push(path);
                }
            }
        }
        Ok(())
    }

    fn link(&mut self, path: &Path, name: &str) -> Result<()> {
        match look(path)? {
            Some(found) if !is_our_link(name, &found)? => {
                let wanted = match hook_and_index(name) {
                    Ok((hook, ifindex)) if !clsact::is_record(name) => {
                        format!("the link of {} on interface number {ifindex}", hook.name())
                    }
                    _ => "a directory, the record of a filter".to_owned(),
                };
                self.problem(path, &wanted, &found);
            }
            _ => {}
        }
        Ok(())
    }

    fn xdp(&mut self, path: &Path, name: &str) -> Result<()> {
        match look(path)? {
            Some(found) if !is_our_xdp(name, &found)? => {
                let wanted = match xdp::index_and_kind(name) {
                    Some((ifindex, true)) => {
                        format!("the XDP link of interface number {ifindex}")
                    }
                    _ => "a directory, the record of why there is no XDP".to_owned(),
                };
                self.problem(path, &wanted, &found);
            }
            _ => {}
        }
        Ok(())
    }

    fn sysctl(&mut self, path: &Path) -> Result<()> {
        match look(path)? {
            None | Some(Pinned::Directory) => {}
            Some(found) => self.problem(path, "a directory, the record of a sysctl", &found),
        }
        Ok(())
    }

    /// Whether there is a directory; anything else is a problem.
    fn is_directory(&mut self, path: &Path) -> Result<bool> {
        match look(path)? {
            None => Ok(false),
            Some(Pinned::Directory) => Ok(true),
            Some(found) => {
                self.problem(path, "a directory", &found);
                Ok(false)
            }
        }
    }

    fn problem(&mut self, path: &Path, wanted: &str, found: &Pinned) {
        let path = path.display();
        self.problems
            .push(format!("{path} should be {wanted}, and is {found}"));
    }
}

/// Whether what is among the links under `name` is a link of ours, or the record of a filter or
/// qdisc.
pub(super) fn is_our_link(name: &str, found: &Pinned) -> Result<bool> {
    if clsact::is_record(name) {
        return Ok(*found == Pinned::Directory);
    }
    let (Ok((hook, ifindex)), Pinned::Link(link)) = (hook_and_index(name), found) else {
        return Ok(false);
    };
    Ok(is_on(link, "tcx", ifindex) && is_program(tcx_program(link, hook)?.as_deref(), hook))
}

/// Whether what is among the XDP links under `name` is one of ours, or the record of why there is
/// none.
pub(super) fn is_our_xdp(name: &str, found: &Pinned) -> Result<bool> {
    match (xdp::index_and_kind(name), found) {
        (Some((ifindex, true)), Pinned::Link(link)) => Ok(is_on(link, "xdp", ifindex)
            && is_program(xdp_program(link)?.as_deref(), Hook::XdpUplink)),
        (Some((_, false)), Pinned::Directory) => Ok(true),
        _ => Ok(false),
    }
}

/// The maps as this version makes them, by their names.
pub(super) fn shapes() -> Result<BTreeMap<&'static str, Shape>> {
    let object = aya_obj::Object::parse(bpf_object()?).context("cannot read the BPF object")?;
    maps::ALL
        .into_iter()
        .map(|name| {
            let map = object
                .maps
                .get(maps::in_object(name))
                .with_context(|| format!("the BPF object has no map {name}"))?;
            let shape = Shape {
                kind: map.map_type(),
                key: map.key_size(),
                value: map.value_size(),
                entries: map.max_entries(),
                flags: map.map_flags() | added_flags(map.map_type()),
            };
            Ok((name, shape))
        })
        .collect()
}

/// The flags that the kernel adds to those a map of type `kind` is made with: programs only read what
/// holds devices (`dev_map_init_map`).
fn added_flags(kind: u32) -> u32 {
    if kind == bpf_map_type::BPF_MAP_TYPE_DEVMAP_HASH as u32 {
        BPF_F_RDONLY_PROG
    } else {
        0
    }
}

/// Whether a link is of this kind and on this interface, or was until that went.
fn is_on(link: &Link, kind: &str, ifindex: u32) -> bool {
    link.kind == kind && [0, ifindex].contains(&link.ifindex)
}

/// Whether a program, if there is still one, is `hook`'s.
fn is_program(name: Option<&str>, hook: Hook) -> bool {
    name.is_none_or(|name| name == hook.name())
}

/// The name of the program that a tcx link holds where `hook` is.
fn tcx_program(link: &Link, hook: Hook) -> Result<Option<String>> {
    let Some(interface) = interface_name(link.ifindex) else {
        return Ok(None);
    };
    let (_, programs) = SchedClassifier::query_tcx(&interface, side(hook))
        .with_context(|| format!("cannot list the programs on {interface}"))?;
    // A link to the other side of the interface is none of ours, whatever it holds.
    let program = programs.iter().find(|program| program.id() == link.program);
    let name = program.and_then(|program| program.name_as_str());
    Ok(Some(name.unwrap_or("?").to_owned()))
}

/// The name of the program that an XDP link holds.
fn xdp_program(link: &Link) -> Result<Option<String>> {
    if link.ifindex == 0 {
        return Ok(None);
    }
    let programs = LoadedPrograms::read()?;
    Ok(programs.name(link.program).map(str::to_owned))
}
