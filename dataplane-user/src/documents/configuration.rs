//! docs/configuration.md: every key of both files, by their schemas.

use std::{fmt::Write as _, iter};

use serde_json::{Map, Value, json};

use super::{
    assert_is,
    examples::{assert_cluster, assert_config},
};
use crate::{config, source};

const BEGINNING: &str = "\
<!-- made by `cargo xtask documents` from the types that the files are read into -->

# Configuration

Two files in YAML: [config.yaml](#configyaml) for one node, by default `/etc/underpass/config.yaml`; and, unless the routes are
the kernel's, [cluster.yaml](#clusteryaml) for all of them. The agent reads both when it starts, and the cluster file again when it
changes, or on `SIGHUP`. A mistake is told with file, line, what is wrong and what to write instead, and nothing of a file
with a mistake is used.

There are JSON schemas of both, [config-v1.json](schema/config-v1.json) and [cluster-v1.json](schema/cluster-v1.json), by
which editors complete and check them, told so by a first line in the file:

```sh
underpass schema config > /etc/underpass/config-v1.json
underpass schema cluster > /etc/underpass/cluster-v1.json
```

```yaml
# yaml-language-server: $schema=config-v1.json
```
";

#[test]
fn it_says_of_every_key_what_the_types_say() {
    let config = file("config.yaml", &config::schema()).replacen("\n\n### ", &defaults(), 1);
    let cluster = file("cluster.yaml", &source::file::schema());
    assert_is(
        "docs/configuration.md",
        &format!("{BEGINNING}\n{config}\n{cluster}"),
    );
}

#[test]
fn every_keys_example_is_taken_by_itself() {
    for key in keys(&config::schema(), "") {
        let example = key.example();
        let written = key
            .path
            .rsplit('.')
            .fold(example, |value, key| json!({ key: value }));
        assert_config(&written.to_string());
    }
    let mut count = 0;
    for key in keys(&source::file::schema(), "") {
        let mut cluster = json!({
            "pools": [{ "cidr": "10.244.0.0/16" }],
            "nodes": [{ "name": "node1", "address": "192.168.1.10/24" }],
            "routes": [{ "cidr": "10.244.9.0/24" }],
        });
        let (section, field) = key.path.split_once("[].").unwrap_or((&key.path, ""));
        match field {
            "" => cluster[section] = key.example(),
            field => cluster[section][0][field] = key.example(),
        }
        let route = cluster["routes"][0].as_object_mut().unwrap();
        if !route.contains_key("blackhole") {
            route.entry("node").or_insert(json!("node1"));
        }
        assert_cluster(&cluster.to_string());
        count += 1;
    }
    assert!(count > 12, "{count} keys were found");
}

/// What an empty file means, as a file.
fn defaults() -> String {
    let schema = config::schema();
    let properties = schema["properties"].as_object().into_iter().flatten();
    let lines = properties.filter_map(|(key, schema)| {
        let mut value = default_of(schema)?;
        // Of two sources, the file is the default.
        value.as_object_mut().and_then(|keys| keys.remove("kernel"));
        Some(format!("{}\n", pair(key, &value)))
    });
    let lines: String = lines.collect();
    assert_config(&lines);
    format!("\n\nAn empty file means:\n\n```yaml\n{lines}```\n\n### ")
}

fn default_of(schema: &Value) -> Option<Value> {
    if let Some(default) = schema.get("default") {
        return Some(default.clone());
    }
    let keys = keys(schema, "")
        .into_iter()
        .filter(|key| !key.path.contains('.'));
    let defaults = keys.filter_map(|key| {
        let default = default_of(&json!(key.schema))?;
        Some((key.path, default))
    });
    let defaults: Map<_, _> = defaults.collect();
    (!defaults.is_empty()).then(|| defaults.into())
}

/// A key, with all before it, and what the schema says of it.
struct Key<'s> {
    path: String,
    is_required: bool,
    schema: &'s Map<String, Value>,
}

