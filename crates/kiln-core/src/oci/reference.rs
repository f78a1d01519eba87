//! Image references: `[registry/]repository[:tag][@digest]`, with Docker's defaults.
//!
//! Source: distribution/reference grammar; Docker's normalisation of familiar names.

use std::fmt;
use std::str::FromStr;

use crate::digest::BlobDigest;

/// Why a text is no reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid reference format: `{text}`: {reason}")]
pub struct ReferenceError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Where an image is, normalised: `python` is `docker.io/library/python:latest`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// Host and optional port.
    pub registry: String,
    /// Path within the registry.
    pub repository: String,
    /// Tag; `latest` when neither tag nor digest was written.
    pub tag: Option<String>,
    /// Digest of the manifest or index.
    pub digest: Option<BlobDigest>,
}

const DEFAULT_REGISTRY: &str = "docker.io";

impl Reference {
    /// What to ask a registry for: the digest if there is one, else the tag.
    pub fn identifier(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// The name as Docker's commands show it: without the default registry and `library/`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let short = full.strip_prefix("docker.io/").unwrap_or(&full);
        short.strip_prefix("library/").unwrap_or(short).to_owned()
    }

    /// Whether the registry is on this machine, so that plain HTTP is tried.
    pub fn is_loopback(&self) -> bool {
        let host = self.registry.rsplit_once(':').map_or(self.registry.as_str(), |(host, _)| host);
        host == "localhost" || host.starts_with("127.") || host == "[::1]"
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let fail = |reason| ReferenceError { text: text.to_owned(), reason };
        if text.is_empty() {
            return Err(fail("it is empty"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                (rest, Some(digest.parse().map_err(|_| fail("the digest is not sha256"))?))
            }
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.to_owned())),
            _ => (rest, None),
        };
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err(fail("the tag may only hold letters, digits, `_`, `.` and `-`"));
        }
        let (registry, repository) = match name.split_once('/') {
            Some((host, path)) if is_host(host) => (host.to_owned(), path.to_owned()),
            Some(_) => (DEFAULT_REGISTRY.to_owned(), name.to_owned()),
            None => (DEFAULT_REGISTRY.to_owned(), format!("library/{name}")),
        };
        let registry = match registry.as_str() {
            "index.docker.io" => DEFAULT_REGISTRY.to_owned(),
            _ => registry,
        };
        let repository = if registry == DEFAULT_REGISTRY && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository
        };
        if repository.chars().any(|c| c.is_ascii_uppercase()) {
            return Err(fail("repository name must be lowercase"));
        }
        if !repository.split('/').all(is_path_component) {
            return Err(fail("the repository name is not valid"));
        }
        let tag = match (&tag, &digest) {
            (None, None) => Some("latest".to_owned()),
            _ => tag,
        };
        Ok(Self { registry, repository, tag, digest })
    }
}

fn is_host(text: &str) -> bool {
    text == "localhost" || text.contains(['.', ':']) || text.chars().any(|c| c.is_ascii_uppercase())
}

fn is_tag(text: &str) -> bool {
    let mut characters = text.chars();
    let first = characters.next().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    first && text.len() <= 128 && characters.all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

fn is_path_component(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    edge(text.chars().next())
        && edge(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
        && !text.contains("..")
        && !text.contains("___")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> String {
        text.parse::<Reference>().map_or_else(|error| error.to_string(), |r| r.to_string())
    }

    #[test]
    fn names_are_normalised_like_dockers() {
        assert_eq!(parse("python"), "docker.io/library/python:latest");
        assert_eq!(parse("python:3.12-slim"), "docker.io/library/python:3.12-slim");
        assert_eq!(parse("docker.io/python"), "docker.io/library/python:latest");
        assert_eq!(parse("a/b"), "docker.io/a/b:latest");
        assert_eq!(parse("localhost:5000/a"), "localhost:5000/a:latest");
        assert_eq!(parse("ghcr.io/a/b:1"), "ghcr.io/a/b:1");
        let pinned = format!("ghcr.io/a/b@sha256:{}", "0".repeat(64));
        assert_eq!(parse(&pinned), pinned);
    }

    #[test]
    fn what_is_no_name_is_refused_with_a_reason() {
        for bad in ["", "UPPER", "a b", "a/../b", "a:", "a@sha256:0", "/a", "a/", "-a"] {
            assert!(parse(bad).contains("invalid reference format"), "{bad}");
        }
    }

    #[test]
    fn familiar_names_are_short() {
        let familiar = |text: &str| text.parse::<Reference>().expect("valid").familiar();
        assert_eq!(familiar("python"), "python:latest");
        assert_eq!(familiar("a/b"), "a/b:latest");
        assert_eq!(familiar("localhost:5000/a"), "localhost:5000/a:latest");
    }
}
