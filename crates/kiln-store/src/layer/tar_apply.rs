//! Unpacking a layer's tar archive into an empty directory (OCI image-spec, layer.md,
//! "Applying Changesets"), in overlayfs upper format.
//!
//! What lies in the directory is known from what was put there, so names are resolved in memory
//! and the kernel is given paths without links: nothing that an archive says can lead out of the
//! directory. Names are taken lexically first (`..` stops at the root); symbolic links in a
//! parent are then followed inside the layer, absolute ones from its root.
//!
//! Members are applied in order; a later one replaces an earlier one of the same path, only
//! directories are merged. A directory that takes the place of something else of the same
//! archive, a whiteout above all, becomes opaque: what lower layers have there stays hidden.
//! Directories get their owner, mode, attributes and times last, when nothing is put into them
//! any more. Files are hashed while they are written, so the index costs nothing.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufReader, Read};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use kiln_core::digest::FileDigest;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, fchmod, linkat, makedev, mkdirat, mknodat, openat,
    removexattr, symlinkat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

use super::beneath::Beneath;
use super::index::{Entry, EntryKind, LayerIndex, Timestamp};
use super::metadata::{self, Metadata, Owner};
use super::path::{clean, components, join, parent, path_order, split};
use super::tar_read::{Member, MemberKind, TarReader};
use super::tar_write::{OPAQUE_MARKER, WHITEOUT_PREFIX};
use super::xattr;
use crate::layer_error::LayerError;

/// Names that an old union file system kept for itself; they are no part of the layer.
const AUFS_PREFIX: &[u8] = b".wh..wh.";
/// How many symbolic links a name may lead through.
const SYMLINKS_MAX: usize = 255;
/// Longer paths are refused: to make each of their directories would take quadratic time. The
/// kernel takes 4096 bytes at once.
const PATH_BYTES_MAX: usize = 16 << 10;
const COPY_BYTES: usize = 256 << 10;
const READ_BYTES: usize = 128 << 10;

/// Unpacks the archive `reader` into the directory `dest`, which is made if it is missing and
/// must be empty. Returns the index that [`scan`](super::scan) would find there. What follows the
/// archive's end mark is not looked at.
///
/// Attributes that no layer keeps (overlayfs's own above all) are dropped. Where the user
/// namespace lacks an owner or forbids a device, the index keeps what the archive says; a
/// device's place is taken by an empty file, so that lower layers do not show through.
///
/// # Errors
/// [`LayerError::NotEmpty`], [`LayerError::MalformedTar`], [`LayerError::InvalidMember`],
/// [`LayerError::LinkTarget`], [`LayerError::Io`] and [`LayerError::Stream`]; `dest` then holds
/// a part of the layer and is of no use.
pub fn apply_tar(reader: impl Read, dest: &Path) -> Result<LayerIndex, LayerError> {
    apply_buffered(BufReader::with_capacity(READ_BYTES, reader), dest)
}

/// The same for a reader that is cheap to read little by little.
pub(super) fn apply_buffered(reader: impl Read, dest: &Path) -> Result<LayerIndex, LayerError> {
    let mut applier = Applier::new(dest)?;
    let mut tar = TarReader::new(reader);
    while let Some(member) = tar.next()? {
        applier.apply(member, &mut tar)?;
    }
    applier.finish()
}

/// A file that has been unpacked; several names may share one.
#[derive(Debug)]
struct Inode {
    kind: EntryKind,
    metadata: Metadata,
    /// The directory was not named by the archive.
    implied: bool,
}

struct Applier {
    beneath: Beneath,
    inodes: Vec<Inode>,
    /// Position in `inodes` of every path; the order is that of bytes, so that what lies
    /// beneath a directory is the range from `dir/` to `dir0`.
    paths: BTreeMap<Vec<u8>, usize>,
    /// The last parent as the archive named it, as it is, and opened.
    last_parent: Option<(Vec<u8>, Vec<u8>, OwnedFd)>,
    /// This process's user and group, which its new files have.
    own: (u32, u32),
    buffer: Vec<u8>,
}

