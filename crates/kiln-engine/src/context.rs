//! A build context: the files of a directory that its ignore file lets through.
//!
//! A store of kiln's that lies within it is no part of it (a project with its own, or a CI job that may
//! keep nothing else): its files change with every build.
//!
//! Every file is statted once; only selected files are read, and only when the context index does
//! not know them. Owners are 0:0 and extended attributes are dropped, as BuildKit's client sends
//! files.

use std::collections::HashMap;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::SystemTime;

use kiln_core::digest::{ContentId, FileDigest};
use kiln_core::glob::BadPattern;
use kiln_core::pattern::{IgnoreFile, MatchState, Patterns};
use kiln_store::layer::{Keeper, LastSymlink, SourceDirectory, Timestamp, path_order};
use kiln_store::selections::fingerprint;
use kiln_store::{ContextEntry, ContextIndex, EntryKind, Filter, Store, walk};

use crate::error::{BuildError, FileContext};
use crate::missing::ignoring_pattern;
use crate::request::BuildRequest;
use crate::source_tree::{Node, NodeKind, Unresolved, join};
use crate::wanted::WantedFiles;

/// From this number of entries on, contents of selections are remembered.
const MANY_ENTRIES: usize = 256;
/// Most links that a path may go through.
const LINK_LIMIT: usize = 255;

/// The files of a context, statted.
#[derive(Debug)]
pub(crate) struct Context {
    directory: Arc<SourceDirectory>,
    entries: Vec<ContextEntry>,
    index: Mutex<ContextIndex>,
    wanted: WantedFiles,
    patterns: Patterns,
    store: Store,
    walked: SystemTime,
    /// Of all entries, once it was asked for.
    fingerprint: OnceLock<Option<[u8; 32]>>,
}

impl Context {
    /// Walks `root`. `ignore_file` is the text that goes with the Dockerfile; without one the
    /// directory's own `.dockerignore` counts.
    pub(crate) fn load(
        store: &Store,
        root: &Path,
        ignore_file: Option<&[u8]>,
    ) -> Result<Self, BuildError> {
        let walked = SystemTime::now();
        let (entries, patterns) = entries((root, store.root()), ignore_file)?;
        let index = Mutex::new(store.context_index(root));
        let directory = SourceDirectory { path: root.to_owned(), keeper: Keeper::User };
        Ok(Self {
            directory: Arc::new(directory),
            entries,
            index,
            wanted: WantedFiles::default(),
            patterns,
            store: store.clone(),
            walked,
            fingerprint: OnceLock::new(),
        })
    }

    /// The content of a selection, if nothing in the context has changed since it was remembered.
    pub(crate) fn remembered(&self, selection: &[u8; 32]) -> Result<Option<ContentId>, BuildError> {
        match self.fingerprint() {
            Some(fingerprint) => {
                Ok(self.store.selections().find(&self.directory.path, selection, fingerprint)?)
            }
            None => Ok(None),
        }
    }

    /// Remembers the content of a selection.
    pub(crate) fn remember(
        &self,
        selection: &[u8; 32],
        content: &ContentId,
    ) -> Result<(), BuildError> {
        if let Some(fingerprint) = self.fingerprint() {
            let selection = (&*self.directory.path, selection);
            self.store.selections().remember(selection, fingerprint, content)?;
        }
        Ok(())
    }

    fn fingerprint(&self) -> Option<&[u8; 32]> {
        if self.entries.len() < MANY_ENTRIES {
            return None;
        }
        self.fingerprint.get_or_init(|| fingerprint(&self.entries, self.walked)).as_ref()
    }

    /// The same for a build that wants only a part of it.
    pub(crate) fn with_wanted(self, wanted: WantedFiles) -> Self {
        Self { wanted, ..self }
    }

    /// Whether a wildcard may find the file at `path`: see [`WantedFiles`].
    pub(crate) fn is_wanted(&self, path: &[u8]) -> Result<bool, BadPattern> {
        self.wanted.includes(path, self)
    }

    /// The pattern that leaves out a file which is there.
    pub(crate) fn ignored_by(&self, path: &str) -> Option<String> {
        let exists = self.directory.path.join(path).symlink_metadata().is_ok();
        exists.then(|| ignoring_pattern(&self.patterns, path)).flatten()
    }

