//! `cargo xtask manifests`: what is in `deploy` as plain YAML, without kustomize.
//!
//! The tree is for `kubectl apply -k`. Of what kustomize knows, this knows what the tree uses, and
//! refuses anything else.

mod config_map;
mod kustomization;
mod merge;
#[cfg(test)]
mod policy;
mod schemas;

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

pub(crate) use self::schemas::needs;

use crate::lookup;

/// What the base is called among the overlays.
const BASE: &str = "base";

/// Prints the manifests of `overlay`, or of the base.
pub(crate) fn print(overlay: Option<&str>) -> Result<()> {
    let yaml = yaml(&objects(overlay.unwrap_or(BASE))?)?;
    io::stdout()
        .write_all(yaml.as_bytes())
        .context("cannot write to standard output")
}

/// Writes the manifests of the base and of every overlay into the directory `to`.
pub(crate) fn write_all(to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for name in names()? {
        let file = to.join(format!("{name}.yaml"));
        fs::write(&file, yaml(&objects(&name)?)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        println!("{}", file.display());
    }
    Ok(())
}

/// The base, and every overlay.
fn names() -> Result<Vec<String>> {
    let overlays = directory().join("overlays");
    let entries = fs::read_dir(&overlays)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .with_context(|| format!("cannot list {}", overlays.display()))?;
    let mut names: Vec<String> = entries
        .iter()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names.insert(0, BASE.to_owned());
    Ok(names)
}

/// The Kubernetes objects of the base or of an overlay.
fn objects(name: &str) -> Result<Vec<Value>> {
    let names = names()?;
    ensure!(
        names.iter().any(|known| known == name),
        "there is no overlay {name} in {}: there are {}",
        directory().join("overlays").display(),
        names.join(", ")
    );
    let directory = match name {
        BASE => directory().join(BASE),
        overlay => directory().join("overlays").join(overlay),
    };
    kustomization::build(&directory)
}

fn yaml(objects: &[Value]) -> Result<String> {
    serde_saphyr::to_string_multiple(objects).context("cannot write YAML")
}

fn directory() -> PathBuf {
    lookup::workspace().join("deploy")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_as_what_was_meant() {
        for name in names().unwrap() {
            let objects = objects(&name).unwrap();
            let yaml = yaml(&objects).unwrap();
            let read: Vec<Value> = serde_saphyr::from_multiple(&yaml).unwrap();
            assert_eq!(read, objects, "{name}:\n{yaml}");
        }
    }

    #[test]
    fn an_overlay_that_is_not_there_is_told_with_those_that_are() {
        let error = objects("cilium").unwrap_err().to_string();
        assert!(error.contains("no overlay cilium"), "{error}");
        assert!(
            error.contains("base, calico, flannel, restricted"),
            "{error}"
        );
    }
}
