//! Pushing to the reference implementation of a registry (`docker-registry`, `registry`), also over
//! a connection that breaks.
//!
//! Where the program is missing, the tests say so and pass; with `CI` set they fail.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kiln_core::digest::BlobDigest;
use kiln_core::oci::{Descriptor, media_type};
use kiln_registry::{BlobSource, BlobUpload, Client, Pushed, Repository};
use kiln_testkit::tree::random;

use crate::support::config;

fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = ["docker-registry", "registry"];
    std::env::split_paths(&path)
        .flat_map(|directory| names.map(|name| directory.join(name)))
        .find(|path| path.is_file())
}

/// A running registry; ends when dropped.
pub(crate) struct Real {
    child: Child,
    pub(crate) host: String,
    _directory: tempfile::TempDir,
}

impl Real {
    pub(crate) fn start() -> Option<Self> {
        let Some(program) = find() else {
            assert!(std::env::var_os("CI").is_none(), "docker-registry is missing");
            #[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
            {
                eprintln!("SKIPPED: docker-registry is missing on this machine");
            }
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        // The port is free now; if somebody takes it before the registry does, the test fails.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        drop(listener);
        let settings = serde_json::json!({
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": directory.path().join("storage")}},
            // Locations are told as they are reached, through a proxy or not.
            "http": {"addr": host, "relativeurls": true},
        });
        let path = directory.path().join("config.yml");
        std::fs::write(&path, settings.to_string()).unwrap();
        let child = Command::new(program)
            .arg("serve")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let real = Self { child, host, _directory: directory };
        let end = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(&real.host).is_err() {
            assert!(Instant::now() < end, "the registry does not start");
            thread::sleep(Duration::from_millis(5));
        }
        Some(real)
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Hands bytes on to `target`, and hangs up whenever so many have gone there; gives its address and
/// how many breaks are left.
fn breaking_proxy(target: &str, every_bytes: usize, breaks: i64) -> (String, Arc<AtomicI64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let left = Arc::new(AtomicI64::new(breaks));
    let (target, shared) = (target.to_owned(), Arc::clone(&left));
    thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(&target)) else { return };
            let (mut down, mut up) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || {
                let _ = io::copy(&mut down, &mut up);
                let _ = up.shutdown(Shutdown::Both);
            });
            let left = Arc::clone(&shared);
            thread::spawn(move || forward(client, server, every_bytes, &left));
        }
    });
    (host, left)
}

fn forward(mut from: TcpStream, mut to: TcpStream, every_bytes: usize, left: &AtomicI64) {
    let mut buffer = vec![0; 64 << 10];
    let mut passed = 0;
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
        passed += count;
        if passed > every_bytes && left.fetch_sub(1, Ordering::SeqCst) > 0 {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Both);
}

#[test]
fn a_blob_gets_there_over_connections_that_break() {
    let Some(real) = Real::start() else { return };
    let bytes = random(40 << 20);
    let digest = BlobDigest::of(&bytes);
    let descriptor = Descriptor::new(media_type::OCI_LAYER, digest, bytes.len() as u64);
    let source = BlobSource::Bytes(bytes.clone());
    let blob =
        BlobUpload { descriptor: &descriptor, source: &source, mount_from: &[], progress: &|_| {} };
    let (host, left) = breaking_proxy(&real.host, 7 << 20, 5);
    let client = Client::new(config());
    let repository = Repository { registry: host, name: "app".to_owned() };
    assert_eq!(client.push_blob(&repository, &blob).unwrap(), Pushed::Sent);
    assert!(left.load(Ordering::SeqCst) <= 0, "it did not break");

    // What is there is right, and can be mounted.
    let direct = Repository { registry: real.host.clone(), name: "app".to_owned() };
    let mut there = Vec::new();
    client.blob(&direct, &descriptor).unwrap().read_to_end(&mut there).unwrap();
    assert!(there == bytes);
    assert_eq!(client.push_blob(&direct, &blob).unwrap(), Pushed::Existing);
    let other = Repository { name: "other".to_owned(), ..direct.clone() };
    let mounted = BlobUpload { mount_from: &[direct], ..blob };
    assert_eq!(client.push_blob(&other, &mounted).unwrap(), Pushed::Mounted);
    let manifest = br#"{"schemaVersion":2,"manifests":[]}"#;
    let document = (media_type::OCI_INDEX, manifest.as_slice());
    let pushed = client.push_manifest(&other, "1", document).unwrap();
    assert_eq!(client.pushed_digest(&other, "1").unwrap(), Some(pushed));
}