impl Applier {
    fn new(dest: &Path) -> Result<Self, LayerError> {
        let failed = |action| {
            move |source| LayerError::Io {
                action,
                path: dest.to_owned(),
                source,
            }
        };
        std::fs::create_dir_all(dest).map_err(failed("create"))?;
        if std::fs::read_dir(dest)
            .map_err(failed("list"))?
            .next()
            .is_some()
        {
            return Err(LayerError::NotEmpty {
                path: dest.to_owned(),
            });
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
        let root = Inode {
            kind: EntryKind::Directory { opaque: false },
            metadata: implied_metadata(),
            implied: true,
        };
        Ok(Self {
            beneath,
            inodes: vec![root],
            paths: BTreeMap::from([(Vec::new(), 0)]),
            last_parent: None,
            own: (geteuid().as_raw(), getegid().as_raw()),
            buffer: vec![0; COPY_BYTES],
        })
    }

    fn apply(&mut self, member: Member, tar: &mut TarReader<impl Read>) -> Result<(), LayerError> {
        let path = clean(&member.path);
        if path.len() > PATH_BYTES_MAX {
            return Err(LayerError::member(&member.path, "its path is too long"));
        }
        let (dir, name) = split(&path);
        if name == OPAQUE_MARKER {
            let (dir, _) = self.parent(dir, &member)?;
            self.inodes[self.paths[&dir]].kind = EntryKind::Directory { opaque: true };
            return Ok(());
        }
        if components(&path).any(|name| name.starts_with(AUFS_PREFIX)) {
            return Ok(());
        }
        if components(dir).any(|name| name.starts_with(WHITEOUT_PREFIX)) {
            return Err(LayerError::member(
                &member.path,
                "it lies in a deletion mark",
            ));
        }
        if let Some(deleted) = name.strip_prefix(WHITEOUT_PREFIX) {
            if matches!(deleted, b"" | b"." | b"..") {
                return Err(LayerError::member(
                    &member.path,
                    "it marks no name as deleted",
                ));
            }
            let (dir, fd) = self.parent(dir, &member)?;
            return self.whiteout(&dir, deleted, &fd);
        }
        if path.is_empty() {
            return self.root(member);
        }
        let (dir, fd) = self.parent(dir, &member)?;
        let name = name.to_vec();
        self.place(member, tar, (&dir, &name, fd))
    }

    /// The root directory is there already.
    fn root(&mut self, member: Member) -> Result<(), LayerError> {
        if member.kind != MemberKind::Directory {
            return Err(LayerError::member(
                &member.path,
                "only a directory can be the root",
            ));
        }
        self.inodes[0].metadata = metadata_of(member);
        self.inodes[0].implied = false;
        Ok(())
    }

    /// Puts a member at `name` in `dir`, which is open as `fd`.
    fn place(
        &mut self,
        member: Member,
        tar: &mut TarReader<impl Read>,
        (dir, name, fd): (&[u8], &[u8], OwnedFd),
    ) -> Result<(), LayerError> {
        let path = join(dir, name);
        let link = match member.kind {
            MemberKind::HardLink => Some(self.link_target(&member, &path)?),
            _ => None,
        };
        let existing = self
            .paths
            .get(&path)
            .map(|position| &self.inodes[*position]);
        let replaces = existing.is_some();
        if replaces {
            let merges = member.kind == MemberKind::Directory;
            if merges && existing.is_some_and(|inode| inode.kind.is_directory()) {
                let position = self.paths[&path];
                self.inodes[position].metadata = metadata_of(member);
                self.inodes[position].implied = false;
                self.last_parent = Some((dir.to_vec(), dir.to_vec(), fd));
                return Ok(());
            }
            self.remove(&path)?;
        }
        if let Some(target) = link {
            self.hard_link(member, &target, (&path, name, &fd))?;
        } else {
            let inode = self.create(member, tar, (&path, name, &fd))?;
            let inode = match inode.kind {
                EntryKind::Directory { .. } => Inode {
                    kind: EntryKind::Directory { opaque: replaces },
                    ..inode
                },
                _ => inode,
            };
            self.add(path, inode);
        }
        self.last_parent
            .get_or_insert_with(|| (dir.to_vec(), dir.to_vec(), fd));
        Ok(())
    }

    fn add(&mut self, path: Vec<u8>, inode: Inode) {
        self.paths.insert(path, self.inodes.len());
        self.inodes.push(inode);
    }

    /// Makes what `member` describes.
    fn create(
        &mut self,
        member: Member,
        tar: &mut TarReader<impl Read>,
        (path, name, fd): (&[u8], &[u8], &OwnedFd),
    ) -> Result<Inode, LayerError> {
        let (major, minor) = member.device;
        let kind = match member.kind {
            MemberKind::File => return self.file(member, tar, (path, name, fd)),
            MemberKind::Directory => {
                mkdirat(fd, name, Mode::RWXU).map_err(self.beneath.failed("create", path))?;
                let kind = EntryKind::Directory { opaque: false };
                return Ok(Inode {
                    kind,
                    metadata: metadata_of(member),
                    implied: false,
                });
            }
            MemberKind::Symlink => {
                symlinkat(&member.link[..], fd, name)
                    .map_err(self.beneath.failed("create", path))?;
                EntryKind::Symlink {
                    target: member.link.clone(),
                }
            }
            // What overlayfs would take for a whiteout is one.
            MemberKind::CharDevice if member.device == (0, 0) => {
                self.device(FileType::CharacterDevice, (0, 0), (path, name, fd))?;
                return Ok(whiteout_inode());
            }
            MemberKind::CharDevice => {
                self.device(FileType::CharacterDevice, member.device, (path, name, fd))?;
                EntryKind::CharDevice { major, minor }
            }
            MemberKind::BlockDevice => {
                self.device(FileType::BlockDevice, member.device, (path, name, fd))?;
                EntryKind::BlockDevice { major, minor }
            }
            MemberKind::Fifo => {
                self.device(FileType::Fifo, (0, 0), (path, name, fd))?;
                EntryKind::Fifo
            }
            MemberKind::HardLink => unreachable!("hard links have a way of their own"),
        };
        let mut metadata = Metadata {
            xattrs: BTreeMap::new(),
            ..metadata_of(member)
        };
        let is_symlink = matches!(kind, EntryKind::Symlink { .. });
        if is_symlink {
            metadata.mode = 0o777;
        }
        metadata::set_at(fd, name, &metadata, is_symlink)
            .map_err(self.beneath.failed("set the metadata of", path))?;
        Ok(Inode {
            kind,
            metadata,
            implied: false,
        })
    }

    /// Makes a device node, or an empty file where only root of the machine may make one.
    fn device(
        &self,
        file_type: FileType,
        (major, minor): (u32, u32),
        (path, name, fd): (&[u8], &[u8], &OwnedFd),
    ) -> Result<(), LayerError> {
        let made = mknodat(fd, name, file_type, Mode::empty(), makedev(major, minor));
        let made = match made {
            Err(Errno::PERM) if (major, minor) != (0, 0) => {
                mknodat(fd, name, FileType::RegularFile, Mode::empty(), 0)
            }
            made => made,
        };
        made.map_err(self.beneath.failed("create", path))
    }

    fn file(
        &mut self,
        member: Member,
        tar: &mut TarReader<impl Read>,
        (path, name, fd): (&[u8], &[u8], &OwnedFd),
    ) -> Result<Inode, LayerError> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(fd, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(self.beneath.failed("create", path))?;
        let mut hasher = blake3::Hasher::new();
        loop {
            let length = tar.read(&mut self.buffer)?;
            if length == 0 {
                break;
            }
            let mut bytes = &self.buffer[..length];
            hasher.update(bytes);
            while !bytes.is_empty() {
                let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, bytes))
                    .map_err(self.beneath.failed("write", path))?;
                bytes = &bytes[written..];
            }
        }
        let digest = FileDigest::from_bytes(*hasher.finalize().as_bytes());
        let kind = EntryKind::File {
            size_bytes: member.size_bytes,
            digest,
        };
        let mut metadata = metadata_of(member);
        let now = if (metadata.uid, metadata.gid) == self.own {
            Owner::Right
        } else {
            Owner::Unset
        };
        metadata::set(file.as_fd(), &mut metadata, now)
            .map_err(self.beneath.failed("set the metadata of", path))?;
        Ok(Inode {
            kind,
            metadata,
            implied: false,
        })
    }

    /// Where a hard link leads, which must not be `path` itself.
    fn link_target(&mut self, member: &Member, path: &[u8]) -> Result<Vec<u8>, LayerError> {
        let error = || LayerError::LinkTarget {
            path: String::from_utf8_lossy(&member.path).into_owned(),
            target: String::from_utf8_lossy(&member.link).into_owned(),
        };
        let target = clean(&member.link);
        let (dir, name) = split(&target);
        let (dir, missing) = self.resolve(dir).ok_or_else(error)?;
        let target = join(&dir, name);
        let inode = self
            .paths
            .get(&target)
            .map(|position| &self.inodes[*position]);
        let linkable = inode.is_some_and(|inode| {
            !matches!(
                inode.kind,
                EntryKind::Directory { .. } | EntryKind::Whiteout
            )
        });
        // To replace a directory by a link to what it holds would remove the target.
        let inside = super::path::is_beneath(&target, path);
        if missing || !linkable || inside || target == path {
            Err(error())
        } else {
            Ok(target)
        }
    }

    /// Makes another name for `target`. As with containerd, what the link's own header says
    /// about owner, mode and time goes for all names.
    fn hard_link(
        &mut self,
        member: Member,
        target: &[u8],
        (path, name, fd): (&[u8], &[u8], &OwnedFd),
    ) -> Result<(), LayerError> {
        let position = self.paths[target];
        let (target_dir, target_name) = split(target);
        let target_fd = self.beneath.directory(target_dir)?;
        linkat(&target_fd, target_name, fd, name, AtFlags::empty())
            .map_err(self.beneath.failed("link", path))?;
        self.paths.insert(path.to_vec(), position);
        let Inode { kind, metadata, .. } = &mut self.inodes[position];
        let mut new = metadata_of(member);
        // Attributes add up, and a link's header need not repeat them.
        for (name, value) in &metadata.xattrs {
            new.xattrs
                .entry(name.clone())
                .or_insert_with(|| value.clone());
        }
        let set = match kind {
            EntryKind::File { .. } if new != *metadata => {
                let file = openat(fd, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                    .map_err(self.beneath.failed("open", path))?;
                metadata::set(file.as_fd(), &mut new, Owner::Unset)
            }
            EntryKind::File { .. } => Ok(()),
            _ => {
                new.xattrs.clear();
                let is_symlink = matches!(kind, EntryKind::Symlink { .. });
                if is_symlink {
                    new.mode = 0o777;
                }
                metadata::set_at(fd, name, &new, is_symlink)
            }
        };
        set.map_err(self.beneath.failed("set the metadata of", path))?;
        *metadata = new;
        Ok(())
    }

    fn whiteout(&mut self, dir: &[u8], name: &[u8], fd: &OwnedFd) -> Result<(), LayerError> {
        let path = join(dir, name);
        if self.paths.contains_key(&path) {
            self.remove(&path)?;
        }
        self.device(FileType::CharacterDevice, (0, 0), (&path, name, fd))?;
        self.add(path, whiteout_inode());
        Ok(())
    }

    /// Removes a file, or a directory and all that it holds.
    fn remove(&mut self, path: &[u8]) -> Result<(), LayerError> {
        self.last_parent = None;
        let (first, end) = ([path, b"/"].concat(), [path, b"0"].concat());
        let mut doomed: Vec<Vec<u8>> = self
            .paths
            .range(first..end)
            .map(|(path, _)| path.clone())
            .collect();
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
            unlinkat(self.beneath.directory(dir)?, name, flags)
                .map_err(self.beneath.failed("remove", path))?;
        }
        Ok(())
    }

    /// The directory that the archive names `dir`, made if it is missing: its path and an open
    /// handle.
    fn parent(&mut self, dir: &[u8], member: &Member) -> Result<(Vec<u8>, OwnedFd), LayerError> {
        if let Some((named, resolved, fd)) = self.last_parent.take()
            && named == dir
        {
            return Ok((resolved, fd));
        }
        let invalid = || LayerError::member(&member.path, "its parent is no directory");
        let (path, missing) = self.resolve(dir).ok_or_else(invalid)?;
        if path.len() > PATH_BYTES_MAX {
            return Err(LayerError::member(&member.path, "its path is too long"));
        }
        if missing {
            self.make_directories(&path)?;
        }
        let fd = self.beneath.directory(&path)?;
        Ok((path, fd))
    }

    /// Where the directory `dir` is after all symbolic links, and whether it has still to be
    /// made. `None` when something else is in the way.
    fn resolve(&self, dir: &[u8]) -> Option<(Vec<u8>, bool)> {
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
            match self
                .paths
                .get(&child)
                .map(|position| &self.inodes[*position].kind)
            {
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
            self.paths
                .get(&path)
                .map(|position| &self.inodes[*position].kind),
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
            let existing = self
                .paths
                .get(path)
                .map(|position| &self.inodes[*position].kind);
            if existing.is_some_and(EntryKind::is_directory) {
                continue;
            }
            let opaque = existing.is_some();
            if opaque {
                self.remove(path)?;
            }
            let (dir, name) = split(path);
            let parent = match made.take() {
                Some(parent) => parent,
                None => self.beneath.directory(dir)?,
            };
            mkdirat(&parent, name, Mode::RWXU).map_err(self.beneath.failed("create", path))?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = openat(&parent, name, flags, Mode::empty());
            made = Some(opened.map_err(self.beneath.failed("open", path))?);
            let kind = EntryKind::Directory { opaque };
            let inode = Inode {
                kind,
                metadata: implied_metadata(),
                implied: true,
            };
            self.add(path.to_vec(), inode);
        }
        Ok(())
    }

    /// Finishes the directories and makes the index.
    fn finish(mut self) -> Result<LayerIndex, LayerError> {
        self.remove_hidden_whiteouts()?;
        let mut implied = Vec::new();
        for (path, position) in &self.paths {
            let inode = &mut self.inodes[*position];
            let EntryKind::Directory { opaque } = inode.kind else {
                continue;
            };
            let fd = self
                .beneath
                .open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            if opaque {
                xattr::mark_opaque(fd.as_fd()).map_err(self.beneath.failed("mark", path))?;
            }
            metadata::set(fd.as_fd(), &mut inode.metadata, Owner::Unset)
                .map_err(self.beneath.failed("set the metadata of", path))?;
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
                kind = EntryKind::HardLink {
                    target: entries[first].path.clone(),
                };
            }
            first_names[position].get_or_insert(entries.len());
            let Metadata {
                mode,
                uid,
                gid,
                mtime,
                xattrs,
            } = metadata.clone();
            entries.push(Entry {
                path,
                kind,
                mode,
                uid,
                gid,
                mtime,
                xattrs,
            });
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

fn metadata_of(member: Member) -> Metadata {
    let Member {
        mode,
        uid,
        gid,
        mtime,
        mut xattrs,
        ..
    } = member;
    xattrs.retain(|name, _| xattr::is_kept(name));
    Metadata {
        mode,
        uid,
        gid,
        mtime,
        xattrs,
    }
}

fn implied_metadata() -> Metadata {
    Metadata {
        mode: 0o755,
        ..Metadata::default()
    }
}

fn whiteout_inode() -> Inode {
    let metadata = Metadata {
        mtime: Timestamp::default(),
        ..Metadata::default()
    };
    Inode {
        kind: EntryKind::Whiteout,
        metadata,
        implied: false,
    }
}
