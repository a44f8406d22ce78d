//! The Rust toolchain that compiles the BPF programs.
//!
//! Rust distributes no `core` for BPF, so a stable rustup toolchain alone does not do. Two kinds of
//! toolchain do, and the first one found is taken:
//!
//! 1. a rustup toolchain with the `rust-src` component, which compiles `core` along with the
//!    programs;
//! 2. Debian 12's `rustc-web`, for which Debian packages a compiled `core`.
//!
//! Both are called where they lie, not through rustup's proxies, so that neither an inherited
//! `RUSTUP_TOOLCHAIN` nor a directory override can put another compiler in their place.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    cargo, linker, lookup, process, remap,
    setup::{Need, Remedy},
};

/// The LLVM that compiles and links the BPF programs: the linker reads the compiler's bitcode, so
/// both must be of one major version.
pub(crate) const LLVM: &str = "22";

/// The target of the BPF programs.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// The toolchain as a thing to have.
pub(crate) fn needs() -> Vec<Need> {
    vec![Need {
        name: "BPF toolchain".to_owned(),
        why: "compiles the BPF programs (a rustc on LLVM 22, and `core` for BPF)",
        found: Toolchain::find().map(|toolchain| toolchain.version),
        remedy: Remedy::Packages(&["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"]),
    }]
}

/// A toolchain that can compile for BPF.
pub(crate) struct Toolchain {
    /// The directory of its `cargo` and `rustc`.
    pub(crate) bin: PathBuf,
    core: Core,
    /// Of its compiler, for people.
    version: String,
}

/// Where a toolchain has `core` for BPF from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Core {
    /// Rustup's component `rust-src`.
    Source,
    /// Debian's package `libstd-rust-web-dev-bpf`.
    Compiled,
}

impl Toolchain {
    /// The toolchain to use, or an error that names the remedy.
    pub(crate) fn get() -> Result<Self> {
        Self::find().context("there is no toolchain for BPF: run `cargo xtask setup`")
    }

    /// The toolchain to use.
    pub(crate) fn find() -> Option<Self> {
        Self::from_rustup().or_else(Self::from_debian)
    }

    /// What rustup calls the toolchain, if it is one of rustup's.
    pub(crate) fn rustup_name(&self) -> Option<String> {
        if self.core != Core::Source {
            return None;
        }
        let name = self.bin.parent()?.file_name()?;
        Some(name.to_string_lossy().into_owned())
    }

    fn from_rustup() -> Option<Self> {
        let toolchains = lookup::rustup_home().ok()?.join("toolchains");
        let mut sysroots: Vec<PathBuf> = fs::read_dir(toolchains)
            .ok()?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|sysroot| sysroot.join("lib/rustlib/src/rust/library/core").is_dir())
            .collect();
        sysroots.sort();
        sysroots
            .iter()
            .find_map(|sysroot| Self::inspect(&sysroot.join("bin"), Core::Source))
    }

    fn from_debian() -> Option<Self> {
        let core = Path::new("/usr/lib/rustlib").join(TARGET).join("lib");
        if !core.is_dir() {
            return None;
        }
        Self::inspect(Path::new("/usr/bin"), Core::Compiled)
    }

    /// The toolchain in `bin`, if it is complete and on our LLVM.
    fn inspect(bin: &Path, core: Core) -> Option<Self> {
        let rustc = bin.join("rustc");
        if !lookup::is_executable(&rustc) || !lookup::is_executable(&bin.join("cargo")) {
            return None;
        }
        let about = process::output(Command::new(&rustc).arg("-vV")).ok()?;
        let field = |name: &str| about.lines().find_map(|line| line.strip_prefix(name));
        let release = field("release: ")?;
        let llvm = field("LLVM version: ")?;
        (llvm.split('.').next() == Some(LLVM)).then(|| Self {
            bin: bin.to_owned(),
            core,
            version: format!("{} {release}, LLVM {llvm}", rustc.display()),
        })
    }

    /// A cargo command on the BPF programs.
    pub(crate) fn cargo(&self, subcommand: &str) -> Result<Command> {
        let mut command = Command::new(self.bin.join("cargo"));
        command
            .arg(subcommand)
            .args(["--package", "dataplane-ebpf", "--profile", "bpf"])
            .args(["--target", TARGET])
            .arg("--target-dir")
            .arg(build_dir()?)
            .current_dir(lookup::workspace());
        if self.core == Core::Source {
            command.args(["-Z", "build-std=core"]);
        }
        self.set_environment(&mut command)?;
        Ok(command)
    }

    fn set_environment(&self, command: &mut Command) -> Result<()> {
        cargo::forget_package(command);
        // The toolchain that runs this xtask is not this one.
        command.env_remove("RUSTUP_TOOLCHAIN");
        command
            .env("RUSTC", self.bin.join("rustc"))
            // aya-ebpf uses unstable features, and neither toolchain need be a nightly one.
            .env("RUSTC_BOOTSTRAP", "1")
            // Cargo finds `cargo-clippy` by `PATH`.
            .env("PATH", self.path()?)
            // The form that takes paths with spaces, and that no other setting overrides.
            .env("CARGO_ENCODED_RUSTFLAGS", self.rustflags()?);
        Ok(())
    }

    fn rustflags(&self) -> Result<OsString> {
        let mut linker = OsString::from("linker=");
        linker.push(linker::path()?);
        let flags = ["-C", "link-arg=--btf", "-C", CPU_FEATURES, "-C"].map(OsString::from);
        let sysroot = self.bin.parent().unwrap_or(&self.bin);
        let flags = flags.into_iter().chain([linker]);
        let flags: Vec<_> = flags.chain(remap::flags(sysroot)?).collect();
        Ok(flags.join(OsStr::new("\x1f")))
    }

    fn path(&self) -> Result<OsString> {
        let path = env::var_os("PATH").unwrap_or_default();
        let dirs = [self.bin.clone()]
            .into_iter()
            .chain(env::split_paths(&path));
        env::join_paths(dirs).context("PATH cannot be extended")
    }
}

/// The directory cargo builds the BPF programs in: apart from the host's, so that it does not wait
/// for a cargo at work there, an editor's for instance.
pub(crate) fn build_dir() -> Result<PathBuf> {
    Ok(lookup::target_dir()?.join("bpf-build"))
}

/// Packets' headers lie anywhere, and every kernel that runs these programs on x86-64 or arm64 lets them
/// be read by words there: else LLVM reads and writes them byte by byte. On the stack the verifier lets
/// none be, and says so (`misaligned stack access`).
const CPU_FEATURES: &str = "link-arg=--cpu-features=+allows-misaligned-mem-access";
