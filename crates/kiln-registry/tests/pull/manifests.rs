//! Manifests, indexes and images.

use crate::support::{config, read, reference};
use kiln_core::digest::BlobDigest;
use kiln_core::oci::{Platform, media_type};
use kiln_registry::{Client, Error, Repository};
use kiln_testkit::oci::{self, TestImage};
use kiln_testkit::registry::{Damage, Fault, Registry};
use serde_json::json;

fn image() -> TestImage {
    TestImage::new()
        .layer("file a 0644 one\n")
        .layer("file b 0644 two\n")
        .config(json!({"Env": ["A=b"]}))
}

#[test]
fn an_image_comes_whole() {
    let registry = Registry::start();
    let descriptor = image().push(&registry, "app:1");
    let client = Client::new(config());
    let reference = reference(&registry.reference("app:1"));
    let platform = Platform::new("linux", "amd64", None);
    let image = client.image(&reference, &platform).unwrap();
    assert_eq!(image.resolved.descriptor.digest, descriptor.digest);
    assert_eq!(image.manifest_document, image.resolved);
    assert_eq!(image.config.config.env, Some(vec!["A=b".to_owned()]));
    for layer in &image.manifest.layers {
        let bytes = read(client.blob(&image.repository, layer).unwrap()).unwrap();
        assert_eq!(BlobDigest::of(&bytes), layer.digest);
    }
    assert_eq!(
        registry.log(),
        format!(
            "GET /v2/app/manifests/1\nGET /v2/app/blobs/sha256:{}…\n\
             GET /v2/app/blobs/sha256:{}…\nGET /v2/app/blobs/sha256:{}…\n",
            &image.manifest.config.digest.hex()[..6],
            &image.manifest.layers[0].digest.hex()[..6],
            &image.manifest.layers[1].digest.hex()[..6],
        )
    );
}

#[test]
fn the_platform_chooses_from_an_index() {
    let registry = Registry::start();
    let images = [image(), image().platform("linux/arm64").layer("file c 0644 arm\n")];
    oci::index(&images).push(&registry, "app:1");
    let client = Client::new(config());
    let reference = reference(&registry.reference("app:1"));
    let pulled = client.image(&reference, &Platform::new("linux", "arm64", None)).unwrap();
    assert!(pulled.resolved.is_index());
    assert_eq!(pulled.manifest_document.bytes, images[1].blobs().bytes);
    assert_eq!(pulled.config.architecture, "arm64");
    let error = client.image(&reference, &Platform::new("linux", "s390x", None)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("`{reference}` has no image for linux/s390x; it has linux/amd64, linux/arm64")
    );
}

#[test]
fn pinned_references_get_what_they_are_pinned_to() {
    let registry = Registry::start();
    let digest = image().push(&registry, "app:1").digest;
    let client = Client::new(config());
    let pinned = reference(&registry.reference(&format!("app:2@{digest}")));
    assert_eq!(client.resolve(&pinned).unwrap().descriptor.digest, digest);
    assert_eq!(client.head(&pinned).unwrap(), Some(digest));

    // A registry that has something else under that digest.
    let wrong = BlobDigest::of(b"wrong");
    let bytes = image().blobs().bytes;
    registry.put_manifest("app", Some(&wrong.to_string()), media_type::OCI_MANIFEST, &bytes);
    let pinned = reference(&registry.reference(&format!("app@{wrong}")));
    let claims = Fault::of_manifests(Damage::ClaimsDigest(wrong.to_string()));
    registry.fail(claims, 1);
    for _ in 0..2 {
        let error = client.resolve(&pinned).unwrap_err();
        let Error::DigestMismatch { expected, actual, .. } = error else {
            panic!("{error:?}");
        };
        assert_eq!((expected, actual), (wrong, digest));
    }
    assert!(matches!(client.head(&pinned), Err(Error::DigestMismatch { .. })));
}

#[test]
fn a_tag_is_looked_up_without_its_manifest() {
    let registry = Registry::start();
    let digest = image().push(&registry, "app:1").digest;
    let client = Client::new(config());
    let tag = reference(&registry.reference("app:1"));
    assert_eq!(client.head(&tag).unwrap(), Some(digest));
    assert_eq!(registry.log(), "HEAD /v2/app/manifests/1\n");
    let missing = reference(&registry.reference("app:2"));
    assert!(matches!(client.head(&missing), Err(Error::NotFound { .. })));
    registry.fail(Fault::of_manifests(Damage::Status(405, None)), 1);
    assert_eq!(client.head(&tag).unwrap(), None);
}

