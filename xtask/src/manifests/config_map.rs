//! `ConfigMap`s that are made from files, and named after what is in them.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// An entry of a kustomization's `configMapGenerator`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Generator {
    name: String,
    namespace: String,
    files: Vec<String>,
    #[serde(default)]
    behavior: Behavior,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Behavior {
    #[default]
    Create,
    Replace,
}

impl Generator {
    /// Whether there is such a `ConfigMap`, and this one takes its place.
    pub(super) fn replaces(&self) -> bool {
        self.behavior == Behavior::Replace
    }

    /// The `ConfigMap`, with the files of `directory` by their names.
    pub(super) fn generate(&self, directory: &Path) -> Result<Value> {
        let mut data = BTreeMap::new();
        for file in &self.files {
            let path = directory.join(file);
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            data.insert(file, text);
        }
        Ok(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": self.name, "namespace": self.namespace },
            "data": data,
        }))
    }
}

/// Puts the checksum of what is in a `ConfigMap` behind its name. Returns the name before and after.
pub(super) fn name_by_checksum(object: &mut Value) -> Result<(String, String)> {
    let data: BTreeMap<String, String> =
        serde_json::from_value(object["data"].clone()).context("a ConfigMap has no data")?;
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let name = name.to_owned();
    let named = format!("{name}-{}", checksum(&data)?);
    object["metadata"]["name"] = json!(named);
    Ok((name, named))
}

/// As kustomize has it: the first ten digits of the SHA-256 of the `ConfigMap`, written as JSON without
/// its name, with letters for those that could make a word or a number of them.
fn checksum(data: &BTreeMap<String, String>) -> Result<String> {
    #[derive(Serialize)]
    struct Hashed<'a> {
        data: &'a BTreeMap<String, String>,
        kind: &'a str,
        name: &'a str,
    }
    let json = serde_json::to_string(&Hashed {
        data,
        kind: "ConfigMap",
        name: "",
    })?;
    // Go's JSON can be put into HTML.
    let json = json
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026");
    let sum = Sha256::digest(json.as_bytes());
    let digits = sum.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    let letters = digits.take(10).map(|digit| match digit {
        0 => 'g',
        1 => 'h',
        3 => 'k',
        10 => 'm',
        14 => 't',
        digit => char::from_digit(digit.into(), 16).unwrap_or_default(),
    });
    Ok(letters.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_kustomizes() {
        for (text, expected) in [
            ("source: kernel\n", "26hdfc74bh"),
            ("# <a> & \"b\"\n", "dgh2dmmc4t"),
        ] {
            let data = BTreeMap::from([("config.yaml".to_owned(), text.to_owned())]);
            assert_eq!(checksum(&data).unwrap(), expected, "{text}");
        }
    }
}
