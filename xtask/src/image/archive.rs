//! The archive: an OCI image layout in a tar file.
//!
//! Nothing is compressed: an engine compresses what it sends, and no compressor has to give the same
//! bytes in its next version.

use std::{collections::HashMap, str::FromStr as _};

use anyhow::Result;
use oci_spec::image::{
    ANNOTATION_CREATED, ANNOTATION_DESCRIPTION, ANNOTATION_LICENSES, ANNOTATION_REF_NAME,
    ANNOTATION_REVISION, ANNOTATION_TITLE, ANNOTATION_VERSION, Arch, ConfigBuilder, Descriptor,
    DescriptorBuilder, HistoryBuilder, ImageConfiguration, ImageConfigurationBuilder, ImageIndex,
    ImageIndexBuilder, ImageManifestBuilder, MediaType, OciLayoutBuilder, Os, PlatformBuilder,
    RootFsBuilder, SCHEMA_VERSION, Sha256Digest,
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::commit::Commit;

/// The version of the layout.
const LAYOUT: &str = "1.0.0";

/// By which containerd names what it imports.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// A file in the image's root directory.
pub(super) struct File<'a> {
    pub(super) path: &'a str,
    pub(super) mode: u32,
    pub(super) contents: &'a [u8],
}

/// An image, packed.
pub(super) struct Archive {
    /// The tar file.
    pub(super) bytes: Vec<u8>,
    /// The digest of the image's manifest, by which registries know it.
    pub(super) digest: String,
}

impl Archive {
    /// The image called `name`, with a layer for each file; the first is what runs.
    pub(super) fn of(name: &str, commit: &Commit, files: &[File]) -> Result<Self> {
        let mut blobs = Blobs::default();
        let layers = files
            .iter()
            .map(|file| blobs.add(MediaType::ImageLayer, tar(&[file], commit.seconds)?))
            .collect::<Result<Vec<_>>>()?;
        let config = configuration(commit, files, &layers)?;
        let config = blobs.add(MediaType::ImageConfig, json(&config)?)?;
        let manifest = ImageManifestBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageManifest)
            .config(config)
            .layers(layers)
            .annotations(labels(commit))
            .build()?;
        let manifest = blobs.add(MediaType::ImageManifest, json(&manifest)?)?;
        let digest = manifest.digest().to_string();
        let index = json(&index(name, &manifest)?)?;
        Ok(Self {
            bytes: blobs.archive(&index, commit.seconds)?,
            digest,
        })
    }
}

/// What an engine is told about the image and how to run it.
fn configuration(
    commit: &Commit,
    files: &[File],
    layers: &[Descriptor],
) -> Result<ImageConfiguration> {
    // Uncompressed layers have one digest, packed and unpacked.
    let layers = layers.iter().map(|layer| layer.digest().to_string());
    let root = RootFsBuilder::default()
        .typ("layers")
        .diff_ids(layers.collect::<Vec<_>>());
    let history = files.iter().map(|file| {
        let history = HistoryBuilder::default()
            .created(commit.created())
            .created_by(format!("cargo xtask image: /{}", file.path));
        Ok(history.build()?)
    });
    let run = ConfigBuilder::default()
        .entrypoint(vec![format!("/{}", files[0].path)])
        .cmd(vec!["agent".to_owned()])
        .working_dir("/")
        .labels(labels(commit));
    Ok(ImageConfigurationBuilder::default()
        .created(commit.created())
        .architecture(Arch::default())
        .os(Os::Linux)
        .config(run.build()?)
        .rootfs(root.build()?)
        .history(history.collect::<Result<Vec<_>>>()?)
        .build()?)
}