    fn position(&self, path: &[u8]) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| path_order(&entry.path, path))
    }

    pub(crate) fn node(&self, path: &[u8]) -> Option<Node> {
        if path.is_empty() {
            return Some(Node {
                path: Vec::new(),
                kind: NodeKind::Directory,
                mode: 0o755,
                uid: 0,
                gid: 0,
                mtime: Timestamp::default(),
                capability: None,
                directory: Arc::clone(&self.directory),
                held_by: None,
                link_group: None,
            });
        }
        self.position(path).ok().map(|position| self.to_node(&self.entries[position], None))
    }

    fn to_node(&self, entry: &ContextEntry, digest: Option<FileDigest>) -> Node {
        let kind = match &entry.kind {
            EntryKind::Directory => NodeKind::Directory,
            EntryKind::File => NodeKind::File { size_bytes: entry.size_bytes, digest },
            EntryKind::Symlink { target } => NodeKind::Symlink(target.clone()),
            EntryKind::Fifo => NodeKind::Fifo,
            EntryKind::CharDevice { major, minor } => {
                NodeKind::Device { character: true, major: *major, minor: *minor }
            }
            EntryKind::BlockDevice { major, minor } => {
                NodeKind::Device { character: false, major: *major, minor: *minor }
            }
            // What a socket would say is not there to be read: it arrives as an empty file (BuildKit).
            EntryKind::Socket => {
                NodeKind::File { size_bytes: 0, digest: Some(FileDigest::of(b"")) }
            }
        };
        let has_names = entry.nlink > 1 && matches!(kind, NodeKind::File { .. });
        Node {
            path: entry.path.clone(),
            kind,
            mode: entry.mode,
            uid: 0,
            gid: 0,
            mtime: Timestamp {
                seconds: entry.mtime_ns.div_euclid(1_000_000_000),
                nanoseconds: entry.mtime_ns.rem_euclid(1_000_000_000) as u32,
            },
            capability: None,
            directory: Arc::clone(&self.directory),
            held_by: None,
            link_group: has_names
                .then(|| [entry.device.to_le_bytes(), entry.inode.to_le_bytes()].concat()),
        }
    }

    /// Where the entries below a directory are.
    fn range_below(&self, directory: &[u8]) -> Range<usize> {
        if directory.is_empty() {
            return 0..self.entries.len();
        }
        let start = match self.position(directory) {
            Ok(position) => position + 1,
            Err(position) => position,
        };
        let inside = |entry: &ContextEntry| {
            entry.path.strip_prefix(directory).is_some_and(|rest| rest.first() == Some(&b'/'))
        };
        start..start + self.entries[start..].partition_point(inside)
    }

    /// The entries below a directory.
    pub(crate) fn below(&self, directory: &[u8]) -> &[ContextEntry] {
        &self.entries[self.range_below(directory)]
    }

    pub(crate) fn children(&self, directory: &[u8]) -> Vec<Vec<u8>> {
        let skip = if directory.is_empty() { 0 } else { directory.len() + 1 };
        let names = self.below(directory).iter().map(|entry| &entry.path[skip..]);
        names.filter(|name| !name.contains(&b'/')).map(<[u8]>::to_vec).collect()
    }

    /// As [`crate::source_tree::SourceTree::resolve`].
    pub(crate) fn resolve(&self, path: &[u8], last: LastSymlink) -> Result<Vec<u8>, Unresolved> {
        let mut pending: Vec<Vec<u8>> = split(path).rev().map(<[u8]>::to_vec).collect();
        let mut resolved = Vec::new();
        let mut links = 0;
        while let Some(part) = pending.pop() {
            if part == b".." {
                let end = resolved.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                resolved.truncate(end);
                continue;
            }
            let next = join(&resolved, &part);
            let node = self.node(&next).ok_or(Unresolved::NotFound)?;
            let is_last = pending.is_empty();
            match node.kind {
                NodeKind::Symlink(target) if !is_last || last == LastSymlink::Follow => {
                    links += 1;
                    if links > LINK_LIMIT {
                        return Err(Unresolved::Loop);
                    }
                    if target.first() == Some(&b'/') {
                        resolved.clear();
                    }
                    pending.extend(split(&target).rev().map(<[u8]>::to_vec));
                }
                NodeKind::Directory => resolved = next,
                _ if is_last => resolved = next,
                _ => return Err(Unresolved::NotFound),
            }
        }
        Ok(resolved)
    }

    /// Fills in the digest of a file.
    pub(crate) fn hash(&self, node: &mut Node) -> Result<(), BuildError> {
        if let NodeKind::File { digest: digest @ None, .. } = &mut node.kind
            && let Ok(position) = self.position(&node.path)
        {
            *digest = self.digests(&[&self.entries[position]])?.pop();
        }
        Ok(())
    }

    /// The digests of files.
    fn digests(&self, files: &[&ContextEntry]) -> Result<Vec<FileDigest>, BuildError> {
        let mut index = self.index.lock().expect("no thread panics with the index locked");
        let digests = index.digest_files(&self.directory.path, files)?;
        index.put_away()?;
        Ok(digests)
    }

    /// Writes the context index if something new was hashed.
    pub(crate) fn save_index(&self) -> Result<(), BuildError> {
        let mut index = self.index.lock().expect("no thread panics with the index locked");
        Ok(index.save()?)
    }
}

