//! kubernetes-validate, which holds manifests against the schemas of many versions of Kubernetes.
//!
//! It brings the schemas along, so nothing is asked of a network once it is installed; Debian has no
//! such program. It is in a directory of its own, named after its version: whatever Python packages
//! there are on the machine are neither used nor changed.

use std::{path::PathBuf, process::Command};

use anyhow::Result;

use crate::{
    lookup, process,
    setup::{Need, Remedy},
};

const VERSION: &str = "1.37.0";

/// The validator as a thing to have, and what installing it takes if it is not there.
pub(crate) fn needs() -> Result<Vec<Need>> {
    let validator = Need {
        name: "kubernetes-validate".to_owned(),
        why: "finds fault with the manifests for Kubernetes",
        found: find().map(|path| path.display().to_string()),
        remedy: install()?,
    };
    if validator.found.is_some() {
        return Ok(vec![validator]);
    }
    let python = Need {
        name: "python3 -m venv".to_owned(),
        why: "installs kubernetes-validate",
        found: has_venv().then(|| "python3".to_owned()),
        remedy: Remedy::Packages(&["python3-venv"]),
    };
    Ok(vec![python, validator])
}

/// The validator, if it is there and runs: it does not without the Python it was installed with.
fn find() -> Option<PathBuf> {
    let path = path().ok()?;
    process::output(Command::new(&path).arg("--version")).ok()?;
    Some(path)
}

fn has_venv() -> bool {
    process::output(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_ok()
}

fn install() -> Result<Remedy> {
    let root = root()?;
    let root = root.display();
    let line = format!(
        "python3 -m venv '{root}' && '{root}/bin/pip' install --quiet --disable-pip-version-check \
         kubernetes-validate=={VERSION}"
    );
    let mut command = Command::new("sh");
    command.args(["-c", &line]);
    Ok(Remedy::Command {
        line,
        command: Box::new(command),
    })
}

fn path() -> Result<PathBuf> {
    Ok(root()?.join("bin/kubernetes-validate"))
}

fn root() -> Result<PathBuf> {
    let name = format!("kubernetes-validate-{VERSION}");
    Ok(lookup::cargo_home()?.join("underpass").join(name))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        process::{Command, Output},
    };

    use super::path;
    use crate::manifests::{BASE, names, objects, yaml};

    /// From the first that `overlays/restricted` is for to the newest there are schemas of.
    const KUBERNETES: [&str; 5] = ["1.30", "1.32", "1.34", "1.36", "1.37"];

    /// Has `yaml` validated for every version, without anything that a schema does not know.
    fn validate(yaml: &str) -> Output {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("manifest.yaml");
        fs::write(&file, yaml).unwrap();
        let mut command = Command::new(path().unwrap());
        command.arg("--strict");
        for version in KUBERNETES {
            command.args(["--kubernetes-version", version]);
        }
        command.arg(file).output().unwrap()
    }

    #[test]
    #[ignore = "needs kubernetes-validate: cargo xtask test"]
    fn every_kubernetes_takes_every_manifest() {
        for name in names().unwrap() {
            let objects = objects(&name).unwrap();
            let output = validate(&yaml(&objects).unwrap());
            let said = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success(), "{name}: {said}");
            // A version or a kind without a schema is no failure to it.
            for version in KUBERNETES {
                let passed = format!("against version {version}");
                let passed = said.lines().filter(|line| line.ends_with(&passed));
                assert_eq!(passed.count(), objects.len(), "{name}, {version}: {said}");
            }
        }
    }

    #[test]
    #[ignore = "needs kubernetes-validate: cargo xtask test"]
    fn what_no_kubernetes_knows_is_found() {
        let yaml = yaml(&objects(BASE).unwrap()).unwrap();
        for (right, wrong) in [
            ("hostNetwork:", "hostsNetwork:"),
            ("maxUnavailable: 1", "maxUnavailable: [1]"),
        ] {
            let spoiled = yaml.replace(right, wrong);
            assert_ne!(spoiled, yaml, "{right}");
            let output = validate(&spoiled);
            assert!(!output.status.success(), "{wrong}: {output:?}");
        }
    }
}
