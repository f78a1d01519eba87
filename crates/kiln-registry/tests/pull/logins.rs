//! Logging in: what is shown to whom.

use std::thread;

use crate::support::{Blob, config, reference};
use kiln_registry::{Client, Config, Error, Login as Shown};
use kiln_testkit::oci::TestImage;
use kiln_testkit::registry::{Blobs, Damage, Fault, Login, Registry, Server, Target};

fn basic() -> Login {
    Login::Basic { user: "user".to_owned(), password: "hunter2".to_owned() }
}

fn token() -> Login {
    Login::Token { user: "user".to_owned(), password: "hunter2".to_owned() }
}

/// A blob behind a login, with a client that has another (or the same) one.
fn blob(wanted: Login, had: Option<&Login>) -> (Blob, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let blob = Blob::with(Config { docker_config: Some(directory.path().to_owned()), ..config() });
    blob.registry.require(wanted);
    if let Some(had) = had {
        blob.registry.write_docker_config(directory.path(), had);
    }
    (blob, directory)
}

#[test]
fn every_login_works_and_is_remembered() {
    for (login, had, requests) in [
        (Login::AnonymousToken, None, "401 token 200 200"),
        (token(), Some(token()), "401 token 200 200"),
        (Login::IdentityToken("1dentity".to_owned()), None, "401 token 200 200"),
        (basic(), Some(basic()), "401 200 200"),
    ] {
        let had = had.unwrap_or_else(|| login.clone());
        let (blob, _directory) = blob(login.clone(), Some(&had));
        for _ in 0..2 {
            assert!(blob.read().unwrap() == blob.bytes, "{login:?}");
        }
        let seen = blob.registry.requests();
        assert_eq!(seen.len(), requests.split(' ').count(), "{login:?}");
        assert_eq!(
            seen[0].header("authorization"),
            None,
            "nothing is shown before it is asked for"
        );
    }
}

#[test]
fn a_token_is_for_one_repository() {
    let (blob, _directory) = blob(Login::AnonymousToken, None);
    blob.read().unwrap();
    TestImage::new().push(&blob.registry, "other:1");
    blob.registry.clear_requests();
    let other = reference(&blob.registry.reference("other:1"));
    blob.client.resolve(&other).unwrap();
    assert_eq!(
        blob.registry.log(),
        "GET /v2/other/manifests/1\nGET /token\nGET /v2/other/manifests/1\n"
    );
}

#[test]
fn a_token_that_is_worthless_is_replaced() {
    let (blob, _directory) = blob(token(), Some(&token()));
    blob.read().unwrap();
    blob.registry.revoke_tokens();
    blob.registry.clear_requests();
    assert!(blob.read().unwrap() == blob.bytes);
    assert_eq!(blob.registry.requests().len(), 3);
}

#[test]
fn a_token_may_expire_while_a_download_is_broken() {
    let (blob, _directory) = blob(token(), Some(&token()));
    let mut reader = {
        blob.registry.fail(Fault::of_blobs(Damage::Unauthorized), 1);
        blob.registry.fail(Fault::of_blobs(Damage::CutAfter(500_000)), 1);
        blob.open().unwrap()
    };
    blob.registry.revoke_tokens();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
    assert!(bytes == blob.bytes);
}

#[test]
fn threads_ask_for_one_token_together() {
    let (blob, _directory) = blob(token(), Some(&token()));
    thread::scope(|scope| {
        let reading: Vec<_> = (0..6).map(|_| scope.spawn(|| blob.read())).collect();
        for reading in reading {
            assert!(reading.join().unwrap().unwrap() == blob.bytes);
        }
    });
    let requests = blob.registry.requests();
    let asked = requests.iter().filter(|request| request.bare_path() == "/token").count();
    assert_eq!(asked, 1);
}

#[test]
fn wrong_and_missing_logins_are_told_apart() {
    let wrong = Login::Basic { user: "user".to_owned(), password: "wrong".to_owned() };
    let identity = Login::IdentityToken("1dentity".to_owned());
    for (wanted, had, shown) in [
        (basic(), None, Shown::Anonymous),
        (basic(), Some(&wrong), Shown::Credentials),
        (basic(), Some(&identity), Shown::Credentials),
        (token(), None, Shown::Anonymous),
        (token(), Some(&wrong), Shown::Credentials),
        (identity.clone(), Some(&wrong), Shown::Credentials),
    ] {
        let (blob, _directory) = blob(wanted.clone(), had);
        let error = blob.read().unwrap_err();
        let Error::Unauthorized { login, .. } = &error else {
            panic!("{wanted:?}: {error:?}");
        };
        assert_eq!(*login, shown, "{wanted:?} {had:?}");
        let text = format!("{error} {error:?} {:?}", error.hint());
        for secret in ["hunter2", "wrong", "1dentity"] {
            assert!(!text.contains(secret), "{text}");
        }
        assert!(blob.registry.requests().len() <= 3, "{}", blob.registry.log());
    }
}

