//! Prints what the store costs on this machine: `cargo run --release --example store_speed [DIR]`.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

use std::path::Path;
use std::time::{Duration, Instant};

use kiln_core::cache_key::{KeyPart, KeyParts};
use kiln_core::digest::{CacheKey, ContentId};
use kiln_store::walk::Everything;
use kiln_store::{CacheRecord, ContextEntry, EntryKind, StepResult, Store, walk};

const ROUNDS: usize = 15;

fn median(name: &str, mut work: impl FnMut()) {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("{name:50} {:9.3} ms", times[ROUNDS / 2].as_secs_f64() * 1e3);
}

fn key(number: u64) -> CacheKey {
    CacheKey::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

fn record(store: &Store, number: u64) -> CacheRecord {
    let content = ContentId::from_bytes([1; 32]);
    let working = store.layers().begin().unwrap();
    let layer = store.layers().commit(working, b"", content, content).unwrap();
    let part = |part| KeyPart {
        name: format!("variable NAME_{part}"),
        value: format!("/usr/local/bin:{number}"),
    };
    CacheRecord {
        result: StepResult { layer: layer.id, content },
        recipe: *key(number).as_bytes(),
        parts: KeyParts((0..12).map(part).collect()),
        created_unix: 1_700_000_000,
        duration_ms: 100,
        name: "RUN something".to_owned(),
    }
}

fn make_context(root: &Path, files: usize) {
    for directory in 0..files / 100 {
        let path = root.join(format!("package{:03}/module{directory:05}", directory % 97));
        std::fs::create_dir_all(&path).unwrap();
        for file in 0..100 {
            std::fs::write(path.join(format!("source_file_{file:03}.py")), [b'x'; 300]).unwrap();
        }
    }
}

fn files(entries: &[ContextEntry]) -> Vec<&ContextEntry> {
    entries.iter().filter(|entry| entry.kind == EntryKind::File).collect()
}

fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find(|line| line.starts_with("VmHWM")).unwrap().to_owned()
}

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let base = std::env::args().nth(1).map_or(directory.path().to_owned(), Into::into);
    let root = base.join("store");
    let store = Store::open(&root).unwrap();

    let mut number = 0;
    median("begin + commit a layer + record it", || {
        let made = record(&store, number);
        store.cache_index().record(key(number), &made).unwrap();
        number += 1;
    });
    for number in number..1000 {
        let made = record(&store, number);
        store.cache_index().record(key(number), &made).unwrap();
    }
    let again = record(&store, 5);
    median("record", || {
        store.cache_index().record(key(5), &again).unwrap();
    });
    store.settle().unwrap();

    median("open (another connection is open)", || {
        drop(Store::open(&root).unwrap());
    });
    drop(store);
    median("open (nobody else)", || drop(Store::open(&root).unwrap()));
    let store = Store::open(&root).unwrap();
    let keys: Vec<CacheKey> = (100..200).map(key).collect();
    median("lookup_many(100)", || {
        assert!(store.cache_index().lookup_many(&keys).unwrap().iter().all(Option::is_some));
    });
    median("lock_step", || {
        let never = std::sync::atomic::AtomicBool::new(false);
        drop(store.lock_step(&key(1), &never).unwrap());
    });
    median("put of a new 1 KiB blob", || {
        number += 1;
        store.content().put(&[number as u8; 1024]).unwrap();
    });

    for count in [1_000, 10_000, 50_000, 500_000] {
        let context = base.join(format!("context{count}"));
        make_context(&context, count);
        median(&format!("walk {count}"), || {
            drop(walk(&context, &Everything).unwrap());
        });
        let entries = walk(&context, &Everything).unwrap();
        let mut index = store.context_index(&context);
        let start = Instant::now();
        index.digest_files(&context, &files(&entries)).unwrap();
        index.save().unwrap();
        let name = format!("digest {count} unknown files and save");
        println!("{name:50} {:9.3} ms", start.elapsed().as_secs_f64() * 1e3);
        drop(index);
        median(&format!("load index of {count}"), || {
            drop(store.context_index(&context));
        });
        median(&format!("load index of {count} + look up all"), || {
            let mut index = store.context_index(&context);
            index.digest_files(&context, &files(&entries)).unwrap();
            assert!(index.files_read() < count / 10, "{}", index.files_read());
        });
        drop(entries);
        median(&format!("walk {count}, load index beside it, look up all"), || {
            let (entries, mut index) = std::thread::scope(|scope| {
                let index = scope.spawn(|| store.context_index(&context));
                (walk(&context, &Everything).unwrap(), index.join().unwrap())
            });
            index.digest_files(&context, &files(&entries)).unwrap();
            index.save().unwrap();
        });
        println!("{}", peak_memory());
    }
}
