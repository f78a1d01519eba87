//! `kiln.lock`: what the names in Dockerfiles stood for when they were locked.
//!
//! ```toml
//! version = 1
//!
//! [images."debian:13-slim"]
//! digest = "sha256:…"                 # what the tag pointed to
//!
//! [images."debian:13-slim".platforms]  # when that is an index: its manifests
//! "linux/amd64" = "sha256:…"
//! "linux/arm64" = "sha256:…"
//!
//! [files."https://host/tool.tar.gz"]
//! digest = "sha256:…"
//!
//! [git."https://host/tool.git#v1"]     # nothing behind `#` is the default branch
//! ref = "refs/tags/v1"
//! commit = "…"
//! tag = "…"                            # object of an annotated tag
//! ```
//!
//! It does not depend on the machine that wrote it: an index is noted with all of its platforms.
//! Everything is in the order of its name, one line a fact, so that two branches that lock
//! different things merge. A name that two sides locked differently is a conflict, and a table that
//! is there twice is no valid file.
//!
//! What a Dockerfile pins itself (`name@sha256:…`, `ADD --checksum`, a commit) is not in it. Nothing
//! of it is secret: addresses have no credentials. It does not say how to reach anything.

mod change;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use change::{Change, PlatformChange, changes};

use crate::digest::BlobDigest;
use crate::git_source::without_credentials;
use crate::oci::{Descriptor, Index, Platform, Reference, media_type};

/// The file's usual name.
pub const LOCK_FILE: &str = "kiln.lock";

/// The version of the format that is written, and the newest that is read.
const VERSION: u64 = 1;

const HEADER: &str = "\
# Written by `kiln lock`; keep it with the Dockerfile. `kiln lock --upgrade` moves it.
";

/// All that is locked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockFile {
    /// Images by their familiar name.
    pub images: BTreeMap<String, ImagePin>,
    /// Files of the web by their address without credentials.
    pub files: BTreeMap<String, FilePin>,
    /// References of git repositories, as [`git_name`] writes them.
    pub git: BTreeMap<String, GitPin>,
}

/// What an image's name stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagePin {
    /// The manifest or the index.
    pub digest: BlobDigest,
    /// The manifests of an index by platform; those of no platform are left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub platforms: BTreeMap<String, BlobDigest>,
}

/// What a file of the web holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilePin {
    /// Of its bytes.
    pub digest: BlobDigest,
}

/// Where a reference of a git repository points.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GitPin {
    /// Its full name.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The commit.
    pub commit: String,
    /// The object of an annotated tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

/// Why a text is no lock file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockFileError {
    /// It is not of this form.
    #[error("{reason}")]
    Invalid {
        /// What is wrong, with the line.
        reason: String,
    },
    /// A merge was not finished.
    #[error("line {line}: a merge has left its marks")]
    Conflict {
        /// The first of them.
        line: usize,
    },
    /// A newer kiln wrote it.
    #[error("it has version {0}, and this kiln knows version {VERSION}")]
    Version(u64),
}

/// The file as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    images: BTreeMap<String, ImagePin>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    files: BTreeMap<String, FilePin>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    git: BTreeMap<String, GitPin>,
}

#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

