//! `ADD https://host/x.git` and contexts from git: the files of one commit as one layer.
//!
//! ```text
//! reference ──ls-remote──▶ commit ──known?── yes ─▶ layer
//!                                     │ no
//!                                     ▼
//!                     fetch into a scratch repository ─▶ check out ─▶ scan ─▶ commit
//! ```
//!
//! Layers are remembered by repository, commit and what is taken of it, so that a commit that is
//! named by its whole name is not even asked for again. Where a reference points is asked once in
//! a process. Files are root's, 0644 or 0755, and dated by the checkout unless the commit's time is
//! wanted, as with BuildKit.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_core::cache_key::{KeyPart, KeyParts};
use kiln_core::event::{Outcome, Stream};
use kiln_core::git_source::{GitFetch, GitTimes, is_commit};
use kiln_core::plan::{GitDir, GitSource, Submodules};
use kiln_registry::{GitLogin, GitReference, GitRemote, GitWork};
use kiln_store::Layer;
use kiln_store::layer::scan;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use crate::activity::Running;
use crate::error::{BuildError, FileContext, StepError, with_causes};
use crate::lock_file;
use crate::request::SecretSource;
use crate::solve::{Solver, lock, record_of};

/// Stable code of what goes wrong here.
const CODE: &str = "git-failed";

/// The part that keeps when the commit was made, in seconds since 1970.
const COMMITTED: &str = "committed";

/// The layer that holds the files, and whether it was there.
pub(crate) fn check_out(
    solver: &Solver<'_>,
    source: &GitSource,
    activity: &Running<'_>,
) -> Result<(Arc<Layer>, Outcome), StepError> {
    let remote = GitRemote::new(&source.remote, login(solver, &source.remote)?.as_ref());
    let reference = resolve(solver, source, &remote)?;
    let parts = parts(source, &remote, &reference);
    let key = parts.key();
    let store = &solver.engine.store;
    let _lock = store.lock_step(&key, &solver.cancelled)?;
    if let Some(record) = store.cache_index().lookup(&key)?
        && let Some(layer) = store.layers().by_id(&record.result.layer)?
    {
        return Ok((Arc::new(layer), Outcome::Cached));
    }
    let log = |line: &str| activity.log(Stream::Stderr, format!("{line}\n").as_bytes());
    let scratch = store.scratch_dir()?;
    let client = &solver.engine.registry;
    let work = client.git_work(&remote, scratch.path(), &log).map_err(|error| failed(&error))?;
    work.fetch(&reference, &source.reference).map_err(|error| {
        lock_file::explain_git(solver.request, source, &reference, failed(&error))
    })?;
    check_fetched(source, &reference, &work)?;
    let mut working = store.layers().begin()?;
    write(source, (&work, &reference), (scratch.path(), &working.upper))?;
    let committed = work.committed_unix(&reference.object).map_err(|error| failed(&error))?;
    if source.times == GitTimes::Commit {
        set_times(&working.upper, committed)?;
    }
    let index = scan(&working.upper)?;
    working.size_bytes = Some(index.size_bytes());
    let content = index.content_id();
    let layer = store.layers().commit(working, &index.encode(), content, content)?;
    let mut kept = parts;
    kept.0.push(part(COMMITTED, committed.to_string()));
    let record = record_of(&layer, (*key.as_bytes(), kept), &remote.shown());
    store.cache_index().record(key, &record)?;
    Ok((Arc::new(layer), Outcome::Done))
}

/// When the commit was made whose files were checked out, in seconds since 1970.
pub(crate) fn committed(solver: &Solver<'_>, source: &GitSource) -> Result<Option<i64>, StepError> {
    let remote = GitRemote::new(&source.remote, login(solver, &source.remote)?.as_ref());
    let reference = resolve(solver, source, &remote)?;
    let record = solver.lookup(&parts(source, &remote, &reference).key())?;
    let value = record.and_then(|record| {
        let part = record.parts.0.into_iter().find(|part| part.name == COMMITTED)?;
        part.value.parse().ok()
    });
    Ok(value)
}

/// Where a reference points now.
pub(crate) fn look_up(solver: &Solver<'_>, source: &GitSource) -> Result<GitReference, StepError> {
    let remote = GitRemote::new(&source.remote, login(solver, &source.remote)?.as_ref());
    resolve(solver, source, &remote)
}

