//! The lock file in a build: what references resolve to without anyone being asked.
//!
//! An image's name becomes its locked digest before the store or a registry is looked at, a file
//! of the web has its locked digest as a checksum, and a reference of a git repository points to its
//! locked commit. So what is locked and known costs no connection, and `--pull` does not move it.
//!
//! The build context itself is what is built, and no input to be locked. What an instruction pins
//! needs no lock: an image by digest, `--checksum` of a file, a commit. Layouts on disk have none.

mod make;

use kiln_core::digest::BlobDigest;
use kiln_core::git_source::{GitFetch, is_commit, without_credentials};
use kiln_core::lock_file::{address, git_name};
use kiln_core::oci::Platform;
use kiln_core::plan::{GitSource, ImageNeed, ImageSource, Op, Plan, RemoteFiles, SourceOp};
use kiln_registry::GitReference;

use crate::activity::Activities;
use crate::error::{BuildError, StepError};
use crate::op::download::Wanted;
use crate::request::{BuildRequest, Unlocked};

pub use make::lock;

/// A source of a plan that is fetched from elsewhere and that no instruction pins.
#[derive(Clone, Copy, Debug)]
enum RemoteSource<'a> {
    File { url: &'a str, name: &'a str },
    Git(&'a GitSource),
}

impl RemoteSource<'_> {
    /// How a lock file names it.
    fn locked_name(&self) -> String {
        match self {
            Self::File { url, .. } => address(url),
            Self::Git(source) => git_name(&source.remote, &source.reference),
        }
    }
}

/// The sources of a plan that a lock file has to hold, each name once.
fn remote_sources<'a>(request: &BuildRequest, plan: &'a Plan) -> Vec<RemoteSource<'a>> {
    let context = request.plan.context.as_ref();
    let mut sources: Vec<RemoteSource<'a>> = Vec::new();
    for step in plan.steps.values() {
        let source = match &step.op {
            Op::Source(SourceOp::Download { url, name, checksum: None }) => {
                RemoteSource::File { url, name }
            }
            Op::Source(SourceOp::Git(source)) => {
                let is_pinned = is_commit(&source.reference)
                    || (source.fetch == GitFetch::Commit && source.checksum.is_some());
                if is_pinned || matches!(context, Some(RemoteFiles::Git(own)) if own == source) {
                    continue;
                }
                RemoteSource::Git(source)
            }
            _ => continue,
        };
        let name = source.locked_name();
        if sources.iter().all(|known| known.locked_name() != name) {
            sources.push(source);
        }
    }
    sources.sort_by_key(RemoteSource::locked_name);
    sources
}

/// What an image's name is locked to.
pub(crate) fn pinned(request: &BuildRequest, need: &ImageNeed) -> Option<BlobDigest> {
    let lock = request.lock.as_ref()?;
    match &need.source {
        ImageSource::Reference(reference) if reference.digest.is_none() => {
            let platform = need.platform.parse::<Platform>().ok()?;
            Some(lock.file.image(reference)?.select(&platform))
        }
        _ => None,
    }
}

/// A download with its checksum: the instruction's, else the lock file's.
pub(crate) fn wanted<'a>(
    request: &'a BuildRequest,
    (url, name): (&'a str, &'a str),
    checksum: Option<BlobDigest>,
) -> Wanted<'a> {
    let wanted = Wanted { url, name, checksum, lock: None };
    let lock = request.lock.as_ref().filter(|_| checksum.is_none());
    match lock.and_then(|lock| Some((lock, lock.file.file(url)?))) {
        Some((lock, pin)) => {
            Wanted { checksum: Some(pin.digest), lock: Some(&lock.name), ..wanted }
        }
        None => wanted,
    }
}

/// Where the lock file says that a reference of a repository points.
pub(crate) fn git_reference(request: &BuildRequest, source: &GitSource) -> Option<GitReference> {
    let pin = request.lock.as_ref()?.file.git(&source.remote, &source.reference)?;
    let (name, commit) = (pin.reference.clone(), pin.commit.clone());
    Some(match pin.tag.clone() {
        Some(object) => GitReference { name, object, tagged: Some(commit) },
        None => GitReference { name, object: commit, tagged: None },
    })
}

/// A failure of an image that is locked.
pub(crate) fn explain(
    request: &BuildRequest,
    need: &ImageNeed,
    digest: BlobDigest,
    error: BuildError,
) -> BuildError {
    let (Some(lock), ImageSource::Reference(reference)) = (&request.lock, &need.source) else {
        return error;
    };
    match error {
        BuildError::Image { message, help: None } => {
            let name = reference.familiar();
            let help = format!(
                "{} has `{name}` as {digest}; `kiln lock --upgrade={name}` locks what is there now",
                lock.name
            );
            BuildError::Image { message, help: Some(help) }
        }
        error => error,
    }
}

/// A failure to fetch a commit that is locked.
pub(crate) fn explain_git(
    request: &BuildRequest,
    source: &GitSource,
    reference: &GitReference,
    error: StepError,
) -> StepError {
    let Some(lock) = &request.lock else { return error };
    if git_reference(request, source).as_ref() != Some(reference) {
        return error;
    }
    let StepError::Failed { code, message, last_output, .. } = error else { return error };
    let name = git_name(&source.remote, &source.reference);
    let object = &reference.object;
    let help = format!(
        "{} has `{name}` as {object}; `kiln lock --upgrade={name}` locks what is there now",
        lock.name
    );
    StepError::Failed { code, message, last_output, help: Some(help) }
}

/// Whether images are in the lock file.
pub(crate) fn check_images(
    request: &BuildRequest,
    needs: &[ImageNeed],
    activities: &Activities,
) -> Result<(), BuildError> {
    let Some(lock) = &request.lock else { return Ok(()) };
    let mut missing = Vec::new();
    for need in needs {
        if let ImageSource::Reference(reference) = &need.source
            && reference.digest.is_none()
            && lock.file.image(reference).is_none()
            && !missing.contains(&reference.familiar())
        {
            missing.push(reference.familiar());
        }
    }
    refuse(request, &missing, activities)
}

/// Whether what a plan fetches is in the lock file.
pub(crate) fn check_plan(
    request: &BuildRequest,
    plan: &Plan,
    activities: &Activities,
) -> Result<(), BuildError> {
    let Some(lock) = &request.lock else { return Ok(()) };
    let mut missing = Vec::new();
    for source in remote_sources(request, plan) {
        let is_locked = match source {
            RemoteSource::File { url, .. } => lock.file.file(url).is_some(),
            RemoteSource::Git(source) => git_reference(request, source).is_some(),
        };
        if !is_locked {
            missing.push(without_credentials(&source.locked_name()));
        }
    }
    refuse(request, &missing, activities)
}

/// What is not locked ends the build, or is a warning.
fn refuse(
    request: &BuildRequest,
    missing: &[String],
    activities: &Activities,
) -> Result<(), BuildError> {
    let Some(lock) = request.lock.as_ref().filter(|_| !missing.is_empty()) else { return Ok(()) };
    let names: Vec<String> = missing.iter().map(|name| format!("`{name}`")).collect();
    let are = if names.len() == 1 { "is" } else { "are" };
    let names = names.join(", ");
    let message = format!("{names} {are} not in {}", lock.name);
    match lock.unlocked {
        Unlocked::Resolved => {
            activities.warn(format!("{message}; run `{}`", lock.command));
            Ok(())
        }
        Unlocked::Refused => Err(BuildError::Lock {
            message: format!("{message}, and --locked takes nothing else"),
            help: Some(format!("run `{}`", lock.command)),
        }),
    }
}
