//! docs/schema: what `underpass schema` prints.

use serde_json::Value;

use super::assert_is;
use crate::{config, inspect, source};

fn assert_published(name: &str, schema: &Value) {
    let text = serde_json::to_string_pretty(schema).unwrap() + "\n";
    assert_is(&format!("docs/schema/{name}"), &text);
}

#[test]
fn the_published_ones_are_what_the_types_say() {
    assert_published("underpass-v1.json", &inspect::schema());
    assert_published("config-v1.json", &config::schema());
    assert_published("cluster-v1.json", &source::file::schema());
}
