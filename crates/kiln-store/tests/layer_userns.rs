//! Unpacking in a user namespace that maps one id and allows no devices.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::process::Command;

use kiln_store::layer::{EntryKind, Tree, scan};
use support::{Raw, apply, dir, file, link, raw, written};

fn layer() -> Vec<Raw> {
    vec![
        Raw { uid: 1000, gid: 33, mode: 0o4755, ..file("owned", b"x") },
        Raw { uid: 1000, gid: 33, mode: 0o4755, ..link(b'1', "owned-too", "owned") },
        Raw { gid: 42, mode: 0o2770, ..dir("group") },
        Raw { uid: 7, ..link(b'2', "link", "owned") },
        Raw { device: (1, 3), mode: 0o666, ..raw(b'3', "null") },
        Raw { device: (8, 0), mode: 0o660, ..raw(b'4', "disk") },
        raw(b'6', "fifo"),
        file(".wh.gone", b""),
        file("group/.wh..wh..opq", b""),
        file("comment", b"").pax("SCHILY.xattr.user.comment", "hi"),
        Raw { mode: 0, ..file("secret", b"s") },
    ]
}

/// The index says what the archive says, and the same archive can be written again; on disk is
/// what can be there.
#[test]
#[ignore = "runs inside a namespace, started by the test below"]
fn inside_a_namespace_of_one_id() {
    let dest = tempfile::tempdir().unwrap();
    let index = apply(&layer(), dest.path()).unwrap();
    let owned = index.find(b"owned").unwrap();
    assert_eq!((owned.uid, owned.gid, owned.mode), (1000, 33, 0o4755));
    let null = index.find(b"null").unwrap();
    assert_eq!(null.kind, EntryKind::CharDevice { major: 1, minor: 3 });
    assert!(!written(&index, dest.path()).is_empty());
    let tree = Tree::new(vec![index.clone().into()]);
    assert!(tree.lookup(b"disk").is_some() && tree.lookup(b"gone").is_none());

    let scanned = scan(dest.path()).unwrap();
    let kind = |path: &[u8]| scanned.find(path).unwrap().kind.clone();
    assert!(matches!(kind(b"null"), EntryKind::File { size_bytes: 0, .. }));
    assert_eq!(kind(b"gone"), EntryKind::Whiteout);
    assert_eq!(kind(b"group"), EntryKind::Directory { opaque: true });
    assert_eq!(scanned.find(b"secret").unwrap(), index.find(b"secret").unwrap());
    assert_eq!(scanned.find(b"comment").unwrap(), index.find(b"comment").unwrap());
    assert_eq!(scanned.find(b"owned").unwrap().mode, 0o4755);
    assert_eq!(scanned.find(b"owned").unwrap().uid, 0);
}

#[test]
fn a_namespace_of_one_id_is_enough() {
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user"]);
        command
    };
    if !unshare().arg("true").status().is_ok_and(|status| status.success()) {
        // User namespaces are forbidden here.
        return;
    }
    let output = unshare()
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "inside_a_namespace_of_one_id", "--ignored"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