/// What of a directory is part of a context, and the patterns that decide.
fn entries(
    (root, store): (&Path, &Path),
    ignore_file: Option<&[u8]>,
) -> Result<(Vec<ContextEntry>, Patterns), BuildError> {
    let own = root.join(".dockerignore");
    let text = match ignore_file {
        Some(text) => text.to_vec(),
        None => match std::fs::read(&own) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).at("read", &own),
        },
    };
    let patterns = IgnoreFile::parse(&text)
        .map_err(|error| BuildError::Usage(format!("error reading .dockerignore: {error}")))?;
    let entries = walk(root, &Ignored::new(patterns.clone(), path_below(store, root)))?;
    Ok((entries, patterns))
}

/// Where one directory is below another one, as far as their names tell.
fn path_below(directory: &Path, root: &Path) -> Option<Vec<u8>> {
    let (directory, root) = (std::path::absolute(directory).ok()?, std::path::absolute(root).ok()?);
    let below = directory.strip_prefix(root).ok()?;
    Some(below.as_os_str().as_bytes().to_vec()).filter(|below| !below.is_empty())
}

/// The files of the context of a request, which is a directory, in their order: what its ignore file lets
/// through. A `store` within it is no part of it.
///
/// # Errors
/// When the directory can't be read, or the ignore file is not valid.
pub fn context_files(
    request: &BuildRequest,
    store: &Path,
) -> Result<Vec<ContextEntry>, BuildError> {
    entries((&request.context, store), request.ignore_file.as_deref()).map(|(entries, _)| entries)
}

/// Some of a context's files, in its order.
#[derive(Clone, Debug)]
pub(crate) struct ContextFiles {
    context: Arc<Context>,
    /// Of the context's entries.
    positions: Vec<u32>,
    /// Of the files among them, once they are known.
    digests: Vec<FileDigest>,
}

impl ContextFiles {
    /// All that is below a directory.
    pub(crate) fn below(context: &Arc<Context>, directory: &[u8]) -> Self {
        let range = context.range_below(directory);
        let positions = range.map(|position| position as u32).collect();
        Self { context: Arc::clone(context), positions, digests: Vec::new() }
    }

    /// How many they are.
    pub(crate) fn len(&self) -> usize {
        self.positions.len()
    }

    fn entries(&self) -> impl Iterator<Item = &ContextEntry> {
        self.positions.iter().map(|position| &self.context.entries[*position as usize])
    }

    /// Each of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Node> {
        let mut digests = self.digests.iter();
        self.entries().map(move |entry| {
            let is_file = entry.kind == EntryKind::File;
            let digest = if is_file { digests.next().copied() } else { None };
            self.context.to_node(entry, digest)
        })
    }

    /// Those at these positions, which ascend; their digests are not known.
    pub(crate) fn only(self, positions: &[usize]) -> Self {
        let positions = positions.iter().map(|position| self.positions[*position]).collect();
        Self { context: self.context, positions, digests: Vec::new() }
    }

    /// Finds out the digests of the files.
    pub(crate) fn hash(&mut self) -> Result<(), BuildError> {
        let files: Vec<&ContextEntry> =
            self.entries().filter(|entry| entry.kind == EntryKind::File).collect();
        self.digests = self.context.digests(&files)?;
        Ok(())
    }
}

