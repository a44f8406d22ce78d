//! Where maps and links are pinned.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use dataplane_common::abi;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// The directory of pins, of this ABI version.
#[derive(Clone, Debug)]
pub struct Pins {
    base: PathBuf,
}

/// A lock on the pins; the kernel releases it with the process, however that ends.
#[derive(Debug)]
pub struct PinLock {
    _directory: File,
}

impl Pins {
    /// The pins below `base`, which need not exist.
    #[must_use]
    pub fn new(base: &Path) -> Self {
        Self { base: base.into() }
    }

    /// The directory as configured, without the version.
    #[must_use]
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Where map `name` is pinned.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// The directory of maps.
    #[must_use]
    pub fn maps(&self) -> PathBuf {
        self.version().join("maps")
    }

    /// The directory of links.
    #[must_use]
    pub fn links(&self) -> PathBuf {
        self.version().join("links")
    }

    /// The directory of XDP links.
    #[must_use]
    pub fn xdp(&self) -> PathBuf {
        self.version().join("xdp")
    }

    /// Whether anything is pinned there.
    #[must_use]
    pub fn exist(&self) -> bool {
        self.version().is_dir()
    }

    /// Makes the directories.
    pub fn create(&self) -> Result<()> {
        self.check_file_system()?;
        for directory in [self.maps(), self.links(), self.xdp()] {
            fs::create_dir_all(&directory).with_context(|| {
                format!("cannot make the pin directory {}", directory.display())
            })?;
        }
        Ok(())
    }

    /// Keeps every other agent, and `detach`, off these pins for as long as the lock lives.
    ///
    /// # Errors
    ///
    /// Another process has it.
    pub fn lock(&self) -> Result<PinLock> {
        /// How long somebody may only be looking whether there is a lock.
        const LOOK: Duration = Duration::from_millis(20);
        let mut lock = self.try_lock()?;
        if lock.is_none() {
            thread::sleep(LOOK);
            lock = self.try_lock()?;
        }
        lock.with_context(|| {
            format!(
                "another underpass works with the pins in {}: stop that agent first",
                self.base.display()
            )
        })
    }

    /// Whether a process has the lock: an agent, as a rule.
    pub fn are_locked(&self) -> Result<bool> {
        Ok(self.try_lock()?.is_none())
    }

    fn try_lock(&self) -> Result<Option<PinLock>> {
        let directory = File::open(self.version())
            .with_context(|| format!("cannot open the pins {}", self.version().display()))?;
        match directory.try_lock() {
            Ok(()) => Ok(Some(PinLock {
                _directory: directory,
            })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error)
                .with_context(|| format!("cannot lock the pins {}", self.version().display())),
        }
    }

    /// Removes the maps' pins and the directories; what is attached has to be gone before.
    pub fn remove(&self) -> Result<()> {
        for name in names(&self.maps())? {
            let path = self.maps().join(name);
            fs::remove_file(&path).with_context(|| format!("cannot unpin {}", path.display()))?;
        }
        let directories = [
            self.links(),
            self.xdp(),
            self.maps(),
            self.version(),
            self.base.clone(),
        ];
        for directory in directories {
            match fs::remove_dir(&directory) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // The base may be a directory that others pin in.
                Err(error)
                    if error.kind() == io::ErrorKind::DirectoryNotEmpty
                        && directory == self.base => {}
                Err(error) => {
                    return Err(error).with_context(|| {
                        format!("cannot remove the pin directory {}", directory.display())
                    });
                }
            }
        }
        Ok(())
    }

    fn version(&self) -> PathBuf {
        self.base.join(format!("v{}", abi::VERSION))
    }

    /// Pins live in a BPF file system only; the nearest directory that exists tells.
    fn check_file_system(&self) -> Result<()> {
        let existing = self
            .base
            .ancestors()
            .find(|directory| directory.is_dir())
            .unwrap_or(Path::new("/"));
        let kind = statfs(existing)
            .with_context(|| format!("cannot look at the file system of {}", existing.display()))?
            .filesystem_type();
        if kind != BPF_FS_MAGIC {
            bail!(
                "{} is not on a BPF file system, where maps and links can be pinned: mount one \
                 (mount -t bpf bpf /sys/fs/bpf), or set `pins:` to a directory on one",
                self.base.display()
            );
        }
        Ok(())
    }
}

/// The names in `directory`, sorted; none where there is no such directory.
pub(super) fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot list {}", directory.display()));
        }
    };
    let mut names = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()
        .with_context(|| format!("cannot list {}", directory.display()))?;
    names.sort();
    Ok(names)
}
