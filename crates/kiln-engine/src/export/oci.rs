//! `type=oci`: an OCI image layout, as a tar or as a directory.
//!
//! Source: OCI image-spec, image-layout.md. The tar is written in one pass: blobs first as they
//! stand in the store, then `index.json`; its bytes depend on the image alone.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use kiln_core::digest::{BlobDigest, FieldHasher};
use kiln_core::oci::{Descriptor, Index, Reference, to_json};

use kiln_store::layer::plain_header;

use super::image::{PackedImage, copy_blob};
use crate::error::{BuildError, FileContext};
use crate::request::Destination;
use crate::solve::Solver;

/// From this size on it is remembered which file holds which image: below it, writing costs less.
const REMEMBERED_BYTES: u64 = 1 << 20;

const LAYOUT: &[u8] = b"{\"imageLayoutVersion\":\"1.0.0\"}";

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

    /// `index.json`: one entry a name, or one without.
    fn index_json(&self, names: &[Reference]) -> Vec<u8> {
        let named = |name: &Reference| {
            let mut descriptor = self.descriptor.clone();
            let full = name.to_string();
            let tag = name.tag.clone().unwrap_or_default();
            let annotations = &mut descriptor.annotations;
            annotations.insert("io.containerd.image.name".to_owned(), full);
            annotations.insert("org.opencontainers.image.ref.name".to_owned(), tag);
            descriptor
        };
        let manifests = match names {
            [] => vec![self.descriptor.clone()],
            names => names.iter().map(named).collect(),
        };
        to_json(&Index::new(manifests))
    }
}

/// Writes the layout.
pub(crate) fn export(
    solver: &Solver<'_>,
    bundle: &Bundle,
    names: &[Reference],
    destination: &Destination,
) -> Result<(), BuildError> {
    match destination {
        Destination::Directory(path) => {
            let mut bundle = bundle.clone();
            if names.is_empty() {
                // As BuildKit's client names what has no name.
                let latest = ("org.opencontainers.image.ref.name".to_owned(), "latest".to_owned());
                bundle.descriptor.annotations.extend([latest]);
            }
            to_directory(solver, &bundle, names, path)
        }
        Destination::File(path) => to_file(solver, bundle, names, path),
        Destination::Stdout => {
            let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
            to_tar(solver, bundle, names, (&mut out, Path::new("-")))?;
            out.flush().at("write", Path::new("-"))
        }
    }
}

/// Writes the file unless it is up to date.
fn to_file(
    solver: &Solver<'_>,
    bundle: &Bundle,
    names: &[Reference],
    path: &Path,
) -> Result<(), BuildError> {
    let exports = solver.engine.store.exports();
    let what = FieldHasher::new("kiln oci file 1").field(bundle.index_json(names)).finish();
    let size_bytes: u64 = bundle.blobs().iter().map(|descriptor| descriptor.size).sum();
    let is_worth_it = size_bytes >= REMEMBERED_BYTES;
    if is_worth_it && exports.is_current(path, &what)? {
        return Ok(());
    }
    let temporary = super::files::beside(path);
    let file = File::create(&temporary).at("create", &temporary)?;
    let mut out = BufWriter::new(file);
    let written = to_tar(solver, bundle, names, (&mut out, &temporary))
        .and_then(|()| out.flush().at("write", &temporary));
    super::files::put_in_place(written, &temporary, path)?;
    if is_worth_it {
        exports.remember(path, &what)?;
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
    put(&path.join("index.json"), &bundle.index_json(names))
}

fn to_tar(
    solver: &Solver<'_>,
    bundle: &Bundle,
    names: &[Reference],
    (out, path): (&mut impl Write, &Path),
) -> Result<(), BuildError> {
    let write = |out: &mut _, bytes: &[u8]| Write::write_all(out, bytes).at("write", path);
    for directory in ["blobs/", "blobs/sha256/"] {
        write(out, &plain_header(directory, None))?;
    }
    for descriptor in bundle.blobs() {
        let name = format!("blobs/sha256/{}", descriptor.digest.hex());
        write(out, &plain_header(&name, Some(descriptor.size)))?;
        copy_blob(solver, &descriptor, (out, path))?;
        write(out, &vec![0; padding(descriptor.size)])?;
    }
    let index_json = bundle.index_json(names);
    let mut documents: Vec<(String, &[u8])> = Vec::new();
    if let Some(index) = &bundle.index {
        documents.push((format!("blobs/sha256/{}", bundle.descriptor.digest.hex()), index));
    }
    documents.push(("index.json".to_owned(), &index_json));
    documents.push(("oci-layout".to_owned(), LAYOUT));
    for (name, bytes) in documents {
        write(out, &plain_header(&name, Some(bytes.len() as u64)))?;
        write(out, bytes)?;
        write(out, &vec![0; padding(bytes.len() as u64)])?;
    }
    write(out, &[0; 1024])
}

fn padding(size: u64) -> usize {
    (512 - size % 512) as usize % 512
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_by_others() {
        let mut archive = plain_header("blobs/", None).to_vec();
        archive.extend(plain_header("a", Some(3)));
        archive.extend(b"xyz");
        archive.extend(vec![0; padding(3)]);
        archive.extend([0; 1024]);
        let mut names = Vec::new();
        for entry in tar::Archive::new(archive.as_slice()).entries().expect("a tar") {
            let entry = entry.expect("an entry");
            names.push((entry.path().expect("a path").display().to_string(), entry.size()));
        }
        assert_eq!(names, [("blobs/".to_owned(), 0), ("a".to_owned(), 3)]);
    }
}
