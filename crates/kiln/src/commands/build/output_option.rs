//! `--output`: where a result goes and what it looks like, with paths as they were written.

use std::path::PathBuf;
use std::str::FromStr;

use kiln_core::oci::{Reference, ReferenceError};
use kiln_engine::{
    BaseCompression, Destination, EngineAddress, ImageOptions, ImageProgram, ImageTarget,
    LayerCompression, LayerTimes, MediaTypes, Output, PlatformSplit, PushedAs,
};

use super::super::annotation;
use super::csv::{fields, pairs};
use super::options::{OptionError, unknown_key, wrong};

/// `--output`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutputOption(pub(crate) Output);

impl FromStr for OutputOption {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        if let [single] = fields(text)?.as_slice()
            && !single.contains('=')
        {
            let split = PlatformSplit::default();
            return match single.as_str() {
                "" => Err(wrong("it is empty")),
                "-" => Ok(Self(Output::Tar { dest: Destination::Stdout, split })),
                directory => Ok(Self(Output::Local { dest: PathBuf::from(directory), split })),
            };
        }
        let mut options = pairs(text)?;
        let Some(kind) = options.iter().position(|(key, _)| key == "type") else {
            return Err(wrong(format!("`type` is missing; kiln knows {KNOWN_TYPES}")));
        };
        let (_, kind) = options.remove(kind);
        let output = match kind.as_str() {
            "oci" => layout_output(ImageFile::Oci, options)?,
            "docker" if is_placed(&options) => layout_output(ImageFile::Docker, options)?,
            "docker" | "docker-daemon" | "podman" | "containerd" => load_output(&kind, options)?,
            "image" | "registry" => image_output(&kind, options)?,
            "local" => {
                let (dest, split) = file_options("local", options)?;
                Output::Local { dest: local_destination(dest)?, split }
            }
            "tar" => {
                let (dest, split) = file_options("tar", options)?;
                Output::Tar { dest: file_or_stdout(dest.as_deref()), split }
            }
            _ => {
                return Err(OptionError::Type { kind, known: KNOWN_TYPES });
            }
        };
        Ok(Self(output))
    }
}

const KNOWN_TYPES: &str =
    "image, registry, oci, docker, docker-daemon, podman, containerd, local and tar";

/// The options of `local` and `tar`.
fn file_options(
    kind: &str,
    options: Vec<(String, String)>,
) -> Result<(Option<String>, PlatformSplit), OptionError> {
    let (mut dest, mut split) = (None, PlatformSplit::default());
    for (key, value) in options {
        match key.as_str() {
            "dest" => dest = Some(value),
            "platform-split" => {
                split = if boolean("platform-split", &value)? {
                    PlatformSplit::Always
                } else {
                    PlatformSplit::Never
                };
            }
            "type" => return Err(wrong(format!("`type` is given twice, first as {kind}"))),
            _ => return Err(unknown_key(&key, &["type", "dest", "platform-split"])),
        }
    }
    Ok((dest, split))
}

fn local_destination(dest: Option<String>) -> Result<PathBuf, OptionError> {
    match dest {
        Some(dest) if dest == "-" => Err(wrong("type=local cannot be written to standard output")),
        Some(dest) if !dest.is_empty() => Ok(PathBuf::from(dest)),
        _ => Err(wrong("type=local needs `dest=DIR`")),
    }
}

fn file_or_stdout(dest: Option<&str>) -> Destination {
    match dest {
        None | Some("" | "-") => Destination::Stdout,
        Some(path) => Destination::File(PathBuf::from(path)),
    }
}

/// Keys of all outputs that are images.
const IMAGE_KEYS: [&str; 12] = [
    "type",
    "name",
    "compression",
    "compression-level",
    "force-compression",
    "oci-mediatypes",
    "rewrite-timestamp",
    "annotation.KEY",
    "annotation-manifest.KEY",
    "annotation-manifest-descriptor.KEY",
    "annotation-index.KEY",
    "annotation-index-descriptor.KEY",
];

/// What an image looks like, of all options but those that `own` takes.
fn image_options(
    options: Vec<(String, String)>,
    own_keys: &[&'static str],
    mut own: impl FnMut(&str, &str) -> Result<(), OptionError>,
) -> Result<ImageOptions, OptionError> {
    let (mut image, mut level) = (ImageOptions::default(), None);
    for (key, value) in options {
        match key.as_str() {
            key if own_keys.contains(&key) => own(key, &value)?,
            "name" => image.names = names(&value)?,
            "compression" => image.compression = compression(value)?,
            "compression-level" => level = Some(value),
            "force-compression" => {
                image.force = if boolean("force-compression", &value)? {
                    BaseCompression::Forced
                } else {
                    BaseCompression::Kept
                };
            }
            "oci-mediatypes" => {
                image.media_types = if boolean("oci-mediatypes", &value)? {
                    MediaTypes::Oci
                } else {
                    MediaTypes::Docker
                };
            }
            "rewrite-timestamp" => {
                image.times = if boolean("rewrite-timestamp", &value)? {
                    LayerTimes::Rewritten
                } else {
                    LayerTimes::Kept
                };
            }
            _ => match annotation::of_output(&key, &value) {
                Some(annotation) => image.annotations.push(annotation.map_err(wrong)?),
                None => return Err(unknown_key(&key, &[&IMAGE_KEYS, own_keys].concat())),
            },
        }
    }
    image.level = level.map(|text| compression_level(text, image.compression)).transpose()?;
    if image.compression == LayerCompression::Estargz {
        // As with BuildKit: Docker's media types have no room for it.
        image.media_types = MediaTypes::Oci;
    }
    Ok(image)
}

/// Which tools read the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ImageFile {
    Oci,
    Docker,
}

