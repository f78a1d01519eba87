//! Blobs over bad connections: the right bytes, or an error that says why not.

use std::io::Read as _;
use std::thread;
use std::time::Duration;

use crate::support::{Blob, config, descriptor, read};
use kiln_core::digest::BlobDigest;
use kiln_registry::{Config, Error, Timeouts};
use kiln_testkit::registry::{Blobs, Damage, Fault};

fn after(damage: &[Damage]) -> (Blob, Result<Vec<u8>, Error>) {
    let blob = Blob::new();
    for damage in damage {
        blob.registry.fail(Fault::of_blobs(damage.clone()), 1);
    }
    let read = blob.read();
    assert_eq!(blob.registry.faults_left(), 0, "not all of {damage:?} came up");
    (blob, read)
}

#[test]
fn one_request_is_enough() {
    let (blob, read) = after(&[]);
    assert_eq!(read.unwrap(), blob.bytes);
    assert_eq!(blob.ranges(), [None]);
}

#[test]
fn what_breaks_once_or_twice_is_mended() {
    for damage in [
        Damage::CutBeforeHead,
        Damage::CutInHead,
        Damage::CutAfter(0),
        Damage::CutAfter(1),
        Damage::CutAfter(300_000),
        Damage::CutAfter(999_999),
        Damage::ShorterWithoutLength(10),
        Damage::Garbage,
        Damage::Status(500, None),
        Damage::Status(503, Some("0")),
        Damage::Status(429, Some("0")),
        Damage::Status(429, Some("Sun, 06 Nov 1994 08:49:37 GMT")),
        Damage::Status(408, None),
    ] {
        for times in 1..=2 {
            let (blob, read) = after(&vec![damage.clone(); times]);
            assert!(read.unwrap() == blob.bytes, "{damage:?}");
        }
    }
}

#[test]
fn slow_is_not_broken() {
    let (blob, read) = after(&[Damage::Slow(5, Duration::from_millis(2))]);
    assert!(read.unwrap() == blob.bytes);
    assert_eq!(blob.registry.requests().len(), 1);
}

#[test]
fn a_download_goes_on_where_it_broke() {
    let (blob, read) = after(&[Damage::CutAfter(300_000), Damage::CutAfter(200_000)]);
    assert!(read.unwrap() == blob.bytes);
    let ranges = ["bytes=300000-", "bytes=500000-"].map(|range| Some(range.to_owned()));
    assert_eq!(blob.ranges()[1..], ranges);
}

#[test]
fn a_registry_without_ranges_sends_all_again() {
    let (blob, read) = after(&[Damage::CutAfter(300_000), Damage::IgnoresRange]);
    assert!(read.unwrap() == blob.bytes);
    let broken_twice = [
        Damage::CutAfter(300_000),
        Damage::IgnoresRangeAndCutsAfter(100_000),
        Damage::IgnoresRangeAndCutsAfter(500_000),
        Damage::IgnoresRange,
    ];
    let (blob, read) = after(&broken_twice);
    assert!(read.unwrap() == blob.bytes);
}

#[test]
fn a_wrong_range_is_refused() {
    let (_, read) = after(&[Damage::CutAfter(300_000), Damage::WrongRange(10)]);
    assert!(matches!(read, Err(Error::Status { status: 206, .. })), "{read:?}");
}

#[test]
fn attempts_are_bounded() {
    let blob = Blob::new();
    blob.registry.fail(Fault::of_blobs(Damage::CutAfter(10)), 100);
    let error = blob.read().unwrap_err();
    assert!(matches!(error, Error::Interrupted { received_bytes: 40, .. }), "{error:?}");
    assert_eq!(blob.registry.requests().len(), 4);

    let blob = Blob::new();
    blob.registry.fail(Fault::of_blobs(Damage::CutBeforeHead), 100);
    let error = blob.read().unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert_eq!(blob.registry.requests().len(), 4);

    let blob = Blob::new();
    blob.registry.fail(Fault::of_blobs(Damage::Status(500, None)), 100);
    let error = blob.read().unwrap_err();
    assert!(error.to_string().ends_with("answered 500: TESTED: this was asked for"), "{error}");
    assert_eq!(blob.registry.requests().len(), 4);
}