#[test]
fn an_endless_401_ends() {
    let (blob, _directory) = blob(token(), Some(&token()));
    blob.registry.fail(Fault::of_blobs(Damage::Unauthorized), 1000);
    let error = blob.read().unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error:?}");
    assert!(blob.registry.requests().len() <= 6, "{}", blob.registry.log());
}

#[test]
fn an_unknown_scheme_is_named() {
    let (blob, _directory) = blob(Login::Unknown, None);
    let error = blob.read().unwrap_err().to_string();
    assert!(error.ends_with("asks for a login that kiln does not know: negotiate"), "{error}");
}

#[test]
fn the_token_service_is_asked_again() {
    let of_tokens = |damage| Fault { target: Target::Token, damage };
    let (blob, _directory) = blob(token(), Some(&token()));
    blob.registry.fail(of_tokens(Damage::Status(503, None)), 1);
    blob.registry.fail(of_tokens(Damage::CutBeforeHead), 1);
    assert!(blob.read().unwrap() == blob.bytes);
    blob.registry.revoke_tokens();
    blob.registry.fail(of_tokens(Damage::Status(503, None)), 100);
    let error = blob.read().unwrap_err().to_string();
    assert!(
        error.starts_with("the token service of") && error.ends_with("answered 503"),
        "{error}"
    );
    assert!(!error.contains("kind=test"), "{error}");
}

#[test]
fn a_redirection_takes_no_login_along() {
    for login in [basic(), token(), Login::IdentityToken("1dentity".to_owned())] {
        let (blob, _directory) = blob(login.clone(), Some(&login));
        blob.registry.serve_blobs(Blobs::Redirected);
        blob.registry.fail(Fault::of_blobs(Damage::CutAfter(100_000)), 1);
        assert!(blob.read().unwrap() == blob.bytes);
        let requests = blob.registry.requests();
        let stored: Vec<_> =
            requests.iter().filter(|request| request.server == Server::Storage).collect();
        assert_eq!(stored.len(), 2);
        for request in stored {
            assert_eq!(request.header("authorization"), None);
        }
    }
}

#[test]
fn a_401_of_a_redirection_gets_no_login() {
    let (blob, _directory) = blob(basic(), Some(&basic()));
    blob.registry.serve_blobs(Blobs::Redirected);
    blob.registry.fail(Fault::of_blobs(Damage::Unauthorized), 1);
    let error = blob.read().unwrap_err();
    assert!(matches!(error, Error::Status { status: 401, .. }), "{error:?}");
    let requests = blob.registry.requests();
    let last = requests.last().unwrap();
    assert_eq!((last.server, last.header("authorization")), (Server::Storage, None));
}

#[test]
fn a_redirection_within_the_registry_keeps_the_login() {
    let (blob, _directory) = blob(basic(), Some(&basic()));
    let moved = blob.registry.put_blob("moved", &blob.bytes);
    let target = format!("/v2/moved/blobs/{moved}");
    blob.read().unwrap();
    blob.registry.fail(Fault::of_blobs(Damage::RedirectsTo(target)), 1);
    assert!(blob.read().unwrap() == blob.bytes);
}

#[test]
fn a_helper_that_fails_does_not_stop_anonymous_access() {
    let directory = tempfile::tempdir().unwrap();
    let missing = r#"{"credsStore": "of-kiln-tests-that-does-not-exist"}"#;
    std::fs::write(directory.path().join("config.json"), missing).unwrap();
    let blob = Blob::with(Config { docker_config: Some(directory.path().to_owned()), ..config() });
    blob.registry.require(Login::AnonymousToken);
    assert!(blob.read().unwrap() == blob.bytes);
    blob.registry.require(token());
    blob.registry.revoke_tokens();
    let error = blob.read().unwrap_err();
    assert!(error.to_string().contains("cannot be run"), "{error}");
}

#[test]
fn debug_output_has_no_secrets() {
    let (blob, _directory) = blob(token(), Some(&token()));
    let reader = blob.open().unwrap();
    let text = format!("{:?} {reader:?}", blob.client);
    for request in blob.registry.requests() {
        if let Some(shown) = request.header("authorization") {
            let secret = shown.split(' ').next_back().unwrap();
            assert!(!text.contains(secret), "{text}");
        }
    }
    assert!(!text.contains("hunter2"), "{text}");
    let registry = Registry::start();
    drop(Client::new(config()).resolve(&reference(&registry.reference("x"))));
}
