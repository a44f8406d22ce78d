//! The agent understands every configuration that is deployed.

use std::{fs, path::Path};

use anyhow::Result;
use dataplane_user::config::{Acceleration, Config, DEFAULT_PINS, Source};

#[test]
fn the_agent_takes_every_configuration() -> Result<()> {
    for (name, text) in [
        ("base", include_str!("../../deploy/base/config.yaml")),
        (
            "calico",
            include_str!("../../deploy/overlays/calico/config.yaml"),
        ),
        (
            "flannel",
            include_str!("../../deploy/overlays/flannel/config.yaml"),
        ),
    ] {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("config.yaml");
        fs::write(&file, text)?;
        let config = Config::load(&file)?;
        assert!(matches!(config.source, Source::Kernel(_)), "{name}");
        assert_eq!(config.acceleration, Acceleration::Established, "{name}");
        assert!(config.workloads.matches("cali0123456789a"), "{name}");
        assert!(!config.workloads.matches("veth0123abcd"), "{name}");
        // What the manifests mount, and where they ask for health.
        assert_eq!(config.pins, Path::new(DEFAULT_PINS), "{name}");
        let listen = config.listen.map(|address| address.to_string());
        assert_eq!(listen.as_deref(), Some("127.0.0.1:9478"), "{name}");
    }
    Ok(())
}
