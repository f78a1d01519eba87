//! Paths inside a layer: bytes, relative, `/`-separated, without `.`, `..` or empty components.
//! The layer's root is the empty path.

use std::cmp::Ordering;

/// The order of a layer's entries: by component, so that everything beneath a directory follows
/// it without a gap (`a`, `a/b`, `a-b`; plain byte order would put `a-b` between the two).
pub fn path_order(left: &[u8], right: &[u8]) -> Ordering {
    let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
    match left.iter().zip(right).find(|(a, b)| a != b) {
        Some((a, b)) => rank(*a).cmp(&rank(*b)),
        None => left.len().cmp(&right.len()),
    }
}

/// The directory that holds `path`; the root's is the root.
pub(super) fn parent(path: &[u8]) -> &[u8] {
    split(path).0
}

/// `path` as its directory and its last component.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// `name` in the directory `dir`.
pub(super) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(dir.len() + 1 + name.len());
    path.extend_from_slice(dir);
    if !dir.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// The components of any path, without the empty ones and `.`; `..` stays.
pub(super) fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".")
}

/// Any path as one inside a layer: `..` is taken lexically and never leaves the root.
pub(super) fn clean(path: &[u8]) -> Vec<u8> {
    let mut clean = Vec::with_capacity(path.len());
    for name in components(path) {
        if name == b".." {
            let shorter = parent(&clean).len();
            clean.truncate(shorter);
            continue;
        }
        if !clean.is_empty() {
            clean.push(b'/');
        }
        clean.extend_from_slice(name);
    }
    clean
}

/// Whether `path` is as this module's head says.
pub(super) fn is_clean(path: &[u8]) -> bool {
    path.is_empty()
        || path
            .split(|byte| *byte == b'/')
            .all(|name| !name.is_empty() && name != b"." && name != b".." && !name.contains(&0))
}

/// Whether `path` lies beneath `dir`, at any depth; nothing lies beneath itself.
pub(super) fn is_beneath(path: &[u8], dir: &[u8]) -> bool {
    match path.strip_prefix(dir) {
        Some(rest) if dir.is_empty() => !rest.is_empty(),
        Some(rest) => rest.first() == Some(&b'/'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_followed_by_all_that_it_holds() {
        let mut paths: Vec<&[u8]> = vec![b"a-b", b"a/z/y", b"b", b"", b"a", b"a/z", b"a.c", b"a/b"];
        paths.sort_by(|left, right| path_order(left, right));
        let expected: Vec<&[u8]> = vec![b"", b"a", b"a/b", b"a/z", b"a/z/y", b"a-b", b"a.c", b"b"];
        assert_eq!(paths, expected);
    }

    #[test]
    fn cleaning_never_leaves_the_root() {
        for (path, expected) in [
            (&b"/etc/passwd"[..], &b"etc/passwd"[..]),
            (b"../../x", b"x"),
            (b"a/./b//c/", b"a/b/c"),
            (b"a/b/../../../c", b"c"),
            (b"./", b""),
        ] {
            assert_eq!(clean(path), expected);
            assert!(is_clean(expected));
        }
        assert!(!is_clean(b"a//b") && !is_clean(b"/a") && !is_clean(b"a/..") && !is_clean(b"a/"));
    }

    #[test]
    fn beneath_is_about_components() {
        assert!(is_beneath(b"a/b", b"a") && is_beneath(b"a", b""));
        assert!(!is_beneath(b"ab", b"a") && !is_beneath(b"a", b"a") && !is_beneath(b"", b""));
    }
}
