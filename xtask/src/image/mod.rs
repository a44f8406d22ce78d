//! The image: an OCI archive from scratch, put together without a container engine.
//!
//! Whatever is in it comes from the commit: what is compiled does not tell where, and dates are the
//! commit's. So one commit makes the same bytes, anywhere, with the same toolchains.

mod archive;
mod binary;
mod commit;
mod sbom;
mod twice;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{
    build::{Built, Layout, Profile},
    lookup,
};

use self::{archive::File, commit::Commit};

/// What to make.
#[derive(Args)]
pub(crate) struct Options {
    /// Where to write the archive [default: image/underpass.oci.tar in the target directory]
    ///
    /// The bill of materials is written beside it, with the ending `.cdx.json`.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// How `underpass` is compiled; the BPF programs always are optimized
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,

    /// Make it again, in another directory, from a clone, and fail if not a byte for byte equal
    #[arg(long)]
    twice: bool,
}

/// The name that the image has where it is loaded. The part in front keeps an engine that does not
/// have it from asking a registry.
const NAME: &str = concat!("localhost/underpass:", env!("CARGO_PKG_VERSION"));

/// What the image of the other layout is called.
const OTHER_NAME: &str = "localhost/underpass:other-layout";

/// Makes the image, and says where and what it is.
pub(crate) fn image(options: &Options) -> Result<()> {
    let output = match &options.output {
        Some(output) => std::path::absolute(output)
            .with_context(|| format!("--output {} is no path", output.display()))?,
        None => default_output()?,
    };
    let built = program(options.profile, Layout::Own)?;
    let digest = write(&built, Layout::Own, &output)?;
    let size = fs::metadata(&output)
        .with_context(|| format!("cannot look at {}", output.display()))?
        .len();
    println!("image   {NAME}");
    println!("archive {} ({size} bytes)", output.display());
    println!("digest  {digest}");
    println!("sbom    {}", beside(&output).display());
    if options.twice {
        twice::compare(options.profile, &output)?;
        println!("equal   to one made from a clone in another directory");
    }
    Ok(())
}

/// What a test is told of one layout.
pub(crate) struct Tested {
    /// The programs, and the `underpass` that is in the image.
    pub(crate) built: Built,
    /// The image.
    pub(crate) archive: PathBuf,
}

/// Makes what tests run and the images that they load: of this version, and of one with another
/// layout.
pub(crate) fn for_tests() -> Result<[Tested; 2]> {
    let directory = lookup::target_dir()?.join("image");
    let make = |layout, name: &str| -> Result<_> {
        let built = program(Profile::Dev, layout)?;
        let archive = directory.join(name);
        write(&built, layout, &archive)?;
        Ok(Tested { built, archive })
    };
    // This version's last: there is one place for the programs that benchmarks compare with.
    let other = make(Layout::Other, "underpass-other-layout.oci.tar")?;
    Ok([make(Layout::Own, "underpass-dev.oci.tar")?, other])
}

/// Builds what is in the image.
pub(crate) fn program(profile: Profile, layout: Layout) -> Result<Built> {
    binary::build(profile, layout)
}

fn default_output() -> Result<PathBuf> {
    Ok(lookup::target_dir()?.join("image/underpass.oci.tar"))
}

/// Makes an image of what was built, writes it to `output` with its bill of materials beside it, and
/// returns its digest.
fn write(built: &Built, layout: Layout, output: &Path) -> Result<String> {
    let commit = Commit::checked_out()?;
    let binary = fs::read(&built.binary)
        .with_context(|| format!("cannot read {}", built.binary.display()))?;
    let sbom = sbom::of(&commit)?;
    let files = [
        File {
            path: "underpass",
            mode: 0o755,
            contents: &binary,
        },
        // Inside as well: so it is wherever the image is copied to, and found by what scans it.
        File {
            path: "underpass.cdx.json",
            mode: 0o644,
            contents: &sbom,
        },
    ];
    let name = match layout {
        Layout::Own => NAME,
        Layout::Other => OTHER_NAME,
    };
    let archive = archive::Archive::of(name, &commit, &files)?;
    save(output, &archive.bytes)?;
    save(&beside(output), &sbom)?;
    Ok(archive.digest)
}

/// Where the bill of materials of the archive at `output` is.
fn beside(output: &Path) -> PathBuf {
    let name = output.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(".oci.tar").unwrap_or(&name);
    output.with_file_name(format!("{stem}.cdx.json"))
}

fn save(path: &Path, contents: &[u8]) -> Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
    }
    fs::write(path, contents).with_context(|| format!("cannot write {}", path.display()))
}
