//! `--cache-from` and `--cache-to`, as buildx has them, with paths as they were written.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use kiln_core::oci::{Reference, ReferenceError};
use kiln_engine::{
    CacheExport, CacheMode, CachePlace, ExportFailure, ImageOptions, ImagePlace, LayerCompression,
    MediaTypes,
};
use kiln_registry::{ObjectCache, ObjectKind, ObjectSettings};

use super::csv::{fields, pairs};
use super::options::{OptionError, unknown_key, wrong};
use super::output_option::{boolean, compression, compression_level};

/// `--cache-from`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CacheFromOption(PlaceOption);

/// Where a cache is, as far as options say it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum PlaceOption {
    /// In a registry or a directory.
    Image(ImagePlace),
    /// In an object store; the environment says the rest.
    Objects(ObjectOptions),
    /// What is wrong with options that may hold secrets: what refuses them shows them.
    Wrong(String),
}

/// Options of an object store, which may be secrets.
#[derive(Clone, PartialEq, Eq)]
struct ObjectOptions {
    kind: ObjectKind,
    pairs: Vec<(String, String)>,
}

impl fmt::Debug for ObjectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectOptions").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl PlaceOption {
    fn place(&self, settings: &ObjectSettings) -> Result<CachePlace, String> {
        Ok(match self {
            Self::Image(place) => CachePlace::Image(place.clone()),
            Self::Wrong(reason) => return Err(reason.clone()),
            Self::Objects(ObjectOptions { kind, pairs }) => {
                CachePlace::Objects(Box::new(ObjectCache::new(*kind, pairs, settings)?))
            }
        })
    }
}

impl CacheFromOption {
    /// The place, as options and environment name it; what is wrong with them.
    pub(crate) fn place(&self, settings: &ObjectSettings) -> Result<CachePlace, String> {
        self.0.place(settings)
    }
}

/// A cache that is written to a place of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExportOption {
    place: PlaceOption,
    mode: CacheMode,
    options: ImageOptions,
    on_failure: ExportFailure,
}

/// `--cache-to`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CacheToOption {
    /// To a place of its own.
    Export(Box<ExportOption>),
    /// In the image.
    Inline,
}

impl CacheToOption {
    /// The cache that has a place of its own; what is wrong with its options.
    pub(crate) fn export(&self, settings: &ObjectSettings) -> Option<Result<CacheExport, String>> {
        let Self::Export(export) = self else { return None };
        let ExportOption { place, mode, options, on_failure } = (**export).clone();
        let place = place.place(settings);
        Some(place.map(|place| CacheExport { place, mode, options, on_failure }))
    }
}

/// Whether options may hold a secret.
fn is_secret(text: &str) -> bool {
    ["secret", "token", "sig=", "access_key"].iter().any(|sign| text.contains(sign))
}

/// What is wrong, without the text.
fn wrong_place(flag: &str, error: &OptionError) -> PlaceOption {
    PlaceOption::Wrong(match error {
        OptionError::Csv(_) => format!("{flag}: these are no key=value pairs with commas between"),
        error => format!("{flag}: {error}"),
    })
}

impl FromStr for CacheFromOption {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        match Self::read(text) {
            Err(error) if is_secret(text) => Ok(Self(wrong_place("--cache-from", &error))),
            read => read,
        }
    }
}

impl FromStr for CacheToOption {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        match Self::read(text) {
            Err(error) if is_secret(text) => {
                Ok(Self::Export(Box::new(export(wrong_place("--cache-to", &error)))))
            }
            read => read,
        }
    }
}

impl CacheFromOption {
    fn read(text: &str) -> Result<Self, OptionError> {
        if let Some(place) = short_form(text)? {
            return Ok(Self(PlaceOption::Image(place)));
        }
        let mut options = pairs(text)?;
        let kind = take_kind(&mut options)?;
        if kind == "inline" {
            return Err(wrong("the cache inside of an image is read by `type=registry,ref=IMAGE`"));
        }
        let (place, rest) = place(&kind, "src", options)?;
        // One text may do for both directions of an object store, as for buildx.
        let is_of_export = |key: &str| {
            matches!(place, PlaceOption::Objects(_)) && ["mode", "ignore-error"].contains(&key)
        };
        match rest.iter().find(|(key, _)| !is_of_export(key)) {
            None => Ok(Self(place)),
            Some((key, _)) => Err(unknown_key(key, place_keys(&kind, "src"))),
        }
    }
}

