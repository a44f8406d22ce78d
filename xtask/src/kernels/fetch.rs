//! Debian's kernel packages, fetched and unpacked.
//!
//! apt keeps its lists here in the cache: neither the system's sources nor its state are touched.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::process;

use super::{Kernel, cache_of};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The package that depends on the newest kernel of a suite. The cloud kernels are small, and have
/// what a virtual machine needs.
const NEWEST: &str = "linux-image-cloud-amd64";

/// Names of packages that have a kernel, or depend on one that has: 7.x is split into several.
const PARTS: [&str; 4] = [
    "linux-image-",
    "linux-base-",
    "linux-binary-",
    "linux-modules-",
];

/// A kernel that lies ready.
pub(super) struct Unpacked {
    /// As `uname -r` says it.
    pub(super) release: String,
    /// What is booted.
    pub(super) vmlinuz: PathBuf,
    /// The directory of its modules, which has their dependencies in `modules.dep`.
    pub(super) modules: PathBuf,
}

/// The kernel, from the cache or, if it is not there or if `update`, from Debian.
pub(super) fn unpacked(kernel: &Kernel, update: bool) -> Result<Unpacked> {
    let cache = cache_of(kernel)?;
    let root = cache.join("root");
    if update || !root.is_dir() {
        println!("fetching kernel {} from {}", kernel.name, kernel.suite);
        fetch(kernel, &cache, &root)?;
    }
    find(&root)
}

/// Fetches and unpacks into a draft, so that `root` is whole if it is there.
fn fetch(kernel: &Kernel, cache: &Path, root: &Path) -> Result<()> {
    let draft = cache.join("draft");
    for directory in [&draft, &root.to_owned()] {
        if directory.exists() {
            fs::remove_dir_all(directory)
                .with_context(|| format!("cannot remove {}", directory.display()))?;
        }
    }
    create_dir(&draft)?;
    let apt = Apt::new(cache, kernel.suite)?;
    apt.update()?;
    for package in apt.download(&apt.kernel_packages()?, &cache.join("packages"))? {
        process::run(
            Command::new("dpkg")
                .arg("--extract")
                .args([&package, &draft]),
        )?;
    }
    index_modules(&draft)?;
    fs::rename(&draft, root).with_context(|| format!("cannot rename to {}", root.display()))
}

/// Writes `modules.dep`, which on a real system the package's installation does.
fn index_modules(root: &Path) -> Result<()> {
    let lib = root.join("lib");
    if !lib.exists() {
        std::os::unix::fs::symlink("usr/lib", &lib)
            .with_context(|| format!("cannot link {}", lib.display()))?;
    }
    let release = release(root)?;
    process::run(
        Command::new("depmod")
            .arg("--basedir")
            .arg(root)
            .arg(&release),
    )
}

fn find(root: &Path) -> Result<Unpacked> {
    let release = release(root)?;
    let modules = root.join("lib/modules").join(&release);
    let places = [
        root.join(format!("boot/vmlinuz-{release}")),
        modules.join("vmlinuz"),
    ];
    let vmlinuz = places.into_iter().find(|place| place.is_file());
    Ok(Unpacked {
        vmlinuz: vmlinuz.with_context(|| format!("there is no vmlinuz for {release}"))?,
        release,
        modules,
    })
}

/// The release whose modules are in `root`.
fn release(root: &Path) -> Result<String> {
    let modules = root.join("lib/modules");
    let entry = fs::read_dir(&modules)
        .with_context(|| format!("cannot list {}", modules.display()))?
        .next()
        .with_context(|| format!("{} is empty", modules.display()))?;
    Ok(entry?.file_name().to_string_lossy().into_owned())
}

fn create_dir(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))
}

