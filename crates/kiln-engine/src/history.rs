//! Keeps what a build did in the history of the store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kiln_core::event::Outcome;
use kiln_core::git_source::without_credentials;
use kiln_core::lint::is_secret_name;
use kiln_core::plan::RemoteFiles;
use kiln_core::report::{
    BuildReport, ImageReport, Place, Project, StepLog, StepReport, TargetSteps, union,
};

use crate::bake::BakeTarget;
use crate::engine::Engine;
use crate::error::BuildError;
use crate::redact::Redactor;
use crate::request::BuildRequest;
use crate::result::{ImageResult, TargetResult};
use crate::working_tree::commit;

/// A build of which a report will be kept: of one request, or of several at once.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    started: SystemTime,
    parts: Vec<Part<'a>>,
    /// The file that names them, if one does.
    bake_file: Option<&'a str>,
    /// What is built, once somebody asks.
    place: OnceLock<Place>,
}

/// A request of a build.
#[derive(Debug)]
struct Part<'a> {
    /// The name that a bake file gives it.
    target: Option<&'a str>,
    request: &'a BuildRequest,
    steps: OnceLock<(Vec<StepReport>, Vec<StepLog>)>,
}

/// One request of a build that is recorded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recorded<'a> {
    record: &'a Record<'a>,
    number: usize,
}

impl<'a> Record<'a> {
    /// A build that begins now.
    pub(crate) fn begin(request: &'a BuildRequest) -> Self {
        let part = Part { target: None, request, steps: OnceLock::new() };
        Self::of(vec![part], None)
    }

    /// Targets of a bake file, which are one build.
    pub(crate) fn begin_bake(targets: &'a [BakeTarget], bake_file: &'a str) -> Self {
        let part = |target: &'a BakeTarget| Part {
            target: Some(&target.name),
            request: &target.request,
            steps: OnceLock::new(),
        };
        Self::of(targets.iter().map(part).collect(), Some(bake_file))
    }

    fn of(parts: Vec<Part<'a>>, bake_file: Option<&'a str>) -> Self {
        Self { started: SystemTime::now(), parts, bake_file, place: OnceLock::new() }
    }

    /// The request of this number.
    pub(crate) fn part(&self, number: usize) -> Recorded<'_> {
        Recorded { record: self, number }
    }

    /// What is built.
    fn place(&self) -> &Place {
        self.place.get_or_init(|| match (self.bake_file, self.parts.as_slice()) {
            (Some(file), parts) => bake_place(parts, file),
            (None, parts) => place(parts[0].request),
        })
    }

    /// Keeps what became of it. That it cannot be kept is no failure of the build.
    pub(crate) fn end(
        self,
        engine: &Engine,
        duration: Duration,
        result: Result<&[TargetResult], &BuildError>,
    ) {
        let since = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.place();
        let place = self.place.into_inner().unwrap_or_default();
        let first = self.parts.first().map(|part| part.request);
        let is_local = |request: &&BuildRequest| request.plan.context.is_none();
        let local = self.parts.iter().map(|part| part.request).find(is_local);
        let (steps, logs) = steps_of(self.parts, &place);
        let report = BuildReport {
            id: 0,
            started_unix_ms: since.as_millis() as u64,
            duration_ms: duration.as_millis() as u64,
            command: first.map(|request| request.command.clone()).unwrap_or_default(),
            commit: local.and_then(|request| commit(&request.context)),
            images: result.map(images).unwrap_or_default(),
            outcome: match result {
                Ok(_) => Outcome::Done,
                Err(BuildError::Canceled) => Outcome::Canceled,
                Err(error) => Outcome::Failed(error.to_string()),
            },
            place,
            steps,
        };
        if let Ok(id) = engine.store.history().record(&report, &logs) {
            engine.working_tree.recorded(id, report.commit.as_ref());
        }
    }
}

impl Recorded<'_> {
    /// Notes the steps of the plan with what they wrote, when they are done or will be no more.
    pub(crate) fn note(self, steps: (Vec<StepReport>, Vec<StepLog>)) {
        let _ = self.record.parts[self.number].steps.set(steps);
    }

    /// What the whole build builds.
    pub(crate) fn place(self) -> Place {
        self.record.place().clone()
    }

    /// What this request is about.
    pub(crate) fn project(self) -> Project {
        self.record.place().project(Some(self.number as u32))
    }

    /// The name that a bake file gives it.
    pub(crate) fn target(self) -> Option<String> {
        self.record.parts[self.number].target.map(str::to_owned)
    }
}

/// The steps of all parts, and what they wrote without what is secret.
fn steps_of(parts: Vec<Part<'_>>, place: &Place) -> (Vec<StepReport>, Vec<StepLog>) {
    let of_part = |(number, part): (usize, Part<'_>)| {
        let (steps, mut logs) = part.steps.into_inner().unwrap_or_default();
        if !logs.is_empty() {
            let secrets = secret_arguments(&part.request.plan.build_args);
            for (_, log) in &mut logs {
                let mut redactor = Redactor::new(&secrets);
                *log = [redactor.push(log), redactor.finish()].concat();
            }
        }
        TargetSteps { project: place.project(Some(number as u32)), steps, logs }
    };
    let is_bake = parts.iter().any(|part| part.target.is_some());
    let mut parts: Vec<TargetSteps> = parts.into_iter().enumerate().map(of_part).collect();
    match parts.pop() {
        Some(only) if !is_bake => (only.steps, only.logs),
        last => union(parts.into_iter().chain(last).collect()),
    }
}

/// What the targets of a bake file build: one project if they have one, else that of the file.
fn bake_place(parts: &[Part<'_>], file: &str) -> Place {
    let places: Vec<Place> = parts.iter().map(|part| place(part.request)).collect();
    let projects: Vec<Project> = places.iter().map(|place| place.project(None)).collect();
    let platforms: BTreeSet<&String> = places.iter().flat_map(|place| &place.platforms).collect();
    let mut whole = Place {
        targets: parts.iter().filter_map(|part| part.target.map(str::to_owned)).collect(),
        platforms: platforms.into_iter().cloned().collect(),
        ..Place::default()
    };
    if let Some(first) = projects.first()
        && projects.iter().all(|project| project == first)
    {
        (whole.context, whole.dockerfile) = (first.context.clone(), first.dockerfile.clone());
        return whole;
    }
    let file = std::fs::canonicalize(file).unwrap_or_else(|_| file.into());
    whole.context = file.parent().map(|path| path.display().to_string()).unwrap_or_default();
    whole.dockerfile = file.display().to_string();
    whole.projects = projects;
    whole
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
fn place(request: &BuildRequest) -> Place {
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
        projects: Vec::new(),
    }
}
