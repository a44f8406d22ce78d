//! The BPF programs that are on interfaces, whoever has put them there.

use std::{collections::BTreeMap, io};

use anyhow::{Context, Result};
use aya::programs::{
    ProgramError, ProgramInfo, SchedClassifier, TcAttachType, loaded_programs, tc::TcError,
};
use nix::errno::Errno;

use super::described::is_gone;
use crate::kernel::{Link, Netlink};

/// Where on an interface a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// In front of the socket buffer.
    Xdp,
    /// On what comes in, in traffic control.
    Ingress,
    /// On what leaves.
    Egress,
}

impl Side {
    /// The word that is printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xdp => "XDP",
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// The name of every program in the kernel, by its number.
#[derive(Debug)]
pub struct LoadedPrograms(BTreeMap<u32, String>);

impl LoadedPrograms {
    /// Reads them.
    pub fn read() -> Result<Self> {
        let mut programs = BTreeMap::new();
        for program in loaded_programs() {
            match program {
                Ok(program) => {
                    let name = program.name_as_str().unwrap_or_default();
                    programs.insert(program.id(), name.to_owned());
                }
                Err(error) if is_gone(&error) => {}
                Err(error) => {
                    return Err(error).context("cannot list the BPF programs: are you root?");
                }
            }
        }
        Ok(Self(programs))
    }

    /// The name of the program of this number; none if there was no such program.
    pub(super) fn name(&self, program: u32) -> Option<&str> {
        self.0.get(&program).map(String::as_str)
    }

    /// The programs on `link`, by their numbers, and their names.
    pub async fn on(&self, netlink: &Netlink, link: &Link) -> Result<Vec<(Side, u32, String)>> {
        let or_unknown = |program: u32| self.name(program).unwrap_or("?").to_owned();
        let mut programs = Vec::new();
        if let Some(program) = link.xdp {
            programs.push((Side::Xdp, program, or_unknown(program)));
        }
        for (side, tcx) in [
            (Side::Ingress, TcAttachType::Ingress),
            (Side::Egress, TcAttachType::Egress),
        ] {
            let by_tcx = by_tcx(&link.name, tcx)?.into_iter();
            programs.extend(by_tcx.map(|program| (side, program, or_unknown(program))));
            let filters = netlink.bpf_filters(link.index, side == Side::Ingress);
            programs.extend(filters.await?.into_iter().map(|filter| {
                let program = filter.program.unwrap_or_default();
                // The kernel knows a program's name, of the filter what its owner called it.
                let name = self.name(program).filter(|name| !name.is_empty());
                (side, program, name.map_or(filter.name, str::to_owned))
            }));
        }
        Ok(programs)
    }
}

/// The numbers of the programs that are on a side of an interface by tcx; none where the kernel has no
/// tcx, or where the interface is gone.
fn by_tcx(interface: &str, side: TcAttachType) -> Result<Vec<u32>> {
    /// How often the list is asked for again, of which a program is gone once it is looked at.
    const ATTEMPTS: usize = 10;
    let mut attempt = 1;
    loop {
        match SchedClassifier::query_tcx(interface, side) {
            Ok((_, programs)) => return Ok(programs.iter().map(ProgramInfo::id).collect()),
            Err(error) => match errno(&error) {
                Some(Errno::EINVAL | Errno::ENODEV) => return Ok(Vec::new()),
                Some(Errno::ENOENT) if attempt < ATTEMPTS => attempt += 1,
                _ => {
                    return Err(error)
                        .with_context(|| format!("cannot list the programs on {interface}"));
                }
            },
        }
    }
}

fn errno(error: &ProgramError) -> Option<Errno> {
    let error: &io::Error = match error {
        ProgramError::SyscallError(error) => &error.io_error,
        ProgramError::TcError(TcError::IoError(error)) => error,
        _ => return None,
    };
    error.raw_os_error().map(Errno::from_raw)
}
