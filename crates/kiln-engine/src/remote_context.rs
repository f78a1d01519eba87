//! Build contexts that come from elsewhere: git repositories, archives and files of the web,
//! standard input.
//!
//! A Dockerfile has to be read before there is a plan, so the files are fetched by a plan of their
//! own. Its steps are also steps of the build's plan, which finds them done: what is fetched here is
//! pinned, to a commit or a digest.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use kiln_core::event::EventSink;
use kiln_core::plan::{CONTEXT_FILE, GitSource, Input, RemoteFiles, plan_of_context};
use kiln_registry::GitReference;
use kiln_store::layer::LastSymlink;

use crate::activity::Activities;
use crate::engine::Engine;
use crate::error::{BuildError, FileContext, StepError, StepFailure};
use crate::history::Record;
use crate::op::download::{self, Kept, Wanted};
use crate::op::git;
use crate::request::BuildRequest;
use crate::solve::{Solved, Solver, lock, solve};
use crate::source_tree::{NodeKind, SourceTree};

/// How much of a file tells whether it is an archive.
const HEADER_BYTES: usize = 1024;

/// The address of an archive that came from standard input; its digest follows.
const STDIN: &str = "stdin:";

/// Where a context is fetched from.
#[derive(Clone, Debug)]
pub enum ContextAddress {
    /// A git repository.
    Git(GitSource),
    /// A file of the web: an archive, or a Dockerfile.
    Url(String),
    /// What [`keep_input`] kept.
    Kept(RemoteFiles),
}

/// The files of a context.
#[derive(Debug)]
pub struct FetchedContext {
    /// What they are, pinned.
    pub files: RemoteFiles,
    /// When they were made, in seconds since 1970, if that is known: the commit, or what the
    /// server or the archive says.
    pub modified_unix: Option<i64>,
    /// Where references of git repositories were found to point.
    pub git_references: BTreeMap<(String, String), GitReference>,
    tree: SourceTree,
}

/// What came from standard input.
#[derive(Debug)]
pub enum StandardInput {
    /// Nothing at all.
    Empty,
    /// A Dockerfile, as it seems: it is no archive.
    Text(Vec<u8>),
    /// An archive, kept in the store.
    Archive(RemoteFiles),
}

/// Reads standard input, or whatever stands for it: an archive goes into the store.
///
/// # Errors
/// It cannot be read, or the store not be written.
pub fn keep_input(engine: &Engine, input: &mut dyn Read) -> Result<StandardInput, BuildError> {
    let mut head = Vec::new();
    let name = std::path::Path::new("standard input");
    (&mut *input).take(HEADER_BYTES as u64).read_to_end(&mut head).at("read", name)?;
    if head.is_empty() {
        return Ok(StandardInput::Empty);
    }
    if !is_archive(&head) {
        input.read_to_end(&mut head).at("read", name)?;
        return Ok(StandardInput::Text(head));
    }
    let mut whole = Cursor::new(head).chain(input);
    let digest = download::keep(&engine.store, STDIN, &mut whole)?;
    let url = format!("{STDIN}{digest}");
    Ok(StandardInput::Archive(RemoteFiles::Archive { url, checksum: Some(digest) }))
}

/// Fetches the files of a context. Of `request`, only secrets and settings are looked at.
///
/// # Errors
/// As for [`build()`](crate::build()).
pub fn fetch_context(
    engine: &Engine,
    (request, address): (&BuildRequest, &ContextAddress),
    events: &EventSink,
    cancelled: &Arc<AtomicBool>,
) -> Result<FetchedContext, BuildError> {
    let _in_use = engine.store.lock_shared(cancelled)?;
    let activities = Activities::new(events.clone());
    let work = Work { engine, request, activities: &activities, cancelled };
    let (files, tree, modified_unix) = match address {
        ContextAddress::Git(source) => {
            let files = RemoteFiles::Git(source.clone());
            let (tree, committed) = work.solve(&files, |solver| git::committed(solver, source))?;
            (files, tree, committed)
        }
        ContextAddress::Url(url) => work.fetch_url(url)?,
        ContextAddress::Kept(files) => {
            let (tree, ()) = work.solve(files, |_| Ok(()))?;
            let newest = newest(&tree);
            (files.clone(), tree, newest)
        }
    };
    let git_references = lock(&engine.git_references).clone();
    Ok(FetchedContext { files, modified_unix, git_references, tree })
}

struct Work<'a> {
    engine: &'a Engine,
    request: &'a BuildRequest,
    activities: &'a Activities,
    cancelled: &'a Arc<AtomicBool>,
}

