//! Everything that goes wrong once ends well; what goes on going wrong ends with an error.

use std::time::Duration;

use kiln_registry::{Config, Error, Pushed, Retries, Timeouts};
use kiln_testkit::registry::{Damage, Fault, Locations, Uploads};

use crate::support::{Fixture, config};

/// Damages of one answer that are over with the next one.
fn passing() -> Vec<Damage> {
    vec![
        Damage::CutBeforeHead,
        Damage::CutInHead,
        Damage::PromisesMore(10),
        Damage::Status(429, None),
        Damage::Status(429, Some("0")),
        Damage::Status(500, None),
        Damage::Status(503, Some("0")),
        Damage::Garbage,
    ]
}

#[test]
fn each_request_may_fail_in_every_way() {
    for method in ["POST", "PUT"] {
        for damage in passing() {
            for times in [1, 2] {
                let fixture = Fixture::new(100_000);
                fixture.registry.fail(Fault::of_uploads(method, damage.clone()), times);
                let pushed = fixture.push();
                assert!(pushed.is_ok(), "{method} {damage:?}: {pushed:?}");
                fixture.check();
            }
        }
    }
}

#[test]
fn heads_of_blobs_may_fail() {
    for damage in passing() {
        let fixture = Fixture::new(1000);
        fixture.registry.fail(Fault::of_blobs(damage.clone()), 1);
        assert_eq!(fixture.push().unwrap(), Pushed::Sent, "{damage:?}");
        fixture.check();
    }
}

#[test]
fn a_lost_answer_costs_no_second_upload() {
    let fixture = Fixture::new(1000);
    fixture.registry.fail(Fault::of_uploads("PUT", Damage::CutBeforeHead), 1);
    assert_eq!(fixture.push().unwrap(), Pushed::Sent);
    let log = fixture.registry.log();
    assert_eq!(log.matches("PUT").count(), 1, "{log}");
}

#[test]
fn a_broken_upload_goes_on_where_it_broke() {
    for locations in [Locations::Relative, Locations::WithQuery, Locations::Elsewhere] {
        let fixture = Fixture::new(5_000_000);
        fixture.registry.take_uploads(Uploads { locations, ..Uploads::default() });
        fixture.registry.fail(Fault::of_uploads("PUT", Damage::CutRequestAfter(3_000_000)), 1);
        assert_eq!(fixture.push().unwrap(), Pushed::Sent);
        fixture.check();
        let sent: usize = fixture.registry.requests().iter().map(|seen| seen.body.len()).sum();
        assert_eq!(sent, 5_000_000, "{}", fixture.registry.log());
    }
}

#[test]
fn parts_may_break_too() {
    let fixture = Fixture::new(40 << 20);
    fixture.registry.fail(Fault::of_uploads("PUT", Damage::CutRequestAfter(1 << 20)), 1);
    fixture.registry.fail(Fault::of_uploads("PATCH", Damage::CutBeforeHead), 1);
    fixture.registry.fail(Fault::of_uploads("PATCH", Damage::Status(502, None)), 1);
    fixture.registry.fail(Fault::of_uploads("PATCH", Damage::CutInHead), 1);
    assert_eq!(fixture.push().unwrap(), Pushed::Sent);
    fixture.check();
    assert_eq!(fixture.registry.faults_left(), 0);
}

#[test]
fn a_registry_without_parts_gets_the_whole_again() {
    let fixture = Fixture::new(1_000_000);
    fixture.registry.fail(Fault::of_uploads("PUT", Damage::CutRequestAfter(300_000)), 1);
    fixture.registry.fail(Fault::of_uploads("PATCH", Damage::Status(405, None)), 9);
    assert_eq!(fixture.push().unwrap(), Pushed::Sent);
    fixture.check();
}

#[test]
fn a_forgotten_session_is_begun_again() {
    let fixture = Fixture::new(100_000);
    fixture.registry.fail(Fault::of_uploads("PUT", Damage::ForgetsSession), 1);
    assert_eq!(fixture.push().unwrap(), Pushed::Sent);
    fixture.check();
    let log = fixture.registry.log();
    assert_eq!(log.matches("POST").count(), 2, "{log}");
}

#[test]
fn what_does_not_pass_is_an_error() {
    // A body that breaks off says nothing that is needed.
    for damage in passing().into_iter().filter(|damage| *damage != Damage::PromisesMore(10)) {
        let fixture = Fixture::new(1000);
        fixture.registry.fail(Fault::of_uploads("POST", damage.clone()), 100);
        let error = fixture.push().unwrap_err();
        let text = error.to_string();
        assert!(text.contains("127.0.0.1"), "{damage:?}: {text}");
        assert!(fixture.registry.requests().len() < 20, "{damage:?}");
    }
    let fixture = Fixture::new(1000);
    fixture.registry.fail(Fault::of_uploads("PUT", Damage::CutRequestAfter(10)), 100);
    fixture.registry.fail(Fault::of_uploads("PATCH", Damage::CutRequestAfter(0)), 100);
    fixture.push().unwrap_err();
}

