//! What a build says at its end, on standard error.

use std::time::Duration;

use kiln_core::oci::Reference;
use kiln_engine::{
    BuildResult, Destination, ImageProgram, ImageResult, Output, PushedAs, TargetResult,
};

use super::format::{count, duration, size};
use super::table::{Align, table};

/// The lines after a build: one target as sentences, several as a table, then the outputs.
pub(crate) fn summary(result: &BuildResult, outputs: &[Output]) -> Vec<String> {
    let mut lines = match result.targets.as_slice() {
        [target] => one(target, result.duration),
        targets => several(targets),
    };
    lines.extend(outputs.iter().filter_map(destination));
    lines
}

/// `whole` is how long the build took, its outputs included.
fn one(target: &TargetResult, whole: Duration) -> Vec<String> {
    let mut lines = Vec::new();
    for image in &target.images {
        let (platform, time) = match target.images.len() {
            1 => (String::new(), whole),
            _ => (format!("{}: ", image.platform), image.duration),
        };
        lines.push(format!("{platform}{}", counts(image, time)));
    }
    if let Some(id) = image_id(target) {
        let names = target.names.iter().map(|name| familiar(name));
        let names: Vec<String> = names.collect();
        if names.is_empty() {
            lines.push(format!("image {id}"));
        } else {
            lines.push(format!("image {} {id}", names.join(", ")));
        }
    }
    lines
}

/// `20 steps: 18 cached, 2 ran · 5 layers, 4 reused · 123MB · 0.40s`
fn counts(image: &ImageResult, time: Duration) -> String {
    let ran = image.steps - image.cached.min(image.steps);
    format!(
        "{}: {} cached, {ran} ran · {}, {} reused · {} · {}",
        count(image.steps, "step"),
        image.cached,
        count(image.layers, "layer"),
        image.layers_reused,
        size(image.size_bytes),
        duration(time),
    )
}

fn several(targets: &[TargetResult]) -> Vec<String> {
    let header = [
        ("TARGET", Align::Left),
        ("TIME", Align::Right),
        ("STEPS", Align::Right),
        ("CACHED", Align::Right),
        ("LAYERS", Align::Right),
        ("REUSED", Align::Right),
        ("SIZE", Align::Right),
        ("IMAGE", Align::Left),
    ];
    let rows = targets.iter().flat_map(|target| {
        target.images.iter().map(|image| {
            let name = match target.images.len() {
                1 => target.name.clone(),
                _ => format!("{} {}", target.name, image.platform),
            };
            let shown = match target.names.first() {
                Some(name) => familiar(name),
                None => image.config.map(|id| short(&id.hex())).unwrap_or_default(),
            };
            vec![
                name,
                duration(image.duration),
                image.steps.to_string(),
                image.cached.to_string(),
                image.layers.to_string(),
                image.layers_reused.to_string(),
                size(image.size_bytes),
                shown,
            ]
        })
    });
    table(&header, &rows.collect::<Vec<_>>())
}

/// What `-q` and `--iidfile` give: the config's digest of a single image, which Docker calls the
/// image ID, else the digest of the index. `None` when only files were made.
pub(crate) fn image_id(target: &TargetResult) -> Option<String> {
    match target.images.as_slice() {
        [image] if image.config.is_some() => image.config.map(|digest| digest.to_string()),
        _ => Some(target.descriptor.as_ref()?.digest.to_string()),
    }
}

/// A full name as Docker shows it.
pub(crate) fn familiar(name: &str) -> String {
    let reference = name.parse::<Reference>();
    reference.map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}

/// The first 12 digits of an id.
pub(crate) fn short(hex: &str) -> String {
    hex.chars().take(12).collect()
}

fn destination(output: &Output) -> Option<String> {
    let place = |destination: &Destination| match destination {
        Destination::File(path) | Destination::Directory(path) => path.display().to_string(),
        Destination::Stdout => "to standard output".to_owned(),
    };
    Some(match output {
        Output::Oci { dest, .. } => format!("wrote OCI image {}", place(dest)),
        Output::Docker { dest, .. } => format!("wrote Docker image {}", place(dest)),
        Output::Load { into, .. } => match into {
            ImageProgram::Docker(address) => format!("loaded into Docker's engine at {address}"),
            ImageProgram::Podman => "loaded into Podman".to_owned(),
            ImageProgram::Containerd { namespace, .. } => {
                format!("loaded into containerd, namespace {namespace}")
            }
        },
        Output::Local { dest, .. } => format!("wrote files {}", dest.display()),
        Output::Tar { dest, .. } => format!("wrote tar {}", place(dest)),
        Output::Image { to, .. } => match to.pushed()? {
            PushedAs::Names => "pushed by name".to_owned(),
            PushedAs::Digest => "pushed by digest".to_owned(),
        },
    })
}

#[cfg(test)]
#[path = "summary_tests.rs"]
mod tests;
