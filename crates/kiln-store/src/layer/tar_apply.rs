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

use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use kiln_core::digest::FileDigest;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, linkat, makedev, mkdirat, mknodat, openat, symlinkat,
};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

use super::index::{EntryKind, LayerIndex, Timestamp};
use super::metadata::{self, Metadata, Owner};
use super::path::{clean, components, join, split};
use super::tar_read::{Member, MemberKind, TarReader};
use super::tar_write::{OPAQUE_MARKER, WHITEOUT_PREFIX};
use super::unpacked::{Inode, PATH_BYTES_MAX, Unpacked};
use super::xattr;
use crate::layer_error::LayerError;

/// Names that an old union file system kept for itself; they are no part of the layer.
const AUFS_PREFIX: &[u8] = b".wh..wh.";
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
    apply_buffered(BufReader::with_capacity(READ_BYTES, reader), Some(dest))
}

/// The same for a reader that is cheap to read little by little. Without a directory it only tells
/// what would be in it.
pub(super) fn apply_buffered(
    reader: impl Read,
    dest: Option<&Path>,
) -> Result<LayerIndex, LayerError> {
    let mut applier = Applier::new(dest)?;
    let mut tar = TarReader::new(reader);
    while let Some(member) = tar.next_member()? {
        applier.apply(member, &mut tar)?;
    }
    applier.unpacked.finish()
}

struct Applier {
    unpacked: Unpacked,
    /// This process's user and group, which its new files have.
    own: (u32, u32),
    buffer: Vec<u8>,
}

