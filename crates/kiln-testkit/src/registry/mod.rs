//! A registry in the test's own process, on a loopback port (OCI distribution-spec 1.1, pulling
//! and pushing), that can be told to fail.
//!
//! Content is put in through methods or pushed. Every request is recorded. Faults
//! are taken in the order in which they were given: the first one that applies to a request and
//! has times left is used for it. All ends when the [`Registry`] is dropped.

mod fault;
mod login;
mod referrers;
mod serve;
mod upload;
pub(crate) mod wire;

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use kiln_core::digest::BlobDigest;

pub use fault::{Damage, Fault, Target};
pub use login::{ExchangeBy, Login};
pub use referrers::Referrers;
pub use upload::{Locations, Mounts, Uploads};

/// One request, as the registry saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which of the two servers: the registry, or where it redirects blobs to.
    pub server: Server,
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, as far as it came.
    pub body: Vec<u8>,
}

impl Request {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The path without its query.
    pub fn bare_path(&self) -> &str {
        self.path.split('?').next().unwrap_or_default()
    }
}

/// Who was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// The registry, and its token service at `/token`.
    Registry,
    /// The storage on another port, to which blobs can be redirected.
    Storage,
}

/// How blobs are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Blobs {
    /// By the registry.
    #[default]
    Direct,
    /// By a redirection to another port.
    Redirected,
}

/// A registry that runs until it is dropped.
#[derive(Debug)]
pub struct Registry {
    state: Arc<State>,
}

#[derive(Debug)]
pub(crate) struct State {
    registry: SocketAddr,
    storage: SocketAddr,
    stopped: AtomicBool,
    content: Mutex<Content>,
    released: Condvar,
}

type Bytes = Arc<Vec<u8>>;

#[derive(Debug, Default)]
pub(crate) struct Content {
    /// By repository and digest.
    blobs: HashMap<(String, BlobDigest), Bytes>,
    /// Media type and bytes, by repository and tag or digest.
    manifests: HashMap<(String, String), (String, Bytes)>,
    faults: Vec<(Fault, u32)>,
    login: Login,
    serving: Blobs,
    referrers: Referrers,
    /// What its paths begin with, in place of `/v2`.
    base: Option<String>,
    tokens: Vec<login::IssuedToken>,
    /// How many tokens there ever were.
    issued: u32,
    uploading: Uploads,
    /// Sessions by their number.
    sessions: HashMap<u32, upload::Session>,
    /// How many sessions there ever were.
    begun: u32,
    requests: Vec<Request>,
    is_released: bool,
}

impl State {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until [`Registry::release`] or the end.
    pub(crate) fn hang(&self) {
        let mut content = self.lock();
        while !content.is_released && !self.stopped.load(Ordering::SeqCst) {
            content = self.released.wait(content).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Registry {
    /// Starts an empty registry that anybody may read.
    pub fn start() -> Self {
        let [registry, storage] = [(); 2]
            .map(|()| TcpListener::bind("127.0.0.1:0").expect("a loopback port should be free"));
        let address =
            |listener: &TcpListener| listener.local_addr().expect("a listener has an address");
        let state = Arc::new(State {
            registry: address(&registry),
            storage: address(&storage),
            stopped: AtomicBool::new(false),
            content: Mutex::default(),
            released: Condvar::new(),
        });
        for (listener, server) in [(registry, Server::Registry), (storage, Server::Storage)] {
            let state = Arc::clone(&state);
            thread::spawn(move || accept(&listener, server, &state));
        }
        Self { state }
    }

    /// Host and port, as in references.
    pub fn host(&self) -> String {
        self.state.registry.to_string()
    }

    /// A reference to something in it, such as `app:1`.
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.host())
    }

    /// Puts a blob into a repository.
    pub fn put_blob(&self, repository: &str, bytes: &[u8]) -> BlobDigest {
        let digest = BlobDigest::of(bytes);
        let key = (repository.to_owned(), digest);
        self.state.lock().blobs.insert(key, Arc::new(bytes.to_vec()));
        digest
    }

    /// Serves these bytes for a digest, whatever they are.
    pub fn replace_blob(&self, repository: &str, digest: BlobDigest, bytes: &[u8]) {
        let key = (repository.to_owned(), digest);
        self.state.lock().blobs.insert(key, Arc::new(bytes.to_vec()));
    }

    /// Puts a manifest or an index into a repository, under its digest and under `tag`.
    pub fn put_manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        bytes: &[u8],
    ) -> BlobDigest {
        let digest = BlobDigest::of(bytes);
        let mut content = self.state.lock();
        let bytes = Arc::new(bytes.to_vec());
        for name in [Some(digest.to_string()), tag.map(str::to_owned)].into_iter().flatten() {
            let key = (repository.to_owned(), name);
            let value = (media_type.to_owned(), Arc::clone(&bytes));
            content.manifests.insert(key, value);
        }
        digest
    }

