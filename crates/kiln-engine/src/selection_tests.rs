//! What sources select, the same from a context and from a snapshot.

use std::path::Path;
use std::sync::Arc;

use kiln_core::plan::CopyOp;
use kiln_store::Store;
use kiln_store::layer::{Tree, scan};
use kiln_testkit::tree::write_tree;
use tempfile::TempDir;

use super::*;
use crate::context::Context;

const FILES: &str = "\
    file a.txt 0644 a\n\
    file b.md 0600 b\n\
    dir d 0755\n\
    file d/c.txt 0644 c\n\
    dir d/deep 0700\n\
    file d/deep/e.txt 0644 e\n\
    file d/deep/f.md 0644 f\n\
    dir empty 0755\n\
    file x[1] 0644 x\n\
    link in -> d/deep\n\
    link out -> ../../../../etc\n\
    link absolute -> /d\n\
    link loop -> loop\n\
    link nowhere -> missing\n";

/// A tree as a context and as a snapshot.
fn trees(files: &str) -> (TempDir, [SourceTree; 2]) {
    let directory = tempfile::tempdir().unwrap();
    let (root, store) = (directory.path().join("files"), directory.path().join("store"));
    std::fs::create_dir(&root).unwrap();
    write_tree(&root, files);
    let store = Store::open(&store).unwrap();
    let context = SourceTree::Context(Arc::new(Context::load(&store, &root, None).unwrap()));
    let snapshot = snapshot(&root);
    (directory, [context, snapshot])
}

fn snapshot(root: &Path) -> SourceTree {
    let tree = Tree::new(vec![Arc::new(scan(root).unwrap())]);
    SourceTree::of_layers(Arc::new(tree), vec![root.to_owned()])
}

/// What is selected, `name: below…` for each match; or why nothing is.
fn selected(tree: &SourceTree, path: &str, copy: &CopyOp) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match select(tree, path, copy) {
        Err(error) => format!("error: {error}"),
        Ok(found) => {
            let one = |one: &Selected| {
                let below: Vec<String> =
                    one.below.iter().map(|node| text(one.relative(&node))).collect();
                format!("{}: {}", text(&one.name), below.join(" ")).trim().to_owned()
            };
            found.iter().map(one).collect::<Vec<_>>().join("; ")
        }
    }
}

/// The same from both trees.
#[track_caller]
fn check(path: &str, copy: &CopyOp, expected: &str) {
    let (_directory, trees) = trees(FILES);
    for tree in &trees {
        let kind = matches!(tree, SourceTree::Context(_));
        assert_eq!(selected(tree, path, copy), expected, "{path}, of a context: {kind}");
    }
}

fn excluding(patterns: &[&str]) -> CopyOp {
    CopyOp {
        excludes: patterns.iter().map(ToString::to_string).collect(),
        ..CopyOp::plain(Vec::new())
    }
}

#[test]
fn a_path_selects_a_file_or_what_is_in_a_directory() {
    check("/a.txt", &CopyOp::plain(Vec::new()), "a.txt:");
    check("/d/", &CopyOp::plain(Vec::new()), "d: c.txt deep deep/e.txt deep/f.md");
    check("/empty", &CopyOp::plain(Vec::new()), "empty:");
    check(
        "/missing",
        &CopyOp::plain(Vec::new()),
        "error: `/missing`: not found (no such file or directory)",
    );
    check(
        "/a.txt/x",
        &CopyOp::plain(Vec::new()),
        "error: `/a.txt/x`: not found (no such file or directory)",
    );
}

#[test]
fn wildcards_match_within_one_directory() {
    check("/*.txt", &CopyOp::plain(Vec::new()), "a.txt:");
    check("/?.*", &CopyOp::plain(Vec::new()), "a.txt:; b.md:");
    check("/d/*/*.txt", &CopyOp::plain(Vec::new()), "e.txt:");
    check("/*/c.txt", &CopyOp::plain(Vec::new()), "c.txt:");
    check("/*.none", &CopyOp::plain(Vec::new()), "");
    // As with BuildKit, a path without wildcards is meant letter by letter.
    check(
        "/x\\[1]",
        &CopyOp::plain(Vec::new()),
        "error: `/x\\[1]`: not found (no such file or directory)",
    );
    check("/x[[]1]", &CopyOp::plain(Vec::new()), "x[1]:");
}

