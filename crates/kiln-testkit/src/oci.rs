//! Small images: layers from [trees](crate::tree), a config, and a place to put them: an OCI
//! layout on disk (image-spec, image-layout.md) or the in-process registry.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use kiln_core::digest::{BlobDigest, DiffId};
use kiln_core::oci::{Descriptor, Index, Platform, media_type};
use serde_json::{Value, json};

use crate::registry::Registry;
use crate::tree::{self, Entry, Kind};

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// As most layers are.
    #[default]
    Gzip,
    /// As some are.
    Zstd,
}

/// An image for one platform, while it is being described.
#[derive(Clone, Debug)]
pub struct TestImage {
    layers: Vec<(Vec<u8>, Compression)>,
    config: Value,
    platform: Platform,
}

/// The blobs of an image or an index, ready to be put somewhere.
#[derive(Clone, Debug)]
pub struct Blobs {
    /// Points at the manifest or index.
    pub descriptor: Descriptor,
    /// The bytes of the manifest or index.
    pub bytes: Vec<u8>,
    /// Everything that it points at, manifests of an index among it.
    pub parts: Vec<(Descriptor, Vec<u8>)>,
}

impl Default for TestImage {
    fn default() -> Self {
        Self::new()
    }
}

impl TestImage {
    /// An image for linux/amd64 without layers.
    pub fn new() -> Self {
        Self {
            layers: Vec::new(),
            config: json!({}),
            platform: Platform::new("linux", "amd64", None),
        }
    }

    /// With another platform, such as `linux/arm64`.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn platform(mut self, platform: &str) -> Self {
        self.platform = platform.parse().expect("a platform");
        self
    }

    /// With a further layer, gzip.
    #[must_use]
    pub fn layer(self, tree: &str) -> Self {
        self.layer_as(tree, Compression::Gzip)
    }

    /// With a further layer.
    #[must_use]
    pub fn layer_as(self, tree: &str, compression: Compression) -> Self {
        self.layer_of_tar(layer_tar(tree), compression)
    }

    /// With a further layer of a tar archive.
    #[must_use]
    pub fn layer_of_tar(mut self, tar: Vec<u8>, compression: Compression) -> Self {
        self.layers.push((tar, compression));
        self
    }

    /// With these fields in the config's `config`, such as `{"Env": ["A=b"]}`.
    #[must_use]
    pub fn config(mut self, config: Value) -> Self {
        self.config = config;
        self
    }

    /// The blobs of the image: OCI media types, no history, created at the epoch.
    pub fn blobs(&self) -> Blobs {
        let mut parts = Vec::new();
        let mut diff_ids = Vec::new();
        for (tar, compression) in &self.layers {
            let (media_type, bytes) = match compression {
                Compression::None => (media_type::OCI_LAYER, tar.clone()),
                Compression::Gzip => (media_type::OCI_LAYER_GZIP, gzip(tar)),
                Compression::Zstd => (media_type::OCI_LAYER_ZSTD, zstd(tar)),
            };
            diff_ids.push(DiffId::from_bytes(*BlobDigest::of(tar).as_bytes()));
            parts.push(part(media_type, bytes));
        }
        let mut config = json!({
            "created": "1970-01-01T00:00:00Z",
            "architecture": self.platform.architecture,
            "os": self.platform.os,
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        if let Some(variant) = &self.platform.variant {
            config["variant"] = json!(variant);
        }
        let config = part(media_type::OCI_CONFIG, config.to_string().into_bytes());
        let layers: Vec<&Descriptor> = parts.iter().map(|(descriptor, _)| descriptor).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": config.0,
            "layers": layers,
        });
        parts.insert(0, config);
        let (mut descriptor, bytes) =
            part(media_type::OCI_MANIFEST, manifest.to_string().into_bytes());
        descriptor.platform = Some(self.platform.clone());
        Blobs { descriptor, bytes, parts }
    }

    /// Makes an OCI layout of the image, under the name `latest`.
    pub fn write_layout(&self, directory: &Path) -> Descriptor {
        self.blobs().write_layout(directory, "latest")
    }

    /// Puts the image into a registry as `name:tag`.
    pub fn push(&self, registry: &Registry, name: &str) -> Descriptor {
        self.blobs().push(registry, name)
    }
}

/// An index of images.
pub fn index(images: &[TestImage]) -> Blobs {
    let images: Vec<Blobs> = images.iter().map(TestImage::blobs).collect();
    let index = Index::new(images.iter().map(|image| image.descriptor.clone()).collect());
    let bytes = serde_json::to_vec(&index).expect("an index is JSON");
    let mut parts = Vec::new();
    for image in images {
        parts.extend(image.parts);
        parts.push((image.descriptor, image.bytes));
    }
    let (descriptor, bytes) = part(media_type::OCI_INDEX, bytes);
    Blobs { descriptor, bytes, parts }
}

impl Blobs {
    /// Makes an OCI layout, or adds to the one that is there.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write_layout(&self, directory: &Path, tag: &str) -> Descriptor {
        let write = |path: &str, bytes: &[u8]| {
            let path = directory.join(path);
            let parent = path.parent().expect("a path below the layout");
            fs::create_dir_all(parent).expect("the layout should be writable");
            fs::write(&path, bytes).expect("the layout should be writable");
        };
        for (descriptor, bytes) in self.parts.iter().chain([&self.root()]) {
            write(&format!("blobs/sha256/{}", descriptor.digest.hex()), bytes);
        }
        write("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        let mut entry = self.descriptor.clone();
        let annotation = "org.opencontainers.image.ref.name".to_owned();
        entry.annotations.insert(annotation, tag.to_owned());
        let mut index: Index = fs::read(directory.join("index.json"))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_else(|| Index::new(Vec::new()));
        index.manifests.push(entry.clone());
        write("index.json", &serde_json::to_vec(&index).expect("an index is JSON"));
        entry
    }