    /// Asks for logins from now on.
    pub fn require(&self, login: Login) {
        self.state.lock().login = login;
    }

    /// Writes docker's `config.json` with this login for this registry into a directory.
    pub fn write_docker_config(&self, directory: &Path, login: &Login) {
        Self::write_docker_config_for(&self.host(), directory, login);
    }

    /// The same for any registry.
    pub fn write_docker_config_for(host: &str, directory: &Path, login: &Login) {
        login::write_config(directory, host, login);
    }

    /// Makes all tokens given out so far worthless.
    pub fn revoke_tokens(&self) {
        self.state.lock().tokens.clear();
    }

    /// Serves blobs like this from now on.
    pub fn serve_blobs(&self, blobs: Blobs) {
        self.state.lock().serving = blobs;
    }

    /// Answers only below this path from now on, in place of `/v2`. Uploads go on at `/v2`.
    pub fn serve_below(&self, base: &str) {
        self.state.lock().base = Some(base.to_owned());
    }

    /// Lists what points to a manifest like this from now on.
    pub fn list_referrers(&self, referrers: Referrers) {
        self.state.lock().referrers = referrers;
    }

    /// Takes uploads like this from now on.
    pub fn take_uploads(&self, uploads: Uploads) {
        self.state.lock().uploading = uploads;
    }

    /// A blob of a repository, if it is there.
    pub fn blob(&self, repository: &str, digest: BlobDigest) -> Option<Vec<u8>> {
        let content = self.state.lock();
        content.blobs.get(&(repository.to_owned(), digest)).map(|bytes| bytes.to_vec())
    }

    /// Media type and bytes of a manifest by its tag or digest, if it is there.
    pub fn manifest(&self, repository: &str, name: &str) -> Option<(String, Vec<u8>)> {
        let content = self.state.lock();
        let (media_type, bytes) =
            content.manifests.get(&(repository.to_owned(), name.to_owned()))?;
        Some((media_type.clone(), bytes.to_vec()))
    }

    /// Forgets all uploads that have not ended.
    pub fn forget_sessions(&self) {
        self.state.lock().sessions.clear();
    }

    /// Fails like this, the next `times` times that it applies.
    pub fn fail(&self, fault: Fault, times: u32) {
        self.state.lock().faults.push((fault, times));
    }

    /// Lets all answers go on that [`Damage::Hang`] holds back.
    pub fn release(&self) {
        self.state.lock().is_released = true;
        self.state.released.notify_all();
    }

    /// How many times given faults are still to come.
    pub fn faults_left(&self) -> u32 {
        self.state.lock().faults.iter().map(|(_, times)| times).sum()
    }

    /// All requests so far, in the order in which they came.
    pub fn requests(&self) -> Vec<Request> {
        self.state.lock().requests.clone()
    }

    /// Method and bare path of all requests so far, one a line, digests shortened.
    pub fn log(&self) -> String {
        let line = |request: &Request| {
            let path: Vec<String> = request
                .bare_path()
                .split('/')
                .map(|part| match part.strip_prefix("sha256:") {
                    Some(hex) => format!("sha256:{}…", &hex[..hex.len().min(6)]),
                    None => part.to_owned(),
                })
                .collect();
            let server = match request.server {
                Server::Registry => "",
                Server::Storage => "storage ",
            };
            format!("{server}{} {}\n", request.method, path.join("/"))
        };
        self.requests().iter().map(line).collect()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.state.lock().requests.clear();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        drop(self.state.lock());
        self.state.released.notify_all();
        // The listeners wake up, see that it is over, and go.
        for address in [self.state.registry, self.state.storage] {
            drop(TcpStream::connect(address));
        }
    }
}

fn accept(listener: &TcpListener, server: Server, state: &Arc<State>) {
    for stream in listener.incoming() {
        if state.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let state = Arc::clone(state);
        thread::spawn(move || serve::connection(stream, server, &state));
    }
}
