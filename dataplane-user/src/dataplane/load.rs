//! Loading the programs, with their maps created or taken over from their pins.

use anyhow::{Context, Result};
use aya::{Ebpf, EbpfLoader, programs::SchedClassifier};
use dataplane_common::abi::{Hook, maps};

use super::{Pins, bpf_object};

/// The loaded programs. They are attached by [`super::Attachments`], and stay attached when this is
/// dropped.
#[derive(Debug)]
pub struct Dataplane {
    ebpf: Ebpf,
}

/// Loads every program; maps that are pinned keep their contents.
pub fn load(pins: &Pins) -> Result<Dataplane> {
    let object = bpf_object()?;
    pins.create()?;
    let mut loader = EbpfLoader::new();
    for name in maps::ALL {
        loader.map_pin_path(name, pins.map(name));
    }
    let ebpf = loader.load(object).context(
        "cannot create the BPF maps: underpass needs root (or CAP_BPF and CAP_NET_ADMIN)",
    )?;
    let mut dataplane = Dataplane { ebpf };
    for hook in Hook::ALL {
        dataplane
            .program(hook)?
            .load()
            .with_context(|| format!("the kernel refused the BPF program {}", hook.name()))?;
    }
    Ok(dataplane)
}

impl Dataplane {
    /// The program for `hook`.
    pub fn program(&mut self, hook: Hook) -> Result<&mut SchedClassifier> {
        let name = hook.name();
        self.ebpf
            .program_mut(name)
            .with_context(|| format!("the BPF object has no program {name}"))?
            .try_into()
            .with_context(|| format!("the BPF program {name} is not a TC classifier"))
    }
}
