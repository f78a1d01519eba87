//! Damage of every kind: what opening mends, what fsck finds and removes.

#![expect(clippy::unwrap_used, reason = "tests")]

mod disk;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use disk::*;
use kiln_core::digest::{BlobDigest, DiffId};
use kiln_store::fsck::{Problem, Repair, fsck};
use kiln_store::layer::{BlobCheck, Unpack, unpack};
use kiln_store::{Error, Store};

/// Makes the store look as if the machine had been started since.
fn reboot(store: Store) -> Store {
    let root = store.root().to_owned();
    sql(
        &store,
        "UPDATE meta SET value = 'earlier' WHERE name = 'boot';
         UPDATE layers SET boot = 'earlier' WHERE boot IS NOT NULL;",
    );
    drop(store);
    Store::open(&root).unwrap()
}

/// The problems are found, mended and gone.
fn assert_repaired(store: &Store, expected: &[Problem]) {
    assert_eq!(problems(store), expected);
    assert_eq!(fsck(store, Repair::Yes).unwrap().problems, expected);
    assert_eq!(problems(store), []);
}

/// Removes SQLite's log, which would hide damage of the database by newer pages.
fn remove_log(root: &Path) {
    let _ = std::fs::remove_file(root.join("db.sqlite-wal"));
    let _ = std::fs::remove_file(root.join("db.sqlite-shm"));
}

fn truncate(store: &Store, digest: &BlobDigest) {
    File::create(store.content().path(digest)).unwrap();
}

#[test]
fn after_a_power_cut_only_what_is_durable_is_trusted() {
    let (_directory, store) = new_store();
    let (durable, lost) = (image(&store, "durable"), image(&store, "lost"));
    let kept = recorded(&store, "durable");
    store.images().tag("docker.io/library/durable:1", &durable).unwrap();
    store.settle().unwrap();
    let dropped = recorded(&store, "undurable");
    store.images().tag("docker.io/library/lost:1", &lost).unwrap();
    let whole = store.content().put(b"written by luck").unwrap();
    let torn = store.content().put(b"not written").unwrap();
    truncate(&store, &torn);
    truncate(&store, &BlobDigest::of(b"lost"));
    // Marked durable before: nobody looks at its bytes again.
    File::create(store.root().join("index.json")).unwrap();

    // Blobs of `lost` were made before the sync, so they count as durable: forget that.
    sql(&store, "DELETE FROM blobs WHERE digest NOT IN (SELECT digest FROM blobs LIMIT 0)");
    let store = reboot(store);
    assert!(has_record(&store, "durable"));
    assert!(!has_record(&store, "undurable"));
    assert!(store.layers().by_id(&kept.id).unwrap().is_some());
    assert!(!dropped.fs.exists());
    assert!(store.content().has(&whole));
    assert!(!store.content().has(&torn));
    assert!(store.images().resolve("docker.io/library/durable:1").unwrap().is_some());
    assert!(store.images().resolve("docker.io/library/lost:1").unwrap().is_none());
    assert_eq!(problems(&store), []);
}

#[test]
fn files_of_an_archive_are_new_when_they_are_made() {
    let (_directory, store) = new_store();
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(2);
    archive.append_data(&mut header, "file", &b"hi"[..]).unwrap();
    let digest = store.content().put(&archive.into_inner().unwrap()).unwrap();
    let diff_id = DiffId::from_bytes(*digest.as_bytes());
    let expected = (Unpack { digest, diff_id }, BlobCheck::Here);
    let index = unpack(store.content().open(&digest).unwrap(), expected, None).unwrap();
    store.layers().remember_packed(&diff_id, "none", &digest).unwrap();
    let working = store.layers().begin().unwrap();
    let identity = (index.content_id(), content("times"));
    let layer = store.layers().commit_packed(working, &index.encode(), identity, diff_id).unwrap();
    store.settle().unwrap();
    let store = reboot(store);
    let layer = store.layers().by_id(&layer.id).unwrap().unwrap();
    assert!(!layer.is_unpacked);
    store.layers().unpack(&layer).unwrap();
    // What a power cut left of the files is not known.
    let store = reboot(store);
    assert!(store.layers().by_id(&layer.id).unwrap().is_none());
    assert!(!layer.fs.exists());
}