impl CacheToOption {
    fn read(text: &str) -> Result<Self, OptionError> {
        if let Some(place) = short_form(text)? {
            return Ok(Self::Export(Box::new(export(PlaceOption::Image(place)))));
        }
        let mut options = pairs(text)?;
        let kind = take_kind(&mut options)?;
        if kind == "inline" {
            return inline(options);
        }
        let (place, rest) = place(&kind, "dest", options)?;
        let mut export = export(place);
        let mut level = None;
        for (key, value) in rest {
            match key.as_str() {
                "mode" => export.mode = mode(value)?,
                "compression" => export.options.compression = compression(value)?,
                "compression-level" => level = Some(value),
                "oci-mediatypes" => {
                    export.options.media_types = if boolean("oci-mediatypes", &value)? {
                        MediaTypes::Oci
                    } else {
                        MediaTypes::Docker
                    };
                }
                "image-manifest" if boolean("image-manifest", &value)? => {}
                "image-manifest" => {
                    return Err(wrong("kiln writes caches as image manifests only"));
                }
                "ignore-error" if boolean("ignore-error", &value)? => {
                    export.on_failure = ExportFailure::Warns;
                }
                "ignore-error" => export.on_failure = ExportFailure::Fails,
                _ => {
                    let known = [place_keys(&kind, "dest"), &EXPORT_KEYS].concat();
                    return Err(unknown_key(&key, &known));
                }
            }
        }
        let options = &mut export.options;
        if options.compression == LayerCompression::Estargz {
            return Err(wrong("a cache's layers are gzip, zstd or uncompressed"));
        }
        options.level =
            level.map(|text| compression_level(text, options.compression)).transpose()?;
        Ok(Self::Export(Box::new(export)))
    }
}

const EXPORT_KEYS: [&str; 6] = [
    "mode",
    "compression",
    "compression-level",
    "oci-mediatypes",
    "image-manifest",
    "ignore-error",
];

/// The options of `type=inline`, which can't be without its image.
fn inline(options: Vec<(String, String)>) -> Result<CacheToOption, OptionError> {
    for (key, value) in options {
        if key != "mode" {
            return Err(unknown_key(&key, &["type", "mode"]));
        }
        if mode(value)? == CacheMode::Max {
            return Err(wrong("type=inline has the image's own layers only: mode=min"));
        }
    }
    Ok(CacheToOption::Inline)
}

fn export(place: PlaceOption) -> ExportOption {
    ExportOption {
        place,
        mode: CacheMode::default(),
        options: ImageOptions::default(),
        on_failure: ExportFailure::default(),
    }
}

/// A reference alone is a registry's.
fn short_form(text: &str) -> Result<Option<ImagePlace>, OptionError> {
    match fields(text)?.as_slice() {
        [only] if !only.contains('=') => Ok(Some(ImagePlace::Registry(reference(only)?))),
        _ => Ok(None),
    }
}

fn reference(text: &str) -> Result<Reference, OptionError> {
    text.parse().map_err(|error: ReferenceError| wrong(error.to_string()))
}

fn take_kind(options: &mut Vec<(String, String)>) -> Result<String, OptionError> {
    let Some(position) = options.iter().position(|(key, _)| key == "type") else {
        return Err(wrong(
            "`type` is missing; kiln knows registry, local, inline, s3, gha and azblob",
        ));
    };
    let (_, kind) = options.remove(position);
    let is_other = ["registry", "local", "inline"].contains(&kind.as_str());
    if is_other || ObjectKind::parse(&kind).is_some() {
        return Ok(kind);
    }
    Err(OptionError::Type { kind, known: "the caches registry, local, inline, s3, gha and azblob" })
}

