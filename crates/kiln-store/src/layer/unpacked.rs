//! A layer while it is being unpacked: what lies in its directory, kept in memory.
//!
//! Names are resolved here and not by the kernel, which is given paths without links. Directories
//! get their owner, mode, attributes and times last, when nothing is put into them any more. So it
//! takes no directory at all to know what would be in it: see [`Ground`].

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, fchmod, mkdirat, openat, removexattr, unlinkat};
use rustix::io::Errno;

use super::beneath::Beneath;
use super::index::{Entry, EntryKind, LayerIndex};
use super::metadata::{self, Metadata, Owner};
use super::path::{components, join, parent, path_order, split};
use super::xattr;
use crate::layer_error::LayerError;

/// How many symbolic links a name may lead through.
const SYMLINKS_MAX: usize = 255;
/// Longer paths are refused: to make each of their directories would take quadratic time. The
/// kernel takes 4096 bytes at once.
pub(super) const PATH_BYTES_MAX: usize = 16 << 10;

/// A file that has been unpacked; several names may share one.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) kind: EntryKind,
    pub(super) metadata: Metadata,
    /// The directory was not named by the archive.
    pub(super) implied: bool,
}

/// Where files are put: into a directory, or nowhere when only the index is wanted.
pub(super) struct Ground(Option<Beneath>);

impl Ground {
    /// Takes the empty directory `dest`, which is made if it is missing.
    fn of(dest: &Path) -> Result<Self, LayerError> {
        let failed =
            |action| move |source| LayerError::Io { action, path: dest.to_owned(), source };
        std::fs::create_dir_all(dest).map_err(failed("create"))?;
        if std::fs::read_dir(dest).map_err(failed("list"))?.next().is_some() {
            return Err(LayerError::NotEmpty { path: dest.to_owned() });
        }
        // What is made inside must not inherit a group or an access list.
        for name in ["system.posix_acl_default", "system.posix_acl_access"] {
            match removexattr(dest, name) {
                Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(failed("prepare")(errno.into())),
            }
        }
        let beneath = Beneath::open(dest)?;
        fchmod(beneath.root(), Mode::RWXU).map_err(beneath.failed("prepare", b""))?;
        Ok(Self(Some(beneath)))
    }

    /// Opens the directory `path` as a place to act in; nothing where there are no files.
    pub(super) fn directory(&self, path: &[u8]) -> Result<Option<OwnedFd>, LayerError> {
        self.0.as_ref().map(|beneath| beneath.directory(path)).transpose()
    }

    /// Calls the kernel about `path`, if there are files.
    pub(super) fn act(
        &self,
        (action, path): (&'static str, &[u8]),
        dir: Option<&OwnedFd>,
        call: impl FnOnce(&OwnedFd) -> Result<(), Errno>,
    ) -> Result<(), LayerError> {
        match (&self.0, dir) {
            (Some(beneath), Some(dir)) => call(dir).map_err(beneath.failed(action, path)),
            _ => Ok(()),
        }
    }

    /// For `map_err` on a system call about `path`.
    pub(super) fn failed(
        &self,
        action: &'static str,
        path: &[u8],
    ) -> impl FnOnce(Errno) -> LayerError {
        let path = self.0.as_ref().map_or_else(PathBuf::new, |beneath| beneath.host_path(path));
        move |errno| LayerError::Io { action, path, source: errno.into() }
    }
}

/// The files so far, and the directory that they are in.
pub(super) struct Unpacked {
    pub(super) ground: Ground,
    pub(super) inodes: Vec<Inode>,
    /// Position in `inodes` of every path; the order is that of bytes, so that what lies
    /// beneath a directory is the range from `dir/` to `dir0`.
    pub(super) paths: BTreeMap<Vec<u8>, usize>,
    /// The last parent as the archive named it, as it is, and opened.
    pub(super) last_parent: Option<(Vec<u8>, Vec<u8>, Option<OwnedFd>)>,
}

impl Unpacked {
    /// Nothing yet; files are put into the directory `dest`, if there is one.
    pub(super) fn new(dest: Option<&Path>) -> Result<Self, LayerError> {
        let ground = dest.map_or(Ok(Ground(None)), Ground::of)?;
        let root = Inode {
            kind: EntryKind::Directory { opaque: false },
            metadata: implied_metadata(),
            implied: true,
        };
        Ok(Self {
            ground,
            inodes: vec![root],
            paths: BTreeMap::from([(Vec::new(), 0)]),
            last_parent: None,
        })
    }

