//! Where maps and links are pinned.
//!
//! What another version of underpass has pinned, with maps of another layout, is in a directory
//! beside ours. Its links are adopted, so that each hook goes from its program to ours in one step;
//! the rest is removed once ours is in place.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use dataplane_common::abi;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// The directories of a version.
const MAPS: &str = "maps";
const LINKS: &str = "links";
const XDP: &str = "xdp";
const SYSCTLS: &str = "sysctls";

/// The directory of pins, of one ABI version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    base: PathBuf,
    version: u32,
}

/// A lock on the pins, those of other versions included; the kernel releases it with the process,
/// however that ends.
#[derive(Debug, Default)]
pub struct PinLock {
    /// By version.
    directories: BTreeMap<u32, File>,
}

impl Pins {
    /// The pins of this version below `base`, which need not exist.
    #[must_use]
    pub fn new(base: &Path) -> Self {
        Self {
            base: base.into(),
            version: abi::VERSION,
        }
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

    /// The directory of what is recorded of sysctls.
    #[must_use]
    pub fn sysctls(&self) -> PathBuf {
        self.version().join(SYSCTLS)
    }

    /// Whether anything is pinned there.
    #[must_use]
    pub fn exist(&self) -> bool {
        self.version().is_dir()
    }

    /// Makes the directories, and has the lock hold them as well.
    ///
    /// # Errors
    ///
    /// Another version came at the same moment; then ours are gone again.
    pub(super) fn create_locked(&self, lock: &mut PinLock) -> Result<()> {
        self.create()?;
        if self.extend(lock)? {
            return Ok(());
        }
        for directory in self.directories() {
            // It may hold something already: of that other one, which will have it.
            let _ = fs::remove_dir(directory);
        }
        Err(self.taken())
    }

    /// Makes the directories.
    pub(super) fn create(&self) -> Result<()> {
        for directory in [self.maps(), self.links(), self.xdp(), self.sysctls()] {
            fs::create_dir_all(&directory).with_context(|| {
                format!("cannot make the pin directory {}", directory.display())
            })?;
        }
        Ok(())
    }

    /// Keeps every other agent, and `detach`, off what is pinned, for as long as the lock lives.
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
        lock.ok_or_else(|| self.taken())
    }

    fn taken(&self) -> anyhow::Error {
        anyhow!(
            "another underpass works with the pins in {}: stop that agent first",
            self.base.display()
        )
    }

    /// Whether a process has the lock: an agent, as a rule.
    pub fn are_locked(&self) -> Result<bool> {
        Ok(self.try_lock()?.is_none())
    }

    fn try_lock(&self) -> Result<Option<PinLock>> {
        let mut lock = PinLock::default();
        Ok(self.extend(&mut lock)?.then_some(lock))
    }

    /// Takes what there is and the lock does not hold; returns false if another process holds it.
    fn extend(&self, lock: &mut PinLock) -> Result<bool> {
        for version in self.versions()? {
            if lock.directories.contains_key(&version.version) {
                continue;
            }
            let path = version.version();
            let directory = File::open(&path)
                .with_context(|| format!("cannot open the pins {}", path.display()))?;
            match directory.try_lock() {
                Ok(()) => lock.directories.insert(version.version, directory),
                Err(TryLockError::WouldBlock) => return Ok(false),
                Err(TryLockError::Error(error)) => {
                    return Err(error)
                        .with_context(|| format!("cannot lock the pins {}", path.display()));
                }
            };
        }
        Ok(true)
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

    /// As [`Pins::adopt_links`], for what is recorded of sysctls.
    pub(super) fn adopt_sysctls(&self, understands: impl Fn(&str) -> bool) -> Result<()> {
        self.adopt(SYSCTLS, understands)
    }

    fn adopt(&self, directory: &str, understands: impl Fn(&str) -> bool) -> Result<()> {
        for other in self.others()? {
            let theirs = other.version().join(directory);
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

    /// Whether these are of the version that this binary pins.
    #[must_use]
    pub fn is_own_version(&self) -> bool {
        self.version == abi::VERSION
    }

    /// The pins of other versions, where there are any.
    pub fn others(&self) -> Result<Vec<Self>> {
        let mut versions = self.versions()?;
        versions.retain(|version| version != self);
        Ok(versions)
    }

    /// The pins of all versions that have any.
    pub fn versions(&self) -> Result<Vec<Self>> {
        let number = |name: &String| name.strip_prefix('v')?.parse().ok();
        let numbers = names(&self.base)?;
        let versions = numbers.iter().filter_map(number).map(|version| Self {
            base: self.base.clone(),
            version,
        });
        Ok(versions.filter(|pins| pins.version().is_dir()).collect())
    }

    /// The directories, each behind those in it.
    fn directories(&self) -> [PathBuf; 5] {
        [
            self.links(),
            self.xdp(),
            self.sysctls(),
            self.maps(),
            self.version(),
        ]
    }

    /// The directory of this version.
    #[must_use]
    pub fn version(&self) -> PathBuf {
        self.base.join(format!("v{}", self.version))
    }

    /// Pins live in a BPF file system only.
    pub fn check_file_system(&self) -> Result<()> {
        if !self.have_file_system()? {
            bail!(
                "{} is not on a BPF file system, where maps and links can be pinned: mount one \
                 (underpass prepare, or mount -t bpf bpf /sys/fs/bpf), or set `pins:` to a directory \
                 on one",
                self.base.display()
            );
        }
        Ok(())
    }

    /// Whether they are in a BPF file system; the nearest directory that exists tells.
    pub fn have_file_system(&self) -> Result<bool> {
        let existing = self
            .base
            .ancestors()
            .find(|directory| directory.is_dir())
            .unwrap_or(Path::new("/"));
        let kind = statfs(existing)
            .with_context(|| format!("cannot look at the file system of {}", existing.display()))?
            .filesystem_type();
        Ok(kind == BPF_FS_MAGIC)
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