/// `type=oci` and `type=docker`
fn layout_output(file: ImageFile, options: Vec<(String, String)>) -> Result<Output, OptionError> {
    let (mut dest, mut as_tar) = (None, true);
    let image = image_options(options, &["dest", "tar"], |key, value| {
        match key {
            "tar" => as_tar = boolean("tar", value)?,
            _ => dest = Some(value.to_owned()),
        }
        Ok(())
    })?;
    if file == ImageFile::Docker {
        no_stargz(&image)?;
    }
    let dest = match (as_tar, file_or_stdout(dest.as_deref())) {
        (true, dest) => dest,
        (false, Destination::File(path)) => Destination::Directory(path),
        (false, _) => return Err(wrong("`tar=false` needs `dest=DIR`")),
    };
    Ok(match file {
        ImageFile::Oci => Output::Oci { dest, options: image },
        ImageFile::Docker => Output::Docker { dest, options: image },
    })
}

/// Whether `type=docker` is a file or directory; it is the engine else, as with buildx.
fn is_placed(options: &[(String, String)]) -> bool {
    options.iter().any(|(key, _)| ["dest", "tar"].contains(&key.as_str()))
}

/// An image into another program. Its layers are not compressed unless that is asked for: they
/// would be decompressed at once. The address of Docker's engine is filled in later.
fn load_output(kind: &str, options: Vec<(String, String)>) -> Result<Output, OptionError> {
    let keys: &[&str] = if kind == "containerd" { &["namespace", "address"] } else { &[] };
    let names_compression = options.iter().any(|(key, _)| key == "compression");
    let (mut namespace, mut address) = ("default".to_owned(), None);
    let mut options = image_options(options, keys, |key, value| {
        match key {
            "namespace" => value.clone_into(&mut namespace),
            _ => address = Some(value.to_owned()),
        }
        Ok(())
    })?;
    if !names_compression {
        options.compression = LayerCompression::Uncompressed;
    }
    let into = match kind {
        "podman" => ImageProgram::Podman,
        "containerd" => ImageProgram::Containerd { namespace, address },
        _ => {
            no_stargz(&options)?;
            ImageProgram::Docker(EngineAddress::default())
        }
    };
    Ok(Output::Load { into, options })
}

/// `type=image`, and `type=registry`, which pushes.
fn image_output(kind: &str, options: Vec<(String, String)>) -> Result<Output, OptionError> {
    let is_registry = kind == "registry";
    let (mut push, mut by, mut store) = (is_registry, PushedAs::Names, !is_registry);
    let names_compression = options.iter().any(|(key, _)| key.starts_with("compression"));
    let keys = ["push", "push-by-digest", "store", "unpack"];
    let options = image_options(options, &keys, |key, value| {
        match key {
            // What is needed is unpacked.
            "unpack" => drop(boolean("unpack", value)?),
            "push" => push = boolean("push", value)?,
            "store" => store = boolean("store", value)?,
            _ if boolean("push-by-digest", value)? => by = PushedAs::Digest,
            _ => by = PushedAs::Names,
        }
        Ok(())
    })?;
    let to = match (store, push) {
        (true, true) => ImageTarget::StoreAndRegistry(by),
        (false, true) => ImageTarget::Registry(by),
        (true, false) => ImageTarget::Store,
        (false, false) => {
            return Err(wrong("the image goes nowhere: `push` and `store` are false"));
        }
    };
    if to == ImageTarget::Store && names_compression {
        return Err(wrong("kiln's store compresses no layers: `compression` needs `push=true`"));
    }
    Ok(Output::Image { options, to })
}

/// Docker's own archives name layers by their diff IDs alone.
fn no_stargz(image: &ImageOptions) -> Result<(), OptionError> {
    match image.compression {
        LayerCompression::Estargz => Err(wrong(
            "`compression=estargz` is for `type=oci`, `registry`, `image` and `containerd`",
        )),
        _ => Ok(()),
    }
}

pub(super) fn compression(value: String) -> Result<LayerCompression, OptionError> {
    match value.as_str() {
        "gzip" => Ok(LayerCompression::Gzip),
        "zstd" => Ok(LayerCompression::Zstd),
        "estargz" => Ok(LayerCompression::Estargz),
        "uncompressed" => Ok(LayerCompression::Uncompressed),
        _ => Err(OptionError::Value {
            key: "compression",
            value,
            known: "gzip, zstd, estargz or uncompressed",
        }),
    }
}

pub(super) fn compression_level(value: String, of: LayerCompression) -> Result<u8, OptionError> {
    let (levels, known) = match of {
        LayerCompression::Zstd => (1..=22, "a number from 1 to 22 for zstd"),
        LayerCompression::Gzip | LayerCompression::Estargz | LayerCompression::Uncompressed => {
            (0..=9, "a number from 0 to 9")
        }
    };
    let level = value.parse().ok().filter(|level| levels.contains(level));
    level.ok_or(OptionError::Value { key: "compression-level", value, known })
}

/// Names, parted by commas.
fn names(value: &str) -> Result<Vec<Reference>, OptionError> {
    let name = |name: &str| name.parse().map_err(|error: ReferenceError| wrong(error.to_string()));
    value.split(',').filter(|name| !name.is_empty()).map(name).collect()
}

pub(super) fn boolean(key: &'static str, value: &str) -> Result<bool, OptionError> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(OptionError::Value { key, value: value.to_owned(), known: "true or false" }),
    }
}

#[cfg(test)]
#[path = "output_option_tests.rs"]
mod tests;
