//! Keeping out of what is built where it was built.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::lookup;

/// What a compiler in `sysroot` is told so that it writes the same names of files on every machine.
pub(crate) fn flags(sysroot: &Path) -> Result<Vec<OsString>> {
    let mut names = vec![
        (lookup::workspace().to_owned(), "/underpass"),
        // Behind the workspace, in which it may be: the last that fits counts.
        (lookup::target_dir()?, "/underpass/target"),
        (sysroot.join("lib/rustlib/src/rust"), "/rust"),
    ];
    names.extend(registries()?.into_iter().map(|path| (path, "/crates")));
    Ok(names.into_iter().map(flag).collect())
}

fn flag((path, name): (PathBuf, &str)) -> OsString {
    let mut flag = OsString::from("--remap-path-prefix=");
    flag.push(path);
    flag.push("=");
    flag.push(name);
    flag
}

/// Where cargo has unpacked crates: a directory for each registry, named after where that is.
fn registries() -> Result<Vec<PathBuf>> {
    let sources = lookup::cargo_home()?.join("registry/src");
    let entries = fs::read_dir(&sources)
        .with_context(|| format!("cannot list {}, where crates are", sources.display()))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    // The compiler's arguments are part of what makes cargo build anew.
    paths.sort();
    Ok(paths)
}
