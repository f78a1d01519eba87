//! An image into an OCI layout: a directory, or a tar file (OCI image-spec, image-layout.md).

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use kiln_core::oci::{Descriptor, Index, Manifest, Reference, to_json};
use kiln_store::layer::plain_header;

use super::ArchiveForm;
use super::Work;
use super::registry::each;
use super::source::{NAMES, Source, index_of};
use super::store::copy_blob;
use super::tree::{Tree, parse};
use crate::base_image::layout_blob;
use crate::error::{BuildError, FileContext};
use crate::export::docker;
use crate::export::files::{beside, put_in_place};

const LAYOUT: &[u8] = b"{\"imageLayoutVersion\":\"1.0.0\"}";

/// The name of an image that is given none.
const LATEST: &str = "latest";

/// Adds an image to a layout; an image that had the name loses it.
pub(super) fn to_layout(
    work: &Work<'_>,
    (source, tree): (&Source, &Tree),
    path: &Path,
    name: Option<&str>,
) -> Result<(), BuildError> {
    fill_layout(work, (source, tree), path)?;
    change_index(path, |index| with_image(index, tree.root(), name))
}

/// Adds an artifact that points to an image of a layout. It has no name.
pub(super) fn add_referrer(
    work: &Work<'_>,
    (source, tree): (&Source, &Tree),
    path: &Path,
) -> Result<(), BuildError> {
    fill_layout(work, (source, tree), path)?;
    change_index(path, |mut index| {
        let root = tree.root();
        if !index.manifests.iter().any(|known| known.digest == root.digest) {
            let mut root = root.clone();
            for key in NAMES {
                root.annotations.remove(key);
            }
            index.manifests.push(root);
        }
        index
    })
}

/// Writes all that an image consists of.
fn fill_layout(
    work: &Work<'_>,
    (source, tree): (&Source, &Tree),
    path: &Path,
) -> Result<(), BuildError> {
    let blobs = path.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).at("create", &blobs)?;
    each(work, &tree.blobs, |descriptor| {
        let blob = layout_blob(path, &descriptor.digest);
        if std::fs::metadata(&blob).is_ok_and(|found| found.len() == descriptor.size) {
            return Ok(());
        }
        let temporary = beside(&blob);
        let mut file = File::create(&temporary).at("create", &temporary)?;
        let written = copy_blob(work, (source, descriptor), |bytes| {
            file.write_all(bytes).at("write", &temporary)
        });
        put_in_place(written, &temporary, &blob)
    })?;
    for document in &tree.documents {
        put(&layout_blob(path, &document.descriptor.digest), &document.bytes)?;
    }
    put(&path.join("oci-layout"), LAYOUT)
}

fn put(name: &Path, bytes: &[u8]) -> Result<(), BuildError> {
    let temporary = beside(name);
    let written = std::fs::write(&temporary, bytes).at("write", &temporary);
    put_in_place(written, &temporary, name)
}

/// Replaces `index.json`.
fn change_index(path: &Path, change: impl FnOnce(Index) -> Index) -> Result<(), BuildError> {
    let index_path = path.join("index.json");
    let index = match std::fs::read(&index_path) {
        Ok(bytes) => index_of(&bytes)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Index::new(Vec::new()),
        Err(error) => return Err(error).at("read", &index_path),
    };
    put(&index_path, &to_json(&change(index)))
}

/// An index with the image under its name, and no other one under it.
fn with_image(mut index: Index, root: &Descriptor, name: Option<&str>) -> Index {
    let named = |name: &str| {
        let mut root = root.clone();
        for key in NAMES {
            root.annotations.remove(key);
        }
        root.annotations.insert(NAMES[0].to_owned(), name.to_owned());
        root
    };
    let image = named(name.unwrap_or(LATEST));
    let name = image.annotations.get(NAMES[0]).cloned();
    index.manifests.retain(|known| known.annotations.get(NAMES[0]) != name.as_ref());
    index.manifests.push(image);
    index
}

/// Writes an image as a file of its own.
pub(super) fn to_archive(
    work: &Work<'_>,
    (source, tree): (&Source, &Tree),
    path: &Path,
    (name, form): (Option<&str>, ArchiveForm),
) -> Result<(), BuildError> {
    let docker = match form {
        ArchiveForm::Oci => None,
        ArchiveForm::Docker => Some(docker_manifest(tree, name)?),
    };
    // Of a whole name the tag is what a layout calls it by.
    let name = match (form, name.map(str::parse::<Reference>)) {
        (ArchiveForm::Docker, Some(Ok(reference))) => reference.tag,
        _ => name.map(str::to_owned),
    };
    let temporary = beside(path);
    let file = File::create(&temporary).at("create", &temporary)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let documents = (name.as_deref(), docker.as_deref());
    let written = write_archive(work, (source, tree), documents, (&mut out, &temporary))
        .and_then(|()| out.flush().at("write", &temporary));
    put_in_place(written, &temporary, path)
}

/// Docker's `manifest.json` of an image.
fn docker_manifest(tree: &Tree, name: Option<&str>) -> Result<Vec<u8>, BuildError> {
    let refused = |message: &str, help: &str| BuildError::Image {
        message: message.to_owned(),
        help: Some(help.to_owned()),
    };
    let [document] = tree.documents.as_slice() else {
        return Err(refused(
            "an archive for Docker holds the image of one platform, this one has several",
            "copy it to oci-archive://FILE, or pull it for one platform and build `-o type=docker`",
        ));
    };
    let manifest: Manifest = parse(&document.descriptor, &document.bytes)?;
    let names = name.map(|name| {
        name.parse::<Reference>().map_err(|error| refused(&error.to_string(), "name it NAME:TAG"))
    });
    let names: Vec<Reference> = names.transpose()?.into_iter().collect();
    Ok(docker::manifest((&manifest.config, &manifest.layers), &names))
}

fn write_archive(
    work: &Work<'_>,
    (source, tree): (&Source, &Tree),
    (name, docker): (Option<&str>, Option<&[u8]>),
    (out, path): (&mut impl Write, &Path),
) -> Result<(), BuildError> {
    fn write(out: &mut impl Write, bytes: &[u8], path: &Path) -> Result<(), BuildError> {
        out.write_all(bytes).at("write", path)
    }
    for directory in ["blobs/", "blobs/sha256/"] {
        write(out, &plain_header(directory, None), path)?;
    }
    let padding = |size: u64| vec![0; (512 - size % 512) as usize % 512];
    let blob = |descriptor: &Descriptor| format!("blobs/sha256/{}", descriptor.digest.hex());
    for descriptor in &tree.blobs {
        write(out, &plain_header(&blob(descriptor), Some(descriptor.size)), path)?;
        copy_blob(work, (source, descriptor), |bytes| write(out, bytes, path))?;
        write(out, &padding(descriptor.size), path)?;
    }
    let index = to_json(&with_image(Index::new(Vec::new()), tree.root(), name));
    let mut files: Vec<(String, &[u8])> = tree
        .documents
        .iter()
        .map(|document| (blob(&document.descriptor), document.bytes.as_slice()))
        .collect();
    files.push(("index.json".to_owned(), &index));
    files.extend(docker.map(|bytes| ("manifest.json".to_owned(), bytes)));
    files.push(("oci-layout".to_owned(), LAYOUT));
    for (name, bytes) in files {
        write(out, &plain_header(&name, Some(bytes.len() as u64)), path)?;
        write(out, bytes, path)?;
        write(out, &padding(bytes.len() as u64), path)?;
    }
    write(out, &[0; 1024], path)
}
