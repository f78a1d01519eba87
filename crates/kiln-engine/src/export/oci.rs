//! `type=oci` and `type=docker`: an OCI image layout, as a tar or as a directory; Docker's archive
//! is the same tar with a `manifest.json` in it.
//!
//! Source: OCI image-spec, image-layout.md. The tar is written in one pass: blobs first as they
//! stand in the store, then the documents; its bytes depend on the image alone. An existing
//! directory is updated: images under other names stay in it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use kiln_core::digest::{BlobDigest, FieldHasher};
use kiln_core::oci::{Descriptor, Index, Reference, to_json};

use super::archive::{Archive, Member};
use super::docker;
use super::early::Beginning;
use super::files::REMEMBERED_BYTES;
use super::image::{PackedImage, copy_blob};
use crate::error::{BuildError, FileContext};
use crate::request::Destination;
use crate::solve::Solver;

/// Annotation of a descriptor in `index.json`: the whole name.
const IMAGE_NAME: &str = "io.containerd.image.name";
/// The same: the tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

const LAYOUT: &[u8] = b"{\"imageLayoutVersion\":\"1.0.0\"}";

/// What a tar can be read by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Tools that know OCI layouts.
    Oci,
    /// `docker load` as well.
    Docker,
}

/// One name, as `index.json` holds it, with all that it points to.
#[derive(Clone, Debug)]
pub(crate) struct Bundle {
    /// What the name points to: a manifest, or an index of several.
    pub(crate) descriptor: Descriptor,
    /// The index's own bytes, if it is one.
    pub(crate) index: Option<Vec<u8>>,
    /// The images.
    pub(crate) images: Vec<PackedImage>,
}

impl Bundle {
    /// Blobs, each once, what is pointed to before what points.
    fn blobs(&self) -> Vec<Descriptor> {
        let mut seen: BTreeSet<BlobDigest> = BTreeSet::new();
        let all = self
            .images
            .iter()
            .flat_map(|image| image.layers.iter().chain([&image.config, &image.descriptor]));
        all.filter(|descriptor| seen.insert(descriptor.digest)).cloned().collect()
    }

    /// What `index.json` says of it: one entry a name, or one without.
    fn entries(&self, names: &[Reference]) -> Vec<Descriptor> {
        let named = |name: &Reference| {
            let mut descriptor = self.descriptor.clone();
            let full = name.to_string();
            let tag = name.tag.clone().unwrap_or_default();
            let annotations = &mut descriptor.annotations;
            annotations.insert(IMAGE_NAME.to_owned(), full);
            annotations.insert(REF_NAME.to_owned(), tag);
            descriptor
        };
        match names {
            [] => vec![self.descriptor.clone()],
            names => names.iter().map(named).collect(),
        }
    }

    fn index_json(&self, names: &[Reference]) -> Vec<u8> {
        to_json(&Index::new(self.entries(names)))
    }
}

/// The index of a layout with these images in it; others stay unless they have the same names
/// (BuildKit's client).
fn updated(mut index: Index, entries: Vec<Descriptor>) -> Index {
    for entry in entries {
        let name = |descriptor: &Descriptor| {
            [REF_NAME, IMAGE_NAME].map(|key| descriptor.annotations.get(key).cloned())
        };
        index.manifests.retain(|known| name(known) != name(&entry));
        index.manifests.push(entry);
    }
    index
}

/// Writes the layout.
pub(crate) fn export(
    solver: &Solver<'_>,
    (bundle, names): (&Bundle, &[Reference]),
    format: Format,
    destination: &Destination,
) -> Result<(), BuildError> {
    match destination {
        Destination::Directory(path) => {
            let mut bundle = bundle.clone();
            if names.is_empty() {
                // As BuildKit's client names what has no name.
                let latest = (REF_NAME.to_owned(), "latest".to_owned());
                bundle.descriptor.annotations.extend([latest]);
            }
            to_directory(solver, &bundle, names, path)
        }
        Destination::File(path) => {
            let archive = archive(bundle, names, format);
            let what = FieldHasher::new("kiln image file 1")
                .field([u8::from(format == Format::Docker)])
                .field(bundle.index_json(names))
                .finish();
            to_file(solver, &archive, &what, path)
        }
        Destination::Stdout => {
            let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
            archive(bundle, names, format).write(solver, 0, (&mut out, Path::new("-")))?;
            out.flush().at("write", Path::new("-"))
        }
    }
}

