//! ADD of local archives: tar, plain or compressed with gzip, bzip2, xz or zstd.
//!
//! An archive is known by its content, not by its name; what is none, or is broken before its
//! first member, is copied as it is. Members replace what stands in their way, but a directory is
//! merged with a directory. `--chown` applies to all that is extracted, `--chmod` to nothing.
//! Links in the destination are followed only as parents of a member, and never out of the root;
//! names like `.wh.x` have no meaning here.
//!
//! Source: docker's archive rules as BuildKit uses them (moby/go-archive).

use std::fs::File;
use std::io::{BufReader, Chain, Cursor, Read};
use std::path::Path;

use kiln_store::layer::{Member, MemberKind, TarReader, decompressor};
use kiln_store::layer_error::LayerError;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::root::{Attributes, Root, RootError, io, is_directory, parent};
use crate::source_tree::{as_path, join};

/// Why an archive could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    /// In the destination.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The archive.
    #[error("{archive}: {source}")]
    Archive {
        /// Path of the archive.
        archive: String,
        /// What is wrong with it.
        source: LayerError,
    },
}

type Archive = TarReader<Box<dyn Read>>;

/// Opens a file as an archive, at its first member; `None` if it is not one.
///
/// # Errors
/// When the first member is of a type that cannot be unpacked.
pub(crate) fn open(path: &Path) -> Result<Option<(Archive, Member)>, UnpackError> {
    let Some(input) = File::open(path).ok().and_then(decompress) else { return Ok(None) };
    let mut archive = TarReader::new(input);
    match archive.next_member() {
        Ok(first) => Ok(first.map(|first| (archive, first))),
        Err(source @ LayerError::UnknownType { .. }) => {
            Err(UnpackError::Archive { archive: path.display().to_string(), source })
        }
        Err(_) => Ok(None),
    }
}

/// The content of a file, decompressed as its first bytes tell.
fn decompress(mut file: File) -> Option<Box<dyn Read>> {
    let mut magic = [0; 6];
    let mut filled = 0;
    while filled < magic.len() {
        match file.read(&mut magic[filled..]).ok()? {
            0 => break,
            count => filled += count,
        }
    }
    let head = magic[..filled].to_vec();
    let whole: Chain<Cursor<Vec<u8>>, BufReader<File>> =
        Cursor::new(head.clone()).chain(BufReader::with_capacity(1 << 18, file));
    if head.starts_with(b"BZh") {
        return Some(Box::new(bzip2::read::MultiBzDecoder::new(whole)));
    }
    if head.starts_with(b"\xfd7zXZ\0") {
        return Some(Box::new(liblzma::read::XzDecoder::new_multi_decoder(whole)));
    }
    Some(Box::new(decompressor(whole)))
}

/// Extracts an archive that [`open`] gave into a directory (a canonical path) of the root.
pub(crate) fn extract(
    root: &Root,
    directory: &[u8],
    (mut archive, first): (Archive, Member),
    (owner, path): (Option<(u32, u32)>, &Path),
) -> Result<(), UnpackError> {
    let broken = |source| UnpackError::Archive { archive: path.display().to_string(), source };
    let mut directories = Vec::new();
    let mut next = Some(first);
    while let Some(member) = next {
        let name = clean(&member.path);
        if is_own_root(&member.path) {
            // The destination keeps what it is.
            next = archive.next_member().map_err(broken)?;
            continue;
        }
        let above = make_above(root, directory, parent(&name))?;
        let base = name.rsplit(|byte| *byte == b'/').next().unwrap_or(&name);
        let target = join(&above, base);
        make_room(root, &target, member.kind)?;
        write_member(root, directory, &target, (&member, &mut archive)).map_err(
            |error| match error {
                WriteError::Root(error) => UnpackError::Root(error),
                WriteError::Archive(error) => broken(error),
            },
        )?;
        set_attributes(root, &target, &member, owner)?;
        if member.kind == MemberKind::Directory {
            directories.push((target, time(&member)));
        }
        next = archive.next_member().map_err(broken)?;
    }
    for (directory, mtime) in directories.iter().rev() {
        // A later member may have replaced it.
        if root.stat(directory)?.is_some_and(|stat| is_directory(&stat)) {
            root.set_time(directory, mtime.0, mtime.1)?;
        }
    }
    Ok(())
}

enum WriteError {
    Root(RootError),
    Archive(LayerError),
}

impl From<RootError> for WriteError {
    fn from(error: RootError) -> Self {
        Self::Root(error)
    }
}

/// `./a/../b` as `b`; nothing leads above the start.
fn clean(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

/// Whether a name is the archive's own root: `.` and the like. `/` and `..` are the destination,
/// too, but those give it their attributes (sic).
fn is_own_root(name: &[u8]) -> bool {
    let mut depth = 0_usize;
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => match depth.checked_sub(1) {
                Some(above) => depth = above,
                None => return false,
            },
            _ => depth += 1,
        }
    }
    depth == 0 && name.first() != Some(&b'/')
}

