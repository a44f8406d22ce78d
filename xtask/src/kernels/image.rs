//! What a machine boots from: an initial RAM disk.
//!
//! It is made of two cpio archives, one behind the other, which the kernel unpacks in turn: the
//! programs and tests, which all machines have, and the modules of one kernel.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::{build, libraries, lookup, process, programs};

use super::{
    cache,
    fetch::Unpacked,
    modules,
    tests::{Binaries, On, Selection},
};

/// The first process.
const INIT: &str = include_str!("init.sh");

/// Directories that are links to their namesakes below `/usr`, as on Debian.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// Directories to mount upon.
const MOUNT_POINTS: [&str; 5] = ["proc", "sys", "dev", "run", "tmp"];

/// How much longer than on a real machine everything may take: emulation costs that much.
const PATIENCE: &str = "10";

/// How many random packets a test tries, for the same reason: a tenth of what it does elsewhere.
const CASES: &str = "10000";

/// The part that all machines have in common.
pub(super) struct Image {
    archive: PathBuf,
}

impl Image {
    /// Packs `underpass`, the selected tests, and what they run.
    pub(super) fn build(
        object: &Path,
        binaries: &Binaries,
        selection: Selection<'_>,
    ) -> Result<Self> {
        let root = Root::new(cache()?.join("image"))?;
        for directory in MOUNT_POINTS {
            root.create_dir(directory)?;
        }
        root.write("init", INIT, 0o755)?;
        root.copy_program(&program("busybox")?, "busybox/busybox")?;
        for name in programs::of_the_lab() {
            let path = program(name)?;
            root.copy_program(&path, &format!("usr/bin/{name}"))?;
        }
        root.copy_stripped(binaries.underpass(), "usr/bin/underpass")?;
        root.copy(object, "tests/underpass.o")?;
        root.copy(&build::floor()?, "tests/floor.o")?;
        add_tests(&root, binaries, selection)?;
        Ok(Self {
            archive: root.pack()?,
        })
    }

    /// Writes to `to` what `kernel` boots from, with these modules of its own.
    pub(super) fn write_for(&self, kernel: &Unpacked, modules: &[&str], to: &Path) -> Result<()> {
        let modules = pack_modules(kernel, modules, &to.with_extension("modules"))?;
        let mut image =
            File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
        for part in [&self.archive, &modules] {
            let mut part =
                File::open(part).with_context(|| format!("cannot read {}", part.display()))?;
            io::copy(&mut part, &mut image)
                .with_context(|| format!("cannot write {}", to.display()))?;
        }
        Ok(())
    }
}

fn add_tests(root: &Root, binaries: &Binaries, selection: Selection<'_>) -> Result<()> {
    let (mut every, mut ends) = (String::new(), String::new());
    for chosen in selection.of(binaries)? {
        let name = chosen.name;
        root.copy_stripped(binaries.get(name)?, &format!("tests/{name}"))?;
        let words = [name]
            .into_iter()
            .chain(chosen.arguments.iter().map(String::as_str));
        let list = match chosen.on {
            On::Every => &mut every,
            On::OldestAndNewest => &mut ends,
        };
        *list += &words.collect::<Vec<_>>().join(" ");
        *list += "\n";
    }
    root.write("tests/list", &every, 0o644)?;
    root.write("tests/list-of-ends", &ends, 0o644)?;
    let environment = format!(
        "export UNDERPASS_BIN=/usr/bin/underpass\n\
         export UNDERPASS_BPF_OBJECT=/tests/underpass.o\n\
         export UNDERPASS_FLOOR_OBJECT=/tests/floor.o\n\
         export UNDERPASS_TEST_PATIENCE={PATIENCE}\n\
         export UNDERPASS_CASES={CASES}\n"
    );
    root.write("tests/environment", &environment, 0o644)
}

fn pack_modules(kernel: &Unpacked, wanted: &[&str], directory: &Path) -> Result<PathBuf> {
    let root = Root::new(directory.to_owned())?;
    let mut order = String::new();
    for module in modules::in_load_order(kernel, wanted)? {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        let (name, decompress) = match name.strip_suffix(".xz") {
            Some(name) => (name, true),
            None => (&*name, false),
        };
        let to = format!("modules/{name}");
        if decompress {
            root.decompress(&module, &to)?;
        } else {
            root.copy(&module, &to)?;
        }
        order += name;
        order += "\n";
    }
    root.write("modules/order", &order, 0o644)?;
    root.pack()
}

