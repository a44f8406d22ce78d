//! The kernel matrix: the tests that load programs, inside virtual machines with Debian's kernels.
//!
//! A machine has no disk: kernel, modules, programs and tests are in its initial RAM disk, and its
//! console is all that comes out. Nothing of this takes root, nor KVM.

mod cases;
mod fetch;
mod fleet;
mod image;
mod machine;
mod modules;
mod pair;
mod report;
mod tests;
mod verified;

use std::{
    fs::{self, File},
    path::PathBuf,
};

use anyhow::{Context as _, Result, ensure};
use clap::builder::PossibleValuesParser;

use crate::{
    build::{self, Layout},
    lookup,
    setup::{self, Part},
};

use self::{
    fetch::Unpacked,
    image::Image,
    report::Report,
    tests::{Binaries, Selection},
};

pub(crate) use self::verified::{Program, Verified};

/// A kernel of the matrix.
pub(crate) struct Kernel {
    /// Its version, as far as the command line tells kernels apart.
    pub(crate) name: &'static str,
    /// The Debian suite that has it.
    suite: &'static str,
}

/// Every kernel, oldest first.
pub(crate) const KERNELS: &[Kernel] = &[
    Kernel {
        name: "5.10",
        suite: "bullseye",
    },
    Kernel {
        name: "6.1",
        suite: "bookworm",
    },
    Kernel {
        name: "6.12",
        suite: "bookworm-backports",
    },
    Kernel {
        name: "7",
        suite: "trixie-backports",
    },
];

impl Kernel {
    /// Whether it is the oldest or the newest of the matrix.
    fn is_at_an_end(&self) -> bool {
        let ends = [KERNELS.first(), KERNELS.last()];
        ends.into_iter().flatten().any(|end| end.name == self.name)
    }
}

/// The file in which a machine's console is kept.
const CONSOLE: &str = "console.log";

/// What to run, and on what.
pub(crate) struct Options {
    /// Names of kernels; none for all.
    pub(crate) kernels: Vec<String>,
    /// Whether to ask Debian for newer packages than are here.
    pub(crate) update: bool,
    /// Whether to run few tests.
    pub(crate) quick: bool,
    /// Run only the tests with one of these in their names.
    pub(crate) filters: Vec<String>,
}

/// Runs the tests on the kernels, and says what passed where.
pub(crate) fn kernels(options: &Options) -> Result<()> {
    let selection = if options.quick {
        Selection::Quick
    } else {
        Selection::All(&options.filters)
    };
    let ready = Ready::make(&options.kernels, options.update, selection)?;
    conclude(&fleet::run(&ready.kernels, &ready.image)?)
}

/// Runs the tests that take two machines, on each of the kernels.
pub(crate) fn pair(kernels: &[String], filters: &[String]) -> Result<()> {
    let ready = Ready::make(kernels, false, Selection::Pair(filters))?;
    let mut reports = Vec::new();
    for (kernel, unpacked) in &ready.kernels {
        reports.extend(pair::run(kernel, unpacked, &ready.image, "")?);
    }
    conclude(&reports)
}

/// Measures on two machines what tunnels cost, with each of the kernels, or the newest if none is
/// named; `arguments` are the benchmark's.
pub(crate) fn measure(kernels: &[String], arguments: &[String]) -> Result<()> {
    let newest = KERNELS.last().map(|kernel| [kernel.name.to_owned()]);
    let kernels = match &newest {
        Some(newest) if kernels.is_empty() => newest,
        _ => kernels,
    };
    let ready = Ready::make(kernels, false, Selection::Bench(arguments))?;
    for (kernel, unpacked) in &ready.kernels {
        let reports = pair::run(kernel, unpacked, &ready.image, pair::STEADY_TICKS)?;
        ensure!(
            reports.iter().all(Report::has_ended_well),
            "the machines with kernel {} have not measured everything; their consoles are in {}",
            kernel.name,
            cache_of(kernel)?.join("pair").display()
        );
        println!();
        for line in reports.iter().flat_map(Report::measured) {
            println!("{line}");
        }
    }
    Ok(())
}

/// What the verifiers of the kernels make of the programs.
pub(crate) fn verified(kernels: &[String]) -> Result<Vec<Verified>> {
    let ready = Ready::make(kernels, false, Selection::Verifier)?;
    let reports = fleet::run(&ready.kernels, &ready.image)?;
    Ok(reports.into_iter().map(Report::into_verified).collect())
}

/// What the command line may call kernels.
pub(crate) fn names() -> PossibleValuesParser {
    KERNELS.iter().map(|kernel| kernel.name).into()
}

/// What machines boot.
struct Ready {
    kernels: Vec<(&'static Kernel, Unpacked)>,
    image: Image,
    /// Held as long as the files in the cache are to stay as they are.
    _lock: File,
}

impl Ready {
    /// Fetches the kernels of these names and builds what is selected.
    fn make(names: &[String], update: bool, selection: Selection<'_>) -> Result<Self> {
        setup::ensure(&[Part::Lab, Part::Toolchain, Part::Linker, Part::Machines])?;
        let lock = lock()?;
        let kernels = chosen(names)?
            .into_iter()
            .map(|kernel| Ok((kernel, unpacked(kernel, update)?)))
            .collect::<Result<Vec<_>>>()?;
        let object = build::bpf_programs(Layout::Own)?;
        let binaries = Binaries::build(&object, selection)?;
        let image = Image::build(&object, &binaries, selection)?;
        Ok(Self {
            kernels,
            image,
            _lock: lock,
        })
    }
}

/// Prints what the machines reported; an error unless all is well.
fn conclude(reports: &[Report]) -> Result<()> {
    println!("\n{}", report::table(reports));
    ensure!(
        reports.iter().all(Report::is_success),
        "not everything passed on every kernel; the consoles are in {}",
        cache()?.display()
    );
    Ok(())
}

fn chosen(names: &[String]) -> Result<Vec<&'static Kernel>> {
    if names.is_empty() {
        return Ok(KERNELS.iter().collect());
    }
    names
        .iter()
        .map(|name| {
            KERNELS
                .iter()
                .find(|kernel| kernel.name == name)
                .with_context(|| format!("{name} is not in the matrix"))
        })
        .collect()
}

fn unpacked(kernel: &Kernel, update: bool) -> Result<Unpacked> {
    fetch::unpacked(kernel, update).with_context(|| format!("cannot get kernel {}", kernel.name))
}

/// Waits until no other run uses the cache.
fn lock() -> Result<File> {
    let cache = cache()?;
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let path = cache.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    file.lock()
        .with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// Where the matrix keeps its files: what it has fetched and what it boots.
fn cache() -> Result<PathBuf> {
    Ok(lookup::target_dir()?.join("kernels"))
}

/// What the kernels' consoles said when they last ran, of those that have, oldest kernel first.
pub(crate) fn consoles() -> Result<Vec<PathBuf>> {
    let mut consoles = Vec::new();
    for kernel in KERNELS {
        let console = cache_of(kernel)?.join(CONSOLE);
        if console.exists() {
            consoles.push(console);
        }
    }
    Ok(consoles)
}

/// Where the files of one kernel are.
fn cache_of(kernel: &Kernel) -> Result<PathBuf> {
    Ok(cache()?.join(kernel.name))
}
