//! `type=docker` without a place, `docker-daemon`, `podman`, `containerd`: images into other
//! programs.
//!
//! A Docker engine is asked first what it has: an image that is there is only named, and layers
//! that lie on the same ones there are left out of the archive. An engine that wants them all the
//! same (containerd's store, Podman's socket) says so, and gets them all.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use kiln_core::oci::Reference;
use kiln_registry::{DockerEngine, DockerEngineError, EngineAddress, EngineImage, LayerStore};

use super::archive::{Archive, Member};
use super::docker;
use super::image::PackedImage;
use super::oci::{Bundle, Format, archive};
use super::program::feed;
use crate::base_image::Want;
use crate::base_image::bring_blob;
use crate::error::BuildError;
use crate::request::ImageProgram;
use crate::snapshot::{Snapshot, SnapshotLayer};
use crate::solve::Solver;

/// From this many bytes on it is worth a question for each image of an engine what it has.
const WORTH_ASKING_BYTES: u64 = 1 << 20;
/// How many images are asked about at most.
const MOST_ASKED: usize = 256;

impl From<DockerEngineError> for BuildError {
    fn from(error: DockerEngineError) -> Self {
        match error {
            DockerEngineError::Cancelled => Self::Canceled,
            error => Self::Network { message: error.to_string(), help: error.help() },
        }
    }
}

/// Loads an image under its names; gives what is to be said of it.
pub(crate) fn load(
    solver: &Solver<'_>,
    (bundle, names): (&Bundle, &[Reference]),
    snapshots: &[&Snapshot],
    into: &ImageProgram,
) -> Result<String, BuildError> {
    match into {
        ImageProgram::Docker(address) => into_engine(solver, (bundle, names), snapshots, address),
        ImageProgram::Podman => {
            let archive = archive(bundle, names, Format::Docker);
            feed(solver, ("podman", &["load", "--quiet"]), &archive)?;
            Ok(format!("sent {} bytes", archive.size_bytes()))
        }
        ImageProgram::Containerd { namespace, address } => {
            let mut arguments = vec!["--namespace", namespace];
            if let Some(address) = address {
                arguments.extend(["--address", address]);
            }
            arguments.extend(["images", "import"]);
            if bundle.images.len() > 1 {
                arguments.push("--all-platforms");
            }
            arguments.push("-");
            let archive = archive(bundle, names, Format::Oci);
            feed(solver, ("ctr", &arguments), &archive)?;
            Ok(format!("sent {} bytes", archive.size_bytes()))
        }
    }
}

fn into_engine(
    solver: &Solver<'_>,
    (bundle, names): (&Bundle, &[Reference]),
    snapshots: &[&Snapshot],
    address: &EngineAddress,
) -> Result<String, BuildError> {
    let [image] = bundle.images.as_slice() else {
        unreachable!("images of several platforms were refused");
    };
    let engine = DockerEngine::new(address.clone(), Arc::clone(&solver.cancelled));
    let ids = [image.config.digest.to_string(), bundle.descriptor.digest.to_string()];
    let (mut unnamed, mut others, mut present) = (Vec::new(), Vec::new(), None);
    for name in names {
        match engine.image(&name.to_string())? {
            Some(found) if ids.contains(&found.id) => present = Some(found.id),
            other => {
                unnamed.push(name);
                others.extend(other);
            }
        }
    }
    for id in &ids {
        if present.is_none() {
            present = engine.image(id)?.map(|found| found.id);
        }
    }
    if let Some(id) = present {
        for name in unnamed {
            engine.tag(&id, name)?;
        }
        return Ok("the engine has this image: nothing was sent".to_owned());
    }
    let held = held(&engine, image, &others)?;
    if held > 0 {
        bring(solver, (image, snapshots), held)?;
        let partial = partial(image, names, held);
        match send(solver, &engine, &partial) {
            // Something of it is not there after all.
            Err(BuildError::Network { .. }) => {}
            sent => {
                let layers = image.layers.len();
                let size = partial.size_bytes();
                return sent
                    .map(|()| format!("sent {} of {layers} layers, {size} bytes", layers - held));
            }
        }
    }
    bring(solver, (image, snapshots), 0)?;
    let archive = archive(bundle, names, Format::Docker);
    send(solver, &engine, &archive)?;
    Ok(format!("sent {} bytes", archive.size_bytes()))
}

