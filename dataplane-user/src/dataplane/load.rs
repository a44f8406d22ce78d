//! Loading the programs, with their maps created or taken over from their pins.

use std::{io::ErrorKind, time::Duration};

use anyhow::{Context, Result};
use aya::{
    Ebpf, EbpfLoader,
    programs::{ProgramError, SchedClassifier, Xdp},
};
use aya_log::EbpfLogger;
use dataplane_common::abi::{Hook, globals, maps};
use tokio::time::interval;

use super::{
    Pins, bpf_object,
    probe::{self, Abilities},
};

/// How often the programs' log is looked at.
const LOG_PERIOD: Duration = Duration::from_millis(100);

/// The loaded programs. They are attached by [`super::Attachments`], and stay attached when this is
/// dropped.
#[derive(Debug)]
pub struct Dataplane {
    ebpf: Ebpf,
    forgets_tunnels: bool,
}

/// Loads every program; maps that are pinned keep their contents.
pub fn load(pins: &Pins) -> Result<Dataplane> {
    let object = bpf_object()?;
    pins.create()?;
    let abilities = probe::abilities(object)?;
    let mut dataplane = create(object, &abilities, Some(pins))?;
    for hook in Hook::ALL {
        dataplane.load(hook)?;
    }
    Ok(dataplane)
}

/// Creates the maps, or takes them over from where they are pinned; no program is loaded yet.
pub(super) fn create(
    object: &[u8],
    abilities: &Abilities,
    pins: Option<&Pins>,
) -> Result<Dataplane> {
    let log_level = log_level();
    let knows_inner_ethernet = u8::from(abilities.knows_inner_ethernet);
    let forgets_tunnels = u8::from(abilities.forgets_tunnels);
    let mut loader = EbpfLoader::new();
    loader.override_global(aya_log::LEVEL, &log_level, true);
    loader.override_global(globals::KNOWS_INNER_ETHERNET, &knows_inner_ethernet, true);
    loader.override_global(globals::FORGETS_TUNNELS, &forgets_tunnels, true);
    loader.override_global(globals::JIFFY, &abilities.jiffies.length, true);
    loader.override_global(globals::FIRST_JIFFY, &abilities.jiffies.first, true);
    if let Some(pins) = pins {
        for name in maps::ALL {
            loader.map_pin_path(maps::in_object(name), pins.map(name));
        }
    }
    let ebpf = loader.load(object).context(
        "cannot create the BPF maps: underpass needs root (or CAP_SYS_ADMIN and CAP_NET_ADMIN)",
    )?;
    Ok(Dataplane {
        ebpf,
        forgets_tunnels: abilities.forgets_tunnels,
    })
}

/// What the programs log: nothing, unless somebody wants to read it.
fn log_level() -> u8 {
    if tracing::enabled!(tracing::Level::DEBUG) {
        aya_log::Level::Debug as u8
    } else {
        0
    }
}

/// Has `load` load a program, and again if a signal has interrupted the verifier: a process that was
/// stopped for a moment, say (`do_check`: `EAGAIN`). libbpf does the same.
///
/// # Errors
///
/// What `load` ends with, an interruption only if there was one every time.
pub fn verify(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    const ATTEMPTS: usize = 10;
    for _ in 1..ATTEMPTS {
        match load() {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.kind() == ErrorKind::WouldBlock => {}
            outcome => return outcome,
        }
    }
    load()
}

impl Dataplane {
    /// Has the kernel verify the program for `hook`, and keep it for as long as this lives.
    pub(super) fn load(&mut self, hook: Hook) -> Result<()> {
        let loaded = match hook {
            Hook::XdpUplink => {
                let program = self.xdp()?;
                verify(|| program.load())
            }
            hook => {
                let program = self.program(hook)?;
                verify(|| program.load())
            }
        };
        loaded.with_context(|| format!("the kernel refused the BPF program {}", hook.name()))
    }

    /// Whether the kernel forgets a tunnel that a packet is taken out of.
    #[must_use]
    pub fn forgets_tunnels(&self) -> bool {
        self.forgets_tunnels
    }

    /// Passes on what the programs log, from a task on the current tokio runtime, if they do.
    pub fn forward_logs(&mut self) -> Result<()> {
        if log_level() == 0 {
            return Ok(());
        }
        let mut logger =
            EbpfLogger::init(&mut self.ebpf).context("cannot read the programs' log")?;
        let mut ticks = interval(LOG_PERIOD);
        tokio::spawn(async move {
            loop {
                ticks.tick().await;
                logger.flush();
            }
        });
        Ok(())
    }

    /// The XDP program.
    pub fn xdp(&mut self) -> Result<&mut Xdp> {
        let name = Hook::XdpUplink.name();
        self.ebpf
            .program_mut(name)
            .with_context(|| format!("the BPF object has no program {name}"))?
            .try_into()
            .with_context(|| format!("the BPF program {name} is not for XDP"))
    }

    /// The program for `hook`, one of [`Hook::TC`].
    pub fn program(&mut self, hook: Hook) -> Result<&mut SchedClassifier> {
        let name = hook.name();
        self.ebpf
            .program_mut(name)
            .with_context(|| format!("the BPF object has no program {name}"))?
            .try_into()
            .with_context(|| format!("the BPF program {name} is not a TC classifier"))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use aya_obj::VerifierLog;

    use super::*;

    /// What loading ends with when it ends with these errors first, and how often it was tried.
    fn verified(errors: &[i32]) -> (Option<i32>, usize) {
        let mut tried = 0;
        let outcome = verify(|| {
            tried += 1;
            errors.get(tried - 1).map_or(Ok(()), |&errno| {
                Err(ProgramError::LoadError {
                    io_error: io::Error::from_raw_os_error(errno),
                    verifier_log: VerifierLog::new(String::new()),
                })
            })
        });
        let errno = outcome.err().and_then(|error| match error {
            ProgramError::LoadError { io_error, .. } => io_error.raw_os_error(),
            _ => None,
        });
        (errno, tried)
    }

    #[test]
    fn an_interrupted_verifier_is_asked_again() {
        assert_eq!(verified(&[]), (None, 1));
        assert_eq!(verified(&[libc::EAGAIN, libc::EAGAIN]), (None, 3));
        assert_eq!(
            verified(&[libc::EAGAIN, libc::EACCES]),
            (Some(libc::EACCES), 2)
        );
        assert_eq!(verified(&[libc::EAGAIN; 20]), (Some(libc::EAGAIN), 10));
    }
}
