//! What each part of the store promises to one caller.

mod disk;

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use disk::*;
use kiln_core::digest::BlobDigest;
use kiln_store::fsck::{Repair, fsck};
use kiln_store::{Error, Store};

#[test]
fn opening_makes_the_layout_and_refuses_what_it_does_not_know() {
    let (directory, store) = new_store();
    let root = store.root().to_owned();
    assert_eq!(
        std::fs::read_to_string(root.join("oci-layout")).unwrap(),
        r#"{"imageLayoutVersion":"1.0.0"}"#
    );
    for name in ["layers", "tmp", "trash", "cache-mounts"] {
        assert_eq!(std::fs::metadata(root.join(name)).unwrap().mode() & 0o777, 0o700);
    }
    drop(store);
    Store::open(&root).unwrap();

    std::fs::write(root.join("version"), "kiln-store 99\n").unwrap();
    let error = Store::open(&root).unwrap_err();
    assert!(matches!(error, Error::UnknownVersion { found, .. } if found == "kiln-store 99"));

    std::fs::write(directory.path().join("letter.txt"), "dear").unwrap();
    let error = Store::open(directory.path()).unwrap_err();
    assert!(matches!(error, Error::NotAStore { .. }), "{error}");
}

#[test]
fn an_interrupted_creation_is_completed() {
    let (_directory, store) = new_store();
    let root = store.root().to_owned();
    drop(store);
    for name in ["version", "index.json"] {
        std::fs::remove_file(root.join(name)).unwrap();
    }
    std::fs::write(root.join("version.new"), "kil").unwrap();
    let store = Store::open(&root).unwrap();
    assert_eq!(fsck(&store, Repair::No).unwrap().problems, []);
}

#[test]
fn put_is_idempotent() {
    let (_directory, store) = new_store();
    let content = store.content();
    let digest = content.put(b"hello").unwrap();
    let inode = std::fs::metadata(content.path(&digest)).unwrap().ino();
    assert_eq!(content.put(b"hello").unwrap(), digest);
    let mut writer = content.writer().unwrap();
    writer.write_all(b"hel").unwrap();
    writer.write_all(b"lo").unwrap();
    assert_eq!(writer.commit(Some(digest)).unwrap(), (digest, 5));
    let mut writer = content.unhashed_writer().unwrap();
    writer.write_all(b"hello").unwrap();
    writer.commit_known(digest, 5).unwrap();
    assert_eq!(std::fs::metadata(content.path(&digest)).unwrap().ino(), inode);
    assert_eq!(content.read(&digest).unwrap(), b"hello");
    assert_eq!(content.size(&digest).unwrap(), Some(5));
    assert!(content.has(&digest));
}

#[test]
fn a_writer_that_fails_leaves_nothing() {
    let (_directory, store) = new_store();
    let wrong = BlobDigest::of(b"other");
    let mut writer = store.content().writer().unwrap();
    writer.write_all(b"hello").unwrap();
    assert!(matches!(
        writer.commit(Some(wrong)),
        Err(Error::DigestMismatch { expected, .. }) if expected == wrong
    ));
    let mut writer = store.content().unhashed_writer().unwrap();
    writer.write_all(b"hello").unwrap();
    assert!(matches!(writer.commit_known(wrong, 6), Err(Error::SizeMismatch { .. })));
    drop(store.content().writer().unwrap());
    assert!(!store.content().has(&wrong));
    let root = store.root().to_owned();
    let own = std::fs::read_dir(root.join("tmp")).unwrap();
    let directory = own.map(|entry| entry.unwrap().path()).find(|path| path.is_dir()).unwrap();
    assert_eq!(std::fs::read_dir(directory).unwrap().count(), 0);
    drop(store);
    assert_eq!(std::fs::read_dir(root.join("tmp")).unwrap().count(), 0);
}

#[test]
fn reading_verifies() {
    let (_directory, store) = new_store();
    let digest = store.content().put(b"hello").unwrap();
    std::fs::write(store.content().path(&digest), "hullo").unwrap();
    assert!(matches!(store.content().read(&digest), Err(Error::DigestMismatch { .. })));
    let missing = BlobDigest::of(b"missing");
    assert!(matches!(
        store.content().read(&missing),
        Err(Error::MissingBlob { digest }) if digest == missing
    ));
}

