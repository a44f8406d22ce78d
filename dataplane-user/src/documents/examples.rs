//! Configurations and cluster files in the documents, which are read as the agent reads them.

use std::{fs, path::Path};

use serde_json::{Map, Value};

use super::{path, read};
use crate::{config, config::Config, document, source};

/// Keys of what is not for underpass: Kubernetes', and Prometheus'.
const OTHERS: [&str; 2] = ["apiVersion", "scrape_configs"];

/// Asserts that the agent takes `text` as its configuration, and an editor by the schema.
#[track_caller]
pub(super) fn assert_config(text: &str) {
    let parsed = in_file(text, |file| Config::load(file).map(|_| ()));
    assert!(parsed.is_ok(), "{text}\n{parsed:?}");
    assert_fits(&config::schema(), text);
}

/// The same of a cluster file.
#[track_caller]
pub(super) fn assert_cluster(text: &str) {
    let parsed = in_file(text, |file| source::file::read(file).map(|_| ()));
    assert!(parsed.is_ok(), "{text}\n{parsed:?}");
    assert_fits(&source::file::schema(), text);
}

fn in_file<T>(text: &str, read: impl FnOnce(&Path) -> T) -> T {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    read(file.path())
}

#[track_caller]
fn assert_fits(schema: &Value, text: &str) {
    let value = serde_json::to_value(keys(text)).unwrap();
    let validator = jsonschema::validator_for(schema).unwrap();
    let errors: Vec<_> = validator.iter_errors(&value).collect();
    assert!(errors.is_empty(), "{text}\n{errors:?}");
}

/// What is written in `text`, by its keys.
fn keys(text: &str) -> Map<String, Value> {
    let parsed = document::parse::<Map<String, Value>>(Path::new("example.yaml"), text);
    parsed
        .unwrap_or_else(|error| panic!("{text}\n{error}"))
        .unwrap_or_default()
}

#[test]
fn the_agent_takes_every_one() {
    let (mut configs, mut clusters) = (0, 0);
    for name in documents() {
        for block in blocks(&read(&name)) {
            let keys = keys(&block);
            if keys.contains_key("pools") {
                assert_cluster(&block);
                clusters += 1;
            } else if !OTHERS.iter().any(|key| keys.contains_key(*key)) {
                assert_config(&block);
                configs += 1;
            }
        }
    }
    for name in ["base", "overlays/calico", "overlays/flannel"] {
        assert_config(&read(&format!("deploy/{name}/config.yaml")));
        configs += 1;
    }
    assert!(
        configs > 6 && clusters > 0,
        "{configs} and {clusters} were found"
    );
}

/// Every document.
pub(super) fn documents() -> Vec<String> {
    let in_docs = fs::read_dir(path("docs")).unwrap();
    let in_docs = in_docs.map(|entry| entry.unwrap().path());
    let in_docs = in_docs.filter(|path| path.extension().is_some_and(|end| end == "md"));
    let in_docs = in_docs.map(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        format!("docs/{name}")
    });
    let others = ["README.md", "deploy/README.md"].map(str::to_owned);
    others.into_iter().chain(in_docs).collect()
}

/// What is marked as YAML in a document.
fn blocks(document: &str) -> Vec<String> {
    let starts = document.split("```yaml\n").skip(1);
    let blocks = starts.filter_map(|rest| rest.split_once("```"));
    blocks.map(|(block, _)| block.to_owned()).collect()
}