#[test]
fn progress_is_worth_further_attempts() {
    let mut config = config();
    config.retries.attempts = 2;
    let blob = Blob::with(config);
    blob.registry.fail(Fault::of_blobs(Damage::CutAfter(300_000)), 3);
    assert!(blob.read().unwrap() == blob.bytes);
}

#[test]
fn a_byte_is_no_progress() {
    let blob = Blob::new();
    blob.registry.fail(Fault::of_blobs(Damage::CutAfter(300_000)), 1);
    blob.registry.fail(Fault::of_blobs(Damage::CutAfter(1)), 100);
    let error = blob.read().unwrap_err();
    assert!(matches!(error, Error::Interrupted { .. }), "{error:?}");
    assert!(blob.registry.requests().len() <= 6);
}

#[test]
fn too_many_requests() {
    let blob = Blob::new();
    blob.registry.fail(Fault::of_blobs(Damage::Status(429, None)), 100);
    let error = blob.read().unwrap_err();
    assert!(matches!(error, Error::TooManyRequests { retry_after: None, .. }), "{error:?}");
    assert_eq!(blob.registry.requests().len(), 4);

    let blob = Blob::new();
    blob.registry.fail(Fault::of_blobs(Damage::Status(429, Some("3600"))), 1);
    let error = blob.read().unwrap_err();
    assert!(error.to_string().ends_with("it asks to wait 3600 s"), "{error}");
    assert_eq!(blob.registry.requests().len(), 1);
}

#[test]
fn wrong_bytes_are_never_complete() {
    for damage in [&[Damage::WrongBit][..], &[Damage::CutAfter(300_000), Damage::WrongBit]] {
        let blob = Blob::new();
        for damage in damage {
            blob.registry.fail(Fault::of_blobs(damage.clone()), 1);
        }
        let mut reader = blob.open().unwrap();
        let mut bytes = Vec::new();
        let error = reader.read_to_end(&mut bytes).unwrap_err();
        assert!(bytes.len() < blob.bytes.len());
        let error = Error::from_io(error).unwrap();
        assert!(matches!(error, Error::DigestMismatch { .. }), "{error:?}");
        assert!(reader.read(&mut [0; 10]).is_err(), "it must not go on after an error");
    }
}

#[test]
fn a_wrong_size_is_an_error() {
    for damage in [Damage::Longer(5), Damage::LongerWithoutLength(5), Damage::Shorter(5)] {
        let (_, read) = after(std::slice::from_ref(&damage));
        assert!(matches!(read, Err(Error::SizeMismatch { .. })), "{damage:?} {read:?}");
    }
    // The head agrees with the descriptor, but the blob is not that long.
    let blob = Blob::new();
    let mut descriptor = blob.descriptor.clone();
    descriptor.size += 5;
    blob.registry.fail(Fault::of_blobs(Damage::PromisesMore(5)), 1);
    let read = blob.client.blob(&blob.repository, &descriptor).and_then(read);
    let error = read.unwrap_err();
    assert!(
        matches!(
            error,
            Error::SizeMismatch { expected_bytes: 1_000_005, actual_bytes: 1_000_000, .. }
        ),
        "{error:?}"
    );
}

#[test]
fn an_empty_blob_is_verified_too() {
    let blob = Blob::new();
    let digest = blob.registry.put_blob("app", b"");
    let empty = descriptor(digest, 0);
    let bytes = blob.client.blob(&blob.repository, &empty).and_then(read).unwrap();
    assert!(bytes.is_empty());
    let wrong = descriptor(BlobDigest::of(b"x"), 0);
    assert!(blob.client.blob(&blob.repository, &wrong).is_err());
}

#[test]
fn what_is_not_there_is_not_asked_for_twice() {
    let blob = Blob::new();
    let digest = BlobDigest::of(b"something else");
    let error = blob.client.blob(&blob.repository, &descriptor(digest, 14)).unwrap_err();
    let expected = format!("`{}@{digest}` was not found", blob.repository);
    assert_eq!(error.to_string(), expected);
    assert_eq!(blob.registry.requests().len(), 1);
}

