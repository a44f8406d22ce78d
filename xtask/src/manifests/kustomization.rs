//! What a `kustomization.yaml` makes: its resources, the `ConfigMap`s it generates, what its components
//! do to them, and at last its patches.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    config_map::{self, Generator},
    merge::merge,
};

/// The objects of the kustomization in `directory`, as they are applied.
pub(super) fn build(directory: &Path) -> Result<Vec<Value>> {
    let mut tree = Tree::default();
    tree.add(directory, Kind::Kustomization)?;
    for identity in &tree.generated {
        let object = find(&mut tree.objects, identity)?;
        let (from, to) = config_map::name_by_checksum(object)?;
        for reference in &tree.references {
            reference.rename(&mut tree.objects, &from, &to);
        }
    }
    Ok(tree.objects)
}

/// What has been made so far.
#[derive(Default)]
struct Tree {
    objects: Vec<Value>,
    /// Those that are named after their contents in the end.
    generated: Vec<Identity>,
    /// Where the names of `ConfigMap`s are.
    references: Vec<FieldSpec>,
}

/// What tells an object from others, as errors show it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity(String);

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
enum Kind {
    Kustomization,
    Component,
}

/// Of kustomize's format, what `deploy` uses.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Kustomization {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    kind: Kind,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    config_map_generator: Vec<Generator>,
    #[serde(default)]
    components: Vec<String>,
    #[serde(default)]
    configurations: Vec<String>,
    #[serde(default)]
    patches: Vec<Patch>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    path: String,
}

/// A configuration of kustomize's transformers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Configuration {
    name_reference: Vec<NameReference>,
}

/// Where an object's name is besides where kustomize looks by itself.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct NameReference {
    kind: String,
    #[serde(rename = "version")]
    _version: String,
    field_specs: Vec<FieldSpec>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldSpec {
    #[serde(rename = "group")]
    _group: String,
    kind: String,
    path: String,
}

impl Tree {
    fn add(&mut self, directory: &Path, kind: Kind) -> Result<()> {
        let file = directory.join("kustomization.yaml");
        let kustomization: Kustomization = read(&file)?;
        ensure!(
            kustomization.kind == kind,
            "{} is a {:?}, and is used as a {kind:?}",
            file.display(),
            kustomization.kind
        );
        for resource in &kustomization.resources {
            let path = directory.join(resource);
            if path.is_dir() {
                self.add(&path, Kind::Kustomization)?;
            } else {
                let object = read(&path)?;
                self.insert(object)
                    .with_context(|| format!("cannot add {}", path.display()))?;
            }
        }
        for configuration in &kustomization.configurations {
            self.configure(&directory.join(configuration))?;
        }
        for generator in &kustomization.config_map_generator {
            self.generate(directory, generator)
                .with_context(|| format!("cannot generate what {} says", file.display()))?;
        }
        for component in &kustomization.components {
            self.add(&directory.join(component), Kind::Component)?;
        }
        for patch in &kustomization.patches {
            let path = directory.join(&patch.path);
            self.patch(&read(&path)?)
                .with_context(|| format!("cannot apply the patch {}", path.display()))?;
        }
        Ok(())
    }

    fn insert(&mut self, object: Value) -> Result<()> {
        let identity = Identity::of(&object)?;
        if find(&mut self.objects, &identity).is_ok() {
            bail!("there is a {} already", identity.0);
        }
        self.objects.push(object);
        Ok(())
    }

    fn configure(&mut self, file: &Path) -> Result<()> {
        let configuration: Configuration = read(file)?;
        for reference in configuration.name_reference {
            ensure!(
                reference.kind == "ConfigMap",
                "{}: only ConfigMaps are renamed, not a {}",
                file.display(),
                reference.kind
            );
            self.references.extend(reference.field_specs);
        }
        Ok(())
    }

    fn generate(&mut self, directory: &Path, generator: &Generator) -> Result<()> {
        let object = generator.generate(directory)?;
        let identity = Identity::of(&object)?;
        if generator.replaces() {
            *find(&mut self.objects, &identity)? = object;
            return Ok(());
        }
        self.references.push(FieldSpec {
            _group: "apps".to_owned(),
            kind: "DaemonSet".to_owned(),
            path: "spec/template/spec/volumes/configMap/name".to_owned(),
        });
        self.generated.push(identity);
        self.insert(object)
    }

    fn patch(&mut self, patch: &Value) -> Result<()> {
        let identity = Identity::of(patch)?;
        merge(find(&mut self.objects, &identity)?, patch, &identity.0)
    }
}

impl Identity {
    fn of(object: &Value) -> Result<Self> {
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
        let kind = text("/kind").context("an object has no kind")?;
        let name = text("/metadata/name").with_context(|| format!("a {kind} has no name"))?;
        let namespace = text("/metadata/namespace").unwrap_or_default();
        Ok(Self(format!("{kind} {namespace}/{name}")))
    }
}

impl FieldSpec {
    fn rename(&self, objects: &mut [Value], from: &str, to: &str) {
        let path: Vec<&str> = self.path.split('/').collect();
        for object in objects {
            if object["kind"] == *self.kind {
                rename(object, &path, from, to);
            }
        }
    }
}

/// Renames what is at `path`, in every element of the lists on the way.
fn rename(value: &mut Value, path: &[&str], from: &str, to: &str) {
    match (value, path) {
        (Value::Array(elements), _) => {
            for element in elements {
                rename(element, path, from, to);
            }
        }
        (Value::Object(fields), [first, rest @ ..]) => {
            if let Some(field) = fields.get_mut(*first) {
                rename(field, rest, from, to);
            }
        }
        (Value::String(name), []) if name == from => to.clone_into(name),
        _ => {}
    }
}

fn find<'o>(objects: &'o mut [Value], identity: &Identity) -> Result<&'o mut Value> {
    objects
        .iter_mut()
        .find(|object| Identity::of(object).is_ok_and(|of| of == *identity))
        .with_context(|| format!("there is no {}", identity.0))
}

fn read<T: DeserializeOwned>(file: &Path) -> Result<T> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("cannot understand {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_kustomize_knows_is_refused() {
        let text = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n";
        assert!(serde_saphyr::from_str::<Kustomization>(text).is_ok());
        for more in [
            "namePrefix: a-\n",
            "patches: [{ path: a.yaml, target: { kind: DaemonSet } }]\n",
            "configMapGenerator: [{ name: a, namespace: b, literals: [c=d] }]\n",
        ] {
            let text = format!("{text}{more}");
            assert!(
                serde_saphyr::from_str::<Kustomization>(&text).is_err(),
                "{more}"
            );
        }
    }
}
