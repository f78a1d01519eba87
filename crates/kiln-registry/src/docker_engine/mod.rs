//! The API of a Docker engine, as far as images are put into it.
//!
//! Requests name no version of the API: an engine takes them as its newest one. What is used here
//! (`images/NAME/json`, `images/json`, `images/load`, `images/NAME/tag`) is the same in all of
//! them. Podman's socket speaks it, too.
//!
//! Source: moby, `api/swagger.yaml`; `daemon/internal/image/tarexport/load.go` for what an archive
//! may leave out: layers whose chain the engine has are never opened.

mod address;
mod connection;

use std::fs::File;
use std::io::{self, BufWriter};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kiln_core::oci::Reference;
use serde::Deserialize;

pub use address::EngineAddress;
use connection::{Answer, Exchange, Patience};

/// Why an engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DockerEngineError {
    /// Not an address that kiln can speak to.
    #[error("`{text}` is not the address of a Docker engine that kiln can reach: {why}")]
    Address {
        /// As it was written.
        text: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Nobody listens there.
    #[error("no Docker engine answers at {address}: {source}")]
    Connect {
        /// Where.
        address: EngineAddress,
        /// Why.
        source: io::Error,
    },
    /// It broke on the way.
    #[error("the Docker engine at {address}: {request}: {source}")]
    Exchange {
        /// Who.
        address: EngineAddress,
        /// What was asked.
        request: String,
        /// What happened.
        source: io::Error,
    },
    /// The engine says no.
    #[error("the Docker engine at {address}: {request}: {message}")]
    Refused {
        /// Who.
        address: EngineAddress,
        /// What was asked.
        request: String,
        /// The engine's own words.
        message: String,
    },
    /// The caller does not want it any more.
    #[error("canceled")]
    Cancelled,
}

impl DockerEngineError {
    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        let Self::Connect { address, source } = self else { return None };
        Some(match (source.kind(), address) {
            (io::ErrorKind::PermissionDenied, EngineAddress::Unix(path)) => format!(
                "you may not open {}; join its group (`sudo usermod -aG docker $USER`, then log in \
                 again), or use rootless Docker and its DOCKER_HOST",
                path.display()
            ),
            (io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused, EngineAddress::Unix(_)) => {
                "start the engine, or name another one with DOCKER_HOST; `-o type=docker,dest=FILE` \
                 needs none"
                    .to_owned()
            }
            _ => "DOCKER_HOST says where the engine is; `-o type=docker,dest=FILE` needs none"
                .to_owned(),
        })
    }
}

/// An image that an engine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineImage {
    /// What the engine knows it by: the digest of its config, or of its manifest.
    pub id: String,
    /// Diff IDs of its layers, lowest first.
    pub diff_ids: Vec<String>,
    /// How the engine keeps layers.
    pub layer_store: LayerStore,
}

/// How an engine keeps layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerStore {
    /// By chain ID: a layer that it has above the same ones is not looked for in an archive.
    Chains,
    /// As blobs (containerd's): an archive has to hold them all.
    Blobs,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    #[serde(default, rename = "RootFS")]
    root_fs: Option<RootFs>,
    /// Only containerd's store has one.
    #[serde(default)]
    descriptor: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RootFs {
    #[serde(default)]
    layers: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
}

/// An answer that tells of an error.
#[derive(Deserialize)]
struct Complaint {
    message: String,
}

/// A line of the stream that a load is answered with.
#[derive(Deserialize)]
struct Progress {
    #[serde(default)]
    error: Option<String>,
}

/// An engine.
#[derive(Clone, Debug)]
pub struct DockerEngine {
    address: EngineAddress,
    cancelled: Arc<AtomicBool>,
}

/// An archive on its way into an engine.
#[derive(Debug)]
pub struct ImageLoad<'a> {
    engine: &'a DockerEngine,
    exchange: Exchange,
}

const LOAD: (&str, &str) = ("POST", "/images/load?quiet=1");

impl DockerEngine {
    /// An engine; nothing is asked yet. Requests end when `cancelled` is set.
    pub fn new(address: EngineAddress, cancelled: Arc<AtomicBool>) -> Self {
        Self { address, cancelled }
    }

    /// Where it listens.
    pub fn address(&self) -> &EngineAddress {
        &self.address
    }

    /// The image of a name or id, if there is one.
    ///
    /// # Errors
    /// [`DockerEngineError`]
    pub fn image(&self, name: &str) -> Result<Option<EngineImage>, DockerEngineError> {
        let path = format!("/images/{}/json", escape(name));
        let answer = self.ask(("GET", &path))?;
        if answer.status == 404 {
            return Ok(None);
        }
        let inspected: Inspected = self.parse(("GET", &path), &answer)?;
        let layers = inspected.root_fs.and_then(|root_fs| root_fs.layers);
        Ok(Some(EngineImage {
            id: inspected.id,
            diff_ids: layers.unwrap_or_default(),
            layer_store: match inspected.descriptor {
                Some(_) => LayerStore::Blobs,
                None => LayerStore::Chains,
            },
        }))
    }