impl Work<'_> {
    /// The fetched files, and what else is to be known of them.
    fn solve<T>(
        &self,
        files: &RemoteFiles,
        ask: impl FnOnce(&Solver<'_>) -> Result<T, StepError>,
    ) -> Result<(SourceTree, T), BuildError> {
        let plan = plan_of_context(files);
        // It never ends: nothing is kept.
        let record = Record::begin(self.request);
        let solver = Solver::new(
            (self.engine, self.request, record.part(0)),
            &plan,
            BTreeMap::new(),
            (self.activities, Arc::clone(self.cancelled)),
            Instant::now(),
        );
        let done = solve(&solver)?;
        let snapshot = match plan.targets[0].root {
            Input::Scratch => crate::snapshot::Snapshot::default(),
            Input::Step(id) => match &done[&id].solved {
                Solved::Snapshot(snapshot) => snapshot.clone(),
                Solved::Context(_) => unreachable!("fetched files are a file system"),
            },
        };
        let told = ask(&solver).map_err(of_context)?;
        Ok((solver.tree(&snapshot)?, told))
    }

    /// A file of the web, and what is in it if it is an archive.
    fn fetch_url(&self, url: &str) -> Result<(RemoteFiles, SourceTree, Option<i64>), BuildError> {
        let file = RemoteFiles::File { url: url.to_owned(), checksum: None };
        let wanted = Wanted { url, name: CONTEXT_FILE, checksum: None, lock: None };
        let (tree, kept) = self.solve(&file, |solver| download::known(solver, &wanted))?;
        let Kept { digest, modified_unix } = kept;
        let url = url.to_owned();
        let mut head = Vec::new();
        if let Some(file) = open(&tree, CONTEXT_FILE)? {
            let name = std::path::Path::new(&url);
            file.take(HEADER_BYTES as u64).read_to_end(&mut head).at("read", name)?;
        }
        if !is_archive(&head) {
            return Ok((RemoteFiles::File { url, checksum: digest }, tree, modified_unix));
        }
        let files = RemoteFiles::Archive { url, checksum: digest };
        let (tree, ()) = self.solve(&files, |_| Ok(()))?;
        let modified_unix = modified_unix.or_else(|| newest(&tree));
        Ok((files, tree, modified_unix))
    }
}

impl FetchedContext {
    /// The content of a file, through links as they lead in the context; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, BuildError> {
        let Some(mut file) = open(&self.tree, path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).at("read", std::path::Path::new(path))?;
        Ok(Some(bytes))
    }

    /// Whether it is one file of the web, and no archive.
    pub fn is_file(&self) -> bool {
        matches!(self.files, RemoteFiles::File { .. })
    }
}

fn open(tree: &SourceTree, path: &str) -> Result<Option<std::fs::File>, BuildError> {
    let Ok(path) = tree.resolve(path.as_bytes(), LastSymlink::Follow) else { return Ok(None) };
    let node = tree.node(&path).filter(|node| matches!(node.kind, NodeKind::File { .. }));
    let file = node.map(|node| node.file());
    file.map(|file| std::fs::File::open(&file).at("open", &file)).transpose()
}

/// The time of the youngest file.
fn newest(tree: &SourceTree) -> Option<i64> {
    let files = tree.walk(b"");
    let files = files.iter().filter(|node| matches!(node.kind, NodeKind::File { .. }));
    files.map(|node| node.mtime.seconds).max()
}

/// A failure that belongs to no instruction.
pub(crate) fn of_context(error: StepError) -> BuildError {
    match error {
        StepError::Build(error) => error,
        StepError::Failed { code, message, last_output, help } => {
            BuildError::Step(Box::new(StepFailure {
                code,
                message,
                span: kiln_core::source::Span::default(),
                name: "context".to_owned(),
                last_output,
                help,
            }))
        }
    }
}

/// Whether a file that begins with these bytes is an archive: compressed, or a tar.
fn is_archive(head: &[u8]) -> bool {
    let magic: [&[u8]; 4] = [b"BZh", b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    magic.iter().any(|magic| head.starts_with(magic)) || is_tar(head)
}

/// Whether the first block is a tar header: its checksum is right.
fn is_tar(head: &[u8]) -> bool {
    let Some(block) = head.get(..512) else { return false };
    let text = String::from_utf8_lossy(&block[148..156]);
    let text = text.trim_matches(|c: char| c == '\0' || c == ' ');
    let Ok(expected) = u32::from_str_radix(text, 8) else { return false };
    let bytes = block.iter().enumerate();
    let sum: u32 = bytes
        .map(|(at, byte)| if (148..156).contains(&at) { u32::from(b' ') } else { u32::from(*byte) })
        .sum();
    sum == expected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_told_from_dockerfiles() {
        let mut header = [0_u8; 1024];
        header[..4].copy_from_slice(b"file");
        header[148..156].copy_from_slice(b"        ");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        assert!(is_archive(&header));
        header[0] = b'F';
        assert!(!is_archive(&header));
        assert!(!is_archive(&[0; 1024]));
        assert!(!is_archive(b"FROM scratch\n"));
        assert!(!is_archive(b""));
        assert!(is_archive(b"\x1f\x8b\x08\0"));
        assert!(is_archive(b"BZh9"));
    }
}
