//! File operations: COPY, ADD and WORKDIR over a snapshot.

use std::path::{Path, PathBuf};

use kiln_core::plan::{CopyFrom, CopyOp, Link, Unpack};

use super::copy::{Copier, CopyError};
use super::destination::Destination;
use super::root::{Attributes, CHANGE_OWNER, Root, RootError};
use super::unpack::{self, Archive, UnpackError};
use rustix::io::Errno;

use kiln_store::layer::Member;

use crate::error::{BuildError, StepError};
use crate::selection::Selected;
use crate::source_tree::{NodeKind, SourceTree, as_path};
use crate::user::{Accounts, has_names};

/// A root file system that is changed: layers below, top-most first, and the new one.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub(crate) lowers: &'a [PathBuf],
    pub(crate) upper: &'a Path,
    pub(crate) work: &'a Path,
}

impl Target<'_> {
    fn open(&self) -> Result<Root, StepError> {
        let layers = kiln_sandbox::mount_detached(self.lowers, Some((self.upper, self.work)));
        layers.map(Root).map_err(|error| StepError::failed("sandbox-failed", error.to_string()))
    }
}

impl From<RootError> for StepError {
    fn from(error: RootError) -> Self {
        match error {
            // That is the machine's fault, not the instruction's.
            RootError::Io { action, path, source: source @ (Errno::NOSPC | Errno::DQUOT) } => {
                let path = Path::new("/").join(path);
                Self::Build(BuildError::File { action, path, source: source.into() })
            }
            // The kernel knows no id of this user namespace for that owner.
            RootError::Io { action: CHANGE_OWNER, source: Errno::INVAL, .. } => {
                Self::failed("copy-failed", error.to_string()).with_help(
                    "a user without subordinate ids cannot make files of other owners: \
                     `kiln doctor` tells how to get some",
                )
            }
            error => Self::failed("copy-failed", error.to_string()),
        }
    }
}

impl From<UnpackError> for StepError {
    fn from(error: UnpackError) -> Self {
        Self::failed("copy-failed", error.to_string())
    }
}

impl From<CopyError> for StepError {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Root(error) => error.into(),
            error @ CopyError::Kind { .. } => Self::failed("copy-failed", error.to_string()),
        }
    }
}

/// The owner that `--chown` names, in a root file system that has layers or none.
pub(crate) fn owner(
    copy: &CopyOp,
    is_empty: bool,
    accounts: impl FnOnce() -> Result<Accounts, StepError>,
) -> Result<Option<(u32, u32)>, StepError> {
    match &copy.owner {
        None => Ok(None),
        Some(spec) if has_names(spec) && copy.link == Link::Yes => {
            let message = format!(
                "--chown={spec}: a name cannot be resolved with --link, there is no passwd file below it"
            );
            Err(StepError::failed("copy-failed", message)
                .with_help("use numbers, or leave out --link"))
        }
        Some(spec) if has_names(spec) => {
            let accounts = accounts()?;
            if is_empty {
                let message = format!(
                    "--chown={spec}: unable to find user, there is no passwd file in an empty image"
                );
                return Err(StepError::failed("copy-failed", message).with_help("use numbers"));
            }
            Ok(Some(accounts.owner(spec)))
        }
        Some(spec) => Ok(Some(Accounts::default().owner(spec))),
    }
}