fn place_keys(kind: &str, path_key: &'static str) -> &'static [&'static str] {
    match (kind, path_key) {
        ("registry", _) => &["type", "ref"],
        ("local", "src") => &["type", "src", "tag", "digest"],
        ("local", _) => &["type", "dest", "tag"],
        _ => ObjectKind::parse(kind).map_or(&[], ObjectKind::options),
    }
}

/// Where a cache is, and the options that do not say it.
fn place(
    kind: &str,
    path_key: &'static str,
    options: Vec<(String, String)>,
) -> Result<(PlaceOption, Vec<(String, String)>), OptionError> {
    let keys = place_keys(kind, path_key);
    let (own, rest): (Vec<_>, Vec<_>) =
        options.into_iter().partition(|(key, _)| keys.contains(&key.as_str()));
    if let Some(kind) = ObjectKind::parse(kind) {
        return Ok((PlaceOption::Objects(ObjectOptions { kind, pairs: own }), rest));
    }
    let value = |wanted: &str| {
        let found = own.iter().rev().find(|(key, _)| key == wanted);
        found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    };
    let missing = |key: &str| wrong(format!("type={kind} needs `{key}=`"));
    let place = if kind == "registry" {
        ImagePlace::Registry(reference(&value("ref").ok_or_else(|| missing("ref"))?)?)
    } else {
        let path = PathBuf::from(value(path_key).ok_or_else(|| missing(path_key))?);
        let name = value("digest").or_else(|| value("tag"));
        ImagePlace::Layout { path, name: Some(name.unwrap_or_else(|| "latest".to_owned())) }
    };
    Ok((PlaceOption::Image(place), rest))
}

fn mode(value: String) -> Result<CacheMode, OptionError> {
    match value.as_str() {
        "min" => Ok(CacheMode::Min),
        "max" => Ok(CacheMode::Max),
        _ => Err(OptionError::Value { key: "mode", value, known: "min or max" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_named_as_buildx_names_them() {
        let from = |text: &str| {
            let option: CacheFromOption = text.parse().unwrap();
            option.place(&ObjectSettings::default()).unwrap().to_string()
        };
        assert_eq!(from("r.example/app:cache"), "r.example/app:cache");
        assert_eq!(from("type=registry,ref=r.example/app:cache"), "r.example/app:cache");
        assert_eq!(from("type=local,src=dir"), "oci-layout://dir:latest");
        assert_eq!(from("type=local,src=dir,tag=x"), "oci-layout://dir:x");
        let to = |text: &str| {
            let option: CacheToOption = text.parse().unwrap();
            option.export(&ObjectSettings::default()).unwrap().unwrap()
        };
        let all =
            to("type=registry,ref=r.example/c,mode=max,compression=zstd,compression-level=5,\
                      image-manifest=true,oci-mediatypes=true,ignore-error=true");
        assert_eq!((all.mode, all.on_failure), (CacheMode::Max, ExportFailure::Warns));
        assert_eq!(all.options.level, Some(5));
        assert_eq!(to("type=local,dest=d").mode, CacheMode::Min);
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let error = |text: &str| text.parse::<CacheToOption>().unwrap_err().to_string();
        assert_eq!(
            error("type=ftp"),
            "type `ftp` is not supported; kiln knows the caches registry, local, inline, s3, gha \
             and azblob"
        );
        assert!(error("type=s3,bucke=b").contains("did you mean `bucket`?"));
        assert_eq!(error("type=local"), "type=local needs `dest=`");
        assert_eq!(error("type=registry"), "type=registry needs `ref=`");
        assert!(error("type=local,dest=d,mode=most").contains("mode is min or max"));
        assert!(error("type=local,dest=d,mod=max").contains("did you mean `mode`?"));
        assert_eq!("type=inline".parse::<CacheToOption>().unwrap(), CacheToOption::Inline);
        assert!(error("type=inline,mode=max").ends_with("mode=min"));
        assert!("type=inline".parse::<CacheFromOption>().is_err());
        assert!("type=s3,bucket=b,mode=max".parse::<CacheFromOption>().is_ok());
        assert!("type=local,src=d,mode=max".parse::<CacheFromOption>().is_err());
    }

    #[test]
    fn object_stores_are_named_by_options_and_environment() {
        let mut settings = ObjectSettings::default();
        let with = |settings: &ObjectSettings, text: &str| {
            let option: CacheToOption = text.parse().unwrap();
            option.export(settings).unwrap().map(|export| export.place.to_string())
        };
        let error = with(&settings, "type=s3,bucket=b").unwrap_err();
        assert_eq!(error, "type=s3: `region=` or AWS_REGION is needed");
        settings.variables.insert("AWS_REGION".to_owned(), "eu-west-1".to_owned());
        let place = with(&settings, "type=s3,bucket=b,name=a;b,mode=max").unwrap();
        assert_eq!(place, "s3://b (a, b)");
        assert!(with(&settings, "type=s3,bucket=b,access_key_id=x").is_err());
        assert!(with(&settings, "type=s3,bucket=b,upload_parallelism=0").is_err());
        assert!(with(&settings, "type=s3,bucket=b,touch_refresh=1h30m").is_ok());
        assert!(with(&settings, "type=gha,version=1").unwrap_err().contains("version 2"));
        assert_eq!(with(&settings, "type=gha").unwrap(), "GitHub's Actions cache (buildkit)");
        let place = with(&settings, "type=azblob,account_url=https://acc.blob.example?sig=s3cret");
        assert_eq!(place.unwrap(), "azblob://acc/buildkit-cache (kiln)");
        let option: CacheToOption =
            "type=s3,bucket=b,access_key_id=x,secret_access_key=s3cret".parse().unwrap();
        assert!(!format!("{option:?}").contains("s3cret"));
        let export = option.export(&settings).unwrap().unwrap();
        assert!(!format!("{export:?}").contains("s3cret"));
        let error = with(&settings, "type=s3,buckt=b,secret_access_key=s3cret").unwrap_err();
        assert!(error.contains("did you mean `bucket`?") && !error.contains("s3cret"), "{error}");
    }
}
