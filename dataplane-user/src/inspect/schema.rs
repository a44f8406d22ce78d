//! The schema of what is printed as JSON, as the types say.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Value, json};

use super::{
    API_VERSION, Change, CounterRow, Difference, EndpointRow, Explanation, FlowRow, LinkRow,
    Listed, MapRow, NextHopRow, PacketRow, PeerRow, ProgramRow, RouteRow, Status, UnmirroredRow,
    envelope::{Single, event_kind, list_kind},
};
use crate::{bugtool::Manifest, check::Finding, top::Top};

/// The JSON schema (draft 2020-12) of everything that `-o json` prints.
#[must_use]
pub fn schema() -> Value {
    let generator = &mut SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator();
    let kinds: Vec<Value> = [
        listed::<RouteRow>(generator),
        listed::<UnmirroredRow>(generator),
        listed::<NextHopRow>(generator),
        listed::<EndpointRow>(generator),
        listed::<PeerRow>(generator),
        listed::<FlowRow>(generator),
        listed::<CounterRow>(generator),
        listed::<LinkRow>(generator),
        listed::<MapRow>(generator),
        listed::<ProgramRow>(generator),
        listed::<Difference>(generator),
        listed::<Finding>(generator),
        vec![
            single::<Status>(generator),
            single::<Explanation>(generator),
            single::<PacketRow>(generator),
            single::<Manifest>(generator),
            single::<Top>(generator),
        ],
    ]
    .concat();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "underpass",
        "description": "What `underpass ... -o json` prints, and each line of `watch` and `monitor`.",
        "oneOf": kinds,
        "$defs": generator.definitions(),
    })
}

/// A list of rows, and a change of one.
fn listed<R: Listed + JsonSchema>(generator: &mut SchemaGenerator) -> Vec<Value> {
    let row = generator.subschema_for::<R>();
    let change = generator.subschema_for::<Change>();
    let list = json!({ "items": { "type": "array", "items": row } });
    let event = json!({
        "change": change,
        "time": { "type": "string", "format": "date-time" },
        "item": row,
    });
    vec![
        enveloped(&list_kind::<R>(), list),
        enveloped(&event_kind::<R>(), event),
    ]
}

/// Something of which there is one: its fields are beside those of the envelope.
fn single<T: Single + JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    let mut schema = enveloped(T::KIND, json!({}));
    schema["allOf"] = json!([generator.subschema_for::<T>()]);
    schema
}

/// The schema of an object with these properties, all of which it has, behind those of the envelope.
fn enveloped(kind: &str, mut properties: Value) -> Value {
    properties["apiVersion"] = json!({ "const": API_VERSION });
    properties["kind"] = json!({ "const": kind });
    let names = properties.as_object().into_iter().flatten();
    let required: Vec<_> = names.map(|(name, _)| name.clone()).collect();
    json!({
        "title": kind,
        "type": "object",
        "properties": properties,
        "required": required,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_refuses_another_version_another_kind_and_missing_fields() {
        let row = json!({ "prefix": "10.0.0.0/8", "why": "no pods are there" });
        let list = json!({
            "apiVersion": "underpass/v1",
            "kind": "UnmirroredRouteList",
            "items": [row],
        });
        let validator = jsonschema::validator_for(&schema()).unwrap();
        assert!(validator.is_valid(&list));
        for (field, value) in [
            ("/apiVersion", json!("underpass/v2")),
            ("/kind", json!("PeerList")),
            ("/items", json!({})),
            ("/items/0/why", json!(7)),
        ] {
            let mut wrong = list.clone();
            *wrong.pointer_mut(field).unwrap() = value;
            assert!(!validator.is_valid(&wrong), "{wrong}");
        }
    }
}