    /// The ids of all images that have a name or are not part of others, newest first.
    ///
    /// # Errors
    /// [`DockerEngineError`]
    pub fn image_ids(&self) -> Result<Vec<String>, DockerEngineError> {
        let request = ("GET", "/images/json");
        let listed: Vec<Listed> = self.parse(request, &self.ask(request)?)?;
        Ok(listed.into_iter().map(|image| image.id).collect())
    }

    /// Gives an image that is there a name.
    ///
    /// # Errors
    /// [`DockerEngineError`]
    pub fn tag(&self, id: &str, name: &Reference) -> Result<(), DockerEngineError> {
        let repository = format!("{}/{}", name.registry, name.repository);
        let tag = name.tag.as_deref().unwrap_or("latest");
        let path =
            format!("/images/{}/tag?repo={}&tag={}", escape(id), escape(&repository), escape(tag));
        let request = ("POST", path.as_str());
        let answer = self.ask(request)?;
        self.check(request, &answer)
    }

    /// Begins to load an archive of `size_bytes`.
    ///
    /// # Errors
    /// [`DockerEngineError`]
    pub fn load(&self, size_bytes: u64) -> Result<ImageLoad<'_>, DockerEngineError> {
        let exchange = self.start(LOAD, ("application/x-tar", size_bytes), Patience::Endless)?;
        Ok(ImageLoad { engine: self, exchange })
    }

    fn start(
        &self,
        request: (&str, &str),
        body: (&str, u64),
        patience: Patience,
    ) -> Result<Exchange, DockerEngineError> {
        Exchange::start(&self.address, request, body, patience, &self.cancelled)
            .map_err(|source| DockerEngineError::Connect { address: self.address.clone(), source })
    }

    fn ask(&self, request: (&str, &str)) -> Result<Answer, DockerEngineError> {
        let exchange = self.start(request, ("", 0), Patience::Bounded)?;
        exchange.finish().map_err(|source| self.broken(request, source))
    }

    fn broken(&self, (method, path): (&str, &str), source: io::Error) -> DockerEngineError {
        if self.cancelled.load(Ordering::Relaxed) {
            return DockerEngineError::Cancelled;
        }
        let request = format!("{method} {path}");
        DockerEngineError::Exchange { address: self.address.clone(), request, source }
    }

    fn refused(&self, (method, path): (&str, &str), message: String) -> DockerEngineError {
        let request = format!("{method} {path}");
        DockerEngineError::Refused { address: self.address.clone(), request, message }
    }

    /// That the answer is no error.
    fn check(&self, request: (&str, &str), answer: &Answer) -> Result<(), DockerEngineError> {
        if (200..300).contains(&answer.status) {
            return Ok(());
        }
        let message = match serde_json::from_slice::<Complaint>(&answer.body) {
            Ok(complaint) => complaint.message,
            Err(_) => format!("status {}", answer.status),
        };
        Err(self.refused(request, message))
    }

    fn parse<T: for<'a> Deserialize<'a>>(
        &self,
        request: (&str, &str),
        answer: &Answer,
    ) -> Result<T, DockerEngineError> {
        self.check(request, answer)?;
        serde_json::from_slice(&answer.body)
            .map_err(|error| self.broken(request, io::Error::from(error)))
    }
}

impl ImageLoad<'_> {
    /// Where the archive goes. When writing fails, [`give_up`](Self::give_up) may know better why.
    pub fn body(&mut self) -> &mut BufWriter<File> {
        self.exchange.body()
    }

    /// Says that no more comes, and why that is, as far as the engine knows it.
    pub fn give_up(self) -> Option<DockerEngineError> {
        self.exchange.stop_sending();
        self.finish().err().filter(|error| matches!(error, DockerEngineError::Refused { .. }))
    }

    /// Waits until the engine has the image.
    ///
    /// # Errors
    /// [`DockerEngineError`]
    pub fn finish(self) -> Result<(), DockerEngineError> {
        let Self { engine, exchange } = self;
        let answer = exchange.finish().map_err(|source| engine.broken(LOAD, source))?;
        engine.check(LOAD, &answer)?;
        // The status says nothing: what went wrong is a line of its own.
        for progress in serde_json::Deserializer::from_slice(&answer.body).into_iter::<Progress>() {
            match progress {
                Ok(Progress { error: Some(message) }) => {
                    return Err(engine.refused(LOAD, message));
                }
                Ok(Progress { error: None }) => {}
                // Old engines answer in plain text.
                Err(_) => break,
            }
        }
        Ok(())
    }
}

/// A part of a path or query; names keep their slashes, as the engine's routes expect.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
