//! kiln as its users start it: this program, with a store of its own for each clean build.

use std::path::{Path, PathBuf};
use std::process::Command;

use kiln_core::performance::{Rate, performance};

use super::builder::{Bases, Builder, Fault, Freshness, Job, output};
use crate::config::Config;
use crate::failure::Failure;
use crate::session::Session;

/// kiln.
#[derive(Debug)]
pub(super) struct Kiln {
    program: PathBuf,
    config: Config,
    work: PathBuf,
    /// Of the store that is built in.
    number: usize,
}

impl Kiln {
    /// Below a directory.
    pub(super) fn new(work: &Path, config: &Config) -> Result<Self, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::environment(format!("kiln does not find itself: {error}")))?;
        let (config, work) = (config.clone(), work.to_owned());
        Ok(Self { program, config, work, number: 0 })
    }

    fn store(&self) -> PathBuf {
        self.work.join(format!("store-{}", self.number))
    }

    /// The store that holds base images and nothing else.
    fn seed(&self) -> PathBuf {
        self.work.join("bases")
    }

    fn in_store(&self, store: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(store).args(words);
        command
    }

    /// Deletes what was thrown away in a store, as only a process of its own can.
    pub(super) fn settle(&self, store: &Path) {
        let _ = output(&mut self.in_store(store, &["bench-store", "settle"]));
    }

    fn arguments(job: &Job) -> Vec<String> {
        let file = format!("--file={}", job.dockerfile.display());
        let context = job.context.display().to_string();
        [job.options.words(), vec![file, "--".to_owned(), context]].concat()
    }
}

impl Builder for Kiln {
    fn name(&self) -> &'static str {
        kiln_core::benchmark::KILN
    }

    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    fn prepare(&mut self, job: &Job) -> Result<(), Fault> {
        if job.bases == Bases::Pulled {
            return Ok(());
        }
        let mut fetch = self.in_store(&self.seed(), &["bench-store", "fetch", "--"]);
        output(fetch.args(Self::arguments(job)))?;
        self.forget(job)
    }

    fn forget(&mut self, job: &Job) -> Result<(), Fault> {
        self.number += 1;
        if job.bases == Bases::Kept {
            let mut link = self.in_store(&self.store(), &["bench-store", "link"]);
            output(link.arg(self.seed()))?;
        }
        Ok(())
    }

    fn commands(&self, job: &Job, _: Freshness) -> Vec<Command> {
        let mut command = self.in_store(&self.store(), &["build", "--progress=plain"]);
        command.args(Self::arguments(job));
        vec![command]
    }

    fn steps(&self) -> Option<Rate> {
        let config = Config { named_root: Some(self.store()), ..self.config.clone() };
        let session = Session::open(&config).ok()?;
        let last = session.last_builds(1).ok()?;
        let build = session.build_report(last.first()?.id).ok()??;
        performance(&[build]).builds.first().map(|line| line.rate)
    }
}
