//! Logins that are tried before they are kept.

use kiln_registry::{Client, Config, Error, LoginCheck, Logins};
use kiln_testkit::registry::{Damage, ExchangeBy, Fault, Login, Registry, Target};

use crate::support::config;

fn check(registry: &Registry, password: &str) -> Result<LoginCheck, Error> {
    Client::new(config()).check_login(&registry.host(), "user", password)
}

#[test]
fn right_and_wrong_logins() {
    let (user, password) = ("user".to_owned(), "hunter2".to_owned());
    for login in [
        Login::Basic { user: user.clone(), password: password.clone() },
        Login::Token { user, password },
    ] {
        let registry = Registry::start();
        registry.require(login.clone());
        assert_eq!(check(&registry, "hunter2").unwrap(), LoginCheck::Accepted, "{login:?}");
        let error = check(&registry, "wrong").unwrap_err();
        assert!(matches!(error, Error::LoginRefused { .. }), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("wrong"));
    }
}

#[test]
fn a_registry_for_everybody_does_not_ask() {
    let registry = Registry::start();
    assert_eq!(check(&registry, "x").unwrap(), LoginCheck::NotAsked);
}

#[test]
fn a_token_service_that_fails_for_a_while() {
    let registry = Registry::start();
    registry.require(Login::Token { user: "user".to_owned(), password: "hunter2".to_owned() });
    let damage = Damage::Status(503, Some("0"));
    registry.fail(Fault { target: Target::Token, damage }, 2);
    assert_eq!(check(&registry, "hunter2").unwrap(), LoginCheck::Accepted);
}

#[test]
fn an_identity_token_is_kept_and_used() {
    for by in [ExchangeBy::Get, ExchangeBy::Post] {
        let registry = Registry::start();
        let bytes = b"content";
        let digest = registry.put_blob("app", bytes);
        let [user, password, identity] = ["user", "hunter2", "1dentity"].map(str::to_owned);
        registry.require(Login::Exchange { user, password, identity, by });
        let checked = check(&registry, "hunter2").unwrap();
        let LoginCheck::Exchanged(token) = checked else {
            panic!("{by:?}: {checked:?}");
        };
        let directory = tempfile::tempdir().unwrap();
        let logins = Logins::new(directory.path());
        logins.keep_identity(&registry.host(), "user", &token).unwrap();
        registry.clear_requests();
        registry.revoke_tokens();
        let docker_config = Some(directory.path().to_owned());
        let client = Client::new(Config { docker_config, ..config() });
        let repository =
            kiln_registry::Repository { registry: registry.host(), name: "app".to_owned() };
        let media_type = kiln_core::oci::media_type::OCI_LAYER;
        let layer = kiln_core::oci::Descriptor::new(media_type, digest, bytes.len() as u64);
        assert_eq!(client.document_blob(&repository, &layer).unwrap(), bytes);
        assert_eq!(registry.log().matches("POST /token").count(), 1, "{}", registry.log());
        let error = check(&registry, "wrong").unwrap_err();
        assert!(matches!(error, Error::LoginRefused { .. }), "{error:?}");
    }
}
