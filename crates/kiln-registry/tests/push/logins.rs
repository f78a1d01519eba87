//! Logging in to push.

use kiln_registry::{Config, Error, Pushed};
use kiln_testkit::registry::{Damage, Fault, Locations, Login, Mounts, Server, Target, Uploads};

use crate::support::{Fixture, config};

fn logged_in(login: &Login) -> (Fixture, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let settings = Config { docker_config: Some(directory.path().to_owned()), ..config() };
    let fixture = Fixture::with(100_000, settings);
    fixture.registry.require(login.clone());
    fixture.registry.write_docker_config(directory.path(), login);
    (fixture, directory)
}

fn token() -> Login {
    Login::Token { user: "user".to_owned(), password: "hunter2".to_owned() }
}

#[test]
fn every_login_works() {
    for login in [
        Login::AnonymousToken,
        token(),
        Login::IdentityToken("1dentity".to_owned()),
        Login::Basic { user: "user".to_owned(), password: "hunter2".to_owned() },
    ] {
        let (fixture, _directory) = logged_in(&login);
        assert_eq!(fixture.push().unwrap(), Pushed::Sent, "{login:?}");
        fixture.check();
        let tokens = fixture.registry.log().matches("/token").count();
        assert!(tokens <= 1, "one token does for all");
    }
}

#[test]
fn a_mount_needs_the_right_to_read_the_source() {
    let (fixture, _directory) = logged_in(&token());
    fixture.registry.put_blob("base", &fixture.bytes);
    let from = [fixture.repository("base")];
    assert_eq!(fixture.push_from(&fixture.source(), &from).unwrap(), Pushed::Mounted);
    let requests = fixture.registry.requests();
    let scopes: Vec<&str> = requests
        .iter()
        .filter(|request| request.bare_path() == "/token")
        .map(|request| request.path.as_str())
        .collect();
    assert!(scopes.last().unwrap().contains("scope=repository%3Abase%3Apull"), "{scopes:?}");
    assert!(scopes.last().unwrap().contains("scope=repository%3Aapp%3Apull%2Cpush"));
}

#[test]
fn a_source_that_may_not_be_read_is_sent() {
    let (fixture, _directory) = logged_in(&token());
    fixture.registry.take_uploads(Uploads { mounts: Mounts::Refused, ..Uploads::default() });
    let target = Target::Upload("POST");
    fixture.registry.fail(Fault { target, damage: Damage::Unauthorized }, 3);
    let from = [fixture.repository("base")];
    assert_eq!(fixture.push_from(&fixture.source(), &from).unwrap(), Pushed::Sent);
    fixture.check();
}

#[test]
fn other_hosts_see_no_credentials() {
    let (fixture, _directory) = logged_in(&token());
    let locations = Locations::Elsewhere;
    fixture.registry.take_uploads(Uploads { locations, ..Uploads::default() });
    fixture.registry.fail(Fault::of_uploads("PUT", Damage::CutRequestAfter(50_000)), 1);
    assert_eq!(fixture.push().unwrap(), Pushed::Sent);
    fixture.check();
    let requests = fixture.registry.requests();
    let there: Vec<_> = requests.iter().filter(|seen| seen.server == Server::Storage).collect();
    assert!(there.len() >= 3);
    assert!(there.iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn a_registry_that_never_lets_in_is_an_error() {
    let (fixture, _directory) = logged_in(&token());
    for target in [Target::Upload("POST"), Target::Blob] {
        fixture.registry.fail(Fault { target, damage: Damage::Unauthorized }, 100);
        let error = fixture.push().unwrap_err();
        assert!(matches!(error, Error::Unauthorized { .. }), "{error:?}");
    }
    assert!(fixture.registry.requests().len() < 20);
}

#[test]
fn a_token_may_expire_during_an_upload() {
    let (fixture, _directory) = logged_in(&token());
    fixture.registry.fail(Fault::of_uploads("PUT", Damage::Unauthorized), 1);
    assert_eq!(fixture.push().unwrap(), Pushed::Sent);
    fixture.check();
}
