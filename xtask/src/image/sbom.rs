//! The bill of materials: every crate that is linked in, in `CycloneDX`.
//!
//! In the image is what cargo links into `underpass`, into the BPF programs inside it, Rust's
//! standard library and the C library. What only builds, such as procedural macros, is not.

use std::{collections::BTreeMap, process::Command};

use anyhow::{Context as _, Result};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Node, Package};
use serde_json::{Value, json};

use crate::{cargo, process, toolchain};

use super::{binary, commit::Commit};

/// The version of `CycloneDX`.
const VERSION: &str = "1.5";

/// What the document is about, in the document.
const SUBJECT: &str = "underpass";

/// The crates that are linked, each for where its code runs.
const ROOTS: [&str; 2] = ["dataplane-user", "dataplane-ebpf"];

/// The document, as JSON.
pub(super) fn of(commit: &Commit) -> Result<Vec<u8>> {
    let metadata = metadata()?;
    let crates = linked(&metadata)?;
    let libraries = [standard_library()?, c_library()?];

    let mut components: Vec<Value> = crates.values().map(|package| component(package)).collect();
    components.extend(libraries.iter().cloned());
    let roots = crates.values().filter(|package| is_root(package));
    let mut direct: Vec<Value> = roots.map(|package| json!(reference(package))).collect();
    direct.extend(libraries.iter().map(|library| library["bom-ref"].clone()));
    let mut dependencies = vec![json!({ "ref": SUBJECT, "dependsOn": direct })];
    dependencies.extend(edges(&metadata, &crates)?);

    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": VERSION,
        "version": 1,
        "metadata": {
            "timestamp": commit.created(),
            "component": {
                "type": "application",
                "bom-ref": SUBJECT,
                "name": SUBJECT,
                "version": env!("CARGO_PKG_VERSION"),
                "licenses": [{ "license": { "id": "GPL-2.0-only" } }],
                "properties": [{ "name": "git:revision", "value": commit.revision }],
            },
        },
        "components": components,
        "dependencies": dependencies,
    });
    let mut text = serde_json::to_vec_pretty(&document)?;
    text.push(b'\n');
    Ok(text)
}

/// What cargo knows of all packages that the workspace could take.
fn metadata() -> Result<Metadata> {
    let mut command = cargo::host("metadata")?;
    command
        .args(["--format-version", "1", "--locked"])
        .args(["--filter-platform", &binary::target()])
        .args(["--filter-platform", toolchain::TARGET]);
    let said = process::output(&mut command)?;
    MetadataCommand::parse(said).context("cargo metadata says something else than usual")
}

/// A package's name and version, of which a build has no two.
type Key = (String, String);

fn key(package: &Package) -> Key {
    (package.name.to_string(), package.version.to_string())
}

/// The packages that are linked in, in the order of their names.
fn linked(metadata: &Metadata) -> Result<BTreeMap<Key, &Package>> {
    let packages: BTreeMap<Key, &Package> = metadata
        .packages
        .iter()
        .map(|package| (key(package), package))
        .collect();
    let mut linked = BTreeMap::new();
    for (root, target) in ROOTS.iter().zip([&*binary::target(), toolchain::TARGET]) {
        let mut command = cargo::host("tree")?;
        // Of the metadata one cannot tell which features only tests ask for.
        command
            .args(["--locked", "--package", root, "--target", target])
            .args(["--edges", "normal,no-proc-macro", "--prefix", "none"]);
        for line in process::output(&mut command)?.lines() {
            let key = parse_line(line).with_context(|| format!("cargo tree says {line:?}"))?;
            let package = packages.get(&key);
            let package = package.with_context(|| format!("no package is {key:?}"))?;
            linked.insert(key, *package);
        }
    }
    Ok(linked)
}

/// `name v1.2.3 (path) (*)`: the parentheses where it is in the workspace, or has been listed.
fn parse_line(line: &str) -> Option<Key> {
    let mut words = line.split_whitespace();
    let name = words.next()?;
    let version = words.next()?.strip_prefix('v')?;
    Some((name.to_owned(), version.to_owned()))
}

fn is_root(package: &Package) -> bool {
    ROOTS.contains(&package.name.as_str())
}