impl LockFile {
    /// Reads a file.
    ///
    /// # Errors
    /// See [`LockFileError`].
    pub fn parse(text: &str) -> Result<Self, LockFileError> {
        let is_mark = |line: &str| line.starts_with("<<<<<<<") || line.starts_with(">>>>>>>");
        if let Some(line) = text.lines().position(is_mark) {
            return Err(LockFileError::Conflict { line: line + 1 });
        }
        let invalid = |error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
            let line = before.matches('\n').count() + 1;
            LockFileError::Invalid { reason: format!("line {line}: {}", error.message()) }
        };
        let read: Result<Document, _> = toml::from_str(text);
        let Document { images, files, git, .. } = match read {
            Ok(document) if document.version == VERSION => document,
            // What a newer version holds is not known.
            read => {
                let Versioned { version } = toml::from_str(text).map_err(invalid)?;
                if version != VERSION {
                    return Err(LockFileError::Version(version));
                }
                read.map_err(invalid)?
            }
        };
        Ok(Self { images, files, git })
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let Self { images, files, git } = self.clone();
        let document = Document { version: VERSION, images, files, git };
        let text = toml::to_string(&document).expect("maps of texts can be written");
        format!("{HEADER}{text}")
    }

    /// What an image's name stands for. One with a digest is not looked for.
    pub fn image(&self, reference: &Reference) -> Option<&ImagePin> {
        self.images.get(&reference.familiar())
    }

    /// What a file of the web holds.
    pub fn file(&self, url: &str) -> Option<&FilePin> {
        self.files.get(&address(url))
    }

    /// Where a reference of a repository points.
    pub fn git(&self, remote: &str, reference: &str) -> Option<&GitPin> {
        self.git.get(&git_name(remote, reference))
    }

    /// Adds all of another one; of what both have, this one's counts.
    pub fn extend(&mut self, other: &Self) {
        fn add<T: Clone>(to: &mut BTreeMap<String, T>, from: &BTreeMap<String, T>) {
            for (name, pin) in from {
                to.entry(name.clone()).or_insert_with(|| pin.clone());
            }
        }
        add(&mut self.images, &other.images);
        add(&mut self.files, &other.files);
        add(&mut self.git, &other.git);
    }

    /// Names of everything that is locked.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let names = self.images.keys().chain(self.files.keys()).chain(self.git.keys());
        names.map(String::as_str)
    }
}

impl ImagePin {
    /// What a registry said a name stands for: an index with its manifests, or a manifest.
    pub fn new(digest: BlobDigest, index: Option<&Index>) -> Self {
        let mut platforms = BTreeMap::new();
        for manifest in index.iter().flat_map(|index| &index.manifests) {
            let platform = manifest.platform.as_ref().filter(|one| one.os != "unknown");
            if let Some(platform) = platform
                && media_type::is_manifest(&manifest.media_type)
            {
                // The first of a platform is the one that is chosen.
                platforms.entry(platform.to_string()).or_insert(manifest.digest);
            }
        }
        Self { digest, platforms }
    }

    /// What to ask for, for a platform: its manifest if that is known, else the whole.
    pub fn select(&self, platform: &Platform) -> BlobDigest {
        let manifests = self.platforms.iter().filter_map(|(name, digest)| {
            let platform = name.parse::<Platform>().ok()?;
            let manifest = Descriptor::new(media_type::OCI_MANIFEST, *digest, 0);
            Some(Descriptor { platform: Some(platform), ..manifest })
        });
        let index = Index::new(manifests.collect());
        index.select(platform).map_or(self.digest, |manifest| manifest.digest)
    }
}

/// What `kiln lock` asks for anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Upgrade {
    /// Only what is not locked yet.
    #[default]
    Nothing,
    /// Everything.
    All,
    /// What these texts name.
    Named(Vec<String>),
}

impl Upgrade {
    /// Whether what a lock file calls `name` is asked for again.
    pub fn moves(&self, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::Named(texts) => texts.iter().any(|text| is_named(name, text)),
        }
    }
}

/// Whether a user's `text` means what a lock file calls `name`: the same address or reference, or
/// without a tag or `#REF` all of a repository.
pub fn is_named(name: &str, text: &str) -> bool {
    if name == text
        || name == address(text)
        || name.split_once('#').map(|(url, _)| url) == Some(text)
    {
        return true;
    }
    let (Ok(pin), Ok(wanted)) = (name.parse::<Reference>(), text.parse::<Reference>()) else {
        return false;
    };
    let has_tag = text.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let is_repository = (&pin.registry, &pin.repository) == (&wanted.registry, &wanted.repository);
    is_repository && (!has_tag || pin.tag == wanted.tag)
}

/// How a lock file names an address: whoever asks, it is the same.
pub fn address(url: &str) -> String {
    let scheme = ["https://", "http://"].into_iter().find(|scheme| url.starts_with(scheme));
    let Some(scheme) = scheme else { return without_credentials(url) };
    let rest = &url[scheme.len()..];
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}{host}{path}")
}

/// How a lock file names a reference of a git repository.
pub fn git_name(remote: &str, reference: &str) -> String {
    let remote = address(remote);
    if reference.is_empty() { remote } else { format!("{remote}#{reference}") }
}

#[cfg(test)]
mod tests;
