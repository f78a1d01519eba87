//! Values of `kiln build`'s options: buildx's spelling, as types. Nothing here touches the
//! disk or the environment.

use std::path::PathBuf;
use std::str::FromStr;

use kiln_core::diagnostic::did_you_mean;
use kiln_core::git_source::GitAddress;
use kiln_core::oci::Reference;
use kiln_core::plan::{Entitlement, GitSource, Network, RemoteFiles};
use kiln_engine::NamedContext;

use super::context::is_url;
use super::csv::{CsvError, pairs};

/// Why a value is not what its option takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OptionError {
    /// Not a record.
    #[error(transparent)]
    Csv(#[from] CsvError),
    /// A key that the option does not have.
    #[error("unknown key `{key}`{hint}; known are {known}")]
    Key {
        /// What was written.
        key: String,
        /// `, did you mean …?`, or nothing.
        hint: String,
        /// The keys that exist.
        known: String,
    },
    /// A type that kiln does not have.
    #[error("type `{kind}` is not supported; kiln knows {known}")]
    Type {
        /// What was written.
        kind: String,
        /// The types that exist.
        known: &'static str,
    },
    /// A value that its key does not take.
    #[error("`{key}={value}` is not possible; {key} is {known}")]
    Value {
        /// The key.
        key: &'static str,
        /// What was written.
        value: String,
        /// What is possible.
        known: &'static str,
    },
    /// Something is missing, or goes not together.
    #[error("{0}")]
    Wrong(String),
}

pub(super) fn unknown_key(key: &str, known: &[&str]) -> OptionError {
    let hint = did_you_mean(key, known.iter().copied());
    OptionError::Key {
        key: key.to_owned(),
        hint: hint.map_or_else(String::new, |near| format!(", did you mean `{near}`?")),
        known: known.join(", "),
    }
}

pub(super) fn wrong(text: impl Into<String>) -> OptionError {
    OptionError::Wrong(text.into())
}

/// `NAME=VALUE`, or `NAME` alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// Before the first `=`.
    pub(crate) name: String,
    /// After it; `None` without `=`.
    pub(crate) value: Option<String>,
}

impl FromStr for Assignment {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        if name.trim().is_empty() {
            return Err(wrong("there is no name before `=`"));
        }
        let name = name.to_owned();
        Ok(Self { name, value })
    }
}

/// `--tag`: a name, and whether its tag was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TagOption {
    /// As it was written.
    pub(crate) text: String,
    /// Normalised.
    pub(crate) reference: Reference,
}

impl TagOption {
    /// Whether it says `:tag`.
    pub(crate) fn has_tag(&self) -> bool {
        let last = self.text.rsplit('/').next().unwrap_or_default();
        last.contains(':')
    }
}

impl FromStr for TagOption {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let reference: Reference =
            text.parse().map_err(|error: kiln_core::oci::ReferenceError| wrong(error.reason))?;
        if reference.digest.is_some() {
            return Err(wrong("a tag cannot hold a digest"));
        }
        let text = text.to_owned();
        Ok(Self { text, reference })
    }
}

/// `--build-context`
#[derive(Clone, Debug)]
pub(crate) struct ContextOption {
    /// As it was written.
    pub(crate) name: String,
    /// Where it is; paths as they were written.
    pub(crate) place: NamedContext,
}

impl FromStr for ContextOption {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let Some((name, value)) = text.split_once('=') else {
            return Err(wrong("expected NAME=VALUE"));
        };
        if name.is_empty() || value.is_empty() {
            return Err(wrong("expected NAME=VALUE, and neither may be empty"));
        }
        Ok(Self { name: name.to_owned(), place: context_place(value)? })
    }
}

