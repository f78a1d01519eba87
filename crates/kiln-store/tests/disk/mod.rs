//! Fixtures of the tests of the store.

#![expect(clippy::unwrap_used, reason = "tests")]
#![allow(dead_code, reason = "each test crate uses its part")]

use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;

use kiln_core::cache_key::{KeyPart, KeyParts};
use kiln_core::digest::{BlobDigest, CacheKey, ContentId, DiffId};
use kiln_core::oci::{Descriptor, media_type};
use kiln_store::fsck::{Problem, Repair, fsck};
use kiln_store::{CacheRecord, Layer, StepResult, Store};

pub(crate) static NEVER: AtomicBool = AtomicBool::new(false);

pub(crate) fn new_store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store")).unwrap();
    (directory, store)
}

pub(crate) fn content(text: &str) -> ContentId {
    ContentId::from_bytes(*blake3::hash(text.as_bytes()).as_bytes())
}

pub(crate) fn diff_id(text: &str) -> DiffId {
    DiffId::from_bytes(*BlobDigest::of(text.as_bytes()).as_bytes())
}

pub(crate) fn key(text: &str) -> CacheKey {
    CacheKey::from_bytes(*blake3::hash(text.as_bytes()).as_bytes())
}

pub(crate) fn recipe(text: &str) -> [u8; 32] {
    *blake3::hash(text.as_bytes()).as_bytes()
}

/// A layer with one file that says `text`.
pub(crate) fn layer(store: &Store, text: &str) -> Layer {
    let working = store.layers().begin().unwrap();
    std::fs::write(working.upper.join("file"), text).unwrap();
    store.layers().commit(working, text.as_bytes(), content(text), content("times")).unwrap()
}

pub(crate) fn record(layer: &Layer, recipe_text: &str) -> CacheRecord {
    CacheRecord {
        result: StepResult { layer: layer.id, content: layer.content },
        recipe: recipe(recipe_text),
        parts: KeyParts(vec![KeyPart {
            name: "command".to_owned(),
            value: recipe_text.to_owned(),
        }]),
        created_unix: 1_700_000_000,
        duration_ms: 12,
        name: format!("RUN {recipe_text}"),
    }
}

/// An image of one layer blob; returns the descriptor of its manifest.
pub(crate) fn image(store: &Store, text: &str) -> Descriptor {
    let content = store.content();
    let layer = content.put(text.as_bytes()).unwrap();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{layer}"]}}}}"#
    );
    let config_digest = content.put(config.as_bytes()).unwrap();
    let manifest = format!(
        concat!(
            r#"{{"schemaVersion":2,"mediaType":"{}","#,
            r#""config":{{"mediaType":"{}","digest":"{}","size":{}}},"#,
            r#""layers":[{{"mediaType":"{}","digest":"{}","size":{}}}]}}"#
        ),
        media_type::OCI_MANIFEST,
        media_type::OCI_CONFIG,
        config_digest,
        config.len(),
        media_type::OCI_LAYER,
        layer,
        text.len()
    );
    let digest = content.put(manifest.as_bytes()).unwrap();
    Descriptor::new(media_type::OCI_MANIFEST, digest, manifest.len() as u64)
}

/// This test program again, running only the test `name` with `STORE_ROOT` set.
pub(crate) fn child(name: &str, root: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env("STORE_ROOT", root);
    command
}

/// The root given to a child; `None` in the ordinary run of the test, which is empty then.
pub(crate) fn child_root() -> Option<std::path::PathBuf> {
    std::env::var_os("STORE_ROOT").map(Into::into)
}

/// Runs SQL on the database behind the store's back.
pub(crate) fn sql(store: &Store, statement: &str) {
    let connection = rusqlite::Connection::open(store.root().join("db.sqlite")).unwrap();
    connection.execute_batch(statement).unwrap();
}

/// A layer with the record of a step.
pub(crate) fn recorded(store: &Store, text: &str) -> Layer {
    let made = layer(store, text);
    store.cache_index().record(key(text), &record(&made, text)).unwrap();
    made
}

/// Whether a step has a result.
pub(crate) fn has_record(store: &Store, text: &str) -> bool {
    store.cache_index().lookup_many(&[key(text)]).unwrap()[0].is_some()
}

/// What fsck finds.
pub(crate) fn problems(store: &Store) -> Vec<Problem> {
    fsck(store, Repair::No).unwrap().problems
}