#[test]
fn import_copies_and_verifies() {
    let (directory, store) = new_store();
    let source = directory.path().join("blob");
    let bytes = vec![7; 1 << 20];
    std::fs::write(&source, &bytes).unwrap();
    let digest = BlobDigest::of(&bytes);
    let wrong = BlobDigest::of(b"wrong");
    let content = store.content();
    assert!(matches!(content.import(&source, &wrong, 1 << 20), Err(Error::DigestMismatch { .. })));
    assert!(matches!(content.import(&source, &digest, 3), Err(Error::SizeMismatch { .. })));
    content.import(&source, &digest, 1 << 20).unwrap();
    content.import(&source, &digest, 1 << 20).unwrap();
    assert_eq!(content.read(&digest).unwrap(), bytes);
    assert_eq!(std::fs::metadata(&source).unwrap().nlink(), 1);
    assert!(!content.has(&wrong));
}

#[test]
fn layers_are_found_by_what_they_are() {
    let (_directory, store) = new_store();
    let layers = store.layers();
    let mut working = layers.begin().unwrap();
    assert_eq!(std::fs::metadata(&working.upper).unwrap().mode() & 0o777, 0o755);
    std::fs::write(working.upper.join("a"), "a").unwrap();
    working.size_bytes = Some(1);
    let id = working.id;
    let made = layers.commit(working, b"index", content("a"), content("t")).unwrap();
    assert_eq!((made.id, made.size_bytes, made.diff_id), (id, Some(1), None));
    assert_eq!(std::fs::read(&made.index_path).unwrap(), b"index");
    assert_eq!(std::fs::read(made.fs.join("a")).unwrap(), b"a");
    assert_eq!(layers.by_id(&id).unwrap(), Some(made.clone()));
    assert_eq!(id.to_string().parse(), Ok(id));

    assert_eq!(layers.by_diff_id(&diff_id("a")).unwrap(), None);
    layers.set_diff_id(&id, &diff_id("a")).unwrap();
    assert_eq!(layers.by_diff_id(&diff_id("a")).unwrap().unwrap().id, id);

    std::fs::remove_dir_all(store.root().join("layers").join(id.to_string())).unwrap();
    assert_eq!(layers.by_id(&id).unwrap(), None);
    assert_eq!(layers.by_diff_id(&diff_id("a")).unwrap(), None);
}

#[test]
fn a_working_layer_that_is_dropped_goes_to_the_trash() {
    let (_directory, store) = new_store();
    let working = store.layers().begin().unwrap();
    let id = working.id;
    std::fs::write(working.upper.join("a"), "a").unwrap();
    drop(working);
    assert_eq!(store.layers().by_id(&id).unwrap(), None);
    assert_eq!(std::fs::read_dir(store.root().join("trash")).unwrap().count(), 1);
    store.settle().unwrap();
    assert_eq!(std::fs::read_dir(store.root().join("trash")).unwrap().count(), 0);
}

#[test]
fn what_was_packed_is_remembered_while_the_blob_is_there() {
    let (_directory, store) = new_store();
    let blob = store.content().put(b"packed").unwrap();
    let layers = store.layers();
    assert_eq!(layers.packed(&diff_id("a"), "gzip-6").unwrap(), None);
    layers.remember_packed(&diff_id("a"), "gzip-6", &blob).unwrap();
    assert_eq!(layers.packed(&diff_id("a"), "gzip-6").unwrap(), Some((blob, 6)));
    assert_eq!(layers.packed(&diff_id("a"), "gzip-9").unwrap(), None);
    std::fs::remove_file(store.content().path(&blob)).unwrap();
    assert_eq!(layers.packed(&diff_id("a"), "gzip-6").unwrap(), None);
    assert!(matches!(
        layers.remember_packed(&diff_id("a"), "gzip-6", &blob),
        Err(Error::MissingBlob { .. })
    ));
}

#[test]
fn records_are_looked_up_in_order_and_vanish_with_their_layer() {
    let (_directory, store) = new_store();
    let cache = store.cache_index();
    let (a, b) = (layer(&store, "a"), layer(&store, "b"));
    let (record_a, record_b) = (record(&a, "make a"), record(&b, "make b"));
    cache.record(key("a"), &record_a).unwrap();
    cache.record(key("b"), &record_b).unwrap();
    let keys = [key("b"), key("missing"), key("a"), key("b")];
    let found = cache.lookup_many(&keys).unwrap();
    assert_eq!(found, [Some(record_b.clone()), None, Some(record_a), Some(record_b)]);
    std::fs::remove_dir_all(store.root().join("layers").join(a.id.to_string())).unwrap();
    assert_eq!(cache.lookup_many(&[key("a")]).unwrap(), [None]);
    // Deleted, not only hidden.
    assert_eq!(cache.latest_by_recipe(&recipe("make a")).unwrap(), None);
}

