//! Trees as text: one line per inode, to write a tree, to compare one, to make a layer of one.
//!
//! ```text
//! dir etc 0755 0:0
//! file etc/passwd 0644 0:0 root:x:0:0\n
//! file bin/ping 0755 0:0 {security.capability=\x01\x00} @random:4096
//! link lib -> usr/lib
//! hardlink bin/ping6 -> bin/ping
//! fifo run/pipe 0600
//! char dev/null 0666 0:0 1:3
//! whiteout etc/old
//! opaque var
//! ```
//!
//! A line is `kind path mode [uid:gid] [{name=value,…}] [content]`. Paths are relative, without
//! leading `/`; `.` is the root. Blanks and other unprintable bytes are written as `\x20`, and
//! `\n`, `\t`, `\\` as usual, in paths, in values and in contents (where plain blanks may stand
//! too). `@random:N` is N bytes that look random and are always the same; `@zero:N` is N zero
//! bytes. When a tree is read, a longer or binary content is shown as `@N sha256:…`, which
//! cannot be written. `whiteout` and `opaque` (OCI image-spec, layer.md) exist in layers only.
//! Empty lines, and lines that start with `#`, are skipped. Modes are octal.

mod read;
mod write;

use std::fmt::Write as _;

pub use read::read_tree;
pub use write::write_tree;

/// One line of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative path, as bytes; `.` is the root.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits; 0 where they mean nothing.
    pub mode: u32,
    /// User and group id, if the line says so.
    pub owner: Option<(u32, u32)>,
    /// Extended attributes.
    pub xattrs: Vec<(String, Vec<u8>)>,
}

/// What an inode is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file with its content.
    File(Vec<u8>),
    /// A symbolic link and its target.
    Link(Vec<u8>),
    /// A hard link to another path of the tree.
    HardLink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A character device, major and minor number.
    Character(u32, u32),
    /// A block device, major and minor number.
    Block(u32, u32),
    /// A path that a layer deletes.
    Whiteout,
    /// A directory whose lower contents a layer hides.
    Opaque,
}

/// Reads a tree's text.
///
/// # Panics
/// If a line is not as described in the [module](self); the message shows it.
pub fn parse(text: &str) -> Vec<Entry> {
    text.lines()
        .map(str::trim_start)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| parse_line(line).unwrap_or_else(|why| panic!("tree line `{line}`: {why}")))
        .collect()
}

fn parse_line(line: &str) -> Result<Entry, String> {
    let (kind, rest) = word(line);
    let (path, rest) = word(rest);
    let path = unescape(path)?;
    let is_special = matches!(kind, "link" | "hardlink" | "whiteout" | "opaque");
    let (mode, rest) = if is_special {
        (0, rest)
    } else {
        let (mode, rest) = word(rest);
        (u32::from_str_radix(mode, 8).map_err(|_| format!("`{mode}` is no mode"))?, rest)
    };
    // A device's numbers look like an owner; an owner before them has more words behind it.
    let is_device = matches!(kind, "char" | "block");
    let (owner, rest) = match (pair(word(rest).0), word(rest).1) {
        (Some(owner), after) if !is_device || !after.is_empty() => (Some(owner), after),
        _ => (None, rest),
    };
    let (xattrs, rest) = match word(rest) {
        (list, after) if list.starts_with('{') && list.ends_with('}') => {
            (parse_xattrs(&list[1..list.len() - 1])?, after)
        }
        _ => (Vec::new(), rest),
    };
    let target = || {
        let target = rest.strip_prefix("->").ok_or("there is no `->`")?;
        unescape(target.trim())
    };
    let device = || pair(rest.trim()).ok_or("there is no major:minor");
    let kind = match kind {
        "dir" => Kind::Directory,
        "file" => Kind::File(content(rest)?),
        "link" => Kind::Link(target()?),
        "hardlink" => Kind::HardLink(target()?),
        "fifo" => Kind::Fifo,
        "char" => device().map(|(major, minor)| Kind::Character(major, minor))?,
        "block" => device().map(|(major, minor)| Kind::Block(major, minor))?,
        "whiteout" => Kind::Whiteout,
        "opaque" => Kind::Opaque,
        other => return Err(format!("`{other}` is no kind")),
    };
    Ok(Entry { path, kind, mode, owner, xattrs })
}

fn word(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text, ""))
}

fn pair(text: &str) -> Option<(u32, u32)> {
    let (left, right) = text.split_once(':')?;
    Some((left.parse().ok()?, right.parse().ok()?))
}

fn parse_xattrs(list: &str) -> Result<Vec<(String, Vec<u8>)>, String> {
    list.split(',')
        .map(|xattr| {
            let (name, value) = xattr.split_once('=').ok_or("an attribute has no `=`")?;
            Ok((name.to_owned(), unescape(value)?))
        })
        .collect()
}

fn content(text: &str) -> Result<Vec<u8>, String> {
    let count = |text: &str| text.parse().map_err(|_| format!("`{text}` is no size"));
    if let Some(size) = text.strip_prefix("@random:") {
        return Ok(random(count(size)?));
    }
    if let Some(size) = text.strip_prefix("@zero:") {
        return Ok(vec![0; count(size)?]);
    }
    if text.starts_with('@') {
        return Err("this content cannot be made; start a literal `@` with `\\x40`".to_owned());
    }
    unescape(text)
}

/// Bytes that look random to a compressor, and are the same for the same size.
pub fn random(size_bytes: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64 ^ size_bytes as u64;
    let mut bytes = Vec::with_capacity(size_bytes + 8);
    while bytes.len() < size_bytes {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend(state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    bytes.truncate(size_bytes);
    bytes
}

fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next() {
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'\\') => b'\\',
            Some(b'x') => {
                let hex: String = rest.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&hex, 16).map_err(|_| format!("`\\x{hex}` is no byte"))?
            }
            _ => return Err("an escape is not known".to_owned()),
        });
    }
    Ok(bytes)
}

/// Whether blanks may stand in an escaped text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blanks {
    Plain,
    Escaped,
}

/// Writes bytes so that [`unescape`] reads them back. Text stays as it is, unless it has control
/// characters; bytes that are no UTF-8 are escaped.
fn escape(bytes: &[u8], blanks: Blanks) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                '\\' => text.push_str("\\\\"),
                ' ' if blanks == Blanks::Escaped => text.push_str("\\x20"),
                ',' | '}' if blanks == Blanks::Escaped => {
                    let _ = write!(text, "\\x{:02x}", u32::from(character));
                }
                control if control.is_ascii_control() => {
                    let _ = write!(text, "\\x{:02x}", u32::from(control));
                }
                other => text.push(other),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}