    /// What is at `path`.
    pub(super) fn find(&self, path: &[u8]) -> Option<&Inode> {
        self.paths.get(path).map(|position| &self.inodes[*position])
    }

    /// Notes a new file.
    pub(super) fn add(&mut self, path: Vec<u8>, inode: Inode) {
        self.paths.insert(path, self.inodes.len());
        self.inodes.push(inode);
    }

    /// Removes a file, or a directory and all that it holds.
    pub(super) fn remove(&mut self, path: &[u8]) -> Result<(), LayerError> {
        self.last_parent = None;
        let (first, end) = ([path, b"/"].concat(), [path, b"0"].concat());
        let mut doomed: Vec<Vec<u8>> =
            self.paths.range(first..end).map(|(path, _)| path.clone()).collect();
        doomed.insert(0, path.to_vec());
        // Children follow their directory, so the way back removes them first.
        for path in doomed.iter().rev() {
            let (dir, name) = split(path);
            let position = self.paths.remove(path).expect("it was found in the map");
            let flags = if self.inodes[position].kind.is_directory() {
                AtFlags::REMOVEDIR
            } else {
                AtFlags::empty()
            };
            let dir = self.ground.directory(dir)?;
            self.ground.act(("remove", path), dir.as_ref(), |dir| unlinkat(dir, name, flags))?;
        }
        Ok(())
    }

    /// The directory that the archive names `dir`, made if it is missing: its path and an open
    /// handle. Errors name the archive's `member`.
    pub(super) fn parent(
        &mut self,
        dir: &[u8],
        member: &[u8],
    ) -> Result<(Vec<u8>, Option<OwnedFd>), LayerError> {
        if let Some((named, resolved, fd)) = self.last_parent.take()
            && named == dir
        {
            return Ok((resolved, fd));
        }
        let invalid = || LayerError::member(member, "its parent is no directory");
        let (path, missing) = self.resolve(dir).ok_or_else(invalid)?;
        if path.len() > PATH_BYTES_MAX {
            return Err(LayerError::member(member, "its path is too long"));
        }
        if missing {
            self.make_directories(&path)?;
        }
        let fd = self.ground.directory(&path)?;
        Ok((path, fd))
    }

    /// Where the directory `dir` is after all symbolic links, and whether it has still to be
    /// made. `None` when something else is in the way.
    pub(super) fn resolve(&self, dir: &[u8]) -> Option<(Vec<u8>, bool)> {
        let mut todo: VecDeque<Vec<u8>> = components(dir).map(<[u8]>::to_vec).collect();
        let mut path = Vec::new();
        let mut missing = false;
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == b".." {
                path = parent(&path).to_vec();
                continue;
            }
            let child = join(&path, &name);
            match self.paths.get(&child).map(|position| &self.inodes[*position].kind) {
                Some(EntryKind::Directory { .. }) => path = child,
                None | Some(EntryKind::Whiteout) => {
                    missing = true;
                    path = child;
                }
                Some(EntryKind::Symlink { target }) => {
                    links += 1;
                    if links > SYMLINKS_MAX {
                        return None;
                    }
                    if target.starts_with(b"/") {
                        path.clear();
                    }
                    for name in components(target).rev() {
                        todo.push_front(name.to_vec());
                    }
                }
                Some(_) => return None,
            }
        }
        // A later `..` may have left the missing part again.
        missing &= !matches!(
            self.paths.get(&path).map(|position| &self.inodes[*position].kind),
            Some(EntryKind::Directory { .. })
        );
        Some((path, missing))
    }

