//! Manifests that point to another one: signatures, SBOMs and other artifacts (image-spec 1.1,
//! `subject`; distribution-spec 1.1, "Listing Referrers").

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Descriptor, media_type};
use crate::digest::BlobDigest;

/// A manifest or an index that has a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// What it points to.
    pub subject: BlobDigest,
    /// The manifest itself, with its artifact type and annotations.
    pub descriptor: Descriptor,
}

/// The field of a descriptor that says what an artifact is.
const ARTIFACT_TYPE: &str = "artifactType";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    artifact_type: Option<String>,
    subject: Option<Subject>,
    config: Option<Config>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Subject {
    digest: BlobDigest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    media_type: String,
}

impl Referrer {
    /// What the bytes of a manifest or an index point to; `None` if they have no subject, or one
    /// whose digest is not sha256.
    pub fn of(media_type: &str, bytes: &[u8]) -> Option<Self> {
        let document: Document = serde_json::from_slice(bytes).ok()?;
        let subject = document.subject?.digest;
        let of_config = || {
            let config = document.config.filter(|_| !media_type::is_index(media_type))?;
            Some(config.media_type)
        };
        let artifact_type =
            document.artifact_type.filter(|name| !name.is_empty()).or_else(of_config);
        let digest = BlobDigest::of(bytes);
        let mut descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
        descriptor.annotations = document.annotations;
        if let Some(name) = artifact_type {
            descriptor.other.insert(ARTIFACT_TYPE.to_owned(), name.into());
        }
        Some(Self { subject, descriptor })
    }

    /// The tag under which registries without a list of referrers keep one.
    pub fn fallback_tag(subject: BlobDigest) -> String {
        format!("sha256-{}", subject.hex())
    }
}

impl Descriptor {
    /// What an artifact is, if its descriptor says so.
    pub fn artifact_type(&self) -> Option<&str> {
        self.other.get(ARTIFACT_TYPE)?.as_str()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn referrer(document: &serde_json::Value, media_type: &str) -> Option<Referrer> {
        Referrer::of(media_type, document.to_string().as_bytes())
    }

    #[test]
    fn an_artifact_is_what_it_says_or_what_its_config_is() {
        let subject = BlobDigest::of(b"image");
        let mut document = json!({
            "schemaVersion": 2,
            "artifactType": "application/spdx+json",
            "config": {"mediaType": "application/vnd.oci.empty.v1+json"},
            "annotations": {"a": "b"},
            "subject": {"mediaType": media_type::OCI_MANIFEST, "digest": subject, "size": 5},
        });
        let found = referrer(&document, media_type::OCI_MANIFEST).unwrap();
        assert_eq!(found.subject, subject);
        assert_eq!(found.descriptor.artifact_type(), Some("application/spdx+json"));
        assert_eq!(found.descriptor.annotations["a"], "b");
        let text = document.to_string();
        assert_eq!(found.descriptor.digest, BlobDigest::of(text.as_bytes()));
        document["artifactType"] = "".into();
        let found = referrer(&document, media_type::OCI_MANIFEST).unwrap();
        assert_eq!(found.descriptor.artifact_type(), Some("application/vnd.oci.empty.v1+json"));
        let found = referrer(&document, media_type::OCI_INDEX).unwrap();
        assert_eq!(found.descriptor.artifact_type(), None);
    }

    #[test]
    fn what_has_no_subject_is_none() {
        assert_eq!(referrer(&json!({"layers": []}), media_type::OCI_MANIFEST), None);
        let foreign = json!({"subject": {"digest": "sha512:00"}});
        assert_eq!(referrer(&foreign, media_type::OCI_MANIFEST), None);
        let tag = Referrer::fallback_tag(BlobDigest::of(b""));
        assert_eq!(tag, format!("sha256-{}", BlobDigest::of(b"").hex()));
    }
}
