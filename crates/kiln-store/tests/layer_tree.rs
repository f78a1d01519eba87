//! The merged view shows what an overlay mount of the same layers shows.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use kiln_store::layer::{
    Entry, EntryKind, Ignored, LastSymlink, LayerIndex, ResolveError, Timestamp, Tree, adopt, scan,
};
use proptest::prelude::*;
use support::{Raw, apply, apply_bytes, dir, file, is_root, link, member, unpackable};

/// Layers under one temporary directory, with their view.
struct Chain {
    root: tempfile::TempDir,
    tree: Tree,
    paths: Vec<PathBuf>,
}

fn chain(layers: &[Vec<Raw>]) -> Chain {
    let root = tempfile::tempdir().unwrap();
    let mut indexes = Vec::new();
    let mut paths = Vec::new();
    for (position, members) in layers.iter().enumerate() {
        let path = root.path().join(position.to_string());
        indexes.push(Arc::new(apply(members, &path).unwrap()));
        paths.push(path);
    }
    Chain { root, tree: Tree::new(indexes), paths }
}

fn can_mount() -> bool {
    let status = Command::new("unshare").args(["-m", "true"]).status();
    is_root() && status.is_ok_and(|status| status.success())
}

/// The archive that tar makes of an overlay mount of `paths`, lowest first.
fn mounted(root: &Path, paths: &[PathBuf]) -> Vec<u8> {
    for name in ["empty", "merged"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    let mut lower: Vec<&str> = paths.iter().rev().map(|path| path.to_str().unwrap()).collect();
    // A mount without an upper directory needs two lower ones.
    lower.push("empty");
    let script = "mount -t overlay overlay -o \"ro,userxattr,lowerdir=$1\" merged || exit 9
        tar -C merged --format=gnu --numeric-owner -cf - .";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh", &lower.join(":")])
        .current_dir(root)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_ne!(output.status.code(), Some(9), "{error}");
    output.stdout
}

type Shown = BTreeMap<Vec<u8>, (EntryKind, u32, u32, u32, Timestamp)>;

fn shown(entry: &Entry, file: &Entry) -> (EntryKind, u32, u32, u32, Timestamp) {
    let kind = match &file.kind {
        EntryKind::Directory { .. } => EntryKind::Directory { opaque: false },
        kind => kind.clone(),
    };
    (kind, entry.mode, entry.uid, entry.gid, entry.mtime)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_view_is_that_of_overlayfs(
        layers in proptest::collection::vec(proptest::collection::vec(member(), 0..12), 1..5),
    ) {
        if !can_mount() { return Ok(()); }
        // overlayfs knows no opaque root.
        let layers: Vec<Vec<Raw>> = layers
            .into_iter()
            .map(|members| {
                let at_root = |raw: &Raw| raw.name == b".wh..wh..opq";
                unpackable(members.into_iter().filter(|raw| !at_root(raw)).collect())
            })
            .collect();
        let chain = chain(&layers);
        let copy = chain.root.path().join("copy");
        let tar = mounted(chain.root.path(), &chain.paths);
        let merged = apply_bytes(&tar, &copy).unwrap();
        let expected: Shown = merged
            .entries()
            .iter()
            .map(|entry| (entry.path.clone(), shown(entry, merged.follow_link(entry))))
            .collect();
        let tree = &chain.tree;
        let walked: Shown = tree
            .walk(b"")
            .map(|(path, entry, layer)| (path.to_vec(), shown(entry, tree.file(entry, layer))))
            .collect();
        prop_assert_eq!(&walked, &expected);
        prop_assert_eq!(tree.walk(b"").count(), expected.len());

        // Look-ups and listings agree with the walk.
        for (path, entry, layer) in tree.walk(b"") {
            prop_assert_eq!(tree.lookup(path), Some((entry, layer)));
            if entry.kind.is_directory() {
                let beneath: Vec<&[u8]> = tree.walk(path).skip(1).map(|item| item.0).collect();
                let names: Vec<&[u8]> =
                    beneath.iter().copied().filter(|name| !name.contains(&b'/')).collect();
                prop_assert_eq!(tree.children(path), names);
            }
        }
        // One layer with the same content has the same digest.
        let flat = Tree::new(vec![Arc::new(merged)]);
        for path in expected.keys() {
            if tree.walk(path).all(|(_, entry, _)| entry.xattrs.is_empty()) {
                let digest = |tree: &Tree| tree.content_of(&[path], Ignored::default()).unwrap();
                prop_assert_eq!(digest(tree), digest(&flat));
            }
        }
    }
}

