//! Makes a tree on disk of its text.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, makedev, mknodat};

use super::{Entry, Kind, parse};

/// Makes the tree that `text` describes below `directory`, which exists or is made. Parents that
/// have no line of their own are made with mode 0755.
///
/// # Panics
/// If the text is not a tree, or something cannot be made: owners other than one's own and
/// devices need root. The message has the path.
pub fn write_tree(directory: &Path, text: &str) {
    let entries = parse(text);
    make_directories(directory);
    for entry in &entries {
        let path = place(directory, &entry.path);
        if let Some(parent) = path.parent() {
            make_directories(parent);
        }
        write(directory, entry, &path)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
    }
    // Modes last: one that forbids writing must not stop what comes below it.
    for entry in entries.iter().rev() {
        if !matches!(entry.kind, Kind::Link(_) | Kind::HardLink(_)) {
            let path = place(directory, &entry.path);
            fs::set_permissions(&path, Permissions::from_mode(entry.mode))
                .unwrap_or_else(|error| panic!("cannot chmod {}: {error}", path.display()));
        }
    }
}

fn place(directory: &Path, path: &[u8]) -> PathBuf {
    match path {
        b"." => directory.to_owned(),
        path => directory.join(OsStr::from_bytes(path)),
    }
}

fn make_directories(path: &Path) {
    if path.is_dir() {
        return;
    }
    if let Some(parent) = path.parent() {
        make_directories(parent);
    }
    fs::create_dir(path).unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
    fs::set_permissions(path, Permissions::from_mode(0o755))
        .unwrap_or_else(|error| panic!("cannot chmod {}: {error}", path.display()));
}

fn write(directory: &Path, entry: &Entry, path: &Path) -> io::Result<()> {
    let node = |kind, device| {
        mknodat(CWD, path, kind, Mode::RUSR | Mode::WUSR, device).map_err(io::Error::from)
    };
    match &entry.kind {
        Kind::Directory => make_directories(path),
        Kind::File(content) => fs::write(path, content)?,
        Kind::Link(target) => symlink(OsStr::from_bytes(target), path)?,
        Kind::HardLink(target) => fs::hard_link(place(directory, target), path)?,
        Kind::Fifo => node(FileType::Fifo, 0)?,
        Kind::Character(major, minor) => {
            node(FileType::CharacterDevice, makedev(*major, *minor))?;
        }
        Kind::Block(major, minor) => node(FileType::BlockDevice, makedev(*major, *minor))?,
        Kind::Whiteout | Kind::Opaque => {
            return Err(io::Error::other("whiteouts exist in layers only"));
        }
    }
    if let Some((uid, gid)) = entry.owner {
        lchown(path, Some(uid), Some(gid))?;
    }
    for (name, value) in &entry.xattrs {
        lsetxattr(path, name.as_str(), value, XattrFlags::empty())?;
    }
    Ok(())
}
