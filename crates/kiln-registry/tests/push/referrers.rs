//! Manifests with a subject, and the lists of them.

use kiln_core::digest::BlobDigest;
use kiln_core::oci::{Descriptor, Index, Referrer, media_type};
use kiln_registry::{BlobSource, BlobUpload, Client, Repository};
use kiln_testkit::registry::{Damage, Fault, Login, Referrers, Registry, Target};
use serde_json::json;

use crate::real::Real;
use crate::support::config;

const SBOM: &str = "application/spdx+json";

/// A manifest that points to `subject`, as bytes.
fn artifact(subject: BlobDigest, kind: &str, number: usize) -> Vec<u8> {
    let empty = json!({
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": BlobDigest::of(b"{}"),
        "size": 2,
    });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "artifactType": kind,
        "config": empty,
        "layers": [empty],
        "subject": {"mediaType": media_type::OCI_MANIFEST, "digest": subject, "size": 1},
        "annotations": {"number": number.to_string()},
    });
    manifest.to_string().into_bytes()
}

/// Pushes five artifacts that point to something, two of them SBOMs; gives their digests.
fn push_all(client: &Client, repository: &Repository, subject: BlobDigest) -> Vec<BlobDigest> {
    let descriptor = Descriptor::new("x", BlobDigest::of(b"{}"), 2);
    let source = &BlobSource::Bytes(b"{}".to_vec());
    let blob = BlobUpload { descriptor: &descriptor, source, mount_from: &[], progress: &|_| () };
    client.push_blob(repository, &blob).unwrap();
    let push = |number: usize| {
        let kind = if number < 2 { SBOM } else { "application/vnd.example.signature" };
        let bytes = artifact(subject, kind, number);
        let digest = BlobDigest::of(&bytes).to_string();
        let manifest = (media_type::OCI_MANIFEST, bytes.as_slice());
        client.push_manifest(repository, &digest, manifest).unwrap()
    };
    let mut pushed: Vec<BlobDigest> = (0..5).map(push).collect();
    // Again, nothing changes.
    push(3);
    pushed.sort();
    pushed
}

fn sorted(found: &[Descriptor]) -> Vec<BlobDigest> {
    let mut digests: Vec<BlobDigest> = found.iter().map(|known| known.digest).collect();
    digests.sort();
    digests
}

/// Pushes and lists, with and without a filter.
fn push_and_list(repository: &Repository) {
    let client = Client::new(config());
    let subject = BlobDigest::of(b"an image");
    assert!(client.referrers(repository, subject, None).unwrap().is_empty());
    let pushed = push_all(&client, repository, subject);
    assert_eq!(sorted(&client.referrers(repository, subject, None).unwrap()), pushed);
    assert_eq!(sorted(&client.pushed_referrers(repository, subject).unwrap()), pushed);
    let boms = client.referrers(repository, subject, Some(SBOM)).unwrap();
    assert_eq!(boms.len(), 2);
    for bom in &boms {
        assert_eq!(bom.artifact_type(), Some(SBOM));
        assert!(bom.annotations.contains_key("number"));
        let there = client.manifest(repository, bom.digest).unwrap();
        assert_eq!(there.descriptor.size, bom.size);
    }
    let other = BlobDigest::of(b"another image");
    assert!(client.referrers(repository, other, None).unwrap().is_empty());
}

fn app(registry: &Registry) -> Repository {
    Repository { registry: registry.host(), name: "app".to_owned() }
}

#[test]
fn registries_list_what_was_pushed() {
    let tag = Referrer::fallback_tag(BlobDigest::of(b"an image"));
    for referrers in [Referrers::Listed, Referrers::Paged(2), Referrers::Paged(5)] {
        let registry = Registry::start();
        registry.list_referrers(referrers);
        push_and_list(&app(&registry));
        assert_eq!(registry.manifest("app", &tag), None, "{referrers:?}");
        assert!(!registry.log().contains("manifests/sha256-"), "{}", registry.log());
    }
}

#[test]
fn where_none_are_listed_an_index_is_kept() {
    let registry = Registry::start();
    registry.list_referrers(Referrers::Unknown);
    push_and_list(&app(&registry));
    let tag = Referrer::fallback_tag(BlobDigest::of(b"an image"));
    let (name, bytes) = registry.manifest("app", &tag).unwrap();
    assert_eq!(name, media_type::OCI_INDEX);
    let index: Index = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(index.manifests.len(), 5);
}

#[test]
fn the_reference_implementation_keeps_an_index() {
    let Some(real) = Real::start() else { return };
    push_and_list(&Repository { registry: real.host.clone(), name: "app".to_owned() });
}

#[test]
fn logins_faults_and_pages_for_people() {
    let registry = Registry::start();
    let login = Login::Token { user: "user".to_owned(), password: "hunter2".to_owned() };
    let directory = tempfile::tempdir().unwrap();
    registry.write_docker_config(directory.path(), &login);
    registry.require(login);
    registry.list_referrers(Referrers::Paged(2));
    let docker_config = Some(directory.path().to_owned());
    let client = Client::new(kiln_registry::Config { docker_config, ..config() });
    let (repository, subject) = (app(&registry), BlobDigest::of(b"an image"));
    let pushed = push_all(&client, &repository, subject);
    let fault = |damage| Fault { target: Target::Referrers, damage };
    for damage in [Damage::CutBeforeHead, Damage::Status(503, Some("0"))] {
        registry.fail(fault(damage), 1);
        assert_eq!(sorted(&client.referrers(&repository, subject, None).unwrap()), pushed);
    }
    registry.fail(fault(Damage::Status(500, Some("0"))), 100);
    assert!(client.referrers(&repository, subject, None).is_err());
}
