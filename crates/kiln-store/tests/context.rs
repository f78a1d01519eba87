//! The walk through a build context and the remembered digests of its files.

#![expect(clippy::unwrap_used, reason = "tests")]

mod disk;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, FileTimes};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use disk::*;
use kiln_core::digest::FileDigest;
use kiln_store::walk::Everything;
use kiln_store::{ContextEntry, ContextIndex, EntryKind, Error, Filter, Store, walk};
use proptest::prelude::*;

fn paths(entries: &[ContextEntry]) -> Vec<String> {
    entries.iter().map(|entry| String::from_utf8_lossy(&entry.path).into_owned()).collect()
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// Files and directories in numbers that need several threads and large directories.
fn large_tree(root: &Path) {
    for directory in 0..40 {
        for file in 0..30 {
            write(root, &format!("d{}/e{directory}/f{file}", directory % 7), "x");
        }
    }
    for file in 0..3000 {
        write(root, &format!("many/file-with-a-long-name-{file}"), "x");
    }
    for directory in 0..1200 {
        std::fs::create_dir_all(root.join(format!("wide/{directory}/deeper"))).unwrap();
    }
}

#[test]
fn the_walk_sees_what_find_sees() {
    let directory = tempfile::tempdir().unwrap();
    large_tree(directory.path());
    let output = Command::new("find")
        .args([".", "-mindepth", "1", "-printf"])
        .arg("%P %i %m %U %G %s %n %y\\0")
        .current_dir(directory.path())
        .output()
        .unwrap();
    let mut expected: Vec<String> = output
        .stdout
        .split(|byte| *byte == 0)
        .filter(|line| !line.is_empty())
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    let entries = walk(directory.path(), &Everything).unwrap();
    let mut found: Vec<String> = entries
        .iter()
        .map(|entry| {
            format!(
                "{} {} {:o} {} {} {} {} {}",
                String::from_utf8_lossy(&entry.path),
                entry.inode,
                entry.mode,
                entry.uid,
                entry.gid,
                entry.size_bytes,
                entry.nlink,
                if entry.kind == EntryKind::Directory { "d" } else { "f" }
            )
        })
        .collect();
    let mut by_components = paths(&entries);
    by_components.sort_by(|a, b| a.split('/').cmp(b.split('/')));
    assert_eq!(paths(&entries), by_components);
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn every_kind_of_entry() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    write(root, "a/file", "text");
    symlink("../no/where", root.join("a/link")).unwrap();
    symlink("a", root.join("link-to-directory")).unwrap();
    std::fs::hard_link(root.join("a/file"), root.join("a/other")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    assert!(Command::new("mkfifo").arg(root.join("pipe")).status().unwrap().success());
    std::fs::write(root.join(OsStr::from_bytes(b"\xff\xfe")), "").unwrap();
    let entries = walk(root, &Everything).unwrap();
    let kinds: Vec<(&[u8], &EntryKind, u32)> =
        entries.iter().map(|entry| (&entry.path[..], &entry.kind, entry.nlink)).collect();
    let link = |target: &[u8]| EntryKind::Symlink { target: target.to_vec() };
    assert_eq!(
        kinds,
        [
            (&b"a"[..], &EntryKind::Directory, entries[0].nlink),
            (b"a/file", &EntryKind::File, 2),
            (b"a/link", &link(b"../no/where"), 1),
            (b"a/other", &EntryKind::File, 2),
            (b"link-to-directory", &link(b"a"), 1),
            (b"pipe", &EntryKind::Fifo, 1),
            (b"socket", &EntryKind::Socket, 1),
            (b"\xff\xfe", &EntryKind::File, 1),
        ]
    );
    let metadata = std::fs::metadata(root.join("a/file")).unwrap();
    let file = &entries[1];
    assert_eq!(file.mtime_ns, metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec());
    assert_eq!(file.ctime_ns, metadata.ctime() * 1_000_000_000 + metadata.ctime_nsec());
    assert_eq!((file.size_bytes, file.mode), (4, metadata.mode() & 0o7777));
}

struct Rules {
    opened: AtomicUsize,
}

impl Filter for Rules {
    fn may_descend(&self, directory: &[u8]) -> bool {
        self.opened.fetch_add(1, Ordering::Relaxed);
        !directory.ends_with(b"node_modules")
    }

    fn includes(&self, path: &[u8], is_directory: bool) -> bool {
        !is_directory && path.ends_with(b".rs")
    }
}

#[test]
fn rejected_directories_are_not_entered_and_parents_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    write(root, "src/deep/main.rs", "");
    write(root, "src/deep/main.md", "");
    write(root, "src-old/readme.md", "");
    write(root, "empty/nothing/here.md", "");
    write(root, "node_modules/lib/lib.rs", "");
    let rules = Rules { opened: AtomicUsize::new(0) };
    let entries = walk(root, &rules).unwrap();
    assert_eq!(paths(&entries), ["src", "src/deep", "src/deep/main.rs"]);
}

struct Panics(AtomicUsize);

impl Filter for Panics {
    fn may_descend(&self, _: &[u8]) -> bool {
        true
    }

    fn includes(&self, _: &[u8], _: bool) -> bool {
        assert!(self.0.fetch_add(1, Ordering::Relaxed) < 4000, "the filter's own fault");
        true
    }
}

#[test]
fn a_filter_that_panics_ends_the_walk() {
    let directory = tempfile::tempdir().unwrap();
    large_tree(directory.path());
    let result = std::panic::catch_unwind(|| {
        let _ = walk(directory.path(), &Panics(AtomicUsize::new(0)));
    });
    assert!(result.is_err());
}

#[test]
fn a_root_that_is_missing_is_named() {
    let error = walk(Path::new("/no/such/context"), &Everything).unwrap_err();
    assert!(error.to_string().contains("/no/such/context"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn the_order_is_by_components(names in prop::collection::btree_set("[a-c.-]{1,3}(/[a-c.!-]{1,3}){0,3}", 1..40)) {
        let directory = tempfile::tempdir().unwrap();
        for name in &names {
            // Names that stand in each other's way are left out.
            let path = directory.path().join(name);
            if name.split('/').any(|part| part == "." || part == "..") { continue; }
            let _ = std::fs::create_dir_all(path.parent().unwrap());
            let _ = std::fs::write(&path, "");
        }
        let found = paths(&walk(directory.path(), &Everything).unwrap());
        let mut sorted = found.clone();
        sorted.sort_by(|a, b| a.split('/').cmp(b.split('/')));
        sorted.dedup();
        prop_assert_eq!(found, sorted);
    }
}

/// Waits until what was written is older than the clock's granularity.
fn settle() {
    std::thread::sleep(Duration::from_millis(40));
}

/// A context whose files are old enough to be trusted, and a store.
struct Fixture {
    directory: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn new(files: &[(&str, &str)]) -> Self {
        let (directory, store) = new_store();
        let root = directory.path().join("context");
        std::fs::create_dir(&root).unwrap();
        for (path, text) in files {
            write(&root, path, text);
        }
        settle();
        Self { directory, store }
    }

    fn root(&self) -> std::path::PathBuf {
        self.directory.path().join("context")
    }

    /// Digests by path, and how many files were read.
    fn digests(&self) -> (BTreeMap<String, FileDigest>, usize) {
        let mut index = self.store.context_index(&self.root());
        let found = self.digests_with(&mut index);
        index.save().unwrap();
        (found, index.files_read())
    }

    fn digests_with(&self, index: &mut ContextIndex) -> BTreeMap<String, FileDigest> {
        let entries = walk(&self.root(), &Everything).unwrap();
        let files: Vec<&ContextEntry> =
            entries.iter().filter(|entry| entry.kind == EntryKind::File).collect();
        let digests = index.digest_files(&self.root(), &files).unwrap();
        files
            .iter()
            .map(|entry| String::from_utf8_lossy(&entry.path).into_owned())
            .zip(digests)
            .collect()
    }

    fn index_file(&self) -> std::path::PathBuf {
        let mut entries = std::fs::read_dir(self.store.root().join("contexts")).unwrap();
        entries.next().unwrap().unwrap().path()
    }
}

#[test]
fn unchanged_files_are_not_read_again() {
    let fixture = Fixture::new(&[("a", "alpha"), ("b/c", "beta"), ("empty", "")]);
    let (first, read) = fixture.digests();
    assert_eq!(read, 3);
    assert_eq!(first["a"], FileDigest::of(b"alpha"));
    assert_eq!(first["b/c"], FileDigest::of(b"beta"));
    assert_eq!(first["empty"], FileDigest::of(b""));
    let inode = std::fs::metadata(fixture.index_file()).unwrap().ino();
    assert_eq!(fixture.digests(), (first.clone(), 0));
    // Nothing was learnt, nothing written.
    assert_eq!(std::fs::metadata(fixture.index_file()).unwrap().ino(), inode);

    write(&fixture.root(), "a", "gamma");
    settle();
    let (second, read) = fixture.digests();
    assert_eq!((second["a"], read), (FileDigest::of(b"gamma"), 1));
    assert_eq!(fixture.digests().1, 0);
}

#[test]
fn a_change_that_keeps_size_and_mtime_is_seen() {
    let fixture = Fixture::new(&[("a", "alpha")]);
    fixture.digests();
    let path = fixture.root().join("a");
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::write(&path, "gamma").unwrap();
    let times = FileTimes::new().set_modified(modified);
    File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
    assert_eq!(fixture.digests().0["a"], FileDigest::of(b"gamma"));
}

#[test]
fn what_was_written_just_now_is_read_again() {
    let fixture = Fixture::new(&[("a", "alpha")]);
    // Until a write falls into the same tick as the reading of the one before, if it ever does.
    for round in 0..200 {
        let text = format!("{round:05}");
        write(&fixture.root(), "a", &text);
        let (found, read) = fixture.digests();
        assert_eq!(found["a"], FileDigest::of(text.as_bytes()));
        assert_eq!(read, 1);
    }
    // Too young to be remembered: read once more, then known.
    settle();
    assert!(fixture.digests().1 <= 1);
    assert_eq!(fixture.digests().1, 0);
}

#[test]
fn files_of_the_future_are_never_trusted() {
    let fixture = Fixture::new(&[("a", "alpha")]);
    let future = SystemTime::now() + Duration::from_hours(24);
    let file = File::options().write(true).open(fixture.root().join("a")).unwrap();
    file.set_times(FileTimes::new().set_modified(future)).unwrap();
    settle();
    assert_eq!(fixture.digests().1, 1);
    assert_eq!(fixture.digests().1, 1);
}

#[test]
fn a_file_that_takes_the_place_of_another_is_seen() {
    let fixture = Fixture::new(&[("a", "alpha"), ("b", "gamma")]);
    fixture.digests();
    let (a, b) = (fixture.root().join("a"), fixture.root().join("b"));
    std::fs::rename(&a, fixture.root().join("c")).unwrap();
    std::fs::rename(&b, &a).unwrap();
    let (found, _) = fixture.digests();
    assert_eq!(found["a"], FileDigest::of(b"gamma"));
    assert_eq!(found["c"], FileDigest::of(b"alpha"));
}

#[test]
fn a_damaged_index_counts_as_empty() {
    let fixture = Fixture::new(&[("a", "alpha"), ("b", "beta")]);
    let (expected, _) = fixture.digests();
    let path = fixture.index_file();
    let whole = std::fs::read(&path).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        let mut index = fixture.store.context_index(&fixture.root());
        assert_eq!(fixture.digests_with(&mut index), expected);
        assert_eq!(index.files_read(), 2, "cut to {length} bytes");
    }
    for position in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[position] ^= 0x10;
        std::fs::write(&path, &bytes).unwrap();
        let mut index = fixture.store.context_index(&fixture.root());
        assert_eq!(fixture.digests_with(&mut index), expected);
        assert_eq!(index.files_read(), 2, "byte {position} flipped");
    }
}

#[test]
fn what_another_build_of_the_context_knew_stays_for_a_while() {
    let fixture = Fixture::new(&[("a", "alpha"), ("b", "beta"), ("c", "gamma")]);
    fixture.digests();
    let entries = walk(&fixture.root(), &Everything).unwrap();
    let digest_one = |index: &mut ContextIndex| {
        index.digest_files(&fixture.root(), &[&entries[0]]).unwrap();
    };
    // Builds that see `a` only, and find it changed each time.
    for round in 0..20 {
        write(&fixture.root(), "a", &format!("{round}"));
        settle();
        let mut index = fixture.store.context_index(&fixture.root());
        let entries = walk(&fixture.root(), &Everything).unwrap();
        index.digest_files(&fixture.root(), &[&entries[0]]).unwrap();
        index.save().unwrap();
        let mut index = fixture.store.context_index(&fixture.root());
        fixture.digests_with(&mut index);
        let expected = if round < 8 { 0 } else { 2 };
        assert_eq!(index.files_read(), expected, "round {round}");
    }
    let mut index = fixture.store.context_index(&fixture.root());
    digest_one(&mut index);
}

#[test]
fn many_files_and_parts_of_them() {
    let files: Vec<(String, String)> = (0..3000)
        .map(|number| (format!("d{}/f{number}", number % 30), format!("text {number}")))
        .collect();
    let files: Vec<(&str, &str)> =
        files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let fixture = Fixture::new(&files);
    let (found, read) = fixture.digests();
    assert_eq!(read, 3000);
    for (path, text) in &files {
        assert_eq!(found[*path], FileDigest::of(text.as_bytes()));
    }
    assert_eq!(fixture.digests(), (found, 0));
}

#[test]
fn only_regular_files_have_digests() {
    let fixture = Fixture::new(&[("d/a", "alpha")]);
    let entries = walk(&fixture.root(), &Everything).unwrap();
    let mut index = fixture.store.context_index(&fixture.root());
    let error = index.digest_files(&fixture.root(), &[&entries[0]]).unwrap_err();
    assert!(matches!(error, Error::NotAFile { path } if path.ends_with("context/d")));
}

#[test]
fn a_file_that_becomes_a_link_or_vanishes_is_named() {
    let fixture = Fixture::new(&[("a", "alpha"), ("b", "beta")]);
    let entries = walk(&fixture.root(), &Everything).unwrap();
    let path = fixture.root().join("a");
    std::fs::remove_file(&path).unwrap();
    symlink("/etc/passwd", &path).unwrap();
    let mut index = fixture.store.context_index(&fixture.root());
    let error = index.digest_files(&fixture.root(), &[&entries[0]]).unwrap_err();
    assert!(matches!(&error, Error::FileChanged { path: named } if *named == path), "{error}");
    std::fs::remove_file(&path).unwrap();
    let error = index.digest_files(&fixture.root(), &[&entries[0]]).unwrap_err();
    assert!(error.to_string().contains("context/a"), "{error}");
}

#[test]
fn a_file_that_never_rests_is_named() {
    let fixture = Fixture::new(&[("log", "")]);
    let path = fixture.root().join("log");
    // Large enough that reading it takes longer than the pauses of the writer.
    File::create(&path).unwrap().set_len(256 << 20).unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use std::os::unix::fs::FileExt;
            let file = File::options().write(true).open(&path).unwrap();
            let mut size = 256 << 20;
            while !is_over.load(Ordering::Relaxed) {
                size += 1;
                file.write_all_at(b"x", size).unwrap();
            }
        });
        let entries = walk(&fixture.root(), &Everything).unwrap();
        let mut index = fixture.store.context_index(&fixture.root());
        let result = index.digest_files(&fixture.root(), &[&entries[0]]);
        is_over.store(true, Ordering::Relaxed);
        assert!(matches!(result, Err(Error::FileChanged { path: named }) if named == path));
    });
}
