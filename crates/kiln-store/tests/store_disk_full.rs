//! A full disk is told from other errors, and nothing is lost by it.

mod disk;

use std::io::Write;
use std::process::Command;

use disk::*;
use kiln_store::fsck::{Repair, fsck};
use kiln_store::{Error, Store};

#[test]
fn child_fills_the_disk() {
    let Some(root) = child_root() else { return };
    let store = Store::open(&root).unwrap();
    let kept = image(&store, "kept");
    store.images().tag("docker.io/library/kept:1", &kept).unwrap();

    let mut writer = store.content().writer().unwrap();
    let error = loop {
        if let Err(error) = writer.write_all(&[7; 8 << 10]) {
            break error;
        }
    };
    let error = Error::Io { operation: "write", path: root.clone(), source: error };
    assert!(error.is_disk_full(), "{error}");
    // The full disk stays full while the writer lives.
    let error = (0..10_000).find_map(|number| write_something(&store, number).err()).unwrap();
    assert!(error.is_disk_full(), "{error:?}");
    drop(writer);

    assert_eq!(fsck(&store, Repair::No).unwrap().problems, []);
    assert_eq!(store.images().resolve("docker.io/library/kept:1").unwrap(), Some(kept));
    layer(&store, "works again");
    println!("the child is through");
}

fn write_something(store: &Store, number: usize) -> Result<(), Error> {
    let text = format!("{number}");
    let working = store.layers().begin()?;
    let layer = store.layers().commit(working, &[7; 300], content(&text), content("t"))?;
    store.cache_index().record(key(&text), &record(&layer, &text))?;
    store.content().put(text.as_bytes())?;
    Ok(())
}

#[test]
fn database_errors_are_told_apart() {
    let full = |code| Error::Database {
        operation: "record steps",
        path: "/store/db.sqlite".into(),
        source: rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None),
    };
    assert!(full(rusqlite::ffi::SQLITE_FULL).is_disk_full());
    assert!(!full(rusqlite::ffi::SQLITE_BUSY).is_disk_full());
}

#[test]
fn a_full_disk_is_recognised_and_survived() {
    let directory = tempfile::tempdir().unwrap();
    let mount = r#"mount -t tmpfs -o size=4m none "$STORE_ROOT" && exec "$0" "$@""#;
    let test = child("child_fills_the_disk", directory.path());
    // Of its own mount namespace: nothing is left when it ends.
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", mount])
        .arg(test.get_program())
        .args(test.get_args())
        .env("STORE_ROOT", directory.path())
        .output();
    let output = match output {
        Ok(output) if !String::from_utf8_lossy(&output.stderr).contains("unshare:") => output,
        other => {
            assert!(std::env::var_os("CI").is_none(), "no mount namespace: {other:?}");
            println!("SKIPPED: no mount namespace: {other:?}");
            return;
        }
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("the child is through"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
