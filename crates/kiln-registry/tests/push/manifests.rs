//! Manifests and indexes.

use kiln_core::digest::BlobDigest;
use kiln_core::oci::media_type;
use kiln_registry::Error;
use kiln_testkit::registry::{Damage, Fault};

use crate::support::Fixture;

const EMPTY: &[u8] = br#"{"schemaVersion":2,"manifests":[]}"#;

fn push(fixture: &Fixture, identifier: &str) -> Result<BlobDigest, Error> {
    let document = (media_type::OCI_INDEX, EMPTY);
    fixture.client.push_manifest(&fixture.repository("app"), identifier, document)
}

#[test]
fn by_tag_and_by_digest() {
    let fixture = Fixture::new(1);
    let digest = BlobDigest::of(EMPTY);
    let repository = fixture.repository("app");
    assert_eq!(fixture.client.pushed_digest(&repository, "1").unwrap(), None);
    for identifier in ["1", &digest.to_string()] {
        assert_eq!(push(&fixture, identifier).unwrap(), digest);
        let there = fixture.registry.manifest("app", identifier).unwrap();
        assert_eq!(there, (media_type::OCI_INDEX.to_owned(), EMPTY.to_vec()));
        assert_eq!(fixture.client.pushed_digest(&repository, identifier).unwrap(), Some(digest));
    }
}

#[test]
fn faults_pass_or_are_errors() {
    for damage in [
        Damage::CutBeforeHead,
        Damage::CutInHead,
        Damage::PromisesMore(3),
        Damage::Status(429, Some("0")),
        Damage::Status(500, None),
    ] {
        let fixture = Fixture::new(1);
        let fault = Fault { target: kiln_testkit::registry::Target::PutManifest, damage };
        fixture.registry.fail(fault.clone(), 2);
        push(&fixture, "1").unwrap();
        if !matches!(fault.damage, Damage::PromisesMore(_)) {
            fixture.registry.fail(fault, 100);
            push(&fixture, "2").unwrap_err();
        }
    }
}

#[test]
fn a_wrong_digest_in_the_answer_is_an_error() {
    let fixture = Fixture::new(1);
    let damage = Damage::ClaimsDigest(format!("sha256:{}", "0".repeat(64)));
    let target = kiln_testkit::registry::Target::PutManifest;
    fixture.registry.fail(Fault { target, damage }, 1);
    let error = push(&fixture, "1").unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error:?}");
}

#[test]
fn what_it_names_must_be_there() {
    let fixture = Fixture::new(1);
    let digest = BlobDigest::of(b"x");
    let text = format!(r#"{{"manifests":[{{"digest":"{digest}"}}]}}"#);
    let repository = fixture.repository("app");
    let document = (media_type::OCI_INDEX, text.as_bytes());
    let error = fixture.client.push_manifest(&repository, "1", document).unwrap_err();
    assert!(error.to_string().contains("MANIFEST_BLOB_UNKNOWN"), "{error}");
}
