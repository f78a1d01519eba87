//! What a prune removes, what it spares, and when a store makes room by itself.

#![expect(clippy::unwrap_used, reason = "tests")]

mod disk;

use std::time::Duration;

use disk::*;
use kiln_store::cache_mounts::{MountAttributes, Seeding, Sharing};
use kiln_store::fsck::{Problem, Repair, fsck};
use kiln_store::gc::{CacheFilter, CachePolicy, FreeSpace, Prune, Pruned};
use kiln_store::inventory::Kind;
use kiln_store::{CacheRecord, Error, Store};

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
    assert_eq!((pruned.count(Kind::Layer), pruned.blobs), (0, 1));
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
    assert_eq!((pruned.count(Kind::Layer), pruned.blobs), (1, 3));
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
        std::fs::write(working.upper.join("file"), vec![1; 8 << 20]).unwrap();
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
    let total = store.inventory().unwrap().total_bytes();
    assert!(total >= 24 << 20);

    let by_age = Prune { older_than: Some(Duration::from_secs(20_000)), ..Prune::default() };
    assert_eq!(store.prune(&by_age).unwrap().count(Kind::Layer), 1);
    let rest = total - (8 << 20) - (4 << 20);
    let by_size = Prune { max_bytes: Some(rest), ..Prune::default() };
    assert_eq!(store.prune(&by_size).unwrap().count(Kind::Layer), 1);
    assert!(store.inventory().unwrap().total_bytes() <= rest);
    assert!(has_record(&store, "new"));
    assert!(!has_record(&store, "old") && !has_record(&store, "older"));
    assert_eq!(problems(&store), []);
}

/// A layer of a megabyte, made in so many milliseconds.
fn costly(store: &Store, name: &str, duration_ms: u64) {
    let working = store.layers().begin().unwrap();
    std::fs::write(working.upper.join("file"), vec![1; 1 << 20]).unwrap();
    let made = store.layers().commit(working, b"", content(name), content("t")).unwrap();
    let record =
        CacheRecord { duration_ms, name: format!("[{name} 1/1] RUN x"), ..record(&made, name) };
    store.cache_index().record(key(name), &record).unwrap();
}

#[test]
fn what_saves_the_least_time_for_its_bytes_goes_first() {
    let (_directory, store) = new_store();
    costly(&store, "quick", 10);
    costly(&store, "slow", 60_000);
    costly(&store, "middle", 900);
    let total = store.inventory().unwrap().total_bytes();
    let half = Prune { max_bytes: Some(total - (3 << 19)), ..Prune::default() };
    let foreseen = store.prunable(&half).unwrap();
    assert!(has_record(&store, "quick"), "a look removes nothing");
    let pruned = store.prune(&half).unwrap();
    let names = |pruned: &Pruned| -> Vec<Option<String>> {
        pruned.removed.iter().map(|holding| holding.stage.clone()).collect()
    };
    assert_eq!(names(&pruned), [Some("quick".to_owned()), Some("middle".to_owned())]);
    assert_eq!(names(&foreseen), names(&pruned));
    assert!(pruned.freed_bytes.abs_diff(foreseen.freed_bytes) < 100_000);
    assert!(has_record(&store, "slow"));
    assert_eq!(problems(&store), []);
}

