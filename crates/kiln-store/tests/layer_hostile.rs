//! Archives that are broken, or made to do harm.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::Path;

use kiln_store::layer::{EntryKind, LayerIndex, scan};
use kiln_store::layer_error::LayerError;
use support::{Raw, apply, apply_bytes, archive, dir, file, is_root, link, raw};

/// Applies to `outer/dest`; nothing else may appear in `outer`.
fn apply_in(outer: &Path, members: &[Raw]) -> Result<LayerIndex, LayerError> {
    std::fs::write(outer.join("victim"), b"untouched").unwrap();
    let result = apply(members, &outer.join("dest"));
    let mut names: Vec<_> =
        std::fs::read_dir(outer).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["dest", "victim"]);
    assert_eq!(std::fs::read(outer.join("victim")).unwrap(), b"untouched");
    if let Ok(index) = &result {
        assert_eq!(index.entries(), scan(&outer.join("dest")).unwrap().entries());
    }
    result
}

fn paths(members: &[Raw]) -> Vec<String> {
    let outer = tempfile::tempdir().unwrap();
    let index = apply_in(outer.path(), members).unwrap();
    let text = |entry: &kiln_store::layer::Entry| {
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        match entry.kind {
            EntryKind::Directory { opaque: true } => path + "/!",
            EntryKind::Directory { opaque: false } => path + "/",
            EntryKind::Whiteout => path + " deleted",
            _ => path,
        }
    };
    index.entries()[1..].iter().map(text).collect()
}

fn error(members: &[Raw]) -> LayerError {
    let outer = tempfile::tempdir().unwrap();
    apply_in(outer.path(), members).unwrap_err()
}

#[test]
fn names_stay_beneath_the_root() {
    if !is_root() {
        return;
    }
    assert_eq!(paths(&[file("../../victim", b"evil")]), ["victim"]);
    assert_eq!(paths(&[file("/etc/../../victim", b"evil")]), ["victim"]);
    assert_eq!(paths(&[file("./a/./b//c", b"")]), ["a/", "a/b/", "a/b/c"]);
    let through = |target: &str| paths(&[link(b'2', "out", target), file("out/victim", b"evil")]);
    assert_eq!(through("../../.."), ["out", "victim"]);
    assert_eq!(through("/"), ["out", "victim"]);
    assert_eq!(through("/usr/lib"), ["out", "usr/", "usr/lib/", "usr/lib/victim"]);
    assert_eq!(through("./x/../y"), ["out", "y/", "y/victim"]);
    assert_eq!(paths(&[dir("a"), link(b'2', "a/b", ".."), file("a/b/c", b"")]), ["a/", "a/b", "c"]);
}

#[test]
fn a_link_itself_is_replaced_and_not_written_through() {
    if !is_root() {
        return;
    }
    let outer = tempfile::tempdir().unwrap();
    let victim = outer.path().join("victim").to_str().unwrap().to_owned();
    let members = [link(b'2', "f", &victim), Raw { mode: 0o777, ..file("f", b"evil") }];
    let index = apply_in(outer.path(), &members).unwrap();
    assert!(matches!(index.entries()[1].kind, EntryKind::File { size_bytes: 4, .. }));
}

#[test]
fn links_that_go_in_circles_end() {
    if !is_root() {
        return;
    }
    let members = [link(b'2', "a", "b"), link(b'2', "b", "a"), file("a/x", b"")];
    assert!(matches!(error(&members), LayerError::InvalidMember { .. }));
    // Each name doubles the work of the one before.
    let mut members: Vec<Raw> =
        (1..60).map(|n| link(b'2', format!("l{n}"), format!("l{0}/../l{0}", n - 1))).collect();
    members.push(dir("l0"));
    members.push(file("l59/x", b""));
    assert!(matches!(error(&members), LayerError::InvalidMember { .. }));
}

#[test]
fn endless_paths_are_refused() {
    if !is_root() {
        return;
    }
    let long = b"a/".repeat(200_000);
    assert!(matches!(error(&[dir(&long)]), LayerError::InvalidMember { .. }));
    // Links that lead ever deeper.
    let step = b"x/".repeat(1900);
    let members = (0..20).map(|n| link(b'2', format!("l{n}"), [&step[..], b"/x"].concat()));
    let mut members: Vec<Raw> = members.collect();
    members.extend((1..20).map(|n| link(b'2', format!("m{n}"), format!("l0/../../m{}", n - 1))));
    members.push(link(b'2', "deep", [&step[..], b"/y"].concat()));
    members.push(link(b'2', [&step[..], b"z"].concat(), step.clone()));
    members.push(dir([&step[..], b"z/", &step, b"z/", &step, &step, &step, &step].concat()));
    assert!(matches!(error(&members), LayerError::InvalidMember { .. }));
}

