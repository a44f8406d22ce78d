//! A compressed tar archive that is put together part by part.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use flate2::{Compression, write::GzEncoder};
use humantime::format_rfc3339_seconds;
use tar::{Builder, Header};

use super::{
    Collected,
    manifest::{Manifest, PartRow},
};
use crate::inspect;

/// The list of parts.
const MANIFEST: &str = "manifest.json";
/// What could not be had, and why.
const ERRORS: &str = "errors.txt";

/// An archive with one directory, in memory.
pub(super) struct Archive {
    name: String,
    time: SystemTime,
    tar: Builder<GzEncoder<Vec<u8>>>,
    parts: Vec<PartRow>,
}

/// A part with something to be said of it.
pub(super) struct Part {
    /// What there is of it.
    pub(super) text: String,
    /// What is wrong with it.
    pub(super) error: Option<String>,
}

impl From<String> for Part {
    fn from(text: String) -> Self {
        Self { text, error: None }
    }
}

impl Archive {
    pub(super) fn new(name: String, time: SystemTime) -> Self {
        Self {
            name,
            time,
            tar: Builder::new(GzEncoder::new(Vec::new(), Compression::default())),
            parts: Vec::new(),
        }
    }

    /// Adds what `collect` gives as `name`; where it gives nothing, that is noted.
    ///
    /// # Errors
    ///
    /// The archive cannot be written to.
    pub(super) async fn add<P: Into<Part>>(
        &mut self,
        name: &str,
        collect: impl AsyncFnOnce() -> Result<P>,
    ) -> Result<()> {
        let begun = Instant::now();
        let (text, error) = match collect().await.map(Into::into) {
            Ok(Part { text, error }) => (Some(text), error),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        let milliseconds = begun.elapsed().as_millis();
        if let Some(text) = &text {
            self.write(name, text)?;
        }
        self.parts.push(PartRow {
            name: name.to_owned(),
            bytes: text.map(|text| text.len()),
            milliseconds: u64::try_from(milliseconds).unwrap_or(u64::MAX),
            error,
        });
        Ok(())
    }

    /// Adds what could not be had, and the list of all parts, and closes the archive.
    pub(super) fn finish(mut self, node: &str) -> Result<Collected> {
        let failed = self.parts.iter().filter_map(|part| {
            let error = part.error.as_ref()?;
            Some(format!("{}: {error}\n", part.name))
        });
        let failed: Vec<String> = failed.collect();
        let failures = failed.len();
        self.write(ERRORS, &failed.concat())?;
        let parts = self.parts.len();
        let manifest = Manifest {
            version: env!("CARGO_PKG_VERSION"),
            node: node.to_owned(),
            time: format_rfc3339_seconds(self.time).to_string(),
            parts: std::mem::take(&mut self.parts),
        };
        self.write(MANIFEST, &inspect::render_manifest(&manifest)?)?;
        let compressed = self.tar.into_inner().context("cannot end the archive")?;
        Ok(Collected {
            name: self.name,
            bytes: compressed.finish().context("cannot end the archive")?,
            parts,
            failures,
        })
    }

    fn write(&mut self, name: &str, text: &str) -> Result<()> {
        let since = self.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_mtime(since.as_secs());
        header.set_size(u64::try_from(text.len())?);
        let path = format!("{}/{name}", self.name);
        self.tar
            .append_data(&mut header, &path, text.as_bytes())
            .with_context(|| format!("cannot put {name} into the archive"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use anyhow::anyhow;
    use flate2::read::GzDecoder;
    use serde_json::Value;

    use super::*;

    /// The names of the files, and what is in them, in their order.
    fn unpacked(bytes: &[u8]) -> Vec<(String, String)> {
        let mut archive = tar::Archive::new(GzDecoder::new(bytes));
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (path, text)
        });
        entries.collect()
    }

    async fn collected() -> Collected {
        let mut archive = Archive::new("top".to_owned(), UNIX_EPOCH);
        archive
            .add("whole.txt", async || Ok("all\n".to_owned()))
            .await
            .unwrap();
        archive
            .add("missing.json", async || {
                Err::<String, _>(anyhow!("not there").context("cannot read it"))
            })
            .await
            .unwrap();
        let half = async || {
            Ok(Part {
                text: "some\n".to_owned(),
                error: Some("was cut off".to_owned()),
            })
        };
        archive.add("commands/half.txt", half).await.unwrap();
        archive.finish("node1").unwrap()
    }

    #[tokio::test]
    async fn what_fails_is_noted_and_the_rest_is_there() {
        let collected = collected().await;
        assert_eq!((collected.parts, collected.failures), (3, 2));
        let files = unpacked(&collected.bytes);
        let names: Vec<_> = files.iter().map(|(name, _)| &**name).collect();
        assert_eq!(
            names,
            [
                "top/whole.txt",
                "top/commands/half.txt",
                "top/errors.txt",
                "top/manifest.json"
            ]
        );
        assert_eq!(files[0].1, "all\n");
        assert_eq!(
            files[2].1,
            "missing.json: cannot read it: not there\ncommands/half.txt: was cut off\n"
        );
        let manifest: Value = serde_json::from_str(&files[3].1).unwrap();
        assert_eq!(manifest["kind"], "Manifest");
        let sizes: Vec<_> = (0..3)
            .map(|index| &manifest["parts"][index]["bytes"])
            .collect();
        assert_eq!(sizes, [&Value::from(4), &Value::Null, &Value::from(5)]);
    }
}