#[test]
fn a_filter_names_kinds_stages_and_ids() {
    let (_directory, store) = new_store();
    costly(&store, "app", 10);
    costly(&store, "docs", 10);
    let mount = |id: &str| {
        let attributes = MountAttributes {
            mode: 0o755,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            seeding: Seeding::Empty,
        };
        let mount = store.cache_mounts().acquire(id, Sharing::Shared, &attributes, &NEVER).unwrap();
        std::fs::write(mount.path.join("file"), vec![1; 1 << 20]).unwrap();
    };
    mount("uv");
    mount("uv-more");
    let only = |filter: CacheFilter| Prune { filter, ..Prune::default() };
    let prune = |what: &Prune| -> Vec<String> {
        let pruned = store.prune(what).unwrap();
        pruned.removed.into_iter().map(|holding| holding.name).collect()
    };
    let by_id = CacheFilter { ids: vec!["uv".to_owned()], ..CacheFilter::default() };
    assert_eq!(prune(&only(by_id.clone())), ["uv"]);
    assert_eq!(prune(&only(by_id)), [] as [String; 0]);
    let stage = CacheFilter { stages: vec!["docs".to_owned()], ..CacheFilter::default() };
    assert_eq!(prune(&only(stage)), ["[docs 1/1] RUN x"]);
    let mounts = CacheFilter { kinds: vec![Kind::CacheMount], ..CacheFilter::default() };
    let old = Prune { older_than: Some(Duration::from_hours(1)), ..only(mounts.clone()) };
    assert_eq!(prune(&old), [] as [String; 0]);
    assert_eq!(prune(&only(mounts)), ["uv-more"]);
    assert!(has_record(&store, "app"));
}

#[test]
fn a_cap_is_a_cap_and_a_running_build_keeps_what_it_has() {
    let (_directory, store) = new_store();
    for name in ["a", "b", "c", "d"] {
        costly(&store, name, 100);
    }
    let total = |store: &Store| store.inventory().unwrap().total_bytes();
    let policy =
        CachePolicy { max_bytes: Some(total(&store) - (1 << 20)), ..CachePolicy::default() };
    let build = store.lock_shared(&NEVER).unwrap();
    assert_eq!(store.collect(&policy).unwrap(), None);
    drop(build);
    let pruned = store.collect(&policy).unwrap().unwrap();
    assert!(total(&store) <= policy.max_bytes.unwrap());
    assert!(pruned.count(Kind::Layer) >= 1);
    assert_eq!(store.collect(&policy).unwrap(), None, "there is room now");
    assert_eq!(store.collect(&CachePolicy::default()).unwrap(), None);
    // A full disk takes no small cache.
    let full = CachePolicy { min_free: Some(FreeSpace::Percent(100)), ..CachePolicy::default() };
    assert_eq!(store.collect(&full).unwrap(), None);
    let old = CachePolicy { older_than: Some(Duration::from_hours(1)), ..CachePolicy::default() };
    sql(&store, "UPDATE layers SET used = 1");
    assert!(store.collect(&old).unwrap().is_some());
    assert_eq!(problems(&store), []);
}

#[test]
fn the_size_of_a_mount_is_measured_after_its_use() {
    let (_directory, store) = new_store();
    let attributes = MountAttributes {
        mode: 0o755,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        seeding: Seeding::Empty,
    };
    let use_it = |bytes: usize| {
        let mounts = store.cache_mounts();
        let mount = mounts.acquire("uv", Sharing::Locked, &attributes, &NEVER).unwrap();
        std::fs::write(mount.path.join("file"), vec![1; bytes]).unwrap();
        mount
    };
    let size = || store.cache_mounts().list().unwrap()[0].size_bytes;
    drop(use_it(1 << 20));
    let first = size();
    assert!(first >= 1 << 20);
    assert_eq!(size(), first);
    let used = store.cache_mounts().list().unwrap()[0].last_used_unix;
    assert_eq!(store.cache_mounts().list().unwrap()[0].last_used_unix, used, "a look is no use");
    // While it is used nothing is noted.
    let held = use_it(2 << 20);
    assert!(size() >= 2 << 20);
    std::fs::write(held.path.join("more"), vec![1; 1 << 20]).unwrap();
    drop(held);
    assert!(size() >= 3 << 20);
}

#[test]
fn a_look_up_counts_as_use() {
    let (_directory, store) = new_store();
    recorded(&store, "a");
    sql(&store, "UPDATE layers SET used = 1");
    assert!(has_record(&store, "a"));
    let day = Prune { older_than: Some(Duration::from_hours(24)), ..Prune::default() };
    assert_eq!(store.prune(&day).unwrap().count(Kind::Layer), 0);
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
