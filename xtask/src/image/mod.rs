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
    build::{Layout, Profile},
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
    let digest = write(options.profile, Layout::Own, &output)?;
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

/// Makes the images that tests load: of this version, and of one with another layout.
pub(crate) fn for_tests() -> Result<[PathBuf; 2]> {
    let own = default_output()?.with_file_name("underpass-dev.oci.tar");
    let other = own.with_file_name("underpass-other-layout.oci.tar");
    write(Profile::Dev, Layout::Own, &own)?;
    write(Profile::Dev, Layout::Other, &other)?;
    Ok([own, other])
}

fn default_output() -> Result<PathBuf> {
    Ok(lookup::target_dir()?.join("image/underpass.oci.tar"))
}

/// Makes an image, writes it to `output` with its bill of materials beside it, and returns its
/// digest.
fn write(profile: Profile, layout: Layout, output: &Path) -> Result<String> {
    let commit = Commit::checked_out()?;
    let binary = binary::build(profile, layout)?;
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
