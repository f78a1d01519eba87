//! Shared caches in object stores: S3, GitHub's Actions cache, Azure Blob Storage.
//!
//! A cache is one manifest by its name, and blobs by their digests; both are objects. Requests are
//! signed here and go through the same transport as those to registries: its certificates, proxies
//! and retries. A blob that is read is verified as every other ([`BlobReader`]).
//!
//! A place has no secrets in it and can be written down ([`ObjectPlace::to_text`]); what lets the client
//! in is given with the cache's options, or is found in the environment and its files when it
//! is first needed.
//!
//! What it does NOT do: it deletes nothing, makes no buckets and containers, and follows no
//! redirections (their targets would need other signatures). An object is written by one request.

mod actions;
mod answer;
mod aws;
mod azure;
mod options;
mod s3;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use kiln_core::digest::BlobDigest;
use kiln_core::oci::Descriptor;
use serde::{Deserialize, Serialize};

use crate::auth::Secret;
use crate::blob::{BlobReader, Origin};
use crate::client::Client;
use crate::error::Error;
use crate::exchange::Exchange;
use crate::http::{Body, Response};
use crate::retry::{Again, Failure};

pub(crate) use answer::hint;
pub use options::{ObjectCache, ObjectKind};

/// Manifests of caches are not longer than this.
const MANIFEST_BYTES: u64 = 16 << 20;

/// All three take this much in one request.
const OBJECT_BYTES: u64 = 5000 << 20;

/// What is told of the environment.
#[derive(Clone, Default)]
pub struct ObjectSettings {
    /// The variables of [`VARIABLES`](Self::VARIABLES) that are set and not empty.
    pub variables: BTreeMap<String, String>,
    /// The home directory, with `.aws/`.
    pub home: Option<PathBuf>,
}

impl ObjectSettings {
    /// Variables that say where object stores are and how they let the client in.
    pub const VARIABLES: [&str; 22] = [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_BUCKET",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_PROFILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_CONFIG_FILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "ACTIONS_RESULTS_URL",
        "ACTIONS_RUNTIME_TOKEN",
        "BUILDKIT_AZURE_STORAGE_ACCOUNT_URL",
        "BUILDKIT_AZURE_STORAGE_ACCOUNT_NAME",
        "BUILDKIT_AZURE_STORAGE_CONTAINER",
        "BUILDKIT_AZURE_STORAGE_PREFIX",
        "AZURE_STORAGE_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
    ];

    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl fmt::Debug for ObjectSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectSettings").field("home", &self.home).finish_non_exhaustive()
    }
}

/// Where the objects of a cache are. Holds no secrets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectPlace {
    /// A bucket.
    S3(s3::Bucket),
    /// The cache of a repository's workflows.
    Gha(actions::ActionsCache),
    /// A container of blobs.
    Azblob(azure::Container),
}

impl ObjectPlace {
    /// A text that [`parse`](Self::parse) reads, and that names no repository.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("a place is JSON")
    }

    /// Reads what [`to_text`](Self::to_text) wrote; `None` if it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        if text.starts_with('{') { serde_json::from_str(text).ok() } else { None }
    }

    /// The head of an answer that is a success or a range that can't be had (416), its body to be
    /// read.
    pub(crate) fn read(
        &self,
        exchange: &Exchange,
        key: &Key,
        offset_bytes: u64,
    ) -> Result<Response, Failure> {
        let secrets = exchange.object_keys().of(self, exchange)?;
        match self {
            Self::S3(bucket) => bucket.read((exchange, &secrets), key, offset_bytes),
            Self::Gha(cache) => cache.read((exchange, &secrets), key, offset_bytes),
            Self::Azblob(container) => container.read((exchange, &secrets), key, offset_bytes),
        }
    }

    fn find(&self, exchange: &Exchange, key: &Key) -> Result<Found, Failure> {
        let secrets = exchange.object_keys().of(self, exchange)?;
        match self {
            Self::S3(bucket) => bucket.find((exchange, &secrets), key),
            Self::Gha(cache) => cache.find((exchange, &secrets), key),
            Self::Azblob(container) => container.find((exchange, &secrets), key),
        }
    }

    fn write(&self, exchange: &Exchange, object: &Object<'_>) -> Result<(), Error> {
        let secrets = exchange.object_keys().of(self, exchange)?;
        let access = (exchange, &*secrets);
        match self {
            Self::S3(bucket) => exchange.retrying(|| bucket.write(access, object)),
            Self::Gha(cache) => cache.write(access, object),
            Self::Azblob(container) => exchange.retrying(|| container.write(access, object)),
        }
    }
}

impl fmt::Display for ObjectPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3(bucket) => bucket.fmt(f),
            Self::Gha(cache) => cache.fmt(f),
            Self::Azblob(container) => container.fmt(f),
        }
    }
}

/// What an object holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// A blob.
    Blob(BlobDigest),
    /// The manifest of a cache of this name.
    Manifest(String),
}

/// An object that is to be written.
struct Object<'a> {
    key: Key,
    /// Of its bytes.
    digest: BlobDigest,
    body: Body<'a>,
}

/// What is known of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// It is not there, or may not be looked for.
    Nothing,
    /// It was written then, if the store says so.
    Since(Option<SystemTime>),
}

/// What is shown to a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Secrets {
    /// To S3.
    Aws(aws::AccessKey),
    /// To GitHub.
    Token(Secret),
    /// To Azure: the account's key.
    AccountKey(Secret),
    /// To Azure: the query of a URL.
    Signature(Secret),
}

