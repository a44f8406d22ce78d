//! What is pinned, and the programs that use it, as the kernel describes them.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use aya::{
    maps::MapInfo,
    programs::{ProgramError, ProgramInfo, loaded_programs},
};
use dataplane_common::abi::Hook;

use super::{
    Pins,
    pinned::{Pinned, look},
    pins,
};

/// Our maps, each with the name and the path of its pin.
pub fn pinned_maps(pins: &Pins) -> Result<Vec<(String, PathBuf, MapInfo)>> {
    let names = pins::names(&pins.maps())?.into_iter();
    let described = names.map(|name| {
        let path = pins.map(&name);
        let info = MapInfo::from_pin(&path).with_context(|| {
            format!(
                "cannot look at the BPF map {}: are you root, and is it a map?",
                path.display()
            )
        })?;
        Ok((name, path, info))
    });
    described.collect()
}

/// The programs that use our maps. There are others of the same names where underpass runs with other
/// pins besides.
pub fn programs(pins: &Pins) -> Result<Vec<ProgramInfo>> {
    let maps = pinned_maps(pins)?.into_iter();
    let maps: BTreeSet<_> = maps.map(|(_, _, info)| info.id()).collect();
    let mut programs = Vec::new();
    for program in loaded_programs() {
        let is_ours = |program: &ProgramInfo| -> Result<bool, ProgramError> {
            let name = program.name_as_str();
            if !Hook::ALL.iter().any(|hook| Some(hook.name()) == name) {
                return Ok(false);
            }
            let used = program.map_ids()?.unwrap_or_default();
            Ok(used.iter().any(|id| maps.contains(id)))
        };
        match program.and_then(|program| Ok((is_ours(&program)?, program))) {
            Ok((true, program)) => programs.push(program),
            Ok((false, _)) => {}
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error).context("cannot list the BPF programs: are you root?"),
        }
    }
    Ok(programs)
}

/// The number of the program that the link pinned at `path` holds; none where it is a record of
/// something that no link holds.
pub fn linked_program(path: &Path) -> Result<Option<u32>> {
    Ok(match look(path)? {
        Some(Pinned::Link(link)) => Some(link.program),
        _ => None,
    })
}

/// Whether the program went while it was looked at.
pub(super) fn is_gone(error: &ProgramError) -> bool {
    match error {
        ProgramError::SyscallError(error) => error.io_error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}
