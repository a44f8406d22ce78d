//! The configuration, and the cluster's table that it names.

use std::path::PathBuf;

use crate::{
    config::{Config, Source},
    dataplane::Pins,
    source::file,
};

use super::Finding;

/// A configuration as it was found.
#[derive(Debug)]
pub struct Configuration {
    /// Where it is, or would be.
    pub file: PathBuf,
    /// What it says; `None` where there is no file and none was asked for.
    pub config: anyhow::Result<Option<Config>>,
}

impl Configuration {
    /// What is looked at: without a configuration that can be used, the defaults, with the routes that
    /// the kernel has, since there is no cluster file.
    #[must_use]
    pub fn effective(&self) -> Config {
        match &self.config {
            Ok(Some(config)) => config.clone(),
            Ok(None) | Err(_) => Config::without_files(),
        }
    }

    /// Where the agent would pin.
    #[must_use]
    pub fn pins(&self) -> Pins {
        Pins::new(&self.effective().pins)
    }
}

pub(super) fn judge(configuration: &Configuration) -> Vec<Finding> {
    const SUBJECT: &str = "configuration";
    let file = configuration.file.display().to_string();
    match &configuration.config {
        Ok(Some(config)) => {
            let found = Finding::ok(SUBJECT, file);
            [found].into_iter().chain(table(config)).collect()
        }
        Ok(None) => vec![Finding::ok(SUBJECT, "none").means(format!(
            "there is no {file}: what follows is for the defaults, with `source: kernel`"
        ))],
        Err(error) => vec![
            Finding::refused(SUBJECT, file, error)
                .remedy("correct it; what follows is for the defaults, with `source: kernel`"),
        ],
    }
}

/// The cluster's table, in which this node has to be.
fn table(config: &Config) -> Option<Finding> {
    const SUBJECT: &str = "cluster file";
    let Source::File(file) = &config.source else {
        return None;
    };
    let found = file.display().to_string();
    let cluster = match file::read(file) {
        Ok(cluster) => cluster,
        Err(error) => return Some(Finding::refused(SUBJECT, found, &error.into())),
    };
    Some(match file::local_node(&cluster, file, &config.node) {
        Ok(_) => Finding::ok(SUBJECT, format!("{found}: {} nodes", cluster.nodes.len())),
        Err(error) => Finding::refused(SUBJECT, found, &error.into()),
    })
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;
    use crate::check::Outcome;

    fn found(config: anyhow::Result<Option<Config>>) -> Vec<Finding> {
        judge(&Configuration {
            file: "/etc/underpass/config.yaml".into(),
            config,
        })
    }

    #[test]
    fn without_a_file_the_defaults_are_looked_at() {
        let findings = found(Ok(None));
        assert_eq!(findings[0].result, Outcome::Ok);
        assert!(findings[0].meaning.as_ref().unwrap().contains("defaults"));
    }

    #[test]
    fn a_file_that_is_no_good_fails_in_the_agents_words() {
        let findings = found(Err(anyhow!("config.yaml:2: unknown field")));
        assert_eq!(findings[0].result, Outcome::Fails);
        assert_eq!(
            findings[0].meaning.as_deref(),
            Some("config.yaml:2: unknown field")
        );
    }

    #[test]
    fn so_does_a_cluster_file_that_is_missing() {
        let config = Config {
            source: Source::File("/nowhere/cluster.yaml".into()),
            ..Config::without_files()
        };
        let findings = found(Ok(Some(config)));
        let results: Vec<_> = findings.iter().map(|finding| finding.result).collect();
        assert_eq!(results, [Outcome::Ok, Outcome::Fails]);
        let meaning = findings[1].meaning.as_ref().unwrap();
        assert!(meaning.contains("/nowhere/cluster.yaml"), "{meaning}");
    }
}
