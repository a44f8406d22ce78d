//! Where maps and links are pinned.
//!
//! What another version of underpass has pinned, with maps of another layout, is in a directory
//! beside ours. Its links are adopted, so that each hook goes from its program to ours in one step;
//! the rest is removed once ours is in place.

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

/// The directories of a version.
const MAPS: &str = "maps";
const LINKS: &str = "links";
const XDP: &str = "xdp";

/// The directory of pins, of this ABI version.
#[derive(Clone, Debug)]
pub struct Pins {
    base: PathBuf,
}

/// A lock on the pins, those of other versions included; the kernel releases it with the process,
/// however that ends.
#[derive(Debug)]
pub struct PinLock {
    _directories: Vec<File>,
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
        self.version().join(MAPS)
    }

    /// The directory of links.
    #[must_use]
    pub fn links(&self) -> PathBuf {
        self.version().join(LINKS)
    }

    /// The directory of XDP links.
    #[must_use]
    pub fn xdp(&self) -> PathBuf {
        self.version().join(XDP)
    }

    /// Whether anything is pinned there.
    #[must_use]
    pub fn exist(&self) -> bool {
        self.version().is_dir()
    }

    /// Whether anything is pinned there, by this version or another.
    pub fn exist_in_any_version(&self) -> Result<bool> {
        Ok(!self.versions()?.is_empty())
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
        let mut directories = Vec::new();
        for path in self.versions()? {
            let directory = File::open(&path)
                .with_context(|| format!("cannot open the pins {}", path.display()))?;
            match directory.try_lock() {
                Ok(()) => directories.push(directory),
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => {
                    return Err(error)
                        .with_context(|| format!("cannot lock the pins {}", path.display()));
                }
            }
        }
        Ok(Some(PinLock {
            _directories: directories,
        }))
    }

    /// Takes over the links of other versions whose names we understand: they stay attached, and
    /// are ours to replace or to take off.
    pub(super) fn adopt_links(&self, understands: impl Fn(&str) -> bool) -> Result<()> {
        self.adopt(LINKS, understands)
    }

    /// As [`Pins::adopt_links`], for XDP.
    pub(super) fn adopt_xdp(&self, understands: impl Fn(&str) -> bool) -> Result<()> {
        self.adopt(XDP, understands)
    }

    fn adopt(&self, directory: &str, understands: impl Fn(&str) -> bool) -> Result<()> {
        for other in self.other_versions()? {
            let theirs = other.join(directory);
            for name in names(&theirs)? {
                let from = theirs.join(&name);
                let to = self.version().join(directory).join(&name);
                if understands(&name) && !to.exists() {
                    fs::rename(&from, to)
                        .with_context(|| format!("cannot adopt the pin {}", from.display()))?;
                }
            }
        }
        Ok(())
    }

    /// Removes what other versions have pinned, but for the links that were adopted; returns the
    /// directories.
    pub fn remove_others(&self) -> Result<Vec<PathBuf>> {
        let others = self.other_versions()?;
        for other in &others {
            fs::remove_dir_all(other)
                .with_context(|| format!("cannot remove the pins {}", other.display()))?;
        }
        Ok(others)
    }

    fn other_versions(&self) -> Result<Vec<PathBuf>> {
        let mut versions = self.versions()?;
        versions.retain(|version| *version != self.version());
        Ok(versions)
    }

    /// The directories of all versions that have pinned anything.
    fn versions(&self) -> Result<Vec<PathBuf>> {
        let is_version = |name: &String| {
            let number = name.strip_prefix('v').map(str::parse::<u32>);
            number.is_some_and(|number| number.is_ok())
        };
        let names = names(&self.base)?.into_iter();
        Ok(names
            .filter(is_version)
            .map(|name| self.base.join(name))
            .collect())
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
