//! Mirrors that help, and mirrors that do not.

use kiln_core::oci::Platform;
use kiln_registry::{BlobSource, BlobUpload, Client, Config, Error, Repository, RouteFiles};
use kiln_testkit::oci::TestImage;
use kiln_testkit::registry::{Damage, Fault, Login, Registry};

use crate::support::{config, descriptor, read, reference};

/// An origin, a mirror of it, and a client that knows both.
struct Mirrored {
    origin: Registry,
    mirror: Registry,
    config: Config,
    _directory: tempfile::TempDir,
}

impl Mirrored {
    fn new() -> Self {
        let (origin, mirror) = (Registry::start(), Registry::start());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kiln.toml");
        let (from, to) = (origin.host(), mirror.host());
        std::fs::write(&path, format!("[registry.\"{from}\"]\nmirrors = [\"{to}\"]\n")).unwrap();
        let routes = RouteFiles { user_settings: Some(path), ..RouteFiles::default() };
        let config = Config { routes, ..config() };
        Self { origin, mirror, config, _directory: directory }
    }

    fn client(&self) -> Client {
        Client::new(self.config.clone())
    }

    fn repository(&self) -> Repository {
        Repository { registry: self.origin.host(), name: "app".to_owned() }
    }

    /// Pulls `app:1` as a whole; gives how many requests origin and mirror got.
    fn pull(&self, image: &TestImage) -> (usize, usize) {
        let client = self.client();
        let name = reference(&self.origin.reference("app:1"));
        let pulled = client.image(&name, &Platform::new("linux", "amd64", None)).unwrap();
        let blobs = image.blobs();
        assert!(pulled.manifest_document.bytes == blobs.bytes);
        assert!(pulled.config_bytes == blobs.parts[0].1);
        for (layer, (_, bytes)) in pulled.manifest.layers.iter().zip(&blobs.parts[1..]) {
            assert!(read(client.blob(&pulled.repository, layer).unwrap()).unwrap() == *bytes);
        }
        (self.origin.requests().len(), self.mirror.requests().len())
    }
}

fn image() -> TestImage {
    TestImage::new().layer("file big 0644 @random:300000\n")
}

#[test]
fn a_mirror_that_has_all_spares_the_origin() {
    let both = Mirrored::new();
    image().push(&both.mirror, "app:1");
    assert_eq!(both.pull(&image()), (0, 3));
}

#[test]
fn a_mirror_that_has_nothing_is_passed() {
    let both = Mirrored::new();
    image().push(&both.origin, "app:1");
    assert_eq!(both.pull(&image()), (3, 3));
}

#[test]
fn a_mirror_that_fails_is_asked_once() {
    for damage in [
        Damage::CutBeforeHead,
        Damage::CutInHead,
        Damage::CutAfter(10),
        Damage::PromisesMore(5),
        Damage::Status(500, None),
    ] {
        let both = Mirrored::new();
        image().push(&both.origin, "app:1");
        image().push(&both.mirror, "app:1");
        both.mirror.fail(Fault::of_manifests(damage.clone()), 9);
        assert_eq!(both.pull(&image()), (3, 1), "{damage:?}");
    }
}

#[test]
fn a_manifest_that_is_not_the_pinned_one_comes_from_the_origin() {
    let both = Mirrored::new();
    image().push(&both.origin, "app:1");
    let blobs = image().blobs();
    image().push(&both.mirror, "app:1");
    both.mirror.fail(Fault::of_manifests(Damage::Shorter(3)), 9);
    let digest = kiln_core::digest::BlobDigest::of(&blobs.bytes);
    let resolved = both.client().manifest(&both.repository(), digest).unwrap();
    assert!(resolved.bytes == blobs.bytes);
}

#[test]
fn what_a_mirror_breaks_off_goes_on_at_the_origin() {
    let both = Mirrored::new();
    let bytes = kiln_testkit::tree::random(1_000_000);
    let digest = both.origin.put_blob("app", &bytes);
    both.mirror.put_blob("app", &bytes);
    both.mirror.fail(Fault::of_blobs(Damage::CutAfter(400_000)), 9);
    let layer = descriptor(digest, bytes.len());
    let found = read(both.client().blob(&both.repository(), &layer).unwrap()).unwrap();
    assert!(found == bytes);
    let range = both.origin.requests()[0].header("range").map(str::to_owned);
    assert_eq!(range.as_deref(), Some("bytes=400000-"));
    assert_eq!(both.mirror.requests().len(), 1);
}

#[test]
fn wrong_bytes_of_a_mirror_are_never_taken() {
    let both = Mirrored::new();
    let bytes = kiln_testkit::tree::random(100_000);
    let digest = both.origin.put_blob("app", &bytes);
    both.mirror.replace_blob("app", digest, &kiln_testkit::tree::random(200_000)[100_000..]);
    let layer = descriptor(digest, bytes.len());
    let client = both.client();
    // A small document is simply asked for again.
    assert!(client.document_blob(&both.repository(), &layer).unwrap() == bytes);
    // A stream has gone out already: an error, and the next attempt is the origin's.
    let client = both.client();
    let error = read(client.blob(&both.repository(), &layer).unwrap()).unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    assert!(read(client.blob(&both.repository(), &layer).unwrap()).unwrap() == bytes);
}

#[test]
fn a_mirror_sees_no_login_of_the_origin() {
    for asks in [false, true] {
        let mut both = Mirrored::new();
        image().push(&both.origin, "app:1");
        let login = Login::Basic { user: "user".to_owned(), password: "hunter2".to_owned() };
        both.origin.require(login.clone());
        if asks {
            both.mirror.require(login.clone());
        }
        let directory = tempfile::tempdir().unwrap();
        both.origin.write_docker_config(directory.path(), &login);
        both.config.docker_config = Some(directory.path().to_owned());
        both.pull(&image());
        let seen = both.mirror.requests();
        assert!(!seen.is_empty());
        assert!(seen.iter().all(|request| request.header("authorization").is_none()));
    }
}

#[test]
fn pushes_go_to_the_origin_alone() {
    let both = Mirrored::new();
    let bytes = b"content".to_vec();
    let digest = both.mirror.put_blob("app", &bytes);
    let layer = descriptor(digest, bytes.len());
    let blob = BlobUpload {
        descriptor: &layer,
        source: &BlobSource::Bytes(bytes.clone()),
        mount_from: &[],
        progress: &|_| (),
    };
    both.client().push_blob(&both.repository(), &blob).unwrap();
    assert_eq!(both.origin.blob("app", digest), Some(bytes));
    assert!(both.mirror.requests().is_empty());
}
