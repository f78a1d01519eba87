//! Trees survive being written and read.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use kiln_testkit::tree::{parse, random, read_tree, write_tree};

#[test]
fn what_is_written_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let metadata = fs::metadata(directory.path()).unwrap();
    let owner = format!("{}:{}", metadata.uid(), metadata.gid());
    let text = format!(
        "dir a 0755 {owner}\n\
         file a/b 0640 {owner} hello world\\n\n\
         hardlink a/c -> a/b\n\
         link a/d {owner} -> ../x\\x20y\n\
         fifo a/e 0600 {owner}\n\
         file a/f\\x20g 0444 {owner} x@\\\\ é\n\
         dir a/h 0555 {owner}\n\
         file a/h/i 0400 {owner}\n"
    );
    write_tree(directory.path(), &text);
    assert_eq!(read_tree(directory.path()), text);
}

#[test]
fn long_contents_are_shown_by_digest() {
    let directory = tempfile::tempdir().unwrap();
    write_tree(directory.path(), "file a 0644 @random:100000\nfile b 0644 @zero:70\n");
    let shown = read_tree(directory.path());
    assert!(shown.contains("@100000 sha256:"), "{shown}");
    assert!(shown.contains("@70 sha256:"), "{shown}");
    assert_eq!(fs::read(directory.path().join("a")).unwrap(), random(100_000));
    assert_ne!(random(16), random(17)[..16]);
}

#[test]
fn extended_attributes_are_shown() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("probe");
    fs::write(&file, "").unwrap();
    write_tree(directory.path(), "file a 0644 {user.b=x\\x2cy,user.a=\\x00} text\n");
    let shown = read_tree(directory.path());
    assert!(shown.contains(" {user.a=\\x00,user.b=x\\x2cy} text\n"), "{shown}");
}

#[test]
#[should_panic(expected = "tree line `file a rw x`: `rw` is no mode")]
fn a_wrong_line_is_shown() {
    parse("file a rw x");
}