fn context_place(value: &str) -> Result<NamedContext, OptionError> {
    if value == "docker-image://scratch" {
        return Ok(NamedContext::Empty);
    }
    if let Some(image) = value.strip_prefix("docker-image://") {
        let reference = image.parse::<Reference>();
        return reference.map(NamedContext::Image).map_err(|error| wrong(error.to_string()));
    }
    if let Some(layout) = value.strip_prefix("oci-layout://") {
        let (rest, digest) = match layout.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (layout, None),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, None),
        };
        if path.is_empty() {
            return Err(wrong("there is no directory after `oci-layout://`"));
        }
        return Ok(NamedContext::Layout {
            path: PathBuf::from(path),
            reference: digest.or(tag).map(str::to_owned),
        });
    }
    let address = GitAddress::parse(value).map_err(|error| wrong(error.to_string()))?;
    if let Some(address) = address.filter(|address| !address.may_be_path) {
        return Ok(NamedContext::Remote(RemoteFiles::Git(GitSource::from(address))));
    }
    if is_url(value) {
        let url = value.to_owned();
        return Ok(NamedContext::Remote(RemoteFiles::File { url, checksum: None }));
    }
    for (prefix, whose) in [("target:", "bake files"), ("input:", "BuildKit's API")] {
        if value.starts_with(prefix) {
            return Err(wrong(format!("`{prefix}` contexts are of {whose} only")));
        }
    }
    if let Some((scheme, _)) = value.split_once("://") {
        return Err(wrong(format!(
            "unsupported context source {scheme}; kiln knows a directory, a git repository, a URL, \
             `oci-layout://DIR` and `docker-image://REF`"
        )));
    }
    Ok(NamedContext::Directory(PathBuf::from(value)))
}

/// `--secret`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretOption {
    /// Under which steps ask for it.
    pub(crate) id: String,
    /// Where its value is.
    pub(crate) place: SecretPlace,
}

/// Where a secret's value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SecretPlace {
    /// In a file.
    File(PathBuf),
    /// In a variable.
    Variable(String),
    /// In the variable that is called like the id, else in the file that is.
    Either,
}

impl FromStr for SecretOption {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        const KEYS: [&str; 5] = ["id", "src", "source", "env", "type"];
        let (mut id, mut source, mut variable, mut kind) = (None, None, None, None);
        for (key, value) in pairs(text)? {
            match key.as_str() {
                "id" => id = Some(value),
                "src" | "source" => source = Some(value),
                "env" => variable = Some(value),
                "type" => kind = Some(value),
                _ => return Err(unknown_key(&key, &KEYS)),
            }
        }
        // buildx: `type=env,src=NAME` is `env=NAME`.
        if kind.as_deref() == Some("env") && variable.is_none() {
            variable = source.take();
        }
        let place = match (kind.as_deref(), source, variable) {
            (Some(kind), _, _) if !matches!(kind, "file" | "env") => {
                return Err(OptionError::Type { kind: kind.to_owned(), known: "file and env" });
            }
            (_, Some(_), Some(_)) => return Err(wrong("`src` and `env` exclude each other")),
            (_, Some(path), None) => SecretPlace::File(PathBuf::from(path)),
            (_, None, Some(name)) => SecretPlace::Variable(name),
            (_, None, None) => SecretPlace::Either,
        };
        match id.filter(|id| !id.is_empty()) {
            Some(id) => Ok(Self { id, place }),
            None => Err(wrong("`id` is missing")),
        }
    }
}

/// `--network`
pub(crate) fn network(text: &str) -> Result<Network, OptionError> {
    match text {
        "default" => Ok(Network::Default),
        "host" => Ok(Network::Host),
        "none" => Ok(Network::None),
        _ => Err(OptionError::Value {
            key: "network",
            value: text.to_owned(),
            known: "default, host or none",
        }),
    }
}

/// `--allow`
pub(crate) fn entitlement(text: &str) -> Result<Entitlement, OptionError> {
    match text {
        "network.host" => Ok(Entitlement::NetworkHost),
        "security.insecure" => Ok(Entitlement::SecurityInsecure),
        _ => Err(wrong("kiln knows network.host and security.insecure")),
    }
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
