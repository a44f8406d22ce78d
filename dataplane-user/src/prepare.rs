//! What a node needs before an agent that cannot see to it itself. In a container without privileges
//! nothing can be mounted that the node sees, and `/proc/sys` cannot be written.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use tracing::info;

use crate::{
    config::Config,
    dataplane::{self, Pins},
};

/// Where a node has its BPF file system.
const MOUNT_POINT: &str = "/sys/fs/bpf";

/// Mounts a BPF file system for the pins, if they have none, and sets what connection tracking needs,
/// if netfilter is heeded. What is so already stays as it is.
///
/// # Errors
///
/// Neither may be done here, or an agent is running.
pub fn prepare(config: &Config) -> Result<()> {
    let pins = Pins::new(&config.pins);
    if !pins.have_file_system()? {
        mount_for(&pins)?;
    }
    if config.is_established() {
        let _lock = dataplane::claim(&pins)?;
        // Asking connection tracking for its entries has the kernel load it, and with it come the
        // sysctls.
        dataplane::spare_connections();
        dataplane::set_sysctls(&pins)?;
    }
    Ok(())
}

fn mount_for(pins: &Pins) -> Result<()> {
    ensure!(
        pins.base().starts_with(MOUNT_POINT),
        "{} is not on a BPF file system, and only at {MOUNT_POINT} is one mounted here: mount one \
         (mount -t bpf bpf DIRECTORY), or set `pins:` to a directory below {MOUNT_POINT}",
        pins.base().display()
    );
    mount(
        Some("bpf"),
        Path::new(MOUNT_POINT),
        Some("bpf"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        Some("mode=700"),
    )
    .with_context(|| {
        format!(
            "cannot mount a BPF file system at {MOUNT_POINT}: run this as root; in a container, \
             privileged, with the node's {MOUNT_POINT} there"
        )
    })?;
    info!("mounted a BPF file system at {MOUNT_POINT}");
    Ok(())
}