/// Writes the file unless it holds `what` already.
fn to_file(
    solver: &Solver<'_>,
    archive: &Archive,
    what: &[u8; 32],
    path: &Path,
) -> Result<(), BuildError> {
    let exports = solver.engine.store.exports();
    let is_worth_it = archive.size_bytes() >= REMEMBERED_BYTES;
    if is_worth_it && exports.is_current(path, what)? {
        return Ok(());
    }
    let early = solver.early_archive.as_ref().and_then(|early| early.take(&archive.members));
    let (temporary, file, first) = if let Some(Beginning { file, temporary, members, .. }) = early {
        (temporary, file, members.len())
    } else {
        let temporary = super::files::beside(path);
        let file = File::create(&temporary).at("create", &temporary)?;
        (temporary, file, 0)
    };
    let mut out = BufWriter::new(file);
    let written = archive
        .write(solver, first, (&mut out, &temporary))
        .and_then(|()| out.flush().at("write", &temporary));
    super::files::put_in_place(written, &temporary, path)?;
    if is_worth_it {
        exports.remember(path, what)?;
    }
    Ok(())
}

fn to_directory(
    solver: &Solver<'_>,
    bundle: &Bundle,
    names: &[Reference],
    path: &Path,
) -> Result<(), BuildError> {
    let blobs = path.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).at("create", &blobs)?;
    let put = |name: &Path, bytes: &[u8]| -> Result<(), BuildError> {
        let temporary = super::files::beside(name);
        let written = std::fs::write(&temporary, bytes).at("write", &temporary);
        super::files::put_in_place(written, &temporary, name)
    };
    for descriptor in bundle.blobs() {
        let blob = blobs.join(descriptor.digest.hex());
        let size = std::fs::metadata(&blob).map(|metadata| metadata.len()).ok();
        if size == Some(descriptor.size) {
            continue;
        }
        let temporary = super::files::beside(&blob);
        let mut file = File::create(&temporary).at("create", &temporary)?;
        let written = copy_blob(solver, &descriptor, (&mut file, &temporary));
        super::files::put_in_place(written, &temporary, &blob)?;
    }
    if let Some(index) = &bundle.index {
        put(&blobs.join(bundle.descriptor.digest.hex()), index)?;
    }
    put(&path.join("oci-layout"), LAYOUT)?;
    let index_path = path.join("index.json");
    let index = match std::fs::read(&index_path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(std::io::Error::from).at("read", &index_path)?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Index::new(Vec::new()),
        Err(error) => return Err(error).at("read", &index_path),
    };
    put(&index_path, &to_json(&updated(index, bundle.entries(names))))
}

/// What the tar of any image begins with, before its layers.
pub(super) fn first_members() -> Vec<Member> {
    vec![Member::Directory("blobs/".to_owned()), Member::Directory("blobs/sha256/".to_owned())]
}

/// All that the tar of an image is made of.
pub(crate) fn archive(bundle: &Bundle, names: &[Reference], format: Format) -> Archive {
    let mut members = first_members();
    members.extend(bundle.blobs().into_iter().map(Member::blob));
    if let Some(index) = &bundle.index {
        let name = format!("blobs/sha256/{}", bundle.descriptor.digest.hex());
        members.push(Member::Bytes(name, index.clone()));
    }
    members.push(Member::Bytes("index.json".to_owned(), bundle.index_json(names)));
    if let (Format::Docker, [image]) = (format, bundle.images.as_slice()) {
        members.push(Member::Bytes(
            "manifest.json".to_owned(),
            docker::manifest((&image.config, &image.layers), names),
        ));
    }
    members.push(Member::Bytes("oci-layout".to_owned(), LAYOUT.to_vec()));
    Archive { members }
}

#[cfg(test)]
mod tests {
    use kiln_core::oci::media_type;

    use super::*;

    #[test]
    fn a_layout_keeps_images_of_other_names() {
        let bundle = |text: &str| {
            let digest = BlobDigest::of(text.as_bytes());
            let descriptor = Descriptor::new(media_type::OCI_MANIFEST, digest, 1);
            Bundle { descriptor, index: None, images: Vec::new() }
        };
        let names = |names: &[&str]| -> Vec<Reference> {
            names.iter().map(|name| name.parse().expect("a name")).collect()
        };
        let (one, two) = (bundle("one"), bundle("two"));
        let index = updated(Index::new(Vec::new()), one.entries(&names(&["a:1", "a:2", "b:1"])));
        let index = updated(index, two.entries(&names(&["a:2"])));
        let found: Vec<(&str, bool)> = index
            .manifests
            .iter()
            .map(|entry| {
                let is_one = entry.digest == one.descriptor.digest;
                (entry.annotations[IMAGE_NAME].as_str(), is_one)
            })
            .collect();
        let expected = [
            ("docker.io/library/a:1", true),
            ("docker.io/library/b:1", true),
            ("docker.io/library/a:2", false),
        ];
        assert_eq!(found, expected);
    }
}
