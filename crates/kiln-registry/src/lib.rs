//! Speaks the OCI distribution protocol: pull, push, credentials, retries; and fetches files of the web.
//!
//! A [`Client`] is a thin, blocking client of registries, shared by threads. It reads no
//! environment: where certificates, credentials and proxies are is in its [`Config`]. Git
//! repositories are fetched by the user's own `git`.
//!
//! What always holds:
//! - No bytes leave this crate as a manifest that do not have the digest they were asked for
//!   by, and no blob ends without an error unless its size and sha256 are right.
//! - Credentials go to the registry that they are configured for and to the token service that
//!   this registry names, over TLS unless the registry itself is spoken to without; never to
//!   where a download is redirected. They appear in no error and in no `Debug` output.
//! - Every wait is bounded, and ends when the client is cancelled.
//!
//! What it does not do: it keeps nothing on disk but logins that it is given to keep, knows nothing of layers' contents, follows no
//! `urls` of foreign layers, and knows sha256 only.
//!
//! Sources: OCI distribution-spec 1.1; distribution's token authentication specification
//! (`token.md`, `oauth.md`); RFC 9110 (challenges, ranges, Retry-After).

#![forbid(unsafe_code)]

mod auth;
mod blob;
mod client;
mod config;
mod docker_engine;
mod download;
mod error;
mod exchange;
mod git;
mod http;
mod limit;
mod login;
mod objects;
mod push;
mod referrers;
mod repository;
mod resolved;
mod retry;
mod routes;
mod upload;

pub use blob::BlobReader;
pub use client::{Client, RemoteImage, is_foreign};
pub use config::{Config, GitProgram, Proxies, Retries, Timeouts};
pub use docker_engine::{
    DockerEngine, DockerEngineError, EngineAddress, EngineImage, ImageLoad, LayerStore,
};
pub use download::{Download, DownloadedFile, Validators, http_date};
pub use error::{Error, Login};
pub use git::{GitLogin, GitReference, GitRemote, GitWork};
pub use login::{IdentityToken, LoginCheck, LoginPlace, Logins};
pub use objects::{ObjectCache, ObjectKind, ObjectPlace, ObjectSettings};
pub use push::{BlobSource, BlobUpload, Pushed};
pub use repository::Repository;
pub use resolved::Resolved;
pub use routes::RouteFiles;
