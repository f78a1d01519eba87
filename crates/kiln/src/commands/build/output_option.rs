//! `--output`: where a result goes and what it looks like, with paths as they were written.

use std::path::PathBuf;
use std::str::FromStr;

use kiln_core::oci::{Reference, ReferenceError};
use kiln_engine::{
    Annotation, AnnotationPlace, Destination, ImageOptions, LayerCompression, LayerTimes,
    MediaTypes, Output, PlatformSplit,
};

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
            "docker" => layout_output(ImageFile::Docker, options)?,
            "image" => image_output(options)?,
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

const KNOWN_TYPES: &str = "image, oci, docker, local and tar";

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

/// Which tools read the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ImageFile {
    Oci,
    Docker,
}

/// `type=oci` and `type=docker`
fn layout_output(file: ImageFile, options: Vec<(String, String)>) -> Result<Output, OptionError> {
    let (mut dest, mut as_tar) = (None, true);
    let own = |key: &str, value: &str| {
        match key {
            "dest" => dest = Some(value.to_owned()),
            "tar" => as_tar = boolean("tar", value)?,
            _ => return Ok(false),
        }
        Ok(true)
    };
    let options = image_options(options, ImageOptions::default(), (&["dest", "tar"], own))?;
    let dest = match (as_tar, file_or_stdout(dest.as_deref())) {
        (true, dest) => dest,
        (false, Destination::File(path)) => Destination::Directory(path),
        (false, _) => return Err(wrong("`tar=false` needs `dest=DIR`")),
    };
    Ok(match file {
        ImageFile::Oci => Output::Oci { dest, options },
        ImageFile::Docker => Output::Docker { dest, options },
    })
}

/// `type=image`: kiln's own store, which keeps what it is given and unpacks what is needed.
fn image_output(options: Vec<(String, String)>) -> Result<Output, OptionError> {
    const KEYS: [&str; 3] = ["store", "unpack", "push"];
    let own = |key: &str, value: &str| {
        match key {
            "store" if !boolean("store", value)? => {
                return Err(wrong("`store=false` leaves nothing: the image goes nowhere else"));
            }
            "push" if boolean("push", value)? => {
                return Err(wrong("`push` is not possible yet; `kiln push NAME` sends the image"));
            }
            "unpack" => {
                boolean("unpack", value)?;
            }
            "store" | "push" => {}
            _ => return Ok(false),
        }
        Ok(true)
    };
    let options = image_options(options, ImageOptions::of_store(), (&KEYS, own))?;
    Ok(Output::Image { options })
}

/// The options that all outputs of images have, over `image`. `own` takes those that only this type
/// has, and says whether it did.
fn image_options(
    options: Vec<(String, String)>,
    mut image: ImageOptions,
    (own_keys, mut own): (&[&str], impl FnMut(&str, &str) -> Result<bool, OptionError>),
) -> Result<ImageOptions, OptionError> {
    const KEYS: [&str; 10] = [
        "name",
        "compression",
        "compression-level",
        "oci-mediatypes",
        "rewrite-timestamp",
        "annotation.KEY",
        "annotation-manifest.KEY",
        "annotation-manifest-descriptor.KEY",
        "annotation-index.KEY",
        "annotation-index-descriptor.KEY",
    ];
    let mut level = None;
    for (key, value) in options {
        match key.as_str() {
            _ if own(&key, &value)? => {}
            "name" => image.names = names(&value)?,
            "compression" => image.compression = compression(value)?,
            "compression-level" => level = Some(value),
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
            _ => match annotation(&key, &value) {
                Some(annotation) => image.annotations.push(annotation),
                None => {
                    let known = ["type"].iter().chain(own_keys).chain(&KEYS).copied();
                    return Err(unknown_key(&key, &known.collect::<Vec<_>>()));
                }
            },
        }
    }
    image.level = level.map(|text| compression_level(text, image.compression)).transpose()?;
    Ok(image)
}

fn compression(value: String) -> Result<LayerCompression, OptionError> {
    match value.as_str() {
        "gzip" => Ok(LayerCompression::Gzip),
        "zstd" => Ok(LayerCompression::Zstd),
        "uncompressed" => Ok(LayerCompression::Uncompressed),
        _ => Err(OptionError::Value {
            key: "compression",
            value,
            known: "gzip, zstd or uncompressed",
        }),
    }
}

fn compression_level(value: String, of: LayerCompression) -> Result<u8, OptionError> {
    let (levels, known) = match of {
        LayerCompression::Zstd => (1..=22, "a number from 1 to 22 for zstd"),
        LayerCompression::Gzip | LayerCompression::Uncompressed => (0..=9, "a number from 0 to 9"),
    };
    let level = value.parse().ok().filter(|level| levels.contains(level));
    level.ok_or(OptionError::Value { key: "compression-level", value, known })
}

/// Names, parted by commas.
fn names(value: &str) -> Result<Vec<Reference>, OptionError> {
    let name = |name: &str| name.parse().map_err(|error: ReferenceError| wrong(error.to_string()));
    value.split(',').filter(|name| !name.is_empty()).map(name).collect()
}

/// `annotation.KEY`, or with a place before the dot.
fn annotation(key: &str, value: &str) -> Option<Annotation> {
    let (place, key) = key.strip_prefix("annotation")?.split_once('.')?;
    let place = match place {
        "" | "-manifest" => AnnotationPlace::Manifest,
        "-manifest-descriptor" => AnnotationPlace::ManifestDescriptor,
        "-index" => AnnotationPlace::Index,
        "-index-descriptor" => AnnotationPlace::IndexDescriptor,
        _ => return None,
    };
    Some(Annotation { place, key: key.to_owned(), value: value.to_owned() })
}

fn boolean(key: &'static str, value: &str) -> Result<bool, OptionError> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(OptionError::Value { key, value: value.to_owned(), known: "true or false" }),
    }
}

#[cfg(test)]
#[path = "output_option_tests.rs"]
mod tests;
