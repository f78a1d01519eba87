//! Keeps what a build did in the history of the store.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kiln_core::event::Outcome;
use kiln_core::git_source::without_credentials;
use kiln_core::lint::is_secret_name;
use kiln_core::plan::RemoteFiles;
use kiln_core::report::{BuildReport, ImageReport, Place, StepReport};
use kiln_store::Store;
use kiln_store::history::StepLog;

use crate::error::BuildError;
use crate::git_commit::commit;
use crate::redact::Redactor;
use crate::request::BuildRequest;
use crate::result::{ImageResult, TargetResult};

/// A build of which a report will be kept.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    request: &'a BuildRequest,
    started: SystemTime,
    steps: OnceLock<(Vec<StepReport>, Vec<StepLog>)>,
}

impl<'a> Record<'a> {
    /// A build that begins now.
    pub(crate) fn begin(request: &'a BuildRequest) -> Self {
        Self { request, started: SystemTime::now(), steps: OnceLock::new() }
    }

    /// Notes the steps of the plan with what they wrote, when they are done or will be no more.
    pub(crate) fn note(&self, steps: (Vec<StepReport>, Vec<StepLog>)) {
        let _ = self.steps.set(steps);
    }

    /// Keeps what became of it. That it cannot be kept is no failure of the build.
    pub(crate) fn end(
        self,
        store: &Store,
        duration: Duration,
        result: &Result<Vec<TargetResult>, BuildError>,
    ) {
        let since = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (steps, mut logs) = self.steps.into_inner().unwrap_or_default();
        if !logs.is_empty() {
            let secrets = secret_arguments(&self.request.plan.build_args);
            for (_, log) in &mut logs {
                let mut redactor = Redactor::new(&secrets);
                *log = [redactor.push(log), redactor.finish()].concat();
            }
        }
        let report = BuildReport {
            id: 0,
            started_unix_ms: since.as_millis() as u64,
            duration_ms: duration.as_millis() as u64,
            place: place(self.request),
            command: self.request.command.clone(),
            commit: match self.request.plan.context {
                None => commit(&self.request.context),
                Some(_) => None,
            },
            images: result.as_deref().map(images).unwrap_or_default(),
            outcome: match result {
                Ok(_) => Outcome::Done,
                Err(BuildError::Canceled) => Outcome::Canceled,
                Err(error) => Outcome::Failed(error.to_string()),
            },
            steps,
        };
        let _ = store.history().record(&report, &logs);
    }
}

/// Values of build arguments that a command may show, and nobody is to keep: by their names, and logins in
/// the addresses of proxies.
fn secret_arguments(arguments: &BTreeMap<String, String>) -> Vec<Vec<u8>> {
    let secret = |(name, value): (&String, &String)| {
        if is_secret_name(name) {
            return Some(value.clone());
        }
        let (_, rest) = value.split_once("://")?;
        let (user, _) = rest.split('/').next()?.rsplit_once('@')?;
        Some(user.split_once(':').map_or(user, |(_, password)| password).to_owned())
    };
    arguments.iter().filter_map(secret).map(String::into_bytes).collect()
}

/// The images of a result.
fn images(targets: &[TargetResult]) -> Vec<ImageReport> {
    let of_target = |target: &TargetResult| {
        let name = target.name.clone();
        let report = move |image: &ImageResult| ImageReport {
            target: name.clone(),
            platform: image.platform.to_string(),
            id: image.config,
            steps: image.steps,
            cached: image.cached,
            layers: image.layers,
            size_bytes: image.size_bytes,
        };
        target.images.iter().map(report).collect::<Vec<_>>()
    };
    targets.iter().flat_map(of_target).collect()
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