#[test]
fn links_stay_inside() {
    check("/in", &CopyOp::plain(Vec::new()), "in: e.txt f.md");
    check("/in/../c.txt", &CopyOp::plain(Vec::new()), "c.txt:");
    check("/absolute/deep/e.txt", &CopyOp::plain(Vec::new()), "e.txt:");
    check("/../../../a.txt", &CopyOp::plain(Vec::new()), "a.txt:");
    check(
        "/out",
        &CopyOp::plain(Vec::new()),
        "error: `/out`: not found (no such file or directory)",
    );
    check(
        "/nowhere",
        &CopyOp::plain(Vec::new()),
        "error: `/nowhere`: not found (no such file or directory)",
    );
    check("/loop", &CopyOp::plain(Vec::new()), "error: `/loop`: too many links in the path");
}

#[test]
fn excludes_are_relative_to_what_is_copied() {
    check("/d", &excluding(&["*.txt"]), "d: deep deep/e.txt deep/f.md");
    check("/d", &excluding(&["**/*.txt"]), "d: deep deep/f.md");
    check("/d", &excluding(&["deep"]), "d: c.txt");
    check("/d", &excluding(&["deep", "!deep/e.txt"]), "d: c.txt deep deep/e.txt");
    check("/d", &excluding(&["d/deep"]), "d: c.txt deep deep/e.txt deep/f.md");
}

#[test]
fn parents_keep_the_directories_of_a_path() {
    let parents = CopyOp { parents: Parents::Keep, ..CopyOp::plain(Vec::new()) };
    check("d/deep/e.txt", &parents, ": d d/deep d/deep/e.txt");
    check("d/./deep/e.txt", &parents, "d: deep deep/e.txt");
    check("d/*/*.md", &parents, ": d d/deep d/deep/f.md");
    check("d/deep", &parents, ": d d/deep d/deep/e.txt d/deep/f.md");
    check("missing/x", &parents, "error: `/missing/x`: not found (no such file or directory)");
}

#[test]
fn content_is_what_the_copy_makes_and_nothing_else() {
    let id = |files: &str, path: &str, copy: &CopyOp| {
        let (_directory, trees) = trees(files);
        trees.map(|tree| content(&select(&tree, path, copy).unwrap(), copy))
    };
    let chmod = CopyOp { mode: Some(ModeChange::Absolute(0o600)), ..CopyOp::plain(Vec::new()) };
    let symbolic =
        CopyOp { mode: Some(ModeChange::Symbolic("u+x".to_owned())), ..CopyOp::plain(Vec::new()) };
    let base = "dir d 0755\nfile d/f 0644 text\n";
    let [context, _] = id(base, "/d", &CopyOp::plain(Vec::new()));
    for (files, copy, same) in [
        (base, &CopyOp::plain(Vec::new()), true),
        ("dir d 0755\nfile d/f 0644 text\nfile other 0644\n", &CopyOp::plain(Vec::new()), true),
        ("dir d 0755\nfile d/f 0644 next\n", &CopyOp::plain(Vec::new()), false),
        ("dir d 0755\nfile d/g 0644 text\n", &CopyOp::plain(Vec::new()), false),
        ("dir d 0755\nfile d/f 0640 text\n", &CopyOp::plain(Vec::new()), false),
        ("dir d 0755\nlink d/f -> text\n", &CopyOp::plain(Vec::new()), false),
    ] {
        assert_eq!(id(files, "/d", copy)[0] == context, same, "{files}");
    }
    let other_mode = "dir d 0755\nfile d/f 0640 text\n";
    assert_eq!(id(base, "/d", &chmod)[0], id(other_mode, "/d", &chmod)[0]);
    assert_ne!(id(base, "/d", &symbolic)[0], id(other_mode, "/d", &symbolic)[0]);
}

#[test]
fn an_owner_that_is_replaced_does_not_count() {
    let chown = CopyOp { owner: Some("1:1".to_owned()), ..CopyOp::plain(Vec::new()) };
    let (_directory, [_, tree]) = trees("file f 0644 text\n");
    let mut found = select(&tree, "/f", &CopyOp::plain(Vec::new())).unwrap();
    let [plain, changed] = [&CopyOp::plain(Vec::new()), &chown].map(|copy| content(&found, copy));
    found[0].root.uid += 1;
    assert_ne!(content(&found, &CopyOp::plain(Vec::new())), plain);
    assert_eq!(content(&found, &chown), changed);
}