fn split(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

/// The ignore file as the walk asks it.
struct Ignored {
    patterns: Patterns,
    /// Where kiln's store is, if it is in the context.
    store: Option<Vec<u8>>,
    /// What matched for each directory, as its files build on it.
    directories: RwLock<HashMap<String, MatchState>>,
}

impl Ignored {
    fn new(patterns: Patterns, store: Option<Vec<u8>>) -> Self {
        Self { patterns, store, directories: RwLock::default() }
    }

    fn is_store(&self, path: &[u8]) -> bool {
        self.store.as_deref() == Some(path)
    }

    /// What matched for a directory and those above it; the empty path is the root.
    fn state(&self, directory: &str) -> MatchState {
        if directory.is_empty() {
            return MatchState::root();
        }
        let known = self.directories.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = known.get(directory) {
            return state.clone();
        }
        drop(known);
        let (_, state) = self.patterns.matches_in(directory, &self.state(parent(directory)));
        let mut known = self.directories.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(directory.to_owned(), state.clone());
        state
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

impl Filter for Ignored {
    fn may_descend(&self, directory: &[u8]) -> bool {
        if self.is_store(directory) {
            return false;
        }
        if self.patterns.is_empty() {
            return true;
        }
        let path = String::from_utf8_lossy(directory);
        self.includes(directory, true) || self.patterns.may_descend(&path)
    }

    fn includes(&self, path: &[u8], _is_directory: bool) -> bool {
        if self.is_store(path) {
            return false;
        }
        if self.patterns.is_empty() {
            return true;
        }
        let path = String::from_utf8_lossy(path);
        !self.patterns.matches_file_in(&path, &self.state(parent(&path)))
    }
}

#[cfg(test)]
mod tests {
    use kiln_testkit::tree::write_tree;

    use super::*;

    /// The paths of a context with these files.
    fn paths(files: &str, ignore_file: Option<&str>) -> String {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("files");
        std::fs::create_dir(&root).unwrap();
        write_tree(&root, files);
        let store = Store::open(&directory.path().join("store")).unwrap();
        let context = Context::load(&store, &root, ignore_file.map(str::as_bytes)).unwrap();
        let paths =
            context.below(b"").iter().map(|entry| String::from_utf8(entry.path.clone()).unwrap());
        paths.collect::<Vec<_>>().join(" ")
    }

    const FILES: &str =
        "dir a 0755\nfile a/x 0644\nfile a/y 0644\ndir b 0755\nfile b/x 0644\nfile c 0644\n";

    #[test]
    fn the_ignore_file_decides() {
        assert_eq!(paths(FILES, None), "a a/x a/y b b/x c");
        assert_eq!(paths(FILES, Some("")), "a a/x a/y b b/x c");
        assert_eq!(paths(FILES, Some("a\n")), "b b/x c");
        assert_eq!(paths(FILES, Some("*\n!a/y\n")), "a a/y");
        assert_eq!(paths(FILES, Some("**/x\n")), "a a/y b c");
        assert_eq!(paths(FILES, Some("# comment\n/c\n./b/\n")), "a a/x a/y");
    }

    #[test]
    fn the_contexts_own_ignore_file_counts_unless_another_is_given() {
        let files = format!("{FILES}file .dockerignore 0644 a\\nb\\n.dockerignore\n");
        assert_eq!(paths(&files, None), "c");
        assert_eq!(paths(&files, Some("c")), ".dockerignore a a/x a/y b b/x");
    }

    #[test]
    fn a_store_in_the_context_is_no_part_of_it() {
        for ignore_file in [None, Some("a\n"), Some("*\n!.cache\n!b\n")] {
            let directory = tempfile::tempdir().unwrap();
            let root = directory.path();
            write_tree(root, &format!("{FILES}dir .cache 0755\nfile .cache/kiln-not 0644\n"));
            let store = Store::open(&root.join(".cache/kiln")).unwrap();
            let context = Context::load(&store, root, ignore_file.map(str::as_bytes)).unwrap();
            let below = context.below(b"").iter();
            let paths: Vec<&[u8]> = below.map(|entry| &*entry.path).collect();
            assert!(paths.contains(&&b".cache/kiln-not"[..]) && paths.contains(&&b"b/x"[..]));
            assert!(!paths.iter().any(|path| path.starts_with(b".cache/kiln/")), "{paths:?}");
            assert!(!paths.contains(&&b".cache/kiln"[..]));
        }
        let below = |directory: &str, root: &str| path_below(directory.as_ref(), root.as_ref());
        assert_eq!(below("/a/b/c", "/a"), Some(b"b/c".to_vec()));
        assert_eq!(below("store", "."), Some(b"store".to_vec()));
        assert_eq!(
            [below("/a", "/a"), below("/ab", "/a"), below("/a", "/a/b")],
            [None, None, None]
        );
    }

    #[test]
    fn a_socket_is_an_empty_file() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("files");
        std::fs::create_dir(&root).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
        write_tree(&root, "fifo pipe 0600\n");
        let store = Store::open(&directory.path().join("store")).unwrap();
        let context = Context::load(&store, &root, None).unwrap();
        let files = ContextFiles::below(&Arc::new(context), b"");
        let kinds: Vec<NodeKind> = files.iter().map(|node| node.kind).collect();
        assert_eq!(kinds[0], NodeKind::Fifo);
        assert!(matches!(kinds[1], NodeKind::File { size_bytes: 0, .. }), "{kinds:?}");
    }
}