/// The directory that holds a member, made with all that is missing above it. A link that leads
/// nowhere is none of it.
fn make_above(root: &Root, directory: &[u8], above: &[u8]) -> Result<Vec<u8>, RootError> {
    let found = root.canonical_below(directory, above)?;
    if root.stat(&found)?.is_some() {
        return Ok(found);
    }
    let made = Attributes { mode: Some(0o755), owner: Some((0, 0)), mtime: None };
    let mut at = directory.to_vec();
    for part in above.split(|byte| *byte == b'/') {
        let named = join(&at, part);
        at = root.canonical_below(directory, &[&at[directory.len()..], b"/", part].concat())?;
        if root.stat(&at)?.is_none() {
            if root.stat(&named)?.is_some() {
                return Err(io("open", &named, rustix::io::Errno::NOENT));
            }
            root.make_directories(&at, &made)?;
        }
    }
    Ok(at)
}

/// Takes away what stands where a member goes, unless both are directories.
fn make_room(root: &Root, target: &[u8], kind: MemberKind) -> Result<(), RootError> {
    match root.stat(target)? {
        None => Ok(()),
        Some(stat) if is_directory(&stat) && kind == MemberKind::Directory => Ok(()),
        Some(stat) if is_directory(&stat) => root.remove_directory(target),
        Some(_) => root.unlink(target),
    }
}

fn write_member(
    root: &Root,
    directory: &[u8],
    target: &[u8],
    (member, archive): (&Member, &mut Archive),
) -> Result<(), WriteError> {
    match member.kind {
        MemberKind::Directory => {
            if root.stat(target)?.is_none() {
                root.make_directory(target)?;
            }
        }
        MemberKind::File => write_file(root, target, archive)?,
        MemberKind::Symlink => {
            rustix::fs::symlinkat(as_path(&member.link), root.fd(), as_path(target))
                .map_err(|error| io("link", target, error))?;
        }
        MemberKind::HardLink => {
            let name = clean(&member.link);
            let existing = root.canonical_below(directory, parent(&name))?;
            let base = name.rsplit(|byte| *byte == b'/').next().unwrap_or(&name);
            let existing = join(&existing, base);
            let fd = root.fd();
            rustix::fs::linkat(fd, as_path(&existing), fd, as_path(target), AtFlags::empty())
                .map_err(|error| io("link", target, error))?;
        }
        MemberKind::CharDevice => make_special(root, target, FileType::CharacterDevice, member)?,
        MemberKind::BlockDevice => make_special(root, target, FileType::BlockDevice, member)?,
        MemberKind::Fifo => make_special(root, target, FileType::Fifo, member)?,
    }
    Ok(())
}

fn write_file(root: &Root, target: &[u8], archive: &mut Archive) -> Result<(), WriteError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o600);
    let file = rustix::fs::openat(root.fd(), as_path(target), flags, mode)
        .map_err(|error| io("create", target, error))?;
    let mut buffer = vec![0; 1 << 18];
    loop {
        let count = archive.read(&mut buffer).map_err(WriteError::Archive)?;
        if count == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            let written =
                rustix::io::write(&file, rest).map_err(|error| io("write", target, error))?;
            rest = &rest[written..];
        }
    }
}

fn make_special(
    root: &Root,
    target: &[u8],
    file_type: FileType,
    member: &Member,
) -> Result<(), RootError> {
    let device = rustix::fs::makedev(member.device.0, member.device.1);
    rustix::fs::mknodat(root.fd(), as_path(target), file_type, Mode::from_raw_mode(0o600), device)
        .map_err(|error| io("create", target, error))
}

/// A member's own attributes; those of a hard link go to the file that it names.
fn set_attributes(
    root: &Root,
    target: &[u8],
    member: &Member,
    owner: Option<(u32, u32)>,
) -> Result<(), RootError> {
    let is_link = match member.kind {
        MemberKind::Symlink => true,
        // It may be another name of a symbolic link.
        MemberKind::HardLink => root
            .stat(target)?
            .is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink),
        _ => false,
    };
    let is_linked_link = is_link && member.kind == MemberKind::HardLink;
    root.set_attributes(
        target,
        &Attributes {
            mode: (!is_link).then_some(member.mode),
            owner: Some(owner.unwrap_or((member.uid, member.gid))),
            mtime: (!is_linked_link).then_some(time(member)),
        },
    )?;
    match member.xattrs.get(b"security.capability".as_slice()) {
        Some(capability) if member.kind == MemberKind::File => {
            root.set_capability(target, capability)
        }
        _ => Ok(()),
    }
}

/// When a member was changed; times before 1970 become that.
fn time(member: &Member) -> (i64, u32) {
    match member.mtime.seconds {
        ..0 => (0, 0),
        seconds => (seconds, member.mtime.nanoseconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        assert_eq!(clean(b"./a/../b"), b"b");
        assert_eq!(clean(b"/../../etc/x"), b"etc/x");
        assert_eq!(clean(b"./"), b"");
    }

    #[test]
    fn only_some_names_are_the_archives_root() {
        for name in ["", ".", "./", "a/..", "./a/../."] {
            assert!(is_own_root(name.as_bytes()), "{name}");
        }
        for name in ["/", "..", "../", "a/../..", "a", "/."] {
            assert!(!is_own_root(name.as_bytes()), "{name}");
        }
    }
}