    /// Puts everything into a registry as `name:tag`.
    pub fn push(&self, registry: &Registry, name: &str) -> Descriptor {
        let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
        for (descriptor, bytes) in &self.parts {
            if media_type::is_manifest(&descriptor.media_type) {
                registry.put_manifest(repository, None, &descriptor.media_type, bytes);
            } else {
                registry.put_blob(repository, bytes);
            }
        }
        let media_type = &self.descriptor.media_type;
        registry.put_manifest(repository, Some(tag), media_type, &self.bytes);
        self.descriptor.clone()
    }

    fn root(&self) -> (Descriptor, Vec<u8>) {
        (self.descriptor.clone(), self.bytes.clone())
    }
}

fn part(media_type: &str, bytes: Vec<u8>) -> (Descriptor, Vec<u8>) {
    let descriptor = Descriptor::new(media_type, BlobDigest::of(&bytes), bytes.len() as u64);
    (descriptor, bytes)
}

/// Compresses with gzip, always to the same bytes.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory takes everything");
    encoder.finish().expect("memory takes everything")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("memory takes everything")
}

/// A layer's tar archive of a [tree]'s text: entries in the order of the lines,
/// times at the epoch, owner 0:0 unless a line says otherwise.
///
/// # Panics
/// If the text is no tree.
pub fn layer_tar(text: &str) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for entry in tree::parse(text) {
        append(&mut archive, &entry).expect("memory takes everything");
    }
    archive.into_inner().expect("memory takes everything")
}

fn append(archive: &mut tar::Builder<Vec<u8>>, entry: &Entry) -> std::io::Result<()> {
    let xattrs: Vec<(String, Vec<u8>)> = entry
        .xattrs
        .iter()
        .map(|(name, value)| (format!("SCHILY.xattr.{name}"), value.clone()))
        .collect();
    if !xattrs.is_empty() {
        archive.append_pax_extensions(
            xattrs.iter().map(|(name, value)| (name.as_str(), value.as_slice())),
        )?;
    }
    let path = String::from_utf8_lossy(&entry.path).into_owned();
    let (directory, name) = path.rsplit_once('/').map_or(("", path.as_str()), |(d, n)| (d, n));
    let mut header = tar::Header::new_ustar();
    let (uid, gid) = entry.owner.unwrap_or((0, 0));
    header.set_mode(entry.mode);
    header.set_uid(u64::from(uid));
    header.set_gid(u64::from(gid));
    header.set_mtime(0);
    header.set_size(0);
    let empty: &[u8] = &[];
    let target = |target: &[u8]| String::from_utf8_lossy(target).into_owned();
    match &entry.kind {
        Kind::File(content) => {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(content.len() as u64);
            archive.append_data(&mut header, &path, content.as_slice())
        }
        Kind::Link(to) => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            archive.append_link(&mut header, &path, target(to))
        }
        Kind::HardLink(to) => {
            header.set_entry_type(tar::EntryType::Link);
            archive.append_link(&mut header, &path, target(to))
        }
        Kind::Directory => {
            header.set_entry_type(tar::EntryType::Directory);
            archive.append_data(&mut header, format!("{path}/"), empty)
        }
        Kind::Fifo => {
            header.set_entry_type(tar::EntryType::Fifo);
            archive.append_data(&mut header, &path, empty)
        }
        Kind::Character(major, minor) | Kind::Block(major, minor) => {
            header.set_entry_type(if matches!(entry.kind, Kind::Block(..)) {
                tar::EntryType::Block
            } else {
                tar::EntryType::Char
            });
            header.set_device_major(*major)?;
            header.set_device_minor(*minor)?;
            archive.append_data(&mut header, &path, empty)
        }
        Kind::Whiteout => {
            let marker = Path::new(directory).join(format!(".wh.{name}"));
            archive.append_data(&mut header, marker, empty)
        }
        Kind::Opaque => archive.append_data(&mut header, format!("{path}/.wh..wh..opq"), empty),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_always_the_same() {
        let image = || TestImage::new().layer("dir a 0755\nfile a/b 0644 content\n").blobs();
        assert_eq!(image().descriptor, image().descriptor);
        assert_eq!(image().parts.len(), 2);
    }

    #[test]
    fn a_layer_has_what_the_tree_says() {
        let tar = layer_tar(
            "dir a 0755\nfile a/b 0640 1:2 {user.x=y} hello\nlink l -> a/b\n\
             hardlink h -> a/b\nwhiteout a/old\nopaque a\nchar dev/null 0666 1:3\n",
        );
        let mut lines = Vec::new();
        let mut archive = tar::Archive::new(tar.as_slice());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let xattrs = entry.pax_extensions().unwrap().into_iter().flatten().count();
            let header = entry.header();
            lines.push(format!(
                "{:?} {} {:o} {}:{} {} {xattrs}",
                header.entry_type(),
                String::from_utf8_lossy(&entry.path_bytes()),
                header.mode().unwrap(),
                header.uid().unwrap(),
                header.gid().unwrap(),
                String::from_utf8_lossy(&entry.link_name_bytes().unwrap_or_default()),
            ));
        }
        let expected = [
            "Directory a/ 755 0:0  0",
            "Regular a/b 640 1:2  1",
            "Symlink l 777 0:0 a/b 0",
            "Link h 0 0:0 a/b 0",
            "Regular a/.wh.old 0 0:0  0",
            "Regular a/.wh..wh..opq 0 0:0  0",
            "Char dev/null 666 0:0  0",
        ];
        assert_eq!(lines, expected);
    }
}
