//! The file system of a lab: what it pins and writes, out of the machine's sight.

use std::cell::{Cell, RefCell};
use std::env;
use std::fs::{self, File};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{chroot, fchdir};

const BPFFS: &str = "/sys/fs/bpf";

/// Labs keep their files under `/run` because it is always there to mount upon: no directory has to
/// be made that a killed process would leave behind. Programs in the lab also find a `/run` of
/// their own, as on another machine.
const RUN: &str = "/run";

/// A mount namespace with an empty bpffs and an empty `/run`, entered by one thread until the last
/// lab on that thread is gone. Processes and threads started from it share it.
#[derive(Debug)]
pub(crate) struct Sandbox {
    inside: OwnedFd,
    outside: OwnedFd,
    root: File,
    working_directory: PathBuf,
    labs: Cell<usize>,
}

/// The directories of one lab.
#[derive(Clone, Debug)]
pub(crate) struct Directories {
    /// For files.
    pub(crate) files: PathBuf,
    /// For pinned BPF objects.
    pub(crate) pins: PathBuf,
}

thread_local! {
    static CURRENT: RefCell<Weak<Sandbox>> = const { RefCell::new(Weak::new()) };
}

impl Sandbox {
    /// The sandbox of the calling thread, entered if this is its first lab.
    pub(crate) fn enter() -> Result<Rc<Self>> {
        if let Some(current) = CURRENT.with_borrow(Weak::upgrade) {
            return Ok(current);
        }
        let entered = Rc::new(Self::new()?);
        CURRENT.set(Rc::downgrade(&entered));
        Ok(entered)
    }

    fn new() -> Result<Self> {
        let outside = mount_namespace()?;
        let root = File::open("/").context("open the root directory")?;
        let working_directory = env::current_dir().context("find the working directory")?;
        unshare(CloneFlags::CLONE_NEWNS).context("create a mount namespace")?;
        let sandbox = Self {
            inside: mount_namespace()?,
            outside,
            root,
            working_directory,
            labs: Cell::new(0),
        };
        // From here on an error drops `sandbox`, which brings the thread back.
        keep_mounts_private()?;
        mount_fresh("bpf", BPFFS)?;
        mount_fresh("tmpfs", RUN)?;
        Ok(sandbox)
    }

    /// Directories for another lab. The first has its pins where they would be on a real node; labs
    /// beside it on the same thread have theirs below, so that equal node names do not meet.
    pub(crate) fn directories(&self) -> Result<Directories> {
        let index = self.labs.replace(self.labs.get() + 1);
        let name = format!("lab-{index}");
        let files = Path::new(RUN).join(&name);
        let pins = if index == 0 {
            BPFFS.into()
        } else {
            Path::new(BPFFS).join(&name)
        };
        for directory in [&files, &pins] {
            fs::create_dir_all(directory)
                .with_context(|| format!("create {}", directory.display()))?;
        }
        Ok(Directories { files, pins })
    }

    /// Where other processes find the mount namespace: `nsenter --mount=<path>`.
    pub(crate) fn path(&self) -> PathBuf {
        format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.inside.as_raw_fd()
        )
        .into()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // setns(2) refuses a thread that shares its root and working directory with others, as
        // threads started from this one do.
        unshare(CloneFlags::CLONE_FS)
            .and_then(|()| setns(&self.outside, CloneFlags::CLONE_NEWNS))
            // Entering a mount namespace moves the thread to its root directory, which is not ours in
            // a chroot(8).
            .and_then(|()| fchdir(&self.root))
            .and_then(|()| chroot("."))
            .expect("return to the thread's mount namespace");
        if let Err(error) = env::set_current_dir(&self.working_directory) {
            eprintln!("return to {}: {error}", self.working_directory.display());
        }
    }
}

/// The mount namespace of the calling thread.
fn mount_namespace() -> Result<OwnedFd> {
    const PATH: &str = "/proc/thread-self/ns/mnt";
    File::open(PATH)
        .map(OwnedFd::from)
        .with_context(|| format!("open {PATH}"))
}

/// Stops mounts made here from being seen in the namespace this one is a copy of.
fn keep_mounts_private() -> Result<()> {
    const NONE: Option<&str> = None;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
        .context("make the mounts of a new mount namespace private")
}

fn mount_fresh(filesystem: &str, target: &str) -> Result<()> {
    mount(
        Some(filesystem),
        target,
        Some(filesystem),
        MsFlags::empty(),
        None::<&str>,
    )
    .with_context(|| format!("mount {filesystem} at {target}"))
}