fn paths(tree: &Tree) -> Vec<String> {
    tree.walk(b"").skip(1).map(|item| String::from_utf8_lossy(item.0).into_owned()).collect()
}

#[test]
fn layers_hide_and_merge() {
    if !is_root() {
        return;
    }
    let chain = chain(&[
        vec![file("a/low", b""), file("b/x", b""), file("c/x", b""), file("d", b"")],
        vec![file("a/high", b""), file(".wh.b", b""), dir("c"), file("c/.wh..wh..opq", b"")],
        vec![file("d/now-a-dir", b""), file("a", b"now a file").pax("comment", "")],
        vec![file("a/again", b"")],
    ]);
    assert_eq!(paths(&chain.tree), ["a", "a/again", "c", "d", "d/now-a-dir"]);
    assert_eq!(chain.tree.lookup(b"a/again").map(|found| found.1), Some(3));
    assert_eq!(chain.tree.lookup(b"a/low"), None);
    assert_eq!(chain.tree.lookup(b"b"), None);
    let opaque = Tree::new(
        [vec![file("x", b"")], vec![file(".wh..wh..opq", b""), file("y", b"")]]
            .iter()
            .map(|members| {
                let dest = tempfile::tempdir().unwrap();
                Arc::new(apply(members, dest.path()).unwrap())
            })
            .collect(),
    );
    assert_eq!(paths(&opaque), ["y"]);
    assert!(Tree::default().lookup(b"").is_none());
}

#[test]
fn the_root_is_that_of_the_topmost_layer_that_says_something_of_it() {
    let [low, high]: [LayerIndex; 2] = [0o700, 0o711].map(|mode| {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("x"), "").unwrap();
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        scan(root.path()).unwrap()
    });
    let root = |high| {
        let tree = Tree::new(vec![Arc::new(low.clone()), Arc::new(high)]);
        tree.lookup(b"").map(|(entry, layer)| (entry.mode & 0o777, layer)).unwrap()
    };
    assert_eq!(root(high.clone()), (0o711, 1));
    assert_eq!(root(high.with_implied_root()), (0o700, 0));
}

#[test]
fn paths_resolve_inside_the_tree() {
    if !is_root() {
        return;
    }
    let chain = chain(&[
        vec![
            file("usr/lib/libc.so", b""),
            link(b'2', "lib", "usr/lib"),
            link(b'2', "abs", "/lib"),
            link(b'2', "out", "../../../usr"),
            link(b'2', "dangling", "usr/nowhere/../else"),
            link(b'2', "loop", "loop"),
        ],
        vec![link(b'2', "usr/up", "..")],
    ]);
    let resolve = |path: &str| chain.tree.resolve(path.as_bytes(), LastSymlink::Follow);
    let keep = |path: &str| chain.tree.resolve(path.as_bytes(), LastSymlink::Keep);
    let ok = |path: &str| Ok(path.as_bytes().to_vec());
    let missing = |path: &str| Err(ResolveError::NotFound { path: path.as_bytes().to_vec() });
    assert_eq!(resolve("/abs/libc.so"), ok("usr/lib/libc.so"));
    assert_eq!(resolve("abs"), ok("usr/lib"));
    assert_eq!(keep("abs"), ok("abs"));
    assert_eq!(keep("abs/"), ok("abs"));
    assert_eq!(resolve("out/lib"), ok("usr/lib"));
    assert_eq!(resolve("../../usr/up/usr/lib/.."), ok("usr"));
    assert_eq!(resolve("abs/.."), ok("usr"));
    assert_eq!(resolve("lib/no/such"), missing("usr/lib/no/such"));
    assert_eq!(resolve("dangling"), missing("usr/else"));
    assert_eq!(resolve("usr/lib/libc.so/x"), missing("usr/lib/libc.so/x"));
    assert_eq!(resolve("loop/x"), Err(ResolveError::Loop { path: b"loop/x".to_vec() }));
    assert_eq!(resolve(""), ok(""));
}