#[test]
fn a_wrong_digest_in_the_answer_is_an_error() {
    let fixture = Fixture::new(1000);
    let wrong = format!("sha256:{}", "0".repeat(64));
    fixture.registry.fail(Fault::of_uploads("PUT", Damage::ClaimsDigest(wrong)), 1);
    let error = fixture.push().unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error:?}");
    let fixture = Fixture::new(1000);
    fixture.registry.fail(Fault::of_uploads("PUT", Damage::ClaimsDigest("?".into())), 1);
    let error = fixture.push().unwrap_err();
    assert!(matches!(error, Error::UnknownDigest { .. }), "{error:?}");
}

#[test]
fn content_that_is_not_what_it_says_is_refused() {
    let mut fixture = Fixture::new(1000);
    fixture.descriptor.digest = kiln_core::digest::BlobDigest::of(b"something else");
    let error = fixture.push().unwrap_err();
    let text = error.to_string();
    assert!(text.contains("400: DIGEST_INVALID"), "{text}");
}

#[test]
fn registries_that_take_nothing_say_so() {
    for (status, expected) in [
        (405, "does not take pushes"),
        (404, "has no repository `app`"),
        (403, "refuses access to"),
    ] {
        let fixture = Fixture::new(1000);
        fixture.registry.fail(Fault::of_uploads("POST", Damage::Status(status, None)), 1);
        let error = fixture.push().unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.hint().is_some(), "{error}");
    }
}

#[test]
fn too_long_a_wait_is_an_error_at_once() {
    let fixture = Fixture::new(1000);
    fixture.registry.fail(Fault::of_uploads("POST", Damage::Status(429, Some("3600"))), 1);
    let error = fixture.push().unwrap_err();
    assert!(error.to_string().contains("it asks to wait 3600 s"), "{error}");
}

#[test]
fn a_body_may_be_refused_unread() {
    for (status, times) in [(413, 2), (503, 2), (401, 1), (429, 2)] {
        let fixture = Fixture::new(20 << 20);
        fixture.registry.fail(Fault::of_uploads("PUT", Damage::RefusesUnread(status)), times);
        let pushed = fixture.push();
        assert!(pushed.is_ok(), "{status}: {pushed:?}\n{}", fixture.registry.log());
        fixture.check();
    }
    let fixture = Fixture::new(20 << 20);
    fixture.registry.fail(Fault::of_uploads("PUT", Damage::RefusesUnread(413)), 100);
    fixture.registry.fail(Fault::of_uploads("PATCH", Damage::RefusesUnread(413)), 100);
    fixture.push().unwrap_err();
    assert!(fixture.registry.requests().len() < 40);
}

/// Short waits, and two attempts.
fn impatient() -> Config {
    let short = Duration::from_millis(300);
    Config {
        retries: Retries { attempts: 2, ..config().retries },
        timeouts: Timeouts { answer: short, read: short, ..config().timeouts },
        ..config()
    }
}

#[test]
fn a_registry_that_hangs_is_an_error() {
    for damage in [Damage::Hang, Damage::HangsUnread] {
        for method in ["POST", "PUT"] {
            let fixture = Fixture::with(30 << 20, impatient());
            fixture.registry.fail(Fault::of_uploads(method, damage.clone()), 100);
            fixture.registry.fail(Fault::of_uploads("PATCH", damage.clone()), 100);
            let pushed = fixture.push();
            if (method, &damage) == ("PUT", &Damage::Hang) {
                // It took everything, and only does not say so: the next question tells.
                assert_eq!(pushed.unwrap(), Pushed::Sent);
                continue;
            }
            let error = pushed.unwrap_err();
            assert!(matches!(error, Error::Unreachable { .. }), "{method} {damage:?}: {error:?}");
        }
    }
}

#[test]
fn a_registry_that_hangs_once_is_waited_for() {
    let fixture = Fixture::with(30 << 20, impatient());
    fixture.registry.fail(Fault::of_uploads("PUT", Damage::HangsUnread), 1);
    assert_eq!(fixture.push().unwrap(), Pushed::Sent);
    fixture.check();
}

#[test]
fn cancelling_ends_an_upload() {
    for damage in [Damage::Hang, Damage::HangsUnread] {
        let fixture = Fixture::new(30 << 20);
        fixture.registry.fail(Fault::of_uploads("PUT", damage.clone()), 1);
        std::thread::scope(|scope| {
            let pushing = scope.spawn(|| fixture.push());
            while !fixture.registry.log().contains("PUT") {
                std::thread::yield_now();
            }
            fixture.client.cancel();
            let error = pushing.join().unwrap().unwrap_err();
            assert!(matches!(error, Error::Cancelled), "{damage:?}: {error:?}");
        });
    }
}