#[test]
fn without_a_reboot_nothing_is_dropped() {
    let (_directory, store) = new_store();
    recorded(&store, "a");
    let root = store.root().to_owned();
    drop(store);
    assert!(has_record(&Store::open(&root).unwrap(), "a"));
}

#[test]
fn a_damaged_database_is_set_aside_and_tags_come_back() {
    for damage in [&b"no database at all"[..], &[], &[0; 8192]] {
        let (_directory, store) = new_store();
        let descriptor = image(&store, "app");
        store.images().tag("docker.io/library/app:1", &descriptor).unwrap();
        recorded(&store, "a");
        let root = store.root().to_owned();
        drop(store);
        remove_log(&root);
        std::fs::write(root.join("db.sqlite"), damage).unwrap();

        let store = Store::open(&root).unwrap();
        assert_eq!(std::fs::read(root.join("db.sqlite.damaged")).unwrap(), damage);
        assert_eq!(store.images().resolve("docker.io/library/app:1").unwrap(), Some(descriptor));
        assert!(!has_record(&store, "a"));
        let report = fsck(&store, Repair::Yes).unwrap();
        assert!(matches!(report.problems[..], [Problem::UnknownLayer(_)]), "{report:?}");
        assert_eq!(problems(&store), []);
    }
}

#[test]
fn a_missing_database_is_made_again() {
    let (_directory, store) = new_store();
    store.images().tag("docker.io/library/app:1", &image(&store, "app")).unwrap();
    let root = store.root().to_owned();
    drop(store);
    for name in ["db.sqlite", "db.sqlite-wal", "db.sqlite-shm"] {
        let _ = std::fs::remove_file(root.join(name));
    }
    let store = Store::open(&root).unwrap();
    assert_eq!(store.images().list().unwrap().len(), 1);
}

#[test]
fn a_damaged_database_in_use_is_left_alone() {
    let (_directory, store) = new_store();
    let root = store.root().to_owned();
    drop(store);
    // As a build of another process holds it.
    let lock = File::create(root.join("locks/store")).unwrap();
    lock.lock_shared().unwrap();
    remove_log(&root);
    std::fs::write(root.join("db.sqlite"), "damage").unwrap();
    assert!(matches!(Store::open(&root), Err(Error::InUse { .. })));
    lock.unlock().unwrap();
    Store::open(&root).unwrap();
}

#[test]
fn pages_of_the_database_that_are_damaged_are_found() {
    let (_directory, store) = new_store();
    for number in 0..200 {
        recorded(&store, &format!("layer {number}"));
    }
    store.settle().unwrap();
    let root = store.root().to_owned();
    drop(store);
    remove_log(&root);
    let file = File::options().write(true).open(root.join("db.sqlite")).unwrap();
    let pages = file.metadata().unwrap().len() / 4096;
    for page in pages / 2..pages {
        file.write_all_at(&[0xa5; 4096], page * 4096).unwrap();
    }
    let store = Store::open(&root).unwrap();
    assert!(matches!(problems(&store)[0], Problem::Database(_)));
    fsck(&store, Repair::Yes).unwrap();
    assert_eq!(problems(&store), []);
    recorded(&store, "works again");
    assert!(has_record(&store, "works again"));
}

#[test]
fn damaged_blobs_take_what_needs_them_with_them() {
    let (_directory, store) = new_store();
    let (good, bad) = (image(&store, "good"), image(&store, "bad"));
    store.images().tag("docker.io/library/good:1", &good).unwrap();
    store.images().tag("docker.io/library/bad:1", &bad).unwrap();
    store.images().remember_base("bad", "linux/amd64", &bad).unwrap();
    let layer_blob = BlobDigest::of(b"bad");
    store.layers().remember_packed(&diff_id("x"), "tar", &layer_blob).unwrap();
    std::fs::write(store.content().path(&layer_blob), "bed").unwrap();
    std::fs::write(store.root().join("blobs/sha256/letter"), "dear").unwrap();

    let strange = Problem::StrangeFile(store.root().join("blobs/sha256/letter"));
    let found = problems(&store);
    assert_eq!(found, [strange, Problem::DamagedBlob(layer_blob)]);
    fsck(&store, Repair::Yes).unwrap();
    assert_eq!(problems(&store), []);
    assert!(!store.content().has(&layer_blob));
    assert_eq!(store.layers().packed(&diff_id("x"), "tar").unwrap(), None);
    let names: Vec<String> = store.images().list().unwrap().into_iter().map(|(n, _)| n).collect();
    assert_eq!(names, ["docker.io/library/good:1"]);
    // A base needs its manifest and config only.
    assert!(store.images().base("bad", "linux/amd64").unwrap().is_some());
}