#[test]
fn foreign_layers_are_refused() {
    let blob = Blob::new();
    let mut elsewhere = blob.descriptor.clone();
    let urls = serde_json::json!(["https://elsewhere.example/layer"]);
    elsewhere.other.insert("urls".to_owned(), urls);
    let mut foreign = blob.descriptor.clone();
    foreign.media_type = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".to_owned();
    for descriptor in [elsewhere, foreign] {
        let error = blob.client.blob(&blob.repository, &descriptor).unwrap_err();
        assert!(error.to_string().contains("is a foreign layer"), "{error}");
    }
    assert!(blob.registry.requests().is_empty());
}

#[test]
fn redirections_are_followed_and_resumed() {
    let blob = Blob::new();
    blob.registry.serve_blobs(Blobs::Redirected);
    blob.registry.fail(Fault::of_blobs(Damage::CutAfter(400_000)), 1);
    assert!(blob.read().unwrap() == blob.bytes);
    let requests = blob.registry.requests();
    assert_eq!(requests.len(), 4);
    assert_eq!(requests[3].header("range"), Some("bytes=400000-"));
}

#[test]
fn errors_of_redirections_hide_their_signatures() {
    let blob = Blob::new();
    blob.registry.serve_blobs(Blobs::Redirected);
    blob.registry.fail(Fault::of_blobs(Damage::Status(403, None)), 1);
    let error = blob.read().unwrap_err();
    assert!(matches!(error, Error::Status { status: 403, .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("s3cret"));
}

#[test]
fn redirections_in_a_circle_end() {
    let blob = Blob::new();
    let path = format!("/v2/app/blobs/{}", blob.descriptor.digest);
    blob.registry.fail(Fault::of_blobs(Damage::RedirectsTo(path)), 100);
    let error = blob.read().unwrap_err();
    assert!(error.to_string().contains("too many redirections"), "{error}");
    assert!(blob.registry.requests().len() < 10);
}

#[test]
fn silence_is_a_broken_connection() {
    let blob = Blob::with(Config {
        timeouts: Timeouts {
            answer: Duration::from_millis(100),
            read: Duration::from_millis(100),
            ..Timeouts::default()
        },
        ..config()
    });
    blob.registry.fail(Fault::of_blobs(Damage::HangHalfway), 1);
    blob.registry.fail(Fault::of_blobs(Damage::Hang), 1);
    assert!(blob.read().unwrap() == blob.bytes);
    assert_eq!(
        blob.ranges()[1..],
        [Some("bytes=500000-".to_owned()), Some("bytes=500000-".to_owned())]
    );
}

#[test]
fn cancelling_ends_waits_and_downloads() {
    // While waiting for another attempt, for an answer, and for the rest of one.
    for damage in [Damage::Status(429, Some("4")), Damage::Hang, Damage::HangHalfway] {
        let blob = Blob::new();
        blob.registry.fail(Fault::of_blobs(damage.clone()), 1);
        let client = blob.client.clone();
        thread::scope(|scope| {
            let reading = scope.spawn(|| blob.read());
            while blob.registry.faults_left() > 0 {
                thread::sleep(Duration::from_millis(1));
            }
            client.cancel();
            let read = reading.join().unwrap();
            assert!(matches!(read, Err(Error::Cancelled)), "{damage:?} {read:?}");
        });
        assert!(matches!(blob.read(), Err(Error::Cancelled)));
    }
}

#[test]
fn threads_share_a_client() {
    let blob = Blob::new();
    blob.registry.fail(Fault::of_blobs(Damage::CutAfter(10_000)), 4);
    thread::scope(|scope| {
        let reading: Vec<_> = (0..8).map(|_| scope.spawn(|| blob.read())).collect();
        for reading in reading {
            assert!(reading.join().unwrap().unwrap() == blob.bytes);
        }
    });
}

#[test]
fn nobody_there() {
    let blob = Blob::new();
    let host = blob.registry.host();
    let error = {
        let mut blob = blob;
        // A port where nothing listens any more.
        blob.registry = kiln_testkit::registry::Registry::start();
        blob.read().unwrap_err()
    };
    let Error::Unreachable { registry, source, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*registry, host);
    assert_eq!(source.kind(), std::io::ErrorKind::ConnectionRefused);
}
