//! Everything that somebody who looks for a fault would ask for, in one archive.
//!
//! Invariant: what cannot be had is said in the archive, and keeps nothing else from being in it.

mod agent;
mod archive;
mod commands;
mod dataplane;
mod manifest;
mod node;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use humantime::format_rfc3339_seconds;
use nix::unistd::{AccessFlags, access};
use tempfile::NamedTempFile;

use crate::{
    check::{self, Configuration},
    config::{Config, Source},
    dataplane::Pins,
    inspect::{self, Format},
};

use archive::Archive;

pub use manifest::{Manifest, PartRow};

/// What is to be collected.
#[derive(Debug)]
pub struct Request {
    /// The configuration as it was found.
    pub configuration: Configuration,
    /// Where the agent pins.
    pub pins: Pins,
    /// How long each command, and the agent, may take to answer.
    pub patience: Duration,
}

/// What was collected.
#[derive(Debug)]
pub struct Collected {
    /// The name of the archive's one directory.
    pub name: String,
    /// The archive, compressed.
    pub bytes: Vec<u8>,
    /// Its parts.
    pub parts: usize,
    /// How many of them could not be had, or not whole.
    pub failures: usize,
}

/// Collects everything, as of now.
///
/// # Errors
///
/// The archive itself cannot be made.
pub async fn collect(request: &Request) -> Result<Collected> {
    let time = SystemTime::now();
    let config = request.configuration.effective();
    let mut archive = Archive::new(name(&config.node, time), time);
    archive
        .add("version.txt", async || {
            Ok(format!("underpass {}\n", env!("CARGO_PKG_VERSION")))
        })
        .await?;
    add_configuration(&mut archive, &request.configuration).await?;
    archive
        .add("check.json", async || {
            let findings = check::check(&request.configuration).await;
            inspect::render_findings(&findings, Format::Json)
        })
        .await?;
    dataplane::add(&mut archive, &request.pins, &config).await?;
    agent::add(&mut archive, config.listen, request.patience).await?;
    node::add(&mut archive).await?;
    commands::add(&mut archive, request.patience).await?;
    archive.finish(&config.node)
}

/// Such as `underpass-bugtool-node1-20261123T072233Z`. A colon would make a host of it for tar(1).
fn name(node: &str, time: SystemTime) -> String {
    let time = format_rfc3339_seconds(time).to_string();
    let time: String = time.chars().filter(|each| !"-:".contains(*each)).collect();
    let is_plain = |each: char| each.is_ascii_alphanumeric() || "-_.".contains(each);
    let node = node.replace(|each| !is_plain(each), "_");
    format!("underpass-bugtool-{node}-{time}")
}

/// The files as they are.
async fn add_configuration(archive: &mut Archive, configuration: &Configuration) -> Result<()> {
    let read = |file: &Path| {
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
    };
    archive
        .add("config.yaml", async || read(&configuration.file))
        .await?;
    if let Ok(Some(Config {
        source: Source::File(cluster),
        ..
    })) = &configuration.config
    {
        archive.add("cluster.yaml", async || read(cluster)).await?;
    }
    Ok(())
}

/// Where an archive goes.
#[derive(Debug)]
pub struct Destination {
    directory: PathBuf,
    file: Option<PathBuf>,
}

impl Destination {
    /// The file that is named, or one in the working directory that has the archive's name.
    ///
    /// # Errors
    ///
    /// Nothing can be written there: better said before everything is collected.
    pub fn new(file: Option<&Path>) -> Result<Self> {
        let directory = match file.and_then(Path::parent) {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        access(&directory, AccessFlags::W_OK | AccessFlags::X_OK)
            .with_context(|| cannot_write(&directory))?;
        Ok(Self {
            directory,
            file: file.map(Path::to_owned),
        })
    }

    /// Writes the archive, whole or not at all, for its owner alone to read; returns where.
    pub fn write(&self, collected: &Collected) -> Result<PathBuf> {
        let file = match &self.file {
            Some(file) => file.clone(),
            None => PathBuf::from(format!("{}.tar.gz", collected.name)),
        };
        let write = || {
            let mut draft = NamedTempFile::new_in(&self.directory)?;
            draft.write_all(&collected.bytes)?;
            draft.as_file().sync_all()?;
            // Without the draft, which the error would keep.
            draft.persist(&file).map_err(|error| error.error)?;
            anyhow::Ok(())
        };
        write().with_context(|| cannot_write(&file))?;
        Ok(file)
    }
}

fn cannot_write(path: &Path) -> String {
    format!(
        "cannot write to {}: name another place (--output FILE, or - for standard output)",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_for_files_and_for_tar() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_418_553);
        assert_eq!(
            name("node1.example", time),
            "underpass-bugtool-node1.example-20261123T072233Z"
        );
        assert_eq!(
            name("../a node:1", time),
            "underpass-bugtool-.._a_node_1-20261123T072233Z"
        );
    }

    #[test]
    fn an_archive_is_written_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let collected = Collected {
            name: "of-a-node".to_owned(),
            bytes: vec![7; 9],
            parts: 0,
            failures: 0,
        };
        let file = directory.path().join("a.tar.gz");
        let destination = Destination::new(Some(&file)).unwrap();
        assert_eq!(destination.write(&collected).unwrap(), file);
        assert_eq!(fs::read(&file).unwrap(), collected.bytes);

        // A directory is in the way.
        let taken = directory.path().join("taken");
        fs::create_dir(&taken).unwrap();
        let destination = Destination::new(Some(&taken)).unwrap();
        let error = destination.write(&collected).unwrap_err();
        assert!(error.to_string().contains("taken"), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);

        let error = Destination::new(Some(&directory.path().join("no/a"))).unwrap_err();
        assert!(error.to_string().contains("--output"), "{error}");
    }
}
