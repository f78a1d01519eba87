//! Everything that goes wrong once ends well; what goes on going wrong ends with an error.

use kiln_registry::{Error, Pushed};
use kiln_testkit::registry::{Damage, Fault, Locations, Uploads};

use crate::support::Fixture;

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
