//! Strategic merge patches, as far as `deploy` goes: maps are merged, containers are told by their
//! names, and whatever else there is takes the place of what was.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// The lists whose elements are merged by `name`. There are others, some by another key: a patch of
/// one is refused.
const BY_NAME: [&str; 2] = ["containers", "initContainers"];

/// Puts `patch` upon `target`, which is `at`.
pub(super) fn merge(target: &mut Value, patch: &Value, at: &str) -> Result<()> {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (field, value) in patch {
                let at = format!("{at}.{field}");
                ensure!(
                    !field.starts_with('$') && !value.is_null(),
                    "{at}: directives, and null to remove something, are kustomize's alone"
                );
                match target.get_mut(field) {
                    Some(present) => merge(present, value, &at)?,
                    None => {
                        target.insert(field.clone(), value.clone());
                    }
                }
            }
        }
        (Value::Array(target), Value::Array(patch)) if patch.iter().any(Value::is_object) => {
            let list = at.rsplit('.').next().unwrap_or_default();
            if !BY_NAME.contains(&list) {
                bail!("{at}: of lists of objects, only {BY_NAME:?} can be patched");
            }
            for element in patch {
                let name = &element["name"];
                let at = format!("{at}.{name}");
                let present = target.iter_mut().find(|present| present["name"] == *name);
                merge(
                    present.with_context(|| format!("there is no {at}"))?,
                    element,
                    &at,
                )?;
            }
        }
        (target, patch) => *target = patch.clone(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(patch: &Value) -> Result<Value> {
        let mut target = json!({
            "containers": [{"name": "a", "args": ["x", "y"]}, {"name": "b"}],
            "volumes": [{"name": "v"}],
            "kept": {"one": 1, "two": 2},
        });
        merge(&mut target, patch, "pod")?;
        Ok(target)
    }

    #[test]
    fn a_patch_changes_what_it_names() {
        let patch = json!({
            "containers": [{"name": "a", "args": ["z"], "more": {"yes": true}}],
            "kept": {"two": 3},
        });
        assert_eq!(
            merged(&patch).unwrap(),
            json!({
                "containers": [{"name": "a", "args": ["z"], "more": {"yes": true}}, {"name": "b"}],
                "volumes": [{"name": "v"}],
                "kept": {"one": 1, "two": 3},
            })
        );
    }

    #[test]
    fn what_kustomize_would_do_otherwise_is_refused() {
        for patch in [
            json!({"containers": [{"name": "c"}]}),
            json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
            json!({"kept": null}),
            json!({"kept": {"$patch": "delete"}}),
        ] {
            assert!(merged(&patch).is_err(), "{patch}");
        }
    }
}