/// How a request is made.
type Access<'a> = (&'a Exchange, &'a Secrets);

/// What stores are shown, by place.
#[derive(Debug, Default)]
pub(crate) struct ObjectKeys(Mutex<HashMap<ObjectPlace, Arc<Secrets>>>);

impl ObjectKeys {
    fn give(&self, place: &ObjectPlace, secrets: Secrets) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(place.clone(), Arc::new(secrets));
    }

    /// What was given, or what the environment says.
    fn of(&self, place: &ObjectPlace, exchange: &Exchange) -> Result<Arc<Secrets>, Error> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(secrets) = known.get(place) {
            return Ok(Arc::clone(secrets));
        }
        let settings = &exchange.config().objects;
        let secrets = match place {
            ObjectPlace::S3(_) => aws::find(settings).map(Secrets::Aws),
            ObjectPlace::Gha(_) => actions::find(settings),
            ObjectPlace::Azblob(_) => azure::find(settings),
        };
        let wrong = |reason| Error::ObjectLogin { place: place.to_string(), reason };
        let secrets = Arc::new(secrets.map_err(wrong)?);
        known.insert(place.clone(), Arc::clone(&secrets));
        Ok(secrets)
    }
}

impl Client {
    /// Uses the access that a cache's options give, if they do.
    pub fn use_objects(&self, cache: &ObjectCache) {
        if let Some(secrets) = &cache.secrets {
            self.exchange().object_keys().give(&cache.place, secrets.clone());
        }
    }

    /// The manifest of a cache.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none of this name; what keeps the store from being read.
    pub fn object_manifest(&self, place: &ObjectPlace, name: &str) -> Result<Vec<u8>, Error> {
        let key = Key::Manifest(name.to_owned());
        let exchange = self.exchange();
        exchange.retrying(|| {
            let response = place.read(exchange, &key, 0)?;
            let announced = response.content_length().unwrap_or(0);
            let url = format!("`{name}` in {place}");
            let bytes = response.read(MANIFEST_BYTES + 1).map_err(|source| Failure {
                error: Error::Interrupted {
                    url: url.clone(),
                    received_bytes: 0,
                    expected_bytes: announced,
                    source,
                },
                again: Again::Later,
            })?;
            if bytes.len() as u64 > MANIFEST_BYTES {
                let reason = format!("it is longer than {MANIFEST_BYTES} bytes");
                return Err(Error::InvalidDocument { url, reason }.into());
            }
            Ok(bytes)
        })
    }

    /// A blob of a cache, as [`blob`](Self::blob).
    pub fn object_blob(
        &self,
        place: &ObjectPlace,
        descriptor: &Descriptor,
    ) -> Result<BlobReader, Error> {
        let permit = self.exchange().permit(&place.to_string())?;
        let origin = Origin::Objects(place.clone());
        BlobReader::open(Arc::clone(self.exchange()), origin, descriptor, Some(permit))
    }

    /// Whether a cache has a blob; one that was written longer ago than `touch_after` is made new, so
    /// that rules which delete what is old leave it.
    ///
    /// # Errors
    /// What keeps the store from being asked.
    pub fn has_object(
        &self,
        place: &ObjectPlace,
        digest: BlobDigest,
        touch_after: Duration,
    ) -> Result<bool, Error> {
        let exchange = self.exchange();
        let key = Key::Blob(digest);
        let Found::Since(written) = exchange.retrying(|| place.find(exchange, &key))? else {
            return Ok(false);
        };
        let age = written.and_then(|written| written.elapsed().ok());
        if let (ObjectPlace::S3(bucket), Some(age)) = (place, age)
            && age > touch_after
        {
            let secrets = exchange.object_keys().of(place, exchange)?;
            exchange.retrying(|| bucket.touch((exchange, &secrets), &key))?;
        }
        Ok(true)
    }

    /// Writes a blob that is in a file; `progress` is told how many of its bytes were sent.
    ///
    /// # Errors
    /// When the file can't be read, or the store doesn't take it.
    pub fn push_object(
        &self,
        place: &ObjectPlace,
        (descriptor, file): (&Descriptor, &Path),
        progress: &dyn Fn(u64),
    ) -> Result<(), Error> {
        if descriptor.size > OBJECT_BYTES {
            let url = format!("{} in {place}", descriptor.digest);
            let reason = format!("kiln writes no objects longer than {OBJECT_BYTES} bytes");
            return Err(Error::InvalidDocument { url, reason });
        }
        let open = || {
            let opened = File::open(file);
            let opened =
                opened.map_err(|source| Error::ReadFile { path: file.to_owned(), source })?;
            Ok(Box::new(opened) as Box<dyn Read>)
        };
        let body = Body {
            content_type: "application/octet-stream",
            first_byte: None,
            length_bytes: descriptor.size,
            open: &open,
            progress,
        };
        let (key, digest) = (Key::Blob(descriptor.digest), descriptor.digest);
        place.write(self.exchange(), &Object { key, digest, body })
    }

    /// Writes the manifest of a cache.
    ///
    /// # Errors
    /// When the store doesn't take it.
    pub fn push_object_manifest(
        &self,
        place: &ObjectPlace,
        name: &str,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let open = || Ok(Box::new(Cursor::new(bytes.to_vec())) as Box<dyn Read>);
        let body = Body {
            content_type: "application/json",
            first_byte: None,
            length_bytes: bytes.len() as u64,
            open: &open,
            progress: &|_| {},
        };
        let (key, digest) = (Key::Manifest(name.to_owned()), BlobDigest::of(bytes));
        place.write(self.exchange(), &Object { key, digest, body })
    }
}
