//! Manifests and indexes as a registry serves them: raw bytes and what they are.

use kiln_core::digest::BlobDigest;
use kiln_core::oci::{Descriptor, Index, Manifest, media_type};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, printable};

/// A manifest or an index whose digest was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Media type, digest and size of the bytes.
    pub descriptor: Descriptor,
    /// The bytes, exactly as the registry has them.
    pub bytes: Vec<u8>,
}

impl Resolved {
    /// Whether it is an index of manifests, and no manifest.
    pub fn is_index(&self) -> bool {
        media_type::is_index(&self.descriptor.media_type)
    }

    /// Reads it as a manifest.
    pub fn manifest(&self) -> Result<Manifest, Error> {
        self.parse("manifest")
    }

    /// Reads it as an index.
    pub fn index(&self) -> Result<Index, Error> {
        self.parse("index")
    }

    fn parse<T: DeserializeOwned>(&self, what: &str) -> Result<T, Error> {
        let place = self.descriptor.digest.to_string();
        parse(&self.bytes, &place).map_err(|error| match error {
            Error::InvalidDocument { url, reason } => {
                Error::InvalidDocument { url, reason: format!("as an image {what}: {reason}") }
            }
            other => other,
        })
    }

    /// What `bytes` from `place` are, by themselves and by the `Content-Type` they came with.
    pub(crate) fn new(bytes: Vec<u8>, content_type: &str, place: &str) -> Result<Self, Error> {
        let document: Value = parse(&bytes, place)?;
        let media_type = media_type_of(&document, content_type)
            .map_err(|reason| Error::InvalidDocument { url: place.to_owned(), reason })?;
        let digest = BlobDigest::of(&bytes);
        let descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
        Ok(Self { descriptor, bytes })
    }
}

/// The media type of a document. Its own `mediaType` goes before the header, because its digest
/// covers it; a document that could be read both ways is refused (CVE-2021-41190).
fn media_type_of(document: &Value, content_type: &str) -> Result<String, String> {
    let is_known = |name: &str| media_type::is_index(name) || media_type::is_manifest(name);
    if document["schemaVersion"] == 1 {
        return Err("it is a manifest of schema 1, which nobody writes any more".to_owned());
    }
    let has_manifests = document.get("manifests").is_some();
    let has_config = document.get("config").is_some() || document.get("layers").is_some();
    if has_manifests && has_config {
        return Err("it claims to be an index and a manifest".to_owned());
    }
    let header = content_type.split(';').next().unwrap_or_default().trim();
    let name = match document.get("mediaType").and_then(Value::as_str) {
        Some(own) => own,
        None if is_known(header) => header,
        None if has_manifests => media_type::OCI_INDEX,
        None if has_config => media_type::OCI_MANIFEST,
        None => header,
    };
    if !is_known(name) {
        let name = printable(name);
        return Err(format!("`{name}` is no media type of an image or an index"));
    }
    if media_type::is_index(name) == has_config || media_type::is_manifest(name) == has_manifests {
        return Err(format!("it is not what its media type `{name}` says"));
    }
    Ok(name.to_owned())
}

/// Reads JSON; a digest that is not sha256 is an error that says so.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8], place: &str) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| match find_foreign_digest(bytes) {
        Some(digest) => {
            Error::UnknownDigest { digest: printable(&digest), place: place.to_owned() }
        }
        None => Error::InvalidDocument { url: place.to_owned(), reason: error.to_string() },
    })
}

fn find_foreign_digest(bytes: &[u8]) -> Option<String> {
    fn find(value: &Value) -> Option<&str> {
        match value {
            Value::Array(items) => items.iter().find_map(find),
            Value::Object(fields) => fields.iter().find_map(|(name, value)| match value {
                Value::String(digest) if name == "digest" && !digest.starts_with("sha256:") => {
                    Some(digest.as_str())
                }
                other => find(other),
            }),
            _ => None,
        }
    }
    let document: Value = serde_json::from_slice(bytes).ok()?;
    find(&document).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media_type(document: &str, content_type: &str) -> String {
        Resolved::new(document.as_bytes().to_vec(), content_type, "x")
            .map_or_else(|error| error.to_string(), |found| found.descriptor.media_type)
    }

    #[test]
    fn what_a_document_is() {
        let index = media_type::OCI_INDEX;
        let manifest = media_type::OCI_MANIFEST;
        assert_eq!(media_type(r#"{"manifests": []}"#, index), index);
        assert_eq!(media_type(r#"{"manifests": []}"#, "text/plain"), index);
        assert_eq!(media_type(r#"{"config": {}}"#, &format!("{manifest}; charset=x")), manifest);
        let docker =
            format!(r#"{{"mediaType": "{}", "config": {{}}}}"#, media_type::DOCKER_MANIFEST);
        assert_eq!(media_type(&docker, manifest), media_type::DOCKER_MANIFEST);
        for (document, content_type, reason) in [
            (r#"{"manifests": [], "layers": []}"#, index, "an index and a manifest"),
            (r#"{"manifests": []}"#, manifest, "not what its media type"),
            (r#"{"config": {}}"#, index, "not what its media type"),
            (r#"{"schemaVersion": 1}"#, "x/y", "schema 1"),
            (r#"{"mediaType": "application/x"}"#, index, "`application/x` is no media type"),
            ("<html>", "text/html", "is not valid"),
            (r#"{"mediaType": "a\u001b[2Jb"}"#, index, "`a[2Jb` is no media type"),
            ("[]", "text/html", "no media type"),
        ] {
            let text = media_type(document, content_type);
            assert!(text.contains(reason), "{text}");
        }
    }

    #[test]
    fn other_digests_are_named() {
        let document = r#"{"schemaVersion": 2, "manifests": [
            {"mediaType": "x", "size": 1, "digest": "sha512:00"}]}"#;
        let resolved = Resolved::new(document.as_bytes().to_vec(), "", "x").unwrap();
        let error = resolved.index().unwrap_err();
        assert!(matches!(&error, Error::UnknownDigest { digest, .. } if digest == "sha512:00"));
        assert!(error.to_string().contains("not a sha256 digest"));
    }
}
