//! What every build of a process shares.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use kiln_registry::{Client, GitReference};
use kiln_store::Store;

/// The store and the way to registries.
#[derive(Debug)]
pub struct Engine {
    pub(crate) store: Arc<Store>,
    pub(crate) registry: Client,
    /// Where references of git repositories point, by remote and reference: in one process they
    /// point to one place.
    pub(crate) git_references: Mutex<BTreeMap<(String, String), GitReference>>,
}

impl Engine {
    /// An engine over a store.
    pub fn new(store: Arc<Store>, registry: Client) -> Self {
        Self { store, registry, git_references: Mutex::default() }
    }

    /// The way to registries.
    pub fn registry(&self) -> &Client {
        &self.registry
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }
}