/// Under what the files are remembered.
fn parts(source: &GitSource, remote: &GitRemote, reference: &GitReference) -> KeyParts {
    let keeps = keeps_git_dir(source);
    let commit = match &reference.tagged {
        // A tag's own object is only to be seen in `.git`.
        Some(commit) if !keeps => commit,
        _ => &reference.object,
    };
    let mut parts = vec![
        part("operation", "git"),
        part("remote", remote.shown()),
        part("commit", commit),
        part("subdirectory", &source.subdir),
        part("submodules", format!("{:?}", source.submodules)),
        part("times", format!("{:?}", source.times)),
    ];
    if keeps {
        parts.push(part("git directory", &reference.name));
    }
    KeyParts(parts)
}

fn part(name: &str, value: impl Into<String>) -> KeyPart {
    KeyPart { name: name.to_owned(), value: value.into() }
}

/// A part of a repository has no `.git`.
fn keeps_git_dir(source: &GitSource) -> bool {
    source.git_dir == GitDir::Keep && source.subdir.is_empty()
}

fn failed(error: &kiln_registry::Error) -> StepError {
    if matches!(error, kiln_registry::Error::Cancelled) {
        return BuildError::Canceled.into();
    }
    let failed = StepError::failed(CODE, with_causes(error));
    match error.hint() {
        Some(hint) => failed.with_help(hint),
        None => failed,
    }
}

/// What a reference points to, and whether it is what the checksum says.
fn resolve(
    solver: &Solver<'_>,
    source: &GitSource,
    remote: &GitRemote,
) -> Result<GitReference, StepError> {
    let fail = |message: String| Err(StepError::failed(CODE, message));
    let GitSource { reference, checksum, .. } = source;
    if reference.starts_with('-') {
        return fail(format!("invalid git ref {reference:?}"));
    }
    if let Some(checksum) = checksum
        && !is_hex(checksum)
    {
        return fail(format!("invalid checksum {checksum} for Git URL, expected hex commit hash"));
    }
    if is_commit(reference) {
        return match checksum {
            Some(checksum) if !reference.starts_with(checksum) => {
                fail(format!("expected checksum to match {checksum}, got {reference}"))
            }
            _ => Ok(GitReference::of_commit(reference)),
        };
    }
    if source.fetch == GitFetch::Commit {
        return match checksum {
            None => fail("fetch-by-commit requires a checksum or a commit SHA ref".to_owned()),
            Some(commit) if is_commit(commit) => Ok(GitReference::of_commit(commit)),
            Some(checksum) => fail(format!(
                "fetch-by-commit requires a full commit SHA checksum, got {checksum:?}"
            )),
        };
    }
    let key = (source.remote.clone(), reference.clone());
    let known = solver.request.git_references.get(&key).cloned();
    let known = known.or_else(|| lock_file::git_reference(solver.request, source));
    let known = known.or_else(|| lock(&solver.engine.git_references).get(&key).cloned());
    let found = match known {
        Some(found) => found,
        None => solver
            .engine
            .registry
            .git_reference(remote, reference)
            .map_err(|error| failed(&error))?,
    };
    lock(&solver.engine.git_references).insert(key, found.clone());
    let names: Vec<&String> =
        [Some(&found.object), found.tagged.as_ref()].into_iter().flatten().collect();
    check(checksum.as_deref(), &names)?;
    Ok(found)
}

fn check(checksum: Option<&str>, names: &[&String]) -> Result<(), StepError> {
    let Some(checksum) = checksum else { return Ok(()) };
    if names.iter().any(|name| name.starts_with(checksum)) {
        return Ok(());
    }
    let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    let message = format!("expected checksum to match {checksum}, got {}", names.join(" or "));
    Err(StepError::failed(CODE, message).with_help("the commit is not the one that was asked for"))
}

/// A commit that was asked for by its name was not looked at before.
fn check_fetched(
    source: &GitSource,
    reference: &GitReference,
    work: &GitWork<'_>,
) -> Result<(), StepError> {
    let Some(checksum) = &source.checksum else { return Ok(()) };
    let names = work.names_of(&reference.object).map_err(|error| failed(&error))?;
    check(Some(checksum), &names.iter().collect::<Vec<_>>())
}

