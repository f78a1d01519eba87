//! What every build of a process shares.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use kiln_registry::{Client, GitReference};
use kiln_store::Store;

use crate::error::BuildError;
use crate::working_tree::Watch;

/// How often it is looked whether something was cancelled.
const CANCEL_POLL: Duration = Duration::from_millis(30);

/// The store, the way to registries, and the host's tools.
#[derive(Debug)]
pub struct Engine {
    pub(crate) store: Arc<Store>,
    pub(crate) registry: Client,
    pub(crate) search_path: OsString,
    /// Where references of git repositories point, by remote and reference: in one process they
    /// point to one place.
    pub(crate) git_references: Mutex<BTreeMap<(String, String), GitReference>>,
    /// What git says of the working tree of a build.
    pub(crate) working_tree: Watch,
}

impl Engine {
    /// An engine over a store. Emulators of other machines are looked for along `search_path`, a
    /// value of `PATH`.
    pub fn new(store: Arc<Store>, registry: Client, search_path: OsString) -> Self {
        let (git_references, working_tree) = (Mutex::default(), Watch::default());
        Self { store, registry, search_path, git_references, working_tree }
    }

    /// Completes the record of the last build, when its user knows the result.
    pub fn complete_history(&self) {
        self.working_tree.end(&self.store);
    }

    /// Cancels what is spoken with registries once the flag is set, until the result is dropped: who
    /// waits for a registry sees no flag.
    pub(crate) fn cancel_registry_with(&self, cancelled: &Arc<AtomicBool>) -> mpsc::Sender<()> {
        let (running, ended) = mpsc::channel::<()>();
        let flag = Arc::clone(cancelled);
        self.registry.on_use(move |registry| {
            std::thread::spawn(move || {
                while ended.recv_timeout(CANCEL_POLL) == Err(mpsc::RecvTimeoutError::Timeout) {
                    if flag.load(Ordering::Relaxed) {
                        return registry.cancel();
                    }
                }
            });
        });
        running
    }

    /// Forgets a layer that turned out to be lost, so that the next build makes it.
    pub(crate) fn forget_lost<T>(&self, result: Result<T, BuildError>) -> Result<T, BuildError> {
        if let Err(BuildError::LostLayer { digest, .. }) = &result {
            self.store.layers().forget_archive(digest)?;
        }
        result
    }

    /// The same store and registries, for a thread that may outlive a build.
    pub(crate) fn share(&self) -> Self {
        Self::new(Arc::clone(&self.store), self.registry.clone(), self.search_path.clone())
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
