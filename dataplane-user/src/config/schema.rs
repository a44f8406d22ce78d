//! The schema of `config.yaml`, as the types say, with the defaults that a parsed file has.

use std::path::Path;

use serde_json::{Value, json};

use super::{Config, raw::RawConfig};
use crate::document::schema_of;

/// The JSON schema (draft 2020-12) of a configuration.
#[must_use]
pub fn schema() -> Value {
    let mut schema = schema_of::<RawConfig>("config.yaml");
    for text in ["", "source: kernel"] {
        // A node's name is found on the node.
        let config = Config::parse(Path::new(""), text, String::new);
        fill_in(
            &mut schema,
            &config.map_or(Value::Null, |config| json!(config)),
        );
    }
    schema
}

/// Gives each key in `schema` the default that it has in `defaults`, where there is one.
fn fill_in(schema: &mut Value, defaults: &Value) {
    for (key, default) in defaults.as_object().into_iter().flatten() {
        let Some(property) = property(schema, key) else {
            continue;
        };
        if default.is_object() {
            fill_in(property, default);
        } else if default != "" {
            property["default"] = default.clone();
        }
    }
}

/// What `schema` says of `key`, if need be as one of several things that it may be.
fn property<'s>(schema: &'s mut Value, key: &str) -> Option<&'s mut Value> {
    if schema.get("anyOf").is_some() {
        let choices = schema["anyOf"].as_array_mut()?;
        return choices.iter_mut().find_map(|choice| property(choice, key));
    }
    schema.get_mut("properties")?.get_mut(key)
}