/// Every key below `schema`, each before those that are in it.
fn keys<'s>(schema: &'s Value, before: &str) -> Vec<Key<'s>> {
    let mut found = Vec::new();
    for part in iter::once(schema).chain(choices(schema)) {
        let required = part["required"].as_array();
        for (name, schema) in part["properties"].as_object().into_iter().flatten() {
            let path = format!("{before}{name}");
            found.push(Key {
                is_required: required.is_some_and(|names| names.contains(&json!(name))),
                schema: schema.as_object().expect("a schema is an object"),
                path: path.clone(),
            });
            found.extend(keys(schema, &format!("{path}.")));
            if let Some(items) = schema.get("items") {
                found.extend(keys(items, &format!("{path}[].")));
            }
        }
    }
    found
}

/// What it may be.
fn choices(schema: &Value) -> impl Iterator<Item = &Value> {
    schema["anyOf"].as_array().into_iter().flatten()
}

impl Key<'_> {
    fn text(&self, keyword: &str) -> &str {
        let text = self.schema.get(keyword).and_then(Value::as_str);
        text.unwrap_or_default()
    }

    fn example(&self) -> Value {
        let examples = self.schema.get("examples");
        let example = examples.and_then(|examples| examples.get(0));
        example
            .cloned()
            .unwrap_or_else(|| panic!("{} has no example", self.path))
    }

    fn markdown(&self) -> String {
        let meaning = self.text("description").replace('\n', " ");
        assert!(!meaning.is_empty(), "{} has no doc comment", self.path);
        let name = self.path.rsplit('.').next().unwrap_or_default();
        let default = match self.schema.get("default") {
            Some(default) => format!("default `{}`", flow(default)),
            None if self.is_required => "required".to_owned(),
            None => "no default".to_owned(),
        };
        let mut text = format!("### `{}`\n\n{meaning}\n\n", self.path);
        let example = pair(name, &self.example());
        writeln!(
            text,
            "{}; {default}; for example `{example}`.",
            self.values()
        )
        .unwrap();
        text
    }

    /// Its type, and what values it may have.
    fn values(&self) -> String {
        let number = |keyword: &str| self.schema.get(keyword).and_then(Value::as_u64);
        let kind = match self.text("type") {
            "string" => "text",
            "integer" => "a whole number",
            "boolean" => "`true` or `false`",
            "array" => "a list",
            "object" => "the keys below",
            _ => "",
        };
        let mut values = match self.text("x-values") {
            "" => kind.to_owned(),
            values if kind == "a list" => format!("{kind} of {values}"),
            values => values.to_owned(),
        };
        if let Some(words) = self.schema.get("enum").and_then(Value::as_array) {
            let words: Vec<_> = words
                .iter()
                .map(|word| format!("`{}`", flow(word)))
                .collect();
            values = words.join(", ");
        }
        if let (Some(least), Some(most)) = (number("minimum"), number("maximum")) {
            write!(values, " from {least} to {most}").unwrap();
        }
        if let Some(most) = number("maxItems") {
            write!(values, ", at most {most}").unwrap();
        }
        if let Some(least) = number("minItems") {
            write!(values, ", at least {least}").unwrap();
        }
        let mut letters = values.chars();
        let first = letters.next().into_iter().flat_map(char::to_uppercase);
        first.chain(letters).collect()
    }
}

fn pair(key: &str, value: &Value) -> String {
    format!("{key}: {}", flow(value))
}

/// A value in YAML, on one line.
fn flow(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields: Vec<_> = fields.iter().map(|(key, value)| pair(key, value)).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        Value::String(text) if text.contains('*') || text.contains('?') => format!("\"{text}\""),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A file: what it is, and its keys.
fn file(name: &str, schema: &Value) -> String {
    let about = schema["description"].as_str().unwrap_or_default();
    let keys: Vec<_> = keys(schema, "").iter().map(Key::markdown).collect();
    format!(
        "## {name}\n\n{}\n\n{}",
        about.replace('\n', " "),
        keys.join("\n")
    )
}