#[test]
fn a_record_of_no_layer_is_refused() {
    let (_directory, store) = new_store();
    let mut lost = record(&layer(&store, "a"), "make a");
    lost.result.layer = kiln_store::LayerId::from_bytes([9; 16]);
    let error = store.cache_index().record(key("a"), &lost).unwrap_err();
    assert!(matches!(error, Error::MissingLayer { id } if id == lost.result.layer));
}

#[test]
fn misses_are_explained_and_equal_content_is_found() {
    let (_directory, store) = new_store();
    let cache = store.cache_index();
    let (older, newer) = (layer(&store, "same"), layer(&store, "same"));
    let (old, new) = (record(&older, "make"), record(&newer, "make"));
    cache.record(key("1"), &old).unwrap();
    cache.record(key("2"), &new).unwrap();
    assert_eq!(cache.latest_by_recipe(&recipe("make")).unwrap(), Some(new));
    // Recorded again: the newest by time of recording.
    cache.record(key("1"), &old).unwrap();
    assert_eq!(cache.latest_by_recipe(&recipe("make")).unwrap(), Some(old));

    let find = |recipe_text, times| {
        let (recipe, times) = (recipe(recipe_text), content(times));
        cache.layer_with_content(&recipe, &content("same"), &times).unwrap().map(|(id, _)| id)
    };
    assert_eq!(find("make", "times"), Some(older.id));
    assert_eq!(find("make", "other times"), None);
    assert_eq!(find("other", "times"), None);
}

#[test]
fn names_of_images_and_bases() {
    let (_directory, store) = new_store();
    let images = store.images();
    let (one, two) = (image(&store, "one"), image(&store, "two"));
    images.tag("docker.io/library/app:1", &one).unwrap();
    images.tag("docker.io/library/app:2", &two).unwrap();
    assert_eq!(images.resolve("docker.io/library/app:1").unwrap(), Some(one.clone()));
    let index = std::fs::read_to_string(store.root().join("index.json")).unwrap();
    assert!(index.contains("docker.io/library/app:1") && index.contains("docker.io/library/app:2"));
    let inode = std::fs::metadata(store.root().join("index.json")).unwrap().ino();
    images.tag("docker.io/library/app:1", &one).unwrap();
    assert_eq!(std::fs::metadata(store.root().join("index.json")).unwrap().ino(), inode);

    assert!(images.untag("docker.io/library/app:1").unwrap());
    assert!(!images.untag("docker.io/library/app:1").unwrap());
    let names: Vec<String> = images.list().unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["docker.io/library/app:2"]);

    assert_eq!(images.base("docker.io/library/python:3.12", "linux/amd64").unwrap(), None);
    images.remember_base("docker.io/library/python:3.12", "linux/amd64", &one).unwrap();
    let base = images.base("docker.io/library/python:3.12", "linux/amd64").unwrap();
    assert_eq!(base, Some(one.clone()));
    assert_eq!(images.base("docker.io/library/python:3.12", "linux/arm64").unwrap(), None);

    std::fs::remove_file(store.content().path(&one.digest)).unwrap();
    assert_eq!(images.base("docker.io/library/python:3.12", "linux/amd64").unwrap(), None);
    assert!(matches!(images.tag("x", &one), Err(Error::MissingBlob { .. })));
    assert_eq!(images.resolve("x").unwrap(), None);
}

#[test]
fn an_index_json_of_someone_else_is_rewritten() {
    let (_directory, store) = new_store();
    store.images().tag("docker.io/library/app:1", &image(&store, "one")).unwrap();
    let path = store.root().join("index.json");
    let right = std::fs::read_to_string(&path).unwrap();
    let root = store.root().to_owned();
    drop(store);
    std::fs::write(root.join("other"), "{}").unwrap();
    std::fs::rename(root.join("other"), &path).unwrap();
    let _store = Store::open(&root).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), right);
}

#[test]
fn skopeo_reads_the_store_in_place() {
    let (_directory, store) = new_store();
    let name = "registry.example:5000/team/app:1.2";
    store.images().tag(name, &image(&store, "one")).unwrap();
    store.images().tag("docker.io/library/app:latest", &image(&store, "two")).unwrap();
    let reference = format!("oci:{}:{name}", store.root().display());
    let output = match Command::new("skopeo").args(["inspect", "--raw", &reference]).output() {
        Ok(output) => output,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "skopeo is needed: {error}");
            println!("SKIPPED: skopeo is not installed: {error}");
            return;
        }
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let digest = store.images().resolve(name).unwrap().unwrap().digest;
    assert_eq!(BlobDigest::of(&output.stdout), digest);
}
