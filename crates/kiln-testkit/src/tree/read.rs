//! Shows a tree on disk as text.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use kiln_core::digest::BlobDigest;
use rustix::fs::{lgetxattr, llistxattr, major, minor};

use super::{Blanks, escape};

/// Contents up to this length are shown, if they are text.
const SHOWN_BYTES: usize = 60;

/// The tree below `directory` (without its own line), sorted by path, as described in the
/// [module](super). Of several names of one file, the first by path is shown as `file`, the
/// others as `hardlink`.
///
/// # Panics
/// If something cannot be read; the message has the path.
pub fn read_tree(directory: &Path) -> String {
    let mut lines = String::new();
    read(directory, b"", &mut Names::new(), &mut lines);
    lines
}

/// The first name of every file with several.
type Names = HashMap<(u64, u64), Vec<u8>>;

fn read(directory: &Path, prefix: &[u8], names: &mut Names, lines: &mut String) {
    let entries = fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries =
        entries.unwrap_or_else(|error| panic!("cannot read {}: {error}", directory.display()));
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let mut name = prefix.to_vec();
        name.extend(entry.file_name().as_bytes());
        let metadata = fs::symlink_metadata(&path)
            .unwrap_or_else(|error| panic!("cannot stat {}: {error}", path.display()));
        let line = line(&path, &name, &metadata, names)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        lines.push_str(line.trim_end());
        lines.push('\n');
        if metadata.is_dir() {
            name.push(b'/');
            read(&path, &name, names, lines);
        }
    }
}

fn line(path: &Path, name: &[u8], metadata: &Metadata, names: &mut Names) -> io::Result<String> {
    let shown = escape(name, Blanks::Escaped);
    let inode = (metadata.dev(), metadata.ino());
    if metadata.nlink() > 1 && !metadata.is_dir() {
        if let Some(first) = names.get(&inode) {
            return Ok(format!("hardlink {shown} -> {}", escape(first, Blanks::Escaped)));
        }
        names.insert(inode, name.to_vec());
    }
    let mode = format!("{:04o}", metadata.mode() & 0o7777);
    let owner = format!("{}:{}", metadata.uid(), metadata.gid());
    let rest = format!("{owner}{}", xattrs(path)?);
    let kind = metadata.file_type();
    let device = || format!("{}:{}", major(metadata.rdev()), minor(metadata.rdev()));
    Ok(if kind.is_dir() {
        format!("dir {shown} {mode} {rest}")
    } else if kind.is_symlink() {
        let target = fs::read_link(path)?;
        let target = escape(target.as_os_str().as_bytes(), Blanks::Escaped);
        format!("link {shown} {rest} -> {target}")
    } else if kind.is_fifo() {
        format!("fifo {shown} {mode} {rest}")
    } else if kind.is_char_device() {
        format!("char {shown} {mode} {rest} {}", device())
    } else if kind.is_block_device() {
        format!("block {shown} {mode} {rest} {}", device())
    } else if kind.is_socket() {
        format!("socket {shown} {mode} {rest}")
    } else {
        format!("file {shown} {mode} {rest} {}", content(&fs::read(path)?))
    })
}

fn content(bytes: &[u8]) -> String {
    let is_text = std::str::from_utf8(bytes)
        .is_ok_and(|text| text.chars().all(|c| !c.is_control() || c == '\n' || c == '\t'));
    if is_text && bytes.len() <= SHOWN_BYTES && !bytes.starts_with(b"@") && !bytes.ends_with(b" ") {
        return escape(bytes, Blanks::Plain);
    }
    let digest = BlobDigest::of(bytes).hex();
    format!("@{} sha256:{}", bytes.len(), &digest[..12])
}

fn xattrs(path: &Path) -> io::Result<String> {
    let mut list = vec![0; 64 << 10];
    let length = match llistxattr(path, &mut list) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => 0,
        Err(error) => return Err(error.into()),
    };
    let mut shown = Vec::new();
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = OsStr::from_bytes(name);
        // Put there by the system, not by anybody's tree.
        if name == "security.selinux" {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        let length = lgetxattr(path, name, &mut value)?;
        let value = escape(&value[..length], Blanks::Escaped);
        shown.push(format!("{}={value}", name.display()));
    }
    shown.sort();
    Ok(if shown.is_empty() { String::new() } else { format!(" {{{}}}", shown.join(",")) })
}
