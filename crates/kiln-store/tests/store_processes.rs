//! Many threads and processes on one store, and the death of any of them.

#![expect(clippy::unwrap_used, reason = "tests")]

mod disk;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use disk::*;
use kiln_store::fsck::{Problem, Repair, fsck};
use kiln_store::{Error, MountAttributes, Seeding, Sharing, Store};

const ATTRIBUTES: MountAttributes =
    MountAttributes { mode: 0o755, uid: 0, gid: 0, seeding: Seeding::Empty };

fn attributes() -> MountAttributes {
    MountAttributes {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        ..ATTRIBUTES
    }
}

/// Does a bit of everything.
fn build(store: &Store, name: &str) {
    let _store_guard = store.lock_shared(&NEVER).unwrap();
    let _step = store.lock_step(&key(name), &NEVER).unwrap();
    let made = layer(store, name);
    store.cache_index().record(key(name), &record(&made, name)).unwrap();
    let working = store.layers().begin().unwrap();
    std::fs::write(working.upper.join("base"), "base").unwrap();
    let base =
        store.layers().commit_base(working, b"base", content("base"), diff_id("base")).unwrap();
    assert!(base.fs.join("base").exists());
    let descriptor = image(store, name);
    store.images().tag(&format!("docker.io/library/{name}:latest"), &descriptor).unwrap();
    store.layers().remember_packed(&diff_id(name), "tar", &descriptor.digest).unwrap();
    store.images().remember_base(name, "linux/amd64", &descriptor).unwrap();
}

#[test]
fn child_builds() {
    let Some(root) = child_root() else { return };
    let name = std::env::var("NAME").unwrap();
    for round in 0.. {
        if std::env::var("ROUNDS").is_ok_and(|rounds| rounds.parse() == Ok(round)) {
            return;
        }
        let store = Store::open(&root).unwrap();
        build(&store, &format!("{name}-{}", round % 50));
        if round % 7 == 3 {
            store.settle().unwrap();
        }
        if round % 11 == 5 {
            store.images().untag(&format!("docker.io/library/{name}-0:latest")).unwrap();
        }
        if round % 13 == 7 {
            store.settle().unwrap();
        }
    }
}