/// The labels of the image, which its manifest has as annotations.
fn labels(commit: &Commit) -> HashMap<String, String> {
    let description = "Kubernetes pod traffic beneath the host's network stack, in BPF programs";
    [
        (ANNOTATION_TITLE, "underpass"),
        (ANNOTATION_DESCRIPTION, description),
        (ANNOTATION_VERSION, env!("CARGO_PKG_VERSION")),
        (ANNOTATION_LICENSES, "GPL-2.0-only"),
        (ANNOTATION_REVISION, &commit.revision),
        (ANNOTATION_CREATED, &commit.created()),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// The index: one image, and its name.
fn index(name: &str, manifest: &Descriptor) -> Result<ImageIndex> {
    let names = [ANNOTATION_REF_NAME, CONTAINERD_NAME];
    let platform = PlatformBuilder::default()
        .architecture(Arch::default())
        .os(Os::Linux);
    let image = DescriptorBuilder::default()
        .media_type(MediaType::ImageManifest)
        .digest(manifest.digest().clone())
        .size(manifest.size())
        .annotations(HashMap::from(
            names.map(|key| (key.to_owned(), name.to_owned())),
        ))
        .platform(platform.build()?)
        .build()?;
    Ok(ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests(vec![image])
        .build()?)
}

/// What the index leads to, each with its path.
#[derive(Default)]
struct Blobs(Vec<(String, Vec<u8>)>);

impl Blobs {
    fn add(&mut self, media_type: MediaType, contents: Vec<u8>) -> Result<Descriptor> {
        let hex = hex(&contents);
        let size = u64::try_from(contents.len())?;
        let descriptor = Descriptor::new(media_type, size, Sha256Digest::from_str(&hex)?);
        self.0.push((format!("blobs/sha256/{hex}"), contents));
        Ok(descriptor)
    }

    /// The archive with all of them.
    fn archive(&self, index: &[u8], seconds: u64) -> Result<Vec<u8>> {
        let layout = OciLayoutBuilder::default().image_layout_version(LAYOUT);
        let layout = json(&layout.build()?)?;
        let head = [("oci-layout", &*layout), ("index.json", index)];
        let blobs = self.0.iter().map(|(path, contents)| (&**path, &**contents));
        let files: Vec<_> = head
            .into_iter()
            .chain(blobs)
            .map(|(path, contents)| File {
                path,
                mode: 0o644,
                contents,
            })
            .collect();
        tar(&files.iter().collect::<Vec<_>>(), seconds)
    }
}

/// The SHA-256 of `contents`, in digits.
fn hex(contents: &[u8]) -> String {
    let digest: [u8; 32] = Sha256::digest(contents).into();
    digest.map(|byte| format!("{byte:02x}")).concat()
}

/// Maps have no order of their own; as a [`serde_json::Value`] they have that of their keys.
fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec(&serde_json::to_value(value)?)?)
}

/// A tar file that tells nothing of who packed it.
fn tar(files: &[&File], seconds: u64) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for file in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(u64::try_from(file.contents.len())?);
        header.set_mode(file.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(seconds);
        builder.append_data(&mut header, file.path, file.contents)?;
    }
    Ok(builder.into_inner()?)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        io::{Cursor, Read as _},
    };

    use serde_json::Value;

    use super::*;

    const FILES: [File; 2] = [
        File {
            path: "underpass",
            mode: 0o755,
            contents: b"a program",
        },
        File {
            path: "underpass.cdx.json",
            mode: 0o644,
            contents: b"{}",
        },
    ];

    fn archive() -> Archive {
        let commit = Commit {
            revision: "0123abcd".to_owned(),
            seconds: 1_700_000_000,
        };
        Archive::of("localhost/underpass:1", &commit, &FILES).unwrap()
    }

    fn unpack(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(Cursor::new(archive)).entries().unwrap() {
            let mut entry = entry.unwrap();
            let header = entry.header();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
            assert_eq!(header.mtime().unwrap(), 1_700_000_000);
            let path = entry.path().unwrap().display().to_string();
            let mut contents = Vec::new();
            entry.read_to_end(&mut contents).unwrap();
            files.insert(path, contents);
        }
        files
    }

    /// What `descriptor` leads to, if it is what it says.
    fn blob(files: &BTreeMap<String, Vec<u8>>, descriptor: &Value) -> Vec<u8> {
        let digest = descriptor["digest"].as_str().unwrap();
        let hex = digest.strip_prefix("sha256:").unwrap();
        let contents = files[&format!("blobs/sha256/{hex}")].clone();
        assert_eq!(descriptor["size"], contents.len());
        assert_eq!(super::hex(&contents), hex);
        contents
    }

    fn parsed(contents: &[u8]) -> Value {
        serde_json::from_slice(contents).unwrap()
    }

    /// Its maps of labels have another order in each of them, before they are sorted.
    #[test]
    fn the_same_files_make_the_same_bytes() {
        let first = archive();
        for _ in 0..10 {
            let again = archive();
            assert_eq!(first.digest, again.digest);
            assert!(first.bytes == again.bytes);
        }
    }

    #[test]
    fn index_leads_to_manifest_configuration_and_layers() {
        let archive = archive();
        let files = unpack(&archive.bytes);
        assert_eq!(parsed(&files["oci-layout"])["imageLayoutVersion"], "1.0.0");
        let image = &parsed(&files["index.json"])["manifests"][0];
        assert_eq!(image["digest"], archive.digest.as_str());
        assert_eq!(
            image["annotations"]["org.opencontainers.image.ref.name"],
            "localhost/underpass:1"
        );
        let manifest = parsed(&blob(&files, image));
        let config = parsed(&blob(&files, &manifest["config"]));
        assert_eq!(config["config"]["Entrypoint"][0], "/underpass");
        assert_eq!(config["created"], "2023-11-14T22:13:20Z");
        let labels = &config["config"]["Labels"];
        assert_eq!(labels["org.opencontainers.image.revision"], "0123abcd");
        assert_eq!(labels["org.opencontainers.image.licenses"], "GPL-2.0-only");
        for (number, file) in FILES.iter().enumerate() {
            let layer = &manifest["layers"][number];
            assert_eq!(config["rootfs"]["diff_ids"][number], layer["digest"]);
            let unpacked = unpack(&blob(&files, layer));
            assert_eq!(unpacked.len(), 1);
            assert_eq!(unpacked[file.path], file.contents);
        }
    }
}
