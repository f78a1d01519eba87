//! What every build of a process shares.

use std::sync::Arc;

use kiln_registry::Client;
use kiln_store::Store;

/// The store and the way to registries.
#[derive(Debug)]
pub struct Engine {
    pub(crate) store: Arc<Store>,
    pub(crate) registry: Client,
}

impl Engine {
    /// An engine over a store.
    pub fn new(store: Arc<Store>, registry: Client) -> Self {
        Self { store, registry }
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