fn program(name: &str) -> Result<PathBuf> {
    lookup::program(name).with_context(|| format!("there is no program {name}"))
}

/// The file system to be, in a directory.
struct Root(PathBuf);

impl Root {
    /// An empty one; what was in `directory` is removed.
    fn new(directory: PathBuf) -> Result<Self> {
        if directory.exists() {
            fs::remove_dir_all(&directory)
                .with_context(|| format!("cannot remove {}", directory.display()))?;
        }
        let root = Self(directory);
        for name in MERGED {
            root.create_dir(&format!("usr/{name}"))?;
            let link = root.0.join(name);
            symlink(format!("usr/{name}"), &link)
                .with_context(|| format!("cannot link {}", link.display()))?;
        }
        Ok(root)
    }

    /// Copies a program with the libraries it needs, which keep their places.
    fn copy_program(&self, from: &Path, to: &str) -> Result<()> {
        self.copy(from, to)?;
        self.copy_libraries_of(from)
    }

    /// As [`Root::copy_program`], without what only a debugger wants: half of the memory of a
    /// machine.
    fn copy_stripped(&self, from: &Path, to: &str) -> Result<()> {
        let place = self.place(to)?;
        process::run(Command::new("strip").arg("-o").args([&place, from]))?;
        self.copy_libraries_of(from)
    }

    fn copy_libraries_of(&self, program: &Path) -> Result<()> {
        for library in libraries::of(program)? {
            let path = library.to_string_lossy();
            let to = path.trim_start_matches('/');
            if !self.0.join(to).exists() {
                self.copy(&library, to)?;
            }
        }
        Ok(())
    }

    fn copy(&self, from: &Path, to: &str) -> Result<()> {
        fs::copy(from, self.place(to)?)
            .with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(())
    }

    fn decompress(&self, from: &Path, to: &str) -> Result<()> {
        let to = self.place(to)?;
        let file = File::create(&to).with_context(|| format!("cannot write {}", to.display()))?;
        let mut command = Command::new("xz");
        command.args(["--decompress", "--stdout"]).arg(from);
        process::run(command.stdout(file))
    }

    fn write(&self, to: &str, text: &str, mode: u32) -> Result<()> {
        let to = self.place(to)?;
        fs::write(&to, text)
            .and_then(|()| fs::set_permissions(&to, fs::Permissions::from_mode(mode)))
            .with_context(|| format!("cannot write {}", to.display()))
    }

    /// Where `to` is, in a directory that then exists.
    fn place(&self, to: &str) -> Result<PathBuf> {
        if let Some((directory, _)) = to.rsplit_once('/') {
            self.create_dir(directory)?;
        }
        Ok(self.0.join(to))
    }

    fn create_dir(&self, directory: &str) -> Result<()> {
        let directory = self.0.join(directory);
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))
    }

    /// Archives everything, in a format that the kernel unpacks.
    fn pack(&self) -> Result<PathBuf> {
        let archive = self.0.with_extension("cpio");
        let file = File::create(&archive)
            .with_context(|| format!("cannot write {}", archive.display()))?;
        let mut cpio = Command::new("cpio");
        cpio.args(["--create", "--format=newc", "--quiet", "--owner=0:0"])
            .current_dir(&self.0)
            .stdin(Stdio::piped())
            .stdout(file);
        let mut child = cpio.spawn().context("cannot start cpio")?;
        let stdin = child.stdin.take().context("cpio has no standard input")?;
        write_names(&self.0, stdin)?;
        ensure!(child.wait()?.success(), "cpio failed");
        Ok(archive)
    }
}

/// Writes the paths of everything below `root`, directories before what is in them.
fn write_names(root: &Path, mut to: impl io::Write) -> Result<()> {
    let mut ahead = BTreeSet::from([root.to_owned()]);
    while let Some(path) = ahead.pop_first() {
        writeln!(
            to,
            "{}",
            Path::new(".").join(path.strip_prefix(root)?).display()
        )?;
        if path.symlink_metadata()?.is_dir() {
            for entry in fs::read_dir(&path)? {
                ahead.insert(entry?.path());
            }
        }
    }
    Ok(())
}