/// How many of the lowest layers an engine has, lying on each other as they do here.
fn held(
    engine: &DockerEngine,
    image: &PackedImage,
    known: &[EngineImage],
) -> Result<usize, BuildError> {
    let layers: Vec<String> = image.diff_ids.iter().map(ToString::to_string).collect();
    let shared = |other: &EngineImage| match other.layer_store {
        LayerStore::Chains => {
            layers.iter().zip(&other.diff_ids).take_while(|(own, other)| own == other).count()
        }
        LayerStore::Blobs => 0,
    };
    let mut most = known.iter().map(shared).max().unwrap_or(0);
    let missing: u64 = image.layers[most..].iter().map(|layer| layer.size).sum();
    let is_blobs = known.iter().any(|other| other.layer_store == LayerStore::Blobs);
    if missing < WORTH_ASKING_BYTES || is_blobs {
        return Ok(most);
    }
    for id in engine.image_ids()?.iter().take(MOST_ASKED) {
        if most == layers.len() {
            break;
        }
        if let Some(other) = engine.image(id)? {
            if other.layer_store == LayerStore::Blobs {
                return Ok(0);
            }
            most = most.max(shared(&other));
        }
    }
    Ok(most)
}

/// Brings what is not in the store of the layers from a position on.
fn bring(
    solver: &Solver<'_>,
    (image, snapshots): (&PackedImage, &[&Snapshot]),
    from: usize,
) -> Result<(), BuildError> {
    for snapshot in snapshots {
        let is_base = |layer: &&SnapshotLayer| matches!(layer, SnapshotLayer::Base { .. });
        let base_layers = snapshot.layers().iter().filter(is_base).count();
        if let Some(base) = snapshot.base().filter(|_| from < base_layers) {
            base.bring(&solver.fetcher, Want::Blobs)?;
        }
    }
    // Layers of a shared cache that nothing has needed yet.
    for layer in &image.layers[from..] {
        bring_blob(&solver.fetcher, layer)?;
    }
    Ok(())
}

/// Docker's archive without the lowest layers, which it names all the same.
fn partial(image: &PackedImage, names: &[Reference], held: usize) -> Archive {
    let mut members =
        vec![Member::Directory("blobs/".to_owned()), Member::Directory("blobs/sha256/".to_owned())];
    for descriptor in image.layers[held..].iter().chain([&image.config]) {
        let member = Member::blob(descriptor.clone());
        if !members.contains(&member) {
            members.push(member);
        }
    }
    members.push(Member::Bytes(
        "manifest.json".to_owned(),
        docker::manifest((&image.config, &image.layers), names),
    ));
    Archive { members }
}

fn send(solver: &Solver<'_>, engine: &DockerEngine, archive: &Archive) -> Result<(), BuildError> {
    let mut load = engine.load(archive.size_bytes())?;
    let place = engine.address().to_string();
    match archive.write(solver, 0, (load.body(), Path::new(&place))) {
        Ok(()) => Ok(load.finish()?),
        Err(_) if solver.is_canceled() => Err(BuildError::Canceled),
        // An engine that ends the connection says why.
        Err(BuildError::File { source, .. })
            if matches!(source.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
        {
            let message = format!("the Docker engine at {place} ended the connection: {source}");
            let error = BuildError::Network { message, help: None };
            Err(load.give_up().map_or(error, BuildError::from))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use kiln_core::digest::{BlobDigest, DiffId};
    use kiln_core::oci::{Descriptor, media_type};

    use super::*;

    #[test]
    fn a_partial_archive_names_what_it_leaves_out() {
        let descriptor =
            |text: &str| Descriptor::new(media_type::OCI_LAYER, BlobDigest::of(text.as_bytes()), 1);
        let layers = ["a", "b", "c", "b"];
        let image = PackedImage {
            descriptor: descriptor("manifest"),
            config: descriptor("config"),
            layers: layers.map(descriptor).to_vec(),
            diff_ids: layers.map(|text| DiffId::from_bytes([text.as_bytes()[0]; 32])).to_vec(),
            created: None,
        };
        let archive = partial(&image, &[], 1);
        let blobs: Vec<&str> = archive
            .members
            .iter()
            .filter_map(|member| match member {
                Member::Blob(name, _) => Some(name.as_str()),
                _ => None,
            })
            .collect();
        let path = |text: &str| format!("blobs/sha256/{}", descriptor(text).digest.hex());
        assert_eq!(blobs, ["b", "c", "config"].map(path));
        let Some(Member::Bytes(_, manifest)) = archive.members.last() else {
            panic!("the manifest is last");
        };
        let manifest: serde_json::Value = serde_json::from_slice(manifest).expect("JSON");
        assert_eq!(manifest[0]["Layers"], serde_json::json!(layers.map(path)));
    }
}
