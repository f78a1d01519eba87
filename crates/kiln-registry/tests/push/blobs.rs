//! Blobs: how they get there.

use kiln_registry::{BlobSource, Client, Error, Pushed};
use kiln_testkit::registry::{Damage, Fault, Locations, Mounts, Registry, Server, Uploads};

use crate::support::{Fixture, config};

#[test]
fn a_blob_is_sent_once() {
    let fixture = Fixture::new(300_000);
    assert_eq!(fixture.push().unwrap(), Pushed::Sent);
    fixture.check();
    assert_eq!(fixture.push().unwrap(), Pushed::Existing);
    insta::assert_snapshot!(fixture.registry.log(), @r"
    HEAD /v2/app/blobs/sha256:b4a142…
    POST /v2/app/blobs/uploads/
    PUT /v2/app/blobs/uploads/u1
    HEAD /v2/app/blobs/sha256:b4a142…
    ");
}

#[test]
fn an_empty_blob_and_one_of_memory() {
    let empty = Fixture::new(0);
    assert_eq!(empty.push().unwrap(), Pushed::Sent);
    empty.check();
    let fixture = Fixture::new(1);
    fixture.push_from(&BlobSource::Bytes(fixture.bytes.clone()), &[]).unwrap();
    fixture.check();
}

#[test]
fn sessions_go_on_where_the_registry_says() {
    for locations in
        [Locations::Relative, Locations::Absolute, Locations::WithQuery, Locations::Elsewhere]
    {
        let fixture = Fixture::new(100_000);
        fixture.registry.take_uploads(Uploads { locations, ..Uploads::default() });
        assert_eq!(fixture.push().unwrap(), Pushed::Sent, "{locations:?}");
        fixture.check();
    }
}

#[test]
fn a_blob_of_the_same_registry_is_mounted() {
    let fixture = Fixture::new(1000);
    fixture.registry.put_blob("base", &fixture.bytes);
    let from = [fixture.repository("base")];
    let nowhere = BlobSource::File { path: "/nonexistent".into(), offset_bytes: 0 };
    assert_eq!(fixture.push_from(&nowhere, &from).unwrap(), Pushed::Mounted);
    fixture.check();
    assert_eq!(fixture.registry.requests().len(), 2);
}

#[test]
fn where_nothing_is_mounted_the_session_is_used() {
    let fixture = Fixture::new(1000);
    fixture.registry.put_blob("base", &fixture.bytes);
    fixture.registry.take_uploads(Uploads { mounts: Mounts::Refused, ..Uploads::default() });
    let from = [fixture.repository("base")];
    // From the repository that it could not be mounted from, through this client.
    let source = BlobSource::Repository(from[0].clone());
    assert_eq!(fixture.push_from(&source, &from).unwrap(), Pushed::Sent);
    fixture.check();
    insta::assert_snapshot!(fixture.registry.log(), @r"
    HEAD /v2/app/blobs/sha256:2829ab…
    POST /v2/app/blobs/uploads/
    GET /v2/base/blobs/sha256:2829ab…
    PUT /v2/app/blobs/uploads/u1
    ");
}

#[test]
fn other_registries_are_not_mounted_from() {
    let fixture = Fixture::new(200_000);
    let other = Registry::start();
    other.put_blob("base", &fixture.bytes);
    let from = kiln_registry::Repository { registry: other.host(), name: "base".to_owned() };
    let source = BlobSource::Repository(from.clone());
    assert_eq!(fixture.push_from(&source, &[from]).unwrap(), Pushed::Sent);
    fixture.check();
    assert_eq!(other.log().lines().count(), 1);
    let posts = fixture.registry.requests();
    assert!(posts.iter().all(|request| !request.path.contains("mount")));
}

#[test]
fn bodies_that_are_too_long_are_sent_in_parts() {
    let fixture = Fixture::new(5 << 20);
    let longest_body = Some(2 << 20);
    fixture.registry.take_uploads(Uploads { longest_body, ..Uploads::default() });
    assert_eq!(fixture.push().unwrap(), Pushed::Sent);
    fixture.check();
    let parts = fixture.registry.requests();
    let parts: Vec<usize> = parts
        .iter()
        .filter(|request| request.method == "PATCH")
        .map(|request| request.body.len())
        .collect();
    assert!(parts.len() >= 3 && parts.iter().all(|length| *length <= 2 << 20), "{parts:?}");
}

#[test]
fn bodies_that_are_always_too_long_are_an_error() {
    let fixture = Fixture::new(3 << 20);
    let longest_body = Some(1000);
    fixture.registry.take_uploads(Uploads { longest_body, ..Uploads::default() });
    let error = fixture.push().unwrap_err();
    assert!(matches!(error, Error::Status { status: 413, .. }), "{error:?}");
}

#[test]
fn a_file_that_is_too_short_or_gone_is_named() {
    let fixture = Fixture::new(1000);
    let short = BlobSource::File { path: "/proc/self/cmdline".into(), offset_bytes: 0 };
    let error = fixture.push_from(&short, &[]).unwrap_err();
    assert!(matches!(error, Error::Unread { .. }), "{error:?}");
    let gone = BlobSource::File { path: "/nonexistent".into(), offset_bytes: 0 };
    let error = fixture.push_from(&gone, &[]).unwrap_err();
    assert_eq!(error.to_string(), "cannot read /nonexistent to send it");
    assert_eq!(fixture.registry.blob("app", fixture.descriptor.digest), None);
}

#[test]
fn many_blobs_at_a_time() {
    let fixture = Fixture::new(100_000);
    let before = fixture.registry.host();
    std::thread::scope(|scope| {
        let pushing: Vec<_> = (0..12)
            .map(|number| {
                let fixture = &fixture;
                scope.spawn(move || {
                    let bytes = kiln_testkit::tree::random(10_000 + number);
                    let descriptor = kiln_core::oci::Descriptor::new(
                        kiln_core::oci::media_type::OCI_LAYER,
                        kiln_core::digest::BlobDigest::of(&bytes),
                        bytes.len() as u64,
                    );
                    let source = BlobSource::Bytes(bytes);
                    let blob = kiln_registry::BlobUpload {
                        descriptor: &descriptor,
                        source: &source,
                        mount_from: &[],
                        progress: &|_| {},
                    };
                    fixture.client.push_blob(&fixture.repository("app"), &blob).unwrap();
                    assert!(fixture.registry.blob("app", descriptor.digest).is_some());
                })
            })
            .collect();
        for pushing in pushing {
            pushing.join().unwrap();
        }
    });
    assert_eq!(before, fixture.registry.host());
}

#[test]
fn a_redirection_is_followed_with_the_body_and_without_credentials() {
    let fixture = Fixture::new(100_000);
    let other = Registry::start();
    // What is redirected there is taken there.
    fixture.registry.fail(
        Fault::of_uploads(
            "POST",
            Damage::RedirectsTo(format!("http://{}/v2/app/blobs/uploads/", other.host())),
        ),
        1,
    );
    assert_eq!(fixture.push().unwrap(), Pushed::Sent);
    assert!(other.blob("app", fixture.descriptor.digest).is_some());
}

#[test]
fn a_cancelled_client_sends_nothing() {
    let fixture = Fixture::new(1000);
    let client = Client::new(config());
    client.cancel();
    let source = fixture.source();
    let blob = kiln_registry::BlobUpload {
        descriptor: &fixture.descriptor,
        source: &source,
        mount_from: &[],
        progress: &|_| {},
    };
    let error = client.push_blob(&fixture.repository("app"), &blob).unwrap_err();
    assert!(matches!(error, Error::Cancelled));
    assert!(fixture.registry.requests().iter().all(|request| request.server != Server::Storage));
}
