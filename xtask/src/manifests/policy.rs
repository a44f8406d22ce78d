//! What must hold of the manifests, of the base and of every overlay.

use serde_json::{Value, json};

use super::{BASE, names, objects};

/// What the restricted agent may do; a privileged test runs it with just that.
const CAPABILITIES: [&str; 2] = ["NET_ADMIN", "SYS_ADMIN"];

/// What the `DaemonSet` says at each of these places, everywhere.
fn everywhere() -> [(&'static str, Value); 14] {
    [
        ("/spec/updateStrategy/type", json!("RollingUpdate")),
        (
            "/spec/updateStrategy/rollingUpdate",
            json!({"maxUnavailable": 1}),
        ),
        ("/spec/template/spec/hostNetwork", json!(true)),
        ("/spec/template/spec/hostPID", Value::Null),
        ("/spec/template/spec/hostIPC", Value::Null),
        (
            "/spec/template/spec/priorityClassName",
            json!("system-node-critical"),
        ),
        (
            "/spec/template/spec/tolerations",
            json!([{"operator": "Exists"}]),
        ),
        (
            "/spec/template/spec/terminationGracePeriodSeconds",
            json!(0),
        ),
        (
            "/spec/template/spec/nodeSelector",
            json!({"kubernetes.io/os": "linux"}),
        ),
        ("/spec/template/spec/affinity", Value::Null),
        ("/spec/template/spec/serviceAccountName", json!("underpass")),
        (
            "/spec/template/spec/automountServiceAccountToken",
            json!(false),
        ),
        (
            "/spec/template/spec/initContainers/0/args",
            json!(["prepare"]),
        ),
        ("/spec/template/spec/containers/0/args", json!(["agent"])),
    ]
}

fn every_one() -> impl Iterator<Item = (String, Manifest)> {
    names().unwrap().into_iter().map(|name| {
        let manifest = Manifest(objects(&name).unwrap());
        (name, manifest)
    })
}

struct Manifest(Vec<Value>);

impl Manifest {
    /// The one object of this kind.
    fn one(&self, kind: &str) -> &Value {
        let mut objects = self.0.iter().filter(|object| object["kind"] == kind);
        let object = objects
            .next()
            .unwrap_or_else(|| panic!("there is no {kind}"));
        assert!(objects.next().is_none(), "there is more than one {kind}");
        object
    }

    fn pod(&self) -> &Value {
        &self.one("DaemonSet")["spec"]["template"]["spec"]
    }

    fn agent(&self) -> &Value {
        &self.pod()["containers"][0]
    }

    fn preparation(&self) -> &Value {
        &self.pod()["initContainers"][0]
    }

    /// Of every kind of container.
    fn containers(&self) -> [&Value; 2] {
        for kind in ["containers", "initContainers"] {
            assert_eq!(self.pod()[kind].as_array().unwrap().len(), 1, "{kind}");
        }
        [self.agent(), self.preparation()]
    }
}

#[test]
fn there_is_a_base_and_the_overlays() {
    assert_eq!(names().unwrap(), [BASE, "calico", "flannel", "restricted"]);
}

#[test]
fn it_is_a_node_agent_that_is_replaced_one_node_at_a_time() {
    for (name, manifest) in every_one() {
        let daemon_set = manifest.one("DaemonSet");
        for (pointer, expected) in everywhere() {
            let found = daemon_set.pointer(pointer).unwrap_or(&Value::Null);
            assert_eq!(*found, expected, "{name}: {pointer}");
        }
    }
}

#[test]
fn it_has_no_rights_in_the_cluster() {
    for (name, manifest) in every_one() {
        let mut kinds: Vec<_> = manifest.0.iter().map(|object| &object["kind"]).collect();
        kinds.sort_by_key(ToString::to_string);
        assert_eq!(
            kinds,
            ["ConfigMap", "DaemonSet", "Namespace", "ServiceAccount"],
            "{name}"
        );
        let account = manifest.one("ServiceAccount");
        assert_eq!(account["automountServiceAccountToken"], false, "{name}");
    }
}

#[test]
fn everything_is_in_a_namespace_that_admits_it() {
    for (name, manifest) in every_one() {
        let namespace = manifest.one("Namespace");
        assert_eq!(namespace["metadata"]["name"], "underpass");
        let level = &namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
        assert_eq!(*level, "privileged", "{name}: hostNetwork takes that");
        for kind in ["ConfigMap", "DaemonSet", "ServiceAccount"] {
            let metadata = &manifest.one(kind)["metadata"];
            assert_eq!(metadata["namespace"], "underpass", "{name}: {kind}");
        }
    }
}

#[test]
fn the_selector_is_the_pods() {
    for (name, manifest) in every_one() {
        let spec = &manifest.one("DaemonSet")["spec"];
        let labels = &spec["template"]["metadata"]["labels"];
        assert!(labels.is_object(), "{name}");
        assert_eq!(spec["selector"], json!({"matchLabels": labels}), "{name}");
    }
}

#[test]
fn health_is_asked_for_on_the_node_itself() {
    for (name, manifest) in every_one() {
        for (probe, path) in [
            ("startupProbe", "/healthz"),
            ("livenessProbe", "/healthz"),
            ("readinessProbe", "/readyz"),
        ] {
            assert_eq!(
                manifest.agent()[probe]["httpGet"],
                json!({"host": "127.0.0.1", "port": 9478, "path": path}),
                "{name}: {probe}"
            );
        }
    }
}

#[test]
fn every_container_asks_for_resources_and_may_have_more() {
    for (name, manifest) in every_one() {
        for container in manifest.containers() {
            for resource in ["cpu", "memory"] {
                let request = &container["resources"]["requests"][resource];
                assert!(request.is_string(), "{name}: {resource}");
            }
            assert!(container["resources"]["limits"].is_null(), "{name}");
        }
    }
}

#[test]
fn the_image_is_this_versions() {
    let image = format!("underpass:{}", env!("CARGO_PKG_VERSION"));
    for (name, manifest) in every_one() {
        for container in manifest.containers() {
            assert_eq!(container["image"], *image, "{name}");
        }
    }
}

#[test]
fn the_nodes_name_is_kubernetes() {
    for (name, manifest) in every_one() {
        for container in manifest.containers() {
            assert_eq!(
                container["env"],
                json!([{
                    "name": "NODE_NAME",
                    "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}},
                }]),
                "{name}"
            );
        }
    }
}

#[test]
fn the_bpf_file_system_is_the_nodes_and_mounted_first() {
    for (name, manifest) in every_one() {
        assert_eq!(
            manifest.pod()["volumes"][1],
            json!({"name": "bpffs", "hostPath": {"path": "/sys/fs/bpf", "type": "Directory"}}),
            "{name}"
        );
        for (container, propagation) in [
            (manifest.preparation(), "Bidirectional"),
            (manifest.agent(), "HostToContainer"),
        ] {
            assert_eq!(
                container["volumeMounts"][1],
                json!({
                    "name": "bpffs",
                    "mountPath": "/sys/fs/bpf",
                    "mountPropagation": propagation,
                }),
                "{name}"
            );
        }
        // Kubernetes allows nobody else's mounts to be seen by the node.
        let security = &manifest.preparation()["securityContext"];
        assert_eq!(security["privileged"], true, "{name}");
    }
}

#[test]
fn the_configuration_is_where_underpass_looks_and_by_its_checksum() {
    let mut seen = Vec::new();
    for (name, manifest) in every_one() {
        let config = manifest.one("ConfigMap");
        assert!(config["data"]["config.yaml"].is_string(), "{name}");
        let named = &config["metadata"]["name"];
        let checksum = named.as_str().unwrap().strip_prefix("underpass-config-");
        assert_eq!(checksum.map(str::len), Some(10), "{name}: {named}");
        assert_eq!(
            manifest.pod()["volumes"],
            json!([
                {"name": "config", "configMap": {"name": named}},
                manifest.pod()["volumes"][1],
            ]),
            "{name}"
        );
        let template = &manifest.one("DaemonSet")["spec"]["template"]["metadata"];
        assert_eq!(template["annotations"]["config-checksum"], *named, "{name}");
        for container in manifest.containers() {
            assert_eq!(
                container["volumeMounts"][0],
                json!({"name": "config", "mountPath": "/etc/underpass", "readOnly": true}),
                "{name}"
            );
            let mounts = container["volumeMounts"].as_array().unwrap();
            assert_eq!(mounts.len(), 2, "{name}");
        }
        seen.push((config["data"].clone(), named.clone()));
    }
    for (data, named) in &seen {
        for (other, other_named) in &seen {
            assert_eq!(
                data == other,
                named == other_named,
                "{named}, {other_named}"
            );
        }
    }
}

#[test]
fn the_restricted_agent_may_do_what_it_needs_and_nothing_else() {
    for (name, manifest) in every_one() {
        let expected = if name == "restricted" {
            json!({
                "privileged": false,
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "seccompProfile": {"type": "RuntimeDefault"},
                "appArmorProfile": {"type": "Unconfined"},
                "capabilities": {"drop": ["ALL"], "add": CAPABILITIES},
            })
        } else {
            json!({"privileged": true, "readOnlyRootFilesystem": true})
        };
        assert_eq!(manifest.agent()["securityContext"], expected, "{name}");
        assert!(manifest.pod()["securityContext"].is_null(), "{name}");
    }
}

#[test]
fn beside_calico_and_flannel_the_routes_are_the_kernels() {
    for (name, manifest) in every_one() {
        let config = manifest.one("ConfigMap")["data"]["config.yaml"].clone();
        let config: Value = serde_saphyr::from_str(config.as_str().unwrap()).unwrap();
        assert_eq!(config["source"], "kernel", "{name}");
        let workloads = match &*name {
            "calico" | "flannel" => json!(["cali*"]),
            _ => Value::Null,
        };
        assert_eq!(config["workloads"], workloads, "{name}");
    }
}