#[test]
fn hard_links_reach_files_of_the_layer_only() {
    if !is_root() {
        return;
    }
    let outer = tempfile::tempdir().unwrap();
    let victim = outer.path().join("victim").to_str().unwrap().to_owned();
    for members in [
        vec![link(b'1', "l", &victim)],
        vec![link(b'1', "l", "../victim")],
        vec![link(b'2', "s", ".."), link(b'1', "l", "s/victim")],
        vec![dir("d"), link(b'1', "l", "d")],
        vec![file(".wh.w", b""), link(b'1', "l", "w")],
        vec![file("f", b""), link(b'1', "f", "f")],
        vec![file("d/f", b""), link(b'1', "d", "d/f")],
        vec![link(b'1', "l", "")],
    ] {
        assert!(matches!(error(&members), LayerError::LinkTarget { .. }), "{members:?}");
    }
}

#[test]
fn later_members_replace_earlier_ones() {
    if !is_root() {
        return;
    }
    assert_eq!(paths(&[file("a", b"1"), dir("a"), file("a/b", b"")]), ["a/!", "a/b"]);
    assert_eq!(paths(&[file("a/b/c", b""), file("a", b"1")]), ["a"]);
    assert_eq!(paths(&[dir("a"), file("a/b", b""), dir("a")]), ["a/", "a/b"]);
    assert_eq!(paths(&[file("a", b"1"), raw(b'6', "a"), link(b'2', "a", "x")]), ["a"]);
    let invalid = error(&[file("a", b""), file("a/b", b"")]);
    assert!(matches!(invalid, LayerError::InvalidMember { .. }));
}

#[test]
fn whiteouts_and_opaque_marks() {
    if !is_root() {
        return;
    }
    assert_eq!(paths(&[file("a/.wh.b", b"")]), ["a/", "a/b deleted"]);
    assert_eq!(paths(&[file("a/b/c", b""), file("a/.wh.b", b"")]), ["a/", "a/b deleted"]);
    assert_eq!(paths(&[file(".wh.b", b""), file("b", b"new")]), ["b"]);
    assert_eq!(paths(&[file(".wh.b", b""), dir("b")]), ["b/!"]);
    assert_eq!(paths(&[file(".wh.b", b""), file("b/c", b"")]), ["b/!", "b/c"]);
    assert_eq!(
        paths(&[file("a/old", b""), file("a/.wh.x", b""), file("a/.wh..wh..opq", b"")]),
        ["a/!", "a/old"]
    );
    // What an older union file system left behind is no file.
    assert_eq!(paths(&[dir(".wh..wh.plnk"), file(".wh..wh.plnk/1.2", b"")]), [""; 0]);
    assert_eq!(paths(&[file("a/.wh..wh.plnk/.wh..wh..opq", b"")]), [""; 0]);
    assert_eq!(paths(&[raw(b'3', "dev")]), ["dev deleted"]);
    for name in [".wh.", ".wh..", ".wh...", ".wh.a/b", ".wh.a/.wh..wh..opq"] {
        assert!(matches!(error(&[file(name, b"")]), LayerError::InvalidMember { .. }), "{name}");
    }
}

#[test]
fn overlay_attributes_cannot_be_forged() {
    if !is_root() {
        return;
    }
    let outer = tempfile::tempdir().unwrap();
    let members = [dir("d")
        .pax("SCHILY.xattr.user.overlay.opaque", "y")
        .pax("SCHILY.xattr.trusted.overlay.opaque", "y")
        .pax("SCHILY.xattr.user.overlay.redirect", "/etc")
        .pax("SCHILY.xattr.user.mine", "1")];
    let index = apply_in(outer.path(), &members).unwrap();
    let entry = &index.entries()[1];
    assert_eq!(entry.kind, EntryKind::Directory { opaque: false });
    assert_eq!(entry.xattrs.keys().collect::<Vec<_>>(), [b"user.mine"]);
    let path = outer.path().join("dest/d");
    let mut names = [0; 1000];
    let length = rustix::fs::listxattr(&path, &mut names[..]).unwrap();
    assert_eq!(&names[..length], b"user.mine\0");
}