#[test]
fn threads_and_processes_build_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("store");
    let children: Vec<_> = (0..3)
        .map(|number| {
            child("child_builds", &root)
                .env("NAME", format!("child{number}"))
                .env("ROUNDS", "20")
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    std::thread::scope(|scope| {
        for number in 0..3 {
            let root = &root;
            scope.spawn(move || {
                let store = Store::open(root).unwrap();
                for round in 0..20 {
                    build(&store, &format!("thread{number}-{round}"));
                }
            });
        }
    });
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let store = Store::open(&root).unwrap();
    let report = fsck(&store, Repair::No).unwrap();
    assert_eq!(report.problems, []);
    // 20 images of each, one name of which each child took away.
    assert_eq!(store.images().list().unwrap().len(), 6 * 20 - 3);
    // One base layer, however many unpacked it.
    assert_eq!(report.layers, 6 * 20 + 1);
}

#[test]
fn killed_at_any_point_nothing_is_lost_or_half() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("store");
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..60 {
        // Deterministic, between 0 and 40 ms after the start.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let mut children: Vec<_> = (0..2)
            .map(|number| {
                child("child_builds", &root)
                    .env("NAME", format!("victim{number}"))
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        std::thread::sleep(Duration::from_micros(2000 + seed % 40_000));
        for child in &mut children {
            child.kill().unwrap();
            let status = child.wait().unwrap();
            assert_eq!(status.signal(), Some(9), "it failed before it was killed: {status}");
        }
        check_after_crash(&root, round);
    }
}

fn check_after_crash(root: &Path, round: usize) {
    let store = Store::open(root).unwrap();
    let report = fsck(&store, Repair::No).unwrap();
    let problems: Vec<&Problem> =
        report.problems.iter().filter(|problem| !matches!(problem, Problem::Leftover(_))).collect();
    assert!(problems.is_empty(), "round {round}: {problems:?}");
    // Opening has swept what the dead left.
    assert_eq!(report.problems.len(), 0, "round {round}");
    for (name, descriptor) in store.images().list().unwrap() {
        store.content().read(&descriptor.digest).unwrap();
        let _ = name;
    }
}

#[test]
fn one_process_or_thread_holds_a_lock() {
    let (_directory, store) = new_store();
    let inside = AtomicUsize::new(0);
    let total = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let guard = store.lock_step(&key("step"), &NEVER).unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    total.fetch_add(1, Ordering::SeqCst);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(guard);
                }
            });
        }
    });
    assert_eq!(total.into_inner(), 400);
    let left: Vec<_> = std::fs::read_dir(store.root().join("locks"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("step-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn child_holds_locks() {
    let Some(root) = child_root() else { return };
    let store = Store::open(&root).unwrap();
    let _step = store.lock_step(&key("held"), &NEVER).unwrap();
    let _build = store.lock_shared(&NEVER).unwrap();
    let mounts = store.cache_mounts();
    let _mount = mounts.acquire("held", Sharing::Locked, &attributes(), &NEVER).unwrap();
    std::fs::write(root.join("tmp/held"), "").unwrap();
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[test]
fn locks_hold_between_processes_and_die_with_them() {
    let (_directory, store) = new_store();
    let held = store.root().join("tmp/held");
    let mut holder =
        child("child_holds_locks", store.root()).stdout(Stdio::null()).spawn().unwrap();
    while !held.exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::fs::remove_file(held).unwrap();
    let cancelled = AtomicBool::new(true);
    let error = store.lock_step(&key("held"), &cancelled).unwrap_err();
    assert!(error.is_cancelled(), "{error}");
    let mounts = store.cache_mounts();
    let error = mounts.acquire("held", Sharing::Locked, &attributes(), &cancelled).unwrap_err();
    assert!(error.is_cancelled(), "{error}");
    assert!(matches!(mounts.remove("held"), Err(Error::InUse { .. })));
    assert!(matches!(store.lock_exclusive(), Err(Error::InUse { .. })));
    assert!(matches!(fsck(&store, Repair::Yes), Err(Error::InUse { .. })));
    drop(store.lock_shared(&cancelled).unwrap());
    drop(store.lock_step(&key("free"), &cancelled).unwrap());

    holder.kill().unwrap();
    holder.wait().unwrap();
    drop(store.lock_step(&key("held"), &NEVER).unwrap());
    drop(store.lock_exclusive().unwrap());
    drop(mounts.acquire("held", Sharing::Locked, &attributes(), &NEVER).unwrap());
    assert!(mounts.remove("held").unwrap());
    assert!(!mounts.remove("held").unwrap());
}

#[test]
fn cache_mounts_are_shared_as_asked() {
    let (_directory, store) = new_store();
    let mounts = store.cache_mounts();
    let take = |sharing| mounts.acquire("/root/.cache", sharing, &attributes(), &NEVER).unwrap();
    let first = take(Sharing::Shared);
    assert!(first.is_new);
    std::fs::write(first.path.join("wheel"), "w").unwrap();
    let second = take(Sharing::Shared);
    assert_eq!((second.is_new, &second.path), (false, &first.path));
    // Instance 0 is in use: a private one is another.
    let private = take(Sharing::Private);
    assert!(private.is_new && private.path != first.path);
    drop((first, second));
    let again = take(Sharing::Private);
    assert!(!again.is_new && again.path.join("wheel").exists());
    drop((again, private));

    let listed = mounts.list().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].id, "/root/.cache");
    assert!(listed[0].size_bytes > 0 && listed[0].last_used_unix > 1_700_000_000);
}

#[test]
fn a_locked_cache_mount_is_waited_for() {
    let (_directory, store) = new_store();
    let inside = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let mounts = store.cache_mounts();
                    let mount =
                        mounts.acquire("apt", Sharing::Locked, &attributes(), &NEVER).unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    assert!(mount.path.is_dir());
                    inside.fetch_sub(1, Ordering::SeqCst);
                }
            });
        }
    });
}

#[test]
fn a_reset_cache_mount_begins_anew_and_spares_who_uses_it() {
    let (_directory, store) = new_store();
    let mounts = store.cache_mounts();
    let take = || mounts.acquire("uv", Sharing::Shared, &attributes(), &NEVER).unwrap();
    let old = take();
    std::fs::write(old.path.join("wheel"), "w").unwrap();
    // It is renamed away under its user, whose mount goes by inode.
    let open = std::fs::File::open(&old.path).unwrap();
    mounts.reset("uv").unwrap();
    let new = take();
    assert!(new.is_new && !new.path.join("wheel").exists());
    let inside = rustix::fs::openat(&open, "wheel", rustix::fs::OFlags::RDONLY, 0.into());
    assert!(inside.is_ok());
    drop((old, new));
    mounts.reset("uv").unwrap();
    assert!(take().is_new);
    mounts.reset("never seen").unwrap();
}

#[test]
fn a_cache_mount_that_was_not_filled_is_made_again() {
    let (_directory, store) = new_store();
    let mounts = store.cache_mounts();
    let by_holder = MountAttributes { seeding: Seeding::ByHolder, mode: 0o1777, ..attributes() };
    let take = || mounts.acquire("seeded", Sharing::Shared, &by_holder, &NEVER).unwrap();
    let half = take();
    assert!(half.is_new);
    std::fs::write(half.path.join("half"), "").unwrap();
    drop(half);
    let full = take();
    assert!(full.is_new && !full.path.join("half").exists());
    std::fs::write(full.path.join("full"), "").unwrap();
    full.seeded().unwrap();
    let other = take();
    assert!(!other.is_new && other.path.join("full").exists());
}
