//! What these tests share.

use std::io::Write as _;
use std::time::Duration;

use kiln_core::oci::{Descriptor, media_type};
use kiln_registry::{
    BlobSource, BlobUpload, Client, Config, Error, Pushed, Repository, Retries, Timeouts,
};
use kiln_testkit::registry::Registry;
use kiln_testkit::tree::random;

/// Settings for tests: quick retries.
pub(crate) fn config() -> Config {
    Config {
        retries: Retries {
            attempts: 4,
            first_wait: Duration::from_millis(2),
            longest_wait: Duration::from_secs(5),
        },
        timeouts: Timeouts { connect: Duration::from_secs(10), ..Timeouts::default() },
        ..Config::default()
    }
}

/// An empty registry, a client of it, and a file that shall become a blob of `app`.
pub(crate) struct Fixture {
    pub(crate) registry: Registry,
    pub(crate) client: Client,
    pub(crate) bytes: Vec<u8>,
    pub(crate) descriptor: Descriptor,
    file: tempfile::NamedTempFile,
}

impl Fixture {
    pub(crate) fn new(length: usize) -> Self {
        Self::with(length, config())
    }

    pub(crate) fn with(length: usize, config: Config) -> Self {
        let bytes = random(length);
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"before").unwrap();
        file.write_all(&bytes).unwrap();
        file.write_all(b"behind").unwrap();
        let digest = kiln_core::digest::BlobDigest::of(&bytes);
        let descriptor = Descriptor::new(media_type::OCI_LAYER, digest, length as u64);
        Self { registry: Registry::start(), client: Client::new(config), bytes, descriptor, file }
    }

    pub(crate) fn repository(&self, name: &str) -> Repository {
        Repository { registry: self.registry.host(), name: name.to_owned() }
    }

    pub(crate) fn source(&self) -> BlobSource {
        BlobSource::File { path: self.file.path().to_owned(), offset_bytes: 6 }
    }

    /// Pushes the blob to `app`.
    pub(crate) fn push(&self) -> Result<Pushed, Error> {
        self.push_from(&self.source(), &[])
    }

    pub(crate) fn push_from(
        &self,
        source: &BlobSource,
        mount_from: &[Repository],
    ) -> Result<Pushed, Error> {
        let sent = std::cell::Cell::new(0);
        let progress = |bytes| sent.set(bytes);
        let blob =
            BlobUpload { descriptor: &self.descriptor, source, mount_from, progress: &progress };
        let pushed = self.client.push_blob(&self.repository("app"), &blob)?;
        if pushed == Pushed::Sent {
            assert_eq!(sent.get(), self.descriptor.size);
        }
        Ok(pushed)
    }

    /// The registry has the blob, whole.
    pub(crate) fn check(&self) {
        let there = self.registry.blob("app", self.descriptor.digest);
        assert!(there.unwrap() == self.bytes);
    }
}