/// Whether a copy unpacks something: its archive says only then what it makes.
pub(crate) fn unpacks(copy: &CopyOp, selected: &[Vec<Selected>]) -> Result<bool, StepError> {
    for one in selected.iter().flatten() {
        if archive(copy, one)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn archive(copy: &CopyOp, one: &Selected) -> Result<Option<(Archive, Member)>, StepError> {
    match one.root.kind {
        NodeKind::File { .. } if copy.unpack == Unpack::Yes => Ok(unpack::open(&one.root.file())?),
        _ => Ok(None),
    }
}

/// Copies into a mounted root file system, and unpacks archives there.
pub(crate) fn copy_and_unpack(
    target: &Target<'_>,
    copy: &CopyOp,
    (selected, owner): (&[Vec<Selected>], Option<(u32, u32)>),
) -> Result<(), StepError> {
    let root = target.open()?;
    let copier = Copier::new(&root, copy, owner);
    each(copy, selected, |source| match source {
        Source::Inline { name, contents } => Ok(copier.write(name, contents)?),
        Source::Selected(one) => match archive(copy, one)? {
            Some(archive) => {
                let destination = copy.destination.as_bytes();
                let directory = root.canonical(destination).map_err(StepError::from)?;
                let made = Attributes { mode: Some(0o755), ..copier.made() };
                root.make_directories(&directory, &made)?;
                let file = one.root.file();
                let from = (owner, file.as_path());
                Ok(unpack::extract(&root, &directory, archive, from)?)
            }
            None => Ok(copier.copy(one)?),
        },
    })
}

/// Copies into `root`; `selected` holds the matches of each [`CopyFrom::Input`], in order.
pub(crate) fn copy(
    root: &impl Destination,
    copy: &CopyOp,
    (selected, owner): (&[Vec<Selected>], Option<(u32, u32)>),
) -> Result<(), StepError> {
    let copier = Copier::new(root, copy, owner);
    each(copy, selected, |source| match source {
        Source::Inline { name, contents } => Ok(copier.write(name, contents)?),
        Source::Selected(one) => Ok(copier.copy(one)?),
    })
}

enum Source<'a> {
    Inline { name: &'a str, contents: &'a str },
    Selected(&'a Selected),
}

/// Goes through what a copy takes, in the order of its sources.
fn each<'a>(
    copy: &'a CopyOp,
    selected: &'a [Vec<Selected>],
    mut visit: impl FnMut(Source<'a>) -> Result<(), StepError>,
) -> Result<(), StepError> {
    let mut matches = selected.iter();
    for source in &copy.sources {
        match source {
            CopyFrom::Inline { name, contents } => visit(Source::Inline { name, contents })?,
            CopyFrom::Input { .. } => {
                for one in matches.next().into_iter().flatten() {
                    visit(Source::Selected(one))?;
                }
            }
        }
    }
    Ok(())
}

/// Makes a WORKDIR and what is missing above it.
pub(crate) fn make_directory(
    root: &impl Destination,
    path: &str,
    (owner, epoch): (Option<(u32, u32)>, Option<i64>),
) -> Result<(), StepError> {
    let path = root.canonical(path.as_bytes())?;
    let existed = root.kind(&path)?.is_some();
    let attributes = Attributes { mode: Some(0o755), owner, mtime: None };
    root.make_directories(&path, &attributes)?;
    if let Some(epoch) = epoch.filter(|_| !existed) {
        root.set_time(&path, epoch, 0)?;
    }
    Ok(())
}

/// Reads a file of an image, links followed inside it; `None` if it is not there, or is none: a
/// pipe would never end, and a device is the host's.
pub(crate) fn read_file(tree: &SourceTree, path: &str) -> Result<Option<String>, StepError> {
    let resolved = tree.resolve(path.as_bytes(), kiln_store::layer::LastSymlink::Follow);
    let Some(node) = resolved.ok().and_then(|path| tree.node(&path)) else { return Ok(None) };
    if !matches!(node.kind, NodeKind::File { .. }) {
        return Ok(None);
    }
    match std::fs::read(node.file()) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) => {
            let message = format!("read {}: {error}", as_path(&node.path).display());
            Err(StepError::failed("read-failed", message))
        }
    }
}

/// The accounts of an image.
pub(crate) fn accounts(tree: &SourceTree) -> Result<Accounts, StepError> {
    let passwd = read_file(tree, "etc/passwd")?.unwrap_or_default();
    let group = read_file(tree, "etc/group")?.unwrap_or_default();
    Ok(Accounts::parse(&passwd, &group))
}