impl Applier {
    fn new(dest: Option<&Path>) -> Result<Self, LayerError> {
        Ok(Self {
            unpacked: Unpacked::new(dest)?,
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
        let is_aufs = |name: &[u8]| name.starts_with(AUFS_PREFIX);
        if components(dir).any(is_aufs) || (is_aufs(name) && name != OPAQUE_MARKER) {
            return Ok(());
        }
        if components(dir).any(|name| name.starts_with(WHITEOUT_PREFIX)) {
            return Err(LayerError::member(&member.path, "it lies in a deletion mark"));
        }
        if name == OPAQUE_MARKER {
            let (dir, _) = self.unpacked.parent(dir, &member.path)?;
            let position = self.unpacked.paths[&dir];
            self.unpacked.inodes[position].kind = EntryKind::Directory { opaque: true };
            return Ok(());
        }
        if let Some(deleted) = name.strip_prefix(WHITEOUT_PREFIX) {
            if matches!(deleted, b"" | b"." | b"..") {
                return Err(LayerError::member(&member.path, "it marks no name as deleted"));
            }
            let (dir, fd) = self.unpacked.parent(dir, &member.path)?;
            return self.whiteout(&dir, deleted, fd.as_ref());
        }
        if path.is_empty() {
            return self.root(member);
        }
        let (dir, fd) = self.unpacked.parent(dir, &member.path)?;
        let name = name.to_vec();
        self.place(member, tar, (&dir, &name, fd))
    }

    /// The root directory is there already.
    fn root(&mut self, member: Member) -> Result<(), LayerError> {
        if member.kind != MemberKind::Directory {
            return Err(LayerError::member(&member.path, "only a directory can be the root"));
        }
        self.unpacked.inodes[0].metadata = metadata_of(member);
        self.unpacked.inodes[0].implied = false;
        Ok(())
    }

    /// Puts a member at `name` in `dir`, which is open as `fd`.
    fn place(
        &mut self,
        member: Member,
        tar: &mut TarReader<impl Read>,
        (dir, name, fd): (&[u8], &[u8], Option<OwnedFd>),
    ) -> Result<(), LayerError> {
        let path = join(dir, name);
        let link = match member.kind {
            MemberKind::HardLink => Some(self.link_target(&member, &path)?),
            _ => None,
        };
        let existing = self.unpacked.find(&path);
        let replaces = existing.is_some();
        if replaces {
            let merges = member.kind == MemberKind::Directory;
            if merges && existing.is_some_and(|inode| inode.kind.is_directory()) {
                let position = self.unpacked.paths[&path];
                self.unpacked.inodes[position].metadata = metadata_of(member);
                self.unpacked.inodes[position].implied = false;
                self.unpacked.last_parent = Some((dir.to_vec(), dir.to_vec(), fd));
                return Ok(());
            }
            self.unpacked.remove(&path)?;
        }
        if let Some(target) = link {
            self.hard_link(member, &target, (&path, name, fd.as_ref()))?;
        } else {
            let inode = self.create(member, tar, (&path, name, fd.as_ref()))?;
            let inode = match inode.kind {
                EntryKind::Directory { .. } => {
                    Inode { kind: EntryKind::Directory { opaque: replaces }, ..inode }
                }
                _ => inode,
            };
            self.unpacked.add(path, inode);
        }
        self.unpacked.last_parent.get_or_insert_with(|| (dir.to_vec(), dir.to_vec(), fd));
        Ok(())
    }

    /// Makes what `member` describes.
    fn create(
        &mut self,
        member: Member,
        tar: &mut TarReader<impl Read>,
        (path, name, fd): (&[u8], &[u8], Option<&OwnedFd>),
    ) -> Result<Inode, LayerError> {
        let (major, minor) = member.device;
        let kind = match member.kind {
            MemberKind::File => return self.file(member, tar, (path, name, fd)),
            MemberKind::Directory => {
                let ground = &self.unpacked.ground;
                ground.act(("create", path), fd, |fd| mkdirat(fd, name, Mode::RWXU))?;
                let kind = EntryKind::Directory { opaque: false };
                return Ok(Inode { kind, metadata: metadata_of(member), implied: false });
            }
            MemberKind::Symlink => {
                let (ground, link) = (&self.unpacked.ground, &member.link[..]);
                ground.act(("create", path), fd, |fd| symlinkat(link, fd, name))?;
                EntryKind::Symlink { target: member.link.clone() }
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
        let mut metadata = Metadata { xattrs: BTreeMap::new(), ..metadata_of(member) };
        let is_symlink = matches!(kind, EntryKind::Symlink { .. });
        if is_symlink {
            metadata.mode = 0o777;
        }
        self.unpacked.ground.act(("set the metadata of", path), fd, |fd| {
            metadata::set_at(fd, name, &metadata, is_symlink)
        })?;
        Ok(Inode { kind, metadata, implied: false })
    }

    /// Makes a device node, or an empty file where only root of the machine may make one.
    fn device(
        &self,
        file_type: FileType,
        (major, minor): (u32, u32),
        (path, name, fd): (&[u8], &[u8], Option<&OwnedFd>),
    ) -> Result<(), LayerError> {
        self.unpacked.ground.act(("create", path), fd, |fd| {
            match mknodat(fd, name, file_type, Mode::empty(), makedev(major, minor)) {
                Err(Errno::PERM) if (major, minor) != (0, 0) => {
                    mknodat(fd, name, FileType::RegularFile, Mode::empty(), 0)
                }
                made => made,
            }
        })
    }

    fn file(
        &mut self,
        member: Member,
        tar: &mut TarReader<impl Read>,
        (path, name, fd): (&[u8], &[u8], Option<&OwnedFd>),
    ) -> Result<Inode, LayerError> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let ground = &self.unpacked.ground;
        let open = |fd| openat(fd, name, flags, Mode::RUSR | Mode::WUSR);
        let file = fd.map(open).transpose().map_err(ground.failed("create", path))?;
        let mut hasher = blake3::Hasher::new();
        loop {
            let length = tar.read(&mut self.buffer)?;
            if length == 0 {
                break;
            }
            let mut bytes = &self.buffer[..length];
            hasher.update(bytes);
            ground.act(("write", path), file.as_ref(), |file| {
                while !bytes.is_empty() {
                    let written = rustix::io::retry_on_intr(|| rustix::io::write(file, bytes))?;
                    bytes = &bytes[written..];
                }
                Ok(())
            })?;
        }
        let digest = FileDigest::from_bytes(*hasher.finalize().as_bytes());
        let kind = EntryKind::File { size_bytes: member.size_bytes, digest };
        let mut metadata = metadata_of(member);
        let now =
            if (metadata.uid, metadata.gid) == self.own { Owner::Right } else { Owner::Unset };
        ground.act(("set the metadata of", path), file.as_ref(), |file| {
            metadata::set(file.as_fd(), &mut metadata, now)
        })?;
        Ok(Inode { kind, metadata, implied: false })
    }

    /// Where a hard link leads, which must not be `path` itself.
    fn link_target(&mut self, member: &Member, path: &[u8]) -> Result<Vec<u8>, LayerError> {
        let error = || LayerError::LinkTarget {
            path: String::from_utf8_lossy(&member.path).into_owned(),
            target: String::from_utf8_lossy(&member.link).into_owned(),
        };
        let target = clean(&member.link);
        let (dir, name) = split(&target);
        let (dir, missing) = self.unpacked.resolve(dir).ok_or_else(error)?;
        let target = join(&dir, name);
        let inode = self.unpacked.find(&target);
        let linkable = inode.is_some_and(|inode| {
            !matches!(inode.kind, EntryKind::Directory { .. } | EntryKind::Whiteout)
        });
        // To replace a directory by a link to what it holds would remove the target.
        let inside = super::path::is_beneath(&target, path);
        if missing || !linkable || inside || target == path { Err(error()) } else { Ok(target) }
    }

    /// Makes another name for `target`. As with containerd, what the link's own header says
    /// about owner, mode and time goes for all names.
    fn hard_link(
        &mut self,
        member: Member,
        target: &[u8],
        (path, name, fd): (&[u8], &[u8], Option<&OwnedFd>),
    ) -> Result<(), LayerError> {
        let position = self.unpacked.paths[target];
        let (target_dir, target_name) = split(target);
        let ground = &self.unpacked.ground;
        let target_fd = ground.directory(target_dir)?;
        ground.act(("link", path), target_fd.as_ref().and(fd), |fd| match &target_fd {
            Some(target) => linkat(target, target_name, fd, name, AtFlags::empty()),
            None => Ok(()),
        })?;
        self.unpacked.paths.insert(path.to_vec(), position);
        let Inode { kind, metadata, .. } = &mut self.unpacked.inodes[position];
        let mut new = metadata_of(member);
        // Attributes add up, and a link's header need not repeat them.
        for (name, value) in &metadata.xattrs {
            new.xattrs.entry(name.clone()).or_insert_with(|| value.clone());
        }
        let ground = &self.unpacked.ground;
        let place = ("set the metadata of", path);
        match kind {
            EntryKind::File { .. } if new != *metadata => ground.act(place, fd, |fd| {
                let file = openat(fd, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
                metadata::set(file.as_fd(), &mut new, Owner::Unset)
            })?,
            EntryKind::File { .. } => {}
            _ => {
                new.xattrs.clear();
                let is_symlink = matches!(kind, EntryKind::Symlink { .. });
                if is_symlink {
                    new.mode = 0o777;
                }
                ground.act(place, fd, |fd| metadata::set_at(fd, name, &new, is_symlink))?;
            }
        }
        *metadata = new;
        Ok(())
    }

    fn whiteout(
        &mut self,
        dir: &[u8],
        name: &[u8],
        fd: Option<&OwnedFd>,
    ) -> Result<(), LayerError> {
        let path = join(dir, name);
        if self.unpacked.paths.contains_key(&path) {
            self.unpacked.remove(&path)?;
        }
        self.device(FileType::CharacterDevice, (0, 0), (&path, name, fd))?;
        self.unpacked.add(path, whiteout_inode());
        Ok(())
    }
}

fn metadata_of(member: Member) -> Metadata {
    let Member { mode, uid, gid, mtime, mut xattrs, .. } = member;
    xattrs.retain(|name, _| xattr::is_kept(name));
    Metadata { mode, uid, gid, mtime, xattrs }
}

fn whiteout_inode() -> Inode {
    let metadata = Metadata { mtime: Timestamp::default(), ..Metadata::default() };
    Inode { kind: EntryKind::Whiteout, metadata, implied: false }
}
