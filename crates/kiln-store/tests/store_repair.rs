//! Damage of every kind: what opening mends, what fsck finds and removes, what prune spares.

#![expect(clippy::unwrap_used, reason = "tests")]

mod disk;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use disk::*;
use kiln_core::digest::{BlobDigest, DiffId};
use kiln_store::fsck::{Problem, Repair, fsck};
use kiln_store::gc::Prune;
use kiln_store::layer::{BlobCheck, Unpack, unpack};
use kiln_store::{Error, Layer, Store};

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

fn recorded(store: &Store, text: &str) -> Layer {
    let made = layer(store, text);
    store.cache_index().record(key(text), &record(&made, text)).unwrap();
    made
}

fn has_record(store: &Store, text: &str) -> bool {
    store.cache_index().lookup_many(&[key(text)]).unwrap()[0].is_some()
}

fn problems(store: &Store) -> Vec<Problem> {
    fsck(store, Repair::No).unwrap().problems
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

#[test]
fn prune_removes_what_nothing_can_use() {
    let (_directory, store) = new_store();
    let tagged = image(&store, "tagged");
    store.images().tag("docker.io/library/app:1", &tagged).unwrap();
    let base = image(&store, "base");
    store.images().remember_base("base", "linux/amd64", &base).unwrap();
    let loose = store.content().put(b"loose").unwrap();
    let cached = recorded(&store, "cached");
    store.layers().set_diff_id(&cached.id, &diff_id("cached")).unwrap();
    let packed = store.content().put(b"packed").unwrap();
    store.layers().remember_packed(&diff_id("cached"), "tar", &packed).unwrap();

    let pruned = store.prune(&Prune::default()).unwrap();
    assert_eq!((pruned.layers, pruned.blobs), (0, 1));
    assert!(!store.content().has(&loose));
    assert!(store.content().has(&packed) && has_record(&store, "cached"));
    assert!(store.images().base("base", "linux/amd64").unwrap().is_some());
    assert_eq!(problems(&store), []);
}

#[test]
fn prune_all_spares_tagged_images_and_their_layers() {
    let (_directory, store) = new_store();
    let tagged = image(&store, "tagged");
    store.images().tag("docker.io/library/app:1", &tagged).unwrap();
    let unpacked = recorded(&store, "unpacked");
    // The diff ID in the image's config is the digest of its layer.
    store.layers().set_diff_id(&unpacked.id, &diff_id("tagged")).unwrap();
    let cached = recorded(&store, "cached");
    store.images().remember_base("base", "linux/amd64", &image(&store, "base")).unwrap();

    let guard = store.lock_shared(&NEVER).unwrap();
    let all = Prune { all: true, ..Prune::default() };
    assert!(matches!(store.prune(&all), Err(Error::InUse { .. })));
    drop(guard);
    let pruned = store.prune(&all).unwrap();
    assert_eq!((pruned.layers, pruned.blobs), (1, 3));
    assert!(pruned.freed_bytes > 0);
    assert!(unpacked.fs.exists() && has_record(&store, "unpacked"));
    assert!(!cached.fs.exists() && !has_record(&store, "cached"));
    assert!(store.images().base("base", "linux/amd64").unwrap().is_none());
    store.images().tag("docker.io/library/app:2", &tagged).unwrap();
    assert_eq!(problems(&store), []);
    assert_eq!(std::fs::read_dir(store.root().join("trash")).unwrap().count(), 0);
}

#[test]
fn prune_by_age_and_by_size_takes_the_least_recently_used() {
    let (_directory, store) = new_store();
    for name in ["old", "older", "new"] {
        let working = store.layers().begin().unwrap();
        std::fs::write(working.upper.join("file"), vec![1; 1 << 20]).unwrap();
        let layers = store.layers();
        let made = layers.commit(working, b"", content(name), content("t")).unwrap();
        store.cache_index().record(key(name), &record(&made, name)).unwrap();
    }
    let age = |name: &str, seconds: u64| {
        let key = key(name);
        sql(
            &store,
            &format!(
                "UPDATE layers SET used = unixepoch() - {seconds}
                 WHERE id = (SELECT layer FROM records WHERE key = x'{key}')"
            ),
        );
    };
    age("old", 5000);
    age("older", 50_000);
    let usage = store.usage().unwrap();
    assert!(usage.layers_bytes >= 3 << 20);
    assert!(usage.total_bytes() >= usage.layers_bytes + usage.database_bytes);

    let by_age = Prune { older_than: Some(Duration::from_secs(20_000)), ..Prune::default() };
    assert_eq!(store.prune(&by_age).unwrap().layers, 1);
    let rest = usage.total_bytes() - (1 << 20) - (1 << 19);
    let by_size = Prune { max_bytes: Some(rest), ..Prune::default() };
    assert_eq!(store.prune(&by_size).unwrap().layers, 1);
    assert!(store.usage().unwrap().total_bytes() <= rest);
    assert!(has_record(&store, "new"));
    assert!(!has_record(&store, "old") && !has_record(&store, "older"));
    assert_eq!(problems(&store), []);
}

#[test]
fn a_look_up_counts_as_use() {
    let (_directory, store) = new_store();
    recorded(&store, "a");
    sql(&store, "UPDATE layers SET used = 1");
    assert!(has_record(&store, "a"));
    let day = Prune { older_than: Some(Duration::from_hours(24)), ..Prune::default() };
    assert_eq!(store.prune(&day).unwrap().layers, 0);
}

#[test]
fn layers_of_an_image_may_be_elsewhere() {
    let (_directory, store) = new_store();
    let app = image(&store, "app");
    let text = String::from_utf8(store.content().read(&app.digest).unwrap()).unwrap();
    let manifest: kiln_core::oci::Manifest = serde_json::from_str(&text).unwrap();
    let layer = manifest.layers[0].digest;
    std::fs::remove_file(store.content().path(&layer)).unwrap();
    let name = "docker.io/library/app:1";
    assert!(matches!(store.images().tag(name, &app), Err(Error::MissingBlob { .. })));
    let places = || store.remote_blobs().places(&layer).unwrap();
    assert_eq!(places(), Vec::<String>::new());
    for place in ["a.example/app", "a.example/app", "b.example/app"] {
        store.remote_blobs().note(&[layer], place).unwrap();
    }
    assert_eq!(places().len(), 2);
    store.images().tag(name, &app).unwrap();
    assert_eq!(fsck(&store, Repair::Yes).unwrap().problems, []);
    // As long as an image needs it, its place is known.
    let all = Prune { all: true, ..Prune::default() };
    store.prune(&all).unwrap();
    assert_eq!(places().len(), 2);
    // A config can be nowhere else.
    std::fs::remove_file(store.content().path(&manifest.config.digest)).unwrap();
    let problems = fsck(&store, Repair::No).unwrap().problems;
    assert!(matches!(problems[..], [Problem::IncompleteImage { .. }]), "{problems:?}");
    store.images().untag(name).unwrap();
    store.prune(&all).unwrap();
    assert_eq!(places(), Vec::<String>::new());
}