fn component(package: &Package) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": reference(package),
        "name": package.name,
        "version": package.version,
    });
    if is_public(package) {
        component["purl"] = json!(reference(package));
    }
    if let Some(license) = &package.license {
        component["licenses"] = json!([{ "expression": expression(license) }]);
    }
    if let Some(repository) = &package.repository {
        component["externalReferences"] = json!([{ "type": "vcs", "url": repository }]);
    }
    component
}

/// How the document names a package: by its package URL, if it is one that all may have.
fn reference(package: &Package) -> String {
    let kind = if is_public(package) { "pkg:cargo/" } else { "" };
    format!("{kind}{}@{}", package.name, package.version)
}

fn is_public(package: &Package) -> bool {
    package.source.is_some()
}

/// Crates of old have a slash where SPDX says `OR`.
fn expression(license: &str) -> String {
    let alternatives: Vec<_> = license.split('/').map(str::trim).collect();
    alternatives.join(" OR ")
}

/// Which of the crates depends on which.
fn edges(metadata: &Metadata, crates: &BTreeMap<Key, &Package>) -> Result<Vec<Value>> {
    let resolve = metadata.resolve.as_ref();
    let resolve = resolve.context("cargo metadata says nothing of dependencies")?;
    let nodes: BTreeMap<_, &Node> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let references: BTreeMap<_, String> = crates
        .values()
        .map(|package| (&package.id, reference(package)))
        .collect();
    let edges = references.iter().map(|(id, reference)| {
        let normal = nodes[id].deps.iter().filter(|dependency| {
            let mut kinds = dependency.dep_kinds.iter();
            kinds.any(|kind| kind.kind == DependencyKind::Normal)
        });
        let mut on: Vec<_> = normal
            .filter_map(|dependency| references.get(&dependency.pkg))
            .collect();
        on.sort();
        json!({ "ref": reference, "dependsOn": on })
    });
    Ok(edges.collect())
}

fn standard_library() -> Result<Value> {
    let about = process::output(binary::rustc().arg("-vV"))?;
    let version = about
        .lines()
        .find_map(|line| line.strip_prefix("release: "));
    Ok(json!({
        "type": "library",
        "bom-ref": "rust-std",
        "name": "rust-std",
        "description": "Rust's standard library",
        "version": version.context("rustc does not say its version")?,
        "licenses": [{ "expression": "MIT OR Apache-2.0" }],
    }))
}

/// The one that is linked in is of the same version as the one that programs here load.
fn c_library() -> Result<Value> {
    let about = process::output(Command::new("ldd").arg("--version"))?;
    let line = about.lines().next().unwrap_or_default();
    let version = line.split_whitespace().last();
    Ok(json!({
        "type": "library",
        "bom-ref": "glibc",
        "name": "glibc",
        "description": line,
        "version": version.context("ldd does not say its version")?,
        "licenses": [{ "expression": "LGPL-2.1-or-later" }],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_a_tree_are_told_by_name_and_version() {
        for (line, name, version) in [
            ("anyhow v1.0.103", "anyhow", "1.0.103"),
            ("memchr v2.7.6 (*)", "memchr", "2.7.6"),
            (
                "dataplane-user v0.1.0 (/somewhere)",
                "dataplane-user",
                "0.1.0",
            ),
        ] {
            let key = (name.to_owned(), version.to_owned());
            assert_eq!(parse_line(line), Some(key), "{line}");
        }
        assert_eq!(parse_line("[build-dependencies]"), None);
    }

    #[test]
    fn licences_of_old_are_expressions() {
        assert_eq!(expression("MIT/Apache-2.0"), "MIT OR Apache-2.0");
        assert_eq!(expression("MIT OR Zlib"), "MIT OR Zlib");
    }

    #[test]
    fn what_only_builds_or_tests_is_not_linked() -> Result<()> {
        let metadata = metadata()?;
        let crates = linked(&metadata)?;
        let names: Vec<_> = crates.keys().map(|(name, _)| &**name).collect();
        for linked in [
            "dataplane-common",
            "dataplane-ebpf",
            "aya",
            "aya-ebpf",
            "tokio",
        ] {
            assert!(names.contains(&linked), "{linked} is missing: {names:?}");
        }
        for other in [
            "serde_derive",
            "syn",
            "xtask",
            "dataplane-tests",
            "jsonschema",
        ] {
            assert!(!names.contains(&other), "{other} is not linked in");
        }
        Ok(())
    }
}
