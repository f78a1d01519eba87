//! What the tests of this crate share.

use std::time::Duration;

use kiln_core::digest::BlobDigest;
use kiln_core::oci::{Descriptor, Reference, media_type};
use kiln_registry::{BlobReader, Client, Config, Error, Repository, Retries, Timeouts};
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

/// A registry with one blob, a client of it, and the blob's descriptor.
pub(crate) struct Blob {
    pub(crate) registry: Registry,
    pub(crate) client: Client,
    pub(crate) repository: Repository,
    pub(crate) descriptor: Descriptor,
    pub(crate) bytes: Vec<u8>,
}

impl Blob {
    /// A blob of a million bytes.
    pub(crate) fn new() -> Self {
        Self::with(config())
    }

    /// The same, with other settings.
    pub(crate) fn with(config: Config) -> Self {
        let registry = Registry::start();
        let bytes = random(1_000_000);
        let digest = registry.put_blob("app", &bytes);
        let repository = Repository { registry: registry.host(), name: "app".to_owned() };
        Self {
            registry,
            client: Client::new(config),
            repository,
            descriptor: descriptor(digest, bytes.len()),
            bytes,
        }
    }

    pub(crate) fn open(&self) -> Result<BlobReader, Error> {
        self.client.blob(&self.repository, &self.descriptor)
    }

    /// Reads the blob to its end.
    pub(crate) fn read(&self) -> Result<Vec<u8>, Error> {
        read(self.open()?)
    }

    /// Ranges that were asked for, one per request.
    pub(crate) fn ranges(&self) -> Vec<Option<String>> {
        let requests = self.registry.requests();
        requests.iter().map(|request| request.header("range").map(str::to_owned)).collect()
    }
}

/// Reads to the end; errors are those of the registry crate.
pub(crate) fn read(mut reader: impl std::io::Read) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    match reader.read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Error::from_io(error).expect("an error of this crate")),
    }
}

/// A layer's descriptor.
pub(crate) fn descriptor(digest: BlobDigest, size: usize) -> Descriptor {
    Descriptor::new(media_type::OCI_LAYER, digest, size as u64)
}

/// A reference.
pub(crate) fn reference(text: &str) -> Reference {
    text.parse().expect("a reference")
}
