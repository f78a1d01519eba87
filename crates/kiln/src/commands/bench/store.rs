//! `kiln bench-store`: what `kiln bench` does to stores of its own. It is a command because only a process that
//! has become root of a user namespace can write files of other owners, and what is measured must not be one.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Subcommand;

use super::super::transfer::watched;
use super::options::request;
use crate::config::Config;
use crate::failure::Failure;
use crate::session::Session;

/// Prepare stores for `kiln bench`
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(crate) struct BenchStore {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Bring the base images of a build
    Fetch {
        /// Words of `kiln build`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Make the store one that holds what another has, by hard links
    Link { from: PathBuf },
    /// Delete what was thrown away
    Settle,
}

/// What changes in place while a store is used, and so must not be shared.
const CHANGING: [&str; 3] = ["db.sqlite", "db.sqlite-wal", "db.sqlite-shm"];

impl BenchStore {
    /// Runs the command.
    pub(crate) fn run(&self, config: &Config) -> Result<(), Failure> {
        match &self.task {
            Task::Fetch { words } => {
                let request = request(words, config)?;
                watched(config, false, |session, watch| session.fetch_bases(&request, watch))
            }
            Task::Link { from } => link_store(from, &config.root()),
            Task::Settle => {
                Session::open(config)?.settle();
                Ok(())
            }
        }
    }
}

/// Layers and blobs never change once they are there, so their files can have two names. `cp` knows all that
/// a directory of a layer has, such as attributes.
fn link_store(from: &Path, to: &Path) -> Result<(), Failure> {
    let output = Command::new("cp").args(["-a", "-l", "-T"]).args([from, to]).output();
    let output = output.map_err(|error| Failure::file("start", "cp", error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::environment(format!("the store was not copied: {}", said.trim())));
    }
    for name in CHANGING {
        let own = to.join(name);
        let bytes = match fs::read(&own) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(Failure::file("read", own, error)),
        };
        let replaced = fs::remove_file(&own).and_then(|()| fs::write(&own, bytes));
        replaced.map_err(|error| Failure::file("write", own, error))?;
    }
    Ok(())
}