#[test]
fn missing_blobs_are_reported_by_who_needs_them() {
    let (_directory, store) = new_store();
    let app = image(&store, "app");
    store.images().tag("docker.io/library/app:1", &app).unwrap();
    store.images().remember_base("app", "linux/amd64", &app).unwrap();
    store.layers().remember_packed(&diff_id("app"), "tar", &app.digest).unwrap();
    std::fs::remove_file(store.content().path(&app.digest)).unwrap();
    let reason = format!("blob {} is missing", app.digest);
    assert_repaired(
        &store,
        &[
            Problem::PackedWithoutBlob(app.digest),
            Problem::IncompleteImage {
                name: "docker.io/library/app:1".to_owned(),
                reason: reason.clone(),
            },
            Problem::IncompleteBase {
                reference: "app".to_owned(),
                platform: "linux/amd64".to_owned(),
                reason,
            },
        ],
    );
}

#[test]
fn layers_and_rows_that_miss_each_other() {
    let (_directory, store) = new_store();
    let (no_row, no_index, fine) =
        (recorded(&store, "a"), recorded(&store, "b"), recorded(&store, "c"));
    std::fs::remove_file(&no_index.index_path).unwrap();
    sql(&store, &format!("DELETE FROM layers WHERE id = x'{}'", no_row.id));
    assert_repaired(
        &store,
        &[
            Problem::IncompleteLayer(no_index.id),
            Problem::UnknownLayer(no_row.id),
            Problem::RecordWithoutLayer(key("a")),
        ],
    );
    assert!(fine.fs.exists() && has_record(&store, "c"));
    assert!(!no_row.fs.exists() && !has_record(&store, "a"));
}

#[test]
fn a_stale_index_json_is_rewritten() {
    let (_directory, store) = new_store();
    store.images().tag("docker.io/library/app:1", &image(&store, "app")).unwrap();
    std::fs::write(store.root().join("index.json"), "{}").unwrap();
    assert_repaired(&store, &[Problem::StaleIndex]);
}

#[test]
fn leftovers_of_the_dead_are_told_from_those_of_the_living() {
    let (_directory, store) = new_store();
    let working = store.layers().begin().unwrap();
    let dead = store.root().join("tmp/dead");
    std::fs::create_dir(&dead).unwrap();
    assert_repaired(&store, &[Problem::Leftover(dead)]);
    assert!(working.upper.exists());
    let root = store.root().to_owned();
    let _other = Store::open(&root).unwrap();
    assert!(working.upper.exists());
}

#[test]
fn a_layer_whose_maker_died_before_its_row_was_written_is_swept() {
    let (_directory, store) = new_store();
    let entered = recorded(&store, "entered");
    let root = store.root().to_owned();
    drop(store);
    // Between the rename and the commit; the other died after it.
    let half = kiln_store::LayerId::from_bytes([7; 16]);
    std::fs::create_dir_all(root.join(format!("layers/{half}/fs"))).unwrap();
    for id in [half, entered.id] {
        std::fs::create_dir_all(root.join(format!("tmp/dead/{id}/work/work"))).unwrap();
    }
    std::fs::write(root.join("tmp/dead.lock"), "").unwrap();
    let store = Store::open(&root).unwrap();
    assert!(!root.join(format!("layers/{half}")).exists());
    assert!(entered.fs.exists() && has_record(&store, "entered"));
    assert_eq!(std::fs::read_dir(root.join("tmp")).unwrap().count(), 0);
    assert_eq!(problems(&store), []);
}