/// What lets kiln into a repository, from the secrets of the build: those of its host go first.
fn login(solver: &Solver<'_>, remote: &str) -> Result<Option<GitLogin>, StepError> {
    let host = remote.split_once("://").map_or("", |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or("");
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    for end in [format!(".{host}"), String::new()] {
        for name in ["GIT_AUTH_HEADER", "GIT_AUTH_TOKEN"] {
            let value = match solver.request.secrets.get(&format!("{name}{end}")) {
                None => continue,
                Some(SecretSource::Value(value)) => value.clone(),
                Some(SecretSource::File(path)) => std::fs::read(path).at("read", path)?,
            };
            let is_header = name == "GIT_AUTH_HEADER";
            let login = if is_header { GitLogin::Header(value) } else { GitLogin::Token(value) };
            return Ok(Some(login));
        }
    }
    Ok(None)
}

/// Writes the files into a layer.
fn write(
    source: &GitSource,
    (work, reference): (&GitWork<'_>, &GitReference),
    (scratch, upper): (&Path, &Path),
) -> Result<(), StepError> {
    if keeps_git_dir(source) {
        work.clone_into((reference, &source.reference), upper).map_err(|error| failed(&error))?;
        if source.submodules == Submodules::Fetch {
            work.add_submodules(upper, Some(&upper.join(".git")))
                .map_err(|error| failed(&error))?;
        }
        return Ok(());
    }
    let directory = if source.subdir.is_empty() { upper.to_owned() } else { scratch.join("files") };
    if !source.subdir.is_empty() {
        std::fs::create_dir(&directory).at("create directory", &directory)?;
    }
    work.check_out(&reference.object, &directory).map_err(|error| failed(&error))?;
    if source.submodules == Submodules::Fetch {
        work.add_submodules(&directory, None).map_err(|error| failed(&error))?;
        settle_submodules(&directory, &mut Vec::new())?;
    }
    if source.subdir.is_empty() {
        return Ok(());
    }
    let from = subdirectory(&directory, &source.subdir)?;
    for entry in std::fs::read_dir(&from).at("read", &from)? {
        let path = entry.at("read", &from)?.path();
        let name = path.file_name().expect("entries of a directory have names");
        std::fs::rename(&path, upper.join(name)).at("move", &path)?;
    }
    Ok(())
}

/// A submodule's `.git` is a file that names its repository, which is not part of the checkout
/// and was in a directory that nobody has heard of. It names where it would be in a repository
/// that is kept, so that equal commits are equal files.
fn settle_submodules(directory: &Path, depth: &mut Vec<String>) -> Result<(), BuildError> {
    for entry in std::fs::read_dir(directory).at("read", directory)? {
        let entry = entry.at("read", directory)?;
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().at("read", &path)?.is_dir() {
            depth.push(name);
            settle_submodules(&path, depth)?;
            depth.pop();
        } else if name == ".git" && !depth.is_empty() {
            let up = "../".repeat(depth.len());
            let text = format!("gitdir: {up}.git/modules/{}\n", depth.join("/"));
            std::fs::write(&path, text).at("write", &path)?;
        }
    }
    Ok(())
}

/// A directory of the checkout; no link is followed to it.
fn subdirectory(top: &Path, subdir: &str) -> Result<PathBuf, StepError> {
    let mut path = top.to_owned();
    let mut walked = Vec::new();
    for part in subdir.split('/') {
        path.push(part);
        walked.push(part);
        let walked = walked.join("/");
        let message = match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => continue,
            Ok(_) => format!("git subpath {subdir:?} contains non-directory {walked:?}"),
            Err(_) => format!("failed to lstat {walked:?}: no such file or directory"),
        };
        return Err(StepError::failed(CODE, format!("invalid subdir {subdir}: {message}")));
    }
    Ok(path)
}

/// Dates everything in a directory.
fn set_times(directory: &Path, unix: i64) -> Result<(), BuildError> {
    for entry in std::fs::read_dir(directory).at("read", directory)? {
        let entry = entry.at("read", directory)?;
        let path = entry.path();
        if entry.file_type().at("read", &path)?.is_dir() {
            set_times(&path, unix)?;
        } else {
            set_time(&path, unix)?;
        }
    }
    set_time(directory, unix)
}

fn set_time(path: &Path, unix: i64) -> Result<(), BuildError> {
    let time = Timespec { tv_sec: unix, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).at("set the time of", path)
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