#[test]
fn globs_go_component_by_component() {
    if !is_root() {
        return;
    }
    let chain = chain(&[
        vec![
            file("src/a.py", b""),
            file("src/b.py", b""),
            file("src/sub/c.py", b""),
            file("src/gone.py", b""),
            link(b'2', "link", "src"),
        ],
        vec![file("src/.wh.gone.py", b""), file("src/.hidden.py", b"")],
    ]);
    // Enough of a matcher: a star at the beginning.
    let matches = |pattern: &[u8], name: &[u8]| match pattern.strip_prefix(b"*") {
        Some(end) => name.ends_with(end),
        None => pattern == name,
    };
    let glob = |pattern: &str| -> Vec<String> {
        let found = chain.tree.glob(pattern.as_bytes(), &matches);
        found.into_iter().map(|path| String::from_utf8(path).unwrap()).collect()
    };
    assert_eq!(glob("src/*.py"), ["src/.hidden.py", "src/a.py", "src/b.py"]);
    assert_eq!(glob("link/*b.py"), ["src/b.py"]);
    assert_eq!(glob("*/a.py"), ["src/a.py"]);
    assert_eq!(glob("*/*/*.py"), ["src/sub/c.py"]);
    assert_eq!(glob("src/a.py"), ["src/a.py"]);
    assert_eq!(glob("src/none"), [""; 0]);
    assert_eq!(glob("none/*"), [""; 0]);
}

#[test]
fn content_is_what_is_copied() {
    if !is_root() {
        return;
    }
    let content = |layers: &[Vec<Raw>], paths: &[&str], ignored: Ignored| {
        chain(layers).tree.content_of(paths, ignored).unwrap()
    };
    let all = Ignored::default();
    let base = content(&[vec![file("d/f", b"x"), file("d/g", b"x")]], &["d"], all);
    let linked = [vec![file("d/f", b"x"), Raw { mode: 0o644, ..link(b'1', "d/g", "d/f") }]];
    assert_eq!(content(&linked, &["d"], all), base);
    let split = [
        vec![file("d/f", b"old"), file("d/z", b"")],
        vec![file("d/f", b"x"), file("d/.wh.z", b""), Raw { mtime: 5, ..file("d/g", b"x") }],
    ];
    assert_eq!(content(&split, &["d"], all), base);
    // Names beneath count, the selection's own does not.
    let renamed = [vec![file("e/f", b"x"), file("e/g", b"x")]];
    assert_eq!(content(&renamed, &["e"], all), base);
    let other = [vec![file("d/f", b"x"), file("d/h", b"x")]];
    assert_ne!(content(&other, &["d"], all), base);
    assert_ne!(content(&renamed, &["e/f", "e/g"], all), base);

    let owned = Raw { uid: 7, mode: 0o600, ..file("d/f", b"x") };
    let owned = [vec![owned, file("d/g", b"x")]];
    assert_ne!(content(&owned, &["d"], all), base);
    let neither = Ignored { mode: true, owner: true };
    let plain = [vec![file("d/f", b"x"), file("d/g", b"x")]];
    assert_eq!(content(&owned, &["d"], neither), content(&plain, &["d"], neither));
    assert!(chain(&plain).tree.content_of(&["d/none"], all).is_err());
}

#[test]
fn implied_directories_take_over_what_they_hide() {
    if !is_root() {
        return;
    }
    let below = vec![Raw { mode: 0o1777, uid: 3, ..dir("tmp") }, dir("etc"), file("opt", b"")];
    let above = vec![file("tmp/x", b""), file("etc/.wh.a", b""), file("opt/y", b"")];
    let chain = chain(&[below, above]);
    let [low, high] = chain.tree.layers() else { panic!("two layers") };
    let adopted = adopt(high, &chain.paths[1], &Tree::new(vec![Arc::clone(low)])).unwrap();
    assert_eq!(adopted.implied().count(), 0);
    let tmp = adopted.find(b"tmp").unwrap();
    assert_eq!((tmp.mode, tmp.uid, tmp.mtime.seconds), (0o1777, 3, 1_700_000_000));
    assert_eq!(adopted.find(b"opt").unwrap().mode, 0o755);
    assert_eq!(adopted.entries(), scan(&chain.paths[1]).unwrap().entries());
    let untouched: LayerIndex = adopt(&adopted, &chain.paths[1], &Tree::default()).unwrap();
    assert_eq!(untouched, adopted);
}