#[test]
fn broken_answers_are_asked_for_again() {
    for damage in
        [Damage::CutBeforeHead, Damage::CutInHead, Damage::CutAfter(20), Damage::Status(502, None)]
    {
        let registry = Registry::start();
        let digest = image().push(&registry, "app:1").digest;
        registry.fail(Fault::of_manifests(damage.clone()), 2);
        let client = Client::new(config());
        let resolved = client.resolve(&reference(&registry.reference("app:1"))).unwrap();
        assert_eq!(resolved.descriptor.digest, digest, "{damage:?}");
        assert_eq!(registry.requests().len(), 3);
    }
}

#[test]
fn wrong_answers_are_errors() {
    for (damage, expected) in [
        (Damage::WrongBit, "has digest"),
        (Damage::Shorter(5), "has digest"),
        (Damage::LongerWithoutLength(5), "has digest"),
        (Damage::ClaimsDigest(BlobDigest::of(b"").to_string()), "has digest"),
        (Damage::ClaimsDigest("sha512:00".to_owned()), "not a sha256 digest"),
        (Damage::Status(418, None), "answered 418: TESTED: this was asked for"),
    ] {
        let registry = Registry::start();
        image().push(&registry, "app:1");
        registry.fail(Fault::of_manifests(damage.clone()), 1);
        let client = Client::new(config());
        let error = client.resolve(&reference(&registry.reference("app:1"))).unwrap_err();
        assert!(error.to_string().contains(expected), "{damage:?}: {error}");
    }
}

#[test]
fn what_is_not_there() {
    let registry = Registry::start();
    let client = Client::new(config());
    let missing = reference(&registry.reference("app:1"));
    let error = client.resolve(&missing).unwrap_err();
    assert_eq!(error.to_string(), format!("`{missing}` was not found"));
    assert_eq!(registry.requests().len(), 1);
}

#[test]
fn documents_that_are_no_images() {
    let registry = Registry::start();
    let client = Client::new(config());
    let sha512 = format!("sha512:{}", "0".repeat(128));
    let config_descriptor = json!({"mediaType": "x", "size": 1, "digest": sha512});
    for (document, expected) in [
        (json!({"schemaVersion": 1, "fsLayers": []}), "schema 1"),
        (json!({"schemaVersion": 2, "manifests": [], "config": {}}), "an index and a manifest"),
        (json!({"schemaVersion": 2, "config": config_descriptor, "layers": []}), "not a sha256"),
        (json!({"schemaVersion": 2, "config": {}, "layers": []}), "as an image manifest"),
    ] {
        registry.put_manifest("app", Some("1"), "text/plain", document.to_string().as_bytes());
        let reference = reference(&registry.reference("app:1"));
        let platform = Platform::new("linux", "amd64", None);
        let error = client.image(&reference, &platform).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let endless = vec![b' '; (16 << 20) + 1];
    let digest = registry.put_manifest("app", None, media_type::OCI_MANIFEST, &endless);
    let repository = Repository { registry: registry.host(), name: "app".to_owned() };
    let error = client.manifest(&repository, digest).unwrap_err();
    assert!(error.to_string().contains("it is longer than"), "{error}");
}

#[test]
fn an_index_in_itself_ends() {
    // Deeper than anybody builds; a true circle cannot be made of digests.
    let registry = Registry::start();
    let mut inner = image().blobs().descriptor;
    for _ in 0..6 {
        let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
            "manifests": [inner]});
        let bytes = index.to_string().into_bytes();
        let digest = registry.put_manifest("app", Some("1"), media_type::OCI_INDEX, &bytes);
        inner.media_type = media_type::OCI_INDEX.to_owned();
        inner.digest = digest;
        inner.size = bytes.len() as u64;
    }
    let client = Client::new(config());
    let reference = reference(&registry.reference("app:1"));
    let platform = Platform::new("linux", "amd64", None);
    let error = client.image(&reference, &platform).unwrap_err();
    assert!(error.to_string().contains("is not valid"), "{error}");
}
