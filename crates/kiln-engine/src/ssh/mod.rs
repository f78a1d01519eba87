//! `RUN --mount=type=ssh`: agents of the user's, and keys as agents, shown to one command.
//!
//! A command never meets the agent itself: it gets a socket that lives as long as the command
//! ([`Forwarded`]), behind which only listing keys and signing are let through, as with BuildKit.

mod forward;
mod keys;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

pub(crate) use forward::Forwarded;
use keys::KeyAgent;

use crate::error::StepError;
use crate::request::SshSource;
use crate::solve::lock;

/// The agents of one build by id; those of keys are started when the first command asks.
#[derive(Debug, Default)]
pub(crate) struct SshAgents {
    started: Mutex<BTreeMap<String, KeyAgent>>,
}

/// Why there is no agent for keys.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SshError {
    /// A program of OpenSSH cannot be started.
    #[error("{program} cannot be started: {source}")]
    Program {
        /// Which.
        program: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The agent ended before it listened.
    #[error("ssh-agent did not start")]
    NoAgent,
    /// A key cannot be read.
    #[error("failed to read {path}: {source}")]
    Read {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A key is none, or is encrypted.
    #[error("failed to add {path} to agent: {reason}")]
    Key {
        /// Its file.
        path: PathBuf,
        /// What ssh-add says.
        reason: String,
    },
}

impl SshAgents {
    /// The socket of an agent. `directory` makes a directory that only we can enter, and that
    /// lives as long as what it gives.
    pub(crate) fn socket<D: Send + 'static>(
        &self,
        id: &str,
        source: &SshSource,
        directory: impl FnOnce() -> Result<(PathBuf, D), StepError>,
    ) -> Result<PathBuf, StepError> {
        let keys = match source {
            SshSource::Agent(socket) => return Ok(socket.clone()),
            SshSource::Keys(keys) => keys,
        };
        let mut started = lock(&self.started);
        if let Some(agent) = started.get(id) {
            return Ok(agent.socket.clone());
        }
        let (path, keeper) = directory()?;
        let agent = KeyAgent::start(&path, keys, Box::new(keeper)).map_err(|error| {
            let failed = StepError::failed("ssh-failed", format!("ssh keys `{id}`: {error}"));
            match error {
                SshError::Program { .. } => failed.with_help(
                    "keys need OpenSSH's client programs; a running agent is forwarded without",
                ),
                _ => failed,
            }
        })?;
        let socket = agent.socket.clone();
        started.insert(id.to_owned(), agent);
        Ok(socket)
    }
}