#[test]
fn the_root_can_only_be_a_directory() {
    if !is_root() {
        return;
    }
    let outer = tempfile::tempdir().unwrap();
    let members = [Raw { mode: 0o700, uid: 7, ..dir("./") }];
    let index = apply_in(outer.path(), &members).unwrap();
    assert_eq!((index.entries()[0].mode, index.entries()[0].uid), (0o700, 7));
    assert_eq!(index.implied().count(), 0);
    for type_flag in [b'0', b'1', b'2', b'6'] {
        let members = [link(type_flag, "..", "x")];
        assert!(matches!(
            error(&members),
            LayerError::InvalidMember { .. } | LayerError::LinkTarget { .. }
        ));
    }
}

#[test]
fn implied_directories_are_known() {
    if !is_root() {
        return;
    }
    let dest = tempfile::tempdir().unwrap();
    let index = apply(&[file("a/b/c", b""), dir("a"), file("d/e", b"")], dest.path()).unwrap();
    let implied: Vec<&[u8]> = index.implied().map(|entry| &entry.path[..]).collect();
    assert_eq!(implied, [&b""[..], b"a/b", b"d"]);
    assert_eq!(LayerIndex::decode(&index.encode()).unwrap(), index);
}

#[test]
fn broken_archives() {
    if !is_root() {
        return;
    }
    let good = archive(&[file("a", vec![7; 1000]).pax("comment", "x"), file("b", b"")]);
    let malformed = |bytes: &[u8]| {
        let dest = tempfile::tempdir().unwrap();
        let result = apply_bytes(bytes, dest.path());
        assert!(matches!(result, Err(LayerError::MalformedTar { .. })), "{result:?}");
    };
    for cut in [1, 511, 513, 1000, 1024, 1300, 1536, 2000, 3000] {
        malformed(&good[..cut]);
    }
    // The end mark may be missing, as in Go's reader.
    let dest = tempfile::tempdir().unwrap();
    apply_bytes(&good[..good.len() - 1024], dest.path()).unwrap();
    for flip in [0, 148, 100, 1024 + 124, 513] {
        let mut bad = good.clone();
        bad[flip] ^= 1;
        malformed(&bad);
    }
    malformed(&archive(&[file("a", b"").pax("size", "-1")]));
    malformed(&archive(&[file("a", b"").pax("uid", "4294967295")]));
    malformed(&archive(&[file("a", b"").pax("path", "a\0b")]));
    malformed(&archive(&[file("a", b"").pax("GNU.sparse.major", "1")]));
    malformed(&archive(&[raw(b'x', "nothing follows")]));
    malformed(&archive(&[Raw { device: (1 << 12, 0), ..raw(b'3', "major") }]));
    malformed(&archive(&[Raw { device: (0, 1 << 20), ..raw(b'4', "minor") }]));
    // A size that would overflow, and one that is never there.
    malformed(&archive(&[file("a", b"").pax("size", "18446744073709551615")]));
    malformed(&archive(&[file("a", b"").pax("size", "9000000000")]));
    for type_flag in [b'Z', b'S', b'7'] {
        let unknown = archive(&[raw(type_flag, "z")]);
        let dest = tempfile::tempdir().unwrap();
        let result = apply_bytes(&unknown, dest.path());
        assert!(
            matches!(result, Err(LayerError::UnknownType { type_flag: t, .. }) if t == type_flag)
        );
    }
}

#[test]
fn gnu_long_names_and_global_headers() {
    if !is_root() {
        return;
    }
    let name = vec![b'g'; 180];
    let members = [
        Raw { data: b"15 comment=global\n".to_vec(), ..raw(b'g', "pax_global_header") },
        Raw { data: [&name[..], b"\0"].concat(), ..raw(b'L', "././@LongLink") },
        file("short", b"x"),
        Raw { data: [&name[..], b"\0"].concat(), ..raw(b'K', "././@LongLink") },
        link(b'1', "other", "short"),
    ];
    let dest = tempfile::tempdir().unwrap();
    let index = apply(&members, dest.path()).unwrap();
    assert_eq!(index.entries()[1].path, name);
    assert_eq!(index.entries()[2].kind, EntryKind::HardLink { target: name });
}
