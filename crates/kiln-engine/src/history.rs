//! Keeps what a build did in the history of the store.

use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kiln_core::event::Outcome;
use kiln_core::git_source::without_credentials;
use kiln_core::plan::RemoteFiles;
use kiln_core::report::{BuildReport, Place, StepReport};
use kiln_store::Store;

use crate::error::BuildError;
use crate::request::BuildRequest;

/// A build of which a report will be kept.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    request: &'a BuildRequest,
    started: SystemTime,
    steps: OnceLock<Vec<StepReport>>,
}

impl<'a> Record<'a> {
    /// A build that begins now.
    pub(crate) fn begin(request: &'a BuildRequest) -> Self {
        Self { request, started: SystemTime::now(), steps: OnceLock::new() }
    }

    /// Notes the steps of the plan, when they are done or will be no more.
    pub(crate) fn note(&self, steps: Vec<StepReport>) {
        let _ = self.steps.set(steps);
    }

    /// Keeps what became of it. That it cannot be kept is no failure of the build.
    pub(crate) fn end<T>(self, store: &Store, duration: Duration, result: &Result<T, BuildError>) {
        let since = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        let report = BuildReport {
            id: 0,
            started_unix_ms: since.as_millis() as u64,
            duration,
            place: place(self.request),
            outcome: match result {
                Ok(_) => Outcome::Done,
                Err(BuildError::Canceled) => Outcome::Canceled,
                Err(error) => Outcome::Failed(error.to_string()),
            },
            steps: self.steps.into_inner().unwrap_or_default(),
        };
        let _ = store.history().record(&report);
    }
}

/// What a request builds.
pub(crate) fn place(request: &BuildRequest) -> Place {
    let plan = &request.plan;
    let absolute = |path: &Path| {
        let found = std::fs::canonicalize(path);
        found.map_or_else(|_| path.display().to_string(), |path| path.display().to_string())
    };
    let context = match &plan.context {
        None => absolute(&request.context),
        Some(RemoteFiles::Nothing) => "nothing".to_owned(),
        Some(RemoteFiles::Git(git)) => {
            let remote = without_credentials(&git.remote);
            if git.subdir.is_empty() { remote } else { format!("{remote}#:{}", git.subdir) }
        }
        Some(RemoteFiles::File { url, .. } | RemoteFiles::Archive { url, .. }) => {
            // What comes from standard input is named by its digest.
            if url.starts_with("stdin:") { "-".to_owned() } else { without_credentials(url) }
        }
    };
    let name = request.dockerfile.name();
    let dockerfile =
        if plan.context.is_none() { absolute(Path::new(name)) } else { name.to_owned() };
    Place {
        context,
        dockerfile,
        targets: plan.targets.clone(),
        platforms: plan.platforms.iter().map(ToString::to_string).collect(),
    }
}