    /// Makes `path` and its parents, where they are missing; whiteouts give way.
    fn make_directories(&mut self, path: &[u8]) -> Result<(), LayerError> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let ends: Vec<usize> = ends.map(|(end, _)| end).chain([path.len()]).collect();
        // The directory made last: a path of many new ones is not walked again for each.
        let mut made: Option<OwnedFd> = None;
        for end in ends {
            let path = &path[..end];
            let existing = self.paths.get(path).map(|position| &self.inodes[*position].kind);
            if existing.is_some_and(EntryKind::is_directory) {
                continue;
            }
            let opaque = existing.is_some();
            if opaque {
                self.remove(path)?;
            }
            let (dir, name) = split(path);
            let parent = match made.take() {
                Some(parent) => Some(parent),
                None => self.ground.directory(dir)?,
            };
            self.ground.act(("create", path), parent.as_ref(), |parent| {
                mkdirat(parent, name, Mode::RWXU)?;
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                made = Some(openat(parent, name, flags, Mode::empty())?);
                Ok(())
            })?;
            let kind = EntryKind::Directory { opaque };
            let inode = Inode { kind, metadata: implied_metadata(), implied: true };
            self.add(path.to_vec(), inode);
        }
        Ok(())
    }

    /// Finishes the directories and makes the index.
    pub(super) fn finish(mut self) -> Result<LayerIndex, LayerError> {
        self.remove_hidden_whiteouts()?;
        let mut implied = Vec::new();
        for (path, position) in &self.paths {
            let inode = &mut self.inodes[*position];
            let EntryKind::Directory { opaque } = inode.kind else {
                continue;
            };
            if let Ground(Some(beneath)) = &self.ground {
                let fd = beneath.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
                if opaque {
                    xattr::mark_opaque(fd.as_fd()).map_err(beneath.failed("mark", path))?;
                }
                metadata::set(fd.as_fd(), &mut inode.metadata, Owner::Unset)
                    .map_err(beneath.failed("set the metadata of", path))?;
            }
            if inode.implied {
                implied.push(path.clone());
            }
        }
        let mut paths: Vec<(Vec<u8>, usize)> = self.paths.into_iter().collect();
        paths.sort_by(|(left, _), (right, _)| path_order(left, right));
        let mut first_names: Vec<Option<usize>> = vec![None; self.inodes.len()];
        let mut entries: Vec<Entry> = Vec::with_capacity(paths.len());
        for (path, position) in paths {
            let Inode { kind, metadata, .. } = &self.inodes[position];
            let mut kind = kind.clone();
            if let (EntryKind::File { .. }, Some(first)) = (&kind, first_names[position]) {
                kind = EntryKind::HardLink { target: entries[first].path.clone() };
            }
            first_names[position].get_or_insert(entries.len());
            let Metadata { mode, uid, gid, mtime, xattrs } = metadata.clone();
            entries.push(Entry { path, kind, mode, uid, gid, mtime, xattrs });
        }
        LayerIndex::with_implied(entries, &mut implied)
    }

    /// Beneath an opaque directory no lower layer shows, so a whiteout there means nothing; but
    /// overlayfs would list its name.
    fn remove_hidden_whiteouts(&mut self) -> Result<(), LayerError> {
        let opaque: Vec<Vec<u8>> = self
            .paths
            .iter()
            .filter(|(path, position)| {
                self.inodes[**position].kind == EntryKind::Directory { opaque: true }
                    && !path.is_empty()
            })
            .map(|(path, _)| path.clone())
            .collect();
        for dir in opaque {
            let (first, end) = ([&dir[..], b"/"].concat(), [&dir[..], b"0"].concat());
            let whiteouts: Vec<Vec<u8>> = self
                .paths
                .range(first..end)
                .filter(|(_, position)| self.inodes[**position].kind == EntryKind::Whiteout)
                .map(|(path, _)| path.clone())
                .collect();
            for path in whiteouts {
                self.remove(&path)?;
            }
        }
        Ok(())
    }
}

fn implied_metadata() -> Metadata {
    Metadata { mode: 0o755, ..Metadata::default() }
}
