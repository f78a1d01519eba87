//! Logins that are tried before they are kept.

use kiln_registry::{Client, Error, LoginCheck};
use kiln_testkit::registry::{Damage, Fault, Login, Registry, Target};

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