/// An apt that knows one suite, and nothing of the system but how it reaches the network.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn new(cache: &Path, suite: &str) -> Result<Self> {
        ensure!(
            Path::new(KEYRING).is_file(),
            "{KEYRING} is missing: install debian-archive-keyring"
        );
        let apt = cache.join("apt");
        create_dir(&apt.join("state/lists/partial"))?;
        create_dir(&apt.join("cache/archives/partial"))?;
        let list = apt.join("sources.list");
        let mirror = mirror()?;
        let line =
            format!("deb [target=Packages arch=amd64 signed-by={KEYRING}] {mirror} {suite} main\n");
        fs::write(&list, line).with_context(|| format!("cannot write {}", list.display()))?;
        let options = [
            format!("Dir::Etc::sourcelist={}", list.display()),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            "Dir::Etc::preferences=/dev/null".to_owned(),
            "Dir::Etc::preferencesparts=/dev/null".to_owned(),
            format!("Dir::State={}", apt.join("state").display()),
            "Dir::State::status=/dev/null".to_owned(),
            format!("Dir::Cache={}", apt.join("cache").display()),
            "APT::Architecture=amd64".to_owned(),
            // Its own user could not write here.
            format!("APT::Sandbox::User={}", whoami()?),
        ];
        Ok(Self {
            options: options.into(),
        })
    }

    fn update(&self) -> Result<()> {
        process::run(self.command("apt-get").args(["-qq", "update"]))
    }

    /// The packages of the newest kernel: what [`NEWEST`] depends on, and so on.
    fn kernel_packages(&self) -> Result<BTreeSet<String>> {
        let mut packages = BTreeSet::new();
        let mut ahead = vec![NEWEST.to_owned()];
        while let Some(package) = ahead.pop() {
            if packages.insert(package.clone()) {
                ahead.extend(self.parts_needed_by(&package)?);
            }
        }
        Ok(packages)
    }

    fn parts_needed_by(&self, package: &str) -> Result<Vec<String>> {
        let mut command = self.command("apt-cache");
        command.args(["show", "--no-all-versions", package]);
        let about = process::output(&mut command)?;
        let depends = about
            .lines()
            .find_map(|line| line.strip_prefix("Depends: "))
            .unwrap_or_default();
        Ok(depends
            .split(", ")
            .filter_map(|dependency| dependency.split(' ').next())
            .filter(|name| PARTS.iter().any(|part| name.starts_with(part)))
            .map(str::to_owned)
            .collect())
    }

    /// Downloads `packages` into the directory `to`, which afterwards holds nothing else.
    fn download(&self, packages: &BTreeSet<String>, to: &Path) -> Result<Vec<PathBuf>> {
        if to.exists() {
            fs::remove_dir_all(to).with_context(|| format!("cannot remove {}", to.display()))?;
        }
        create_dir(to)?;
        let mut command = self.command("apt-get");
        command.args(["-qq", "download"]).args(packages);
        process::run(command.current_dir(to))?;
        fs::read_dir(to)?.map(|entry| Ok(entry?.path())).collect()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for option in &self.options {
            command.args(["--option", option]);
        }
        command
    }
}

fn whoami() -> Result<String> {
    Ok(
        process::output(Command::new("id").args(["--user", "--name"]))?
            .trim()
            .to_owned(),
    )
}

/// Where this system has its own Debian from: all suites are on one mirror. It is known once the
/// system's package lists are here.
fn mirror() -> Result<String> {
    let mut command = Command::new("apt-get");
    command
        .args([
            "indextargets",
            "--format",
            "$(ORIGIN) $(CODENAME) $(REPO_URI)",
        ])
        .arg("Created-By: Packages");
    let sources = process::output(&mut command)?;
    let mirror = sources.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (origin, codename, uri) = (words.next()?, words.next()?, words.next()?);
        // Not its security archive, whose codename has that word behind it.
        (origin == "Debian" && !codename.contains('-'))
            .then(|| uri.trim_end_matches('/').to_owned())
    });
    mirror.context("apt knows no Debian archive: run `apt-get update`, on a Debian system")
}
