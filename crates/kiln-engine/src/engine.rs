//! What every build of a process shares.

use std::ffi::OsString;
use std::sync::Arc;

use kiln_registry::Client;
use kiln_store::Store;

/// The store, the way to registries, and the host's tools.
#[derive(Debug)]
pub struct Engine {
    pub(crate) store: Arc<Store>,
    pub(crate) registry: Client,
    pub(crate) search_path: OsString,
}

impl Engine {
    /// An engine over a store. Emulators of other machines are looked for along `search_path`, a
    /// value of `PATH`.
    pub fn new(store: Arc<Store>, registry: Client, search_path: OsString) -> Self {
        Self { store, registry, search_path }
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
