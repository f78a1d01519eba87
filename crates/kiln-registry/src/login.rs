//! Logins that a user gives: tried at the registry, then kept where docker keeps them.
//!
//! Docker's `config.json` holds a login itself (base64, no secret from who can read the file), or
//! names a program `docker-credential-NAME` that keeps it: for one registry (`credHelpers`) or for
//! all (`credsStore`). Where a token service gives an identity token for a login, that is kept in
//! place of the password: as `identitytoken`, or with a helper as the password of a user `<token>`.
//! The helper reads JSON from its standard input (docker-credential-helpers'
//! README, "Development"). Everything else in the file stays as it is; it is replaced by a rename
//! and readable by its owner alone.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};

use crate::auth::{Credential, DOCKER_HUB_KEY, Secret, base64};
use crate::client::Client;
use crate::error::Error;

/// What a registry makes of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginCheck {
    /// It is right.
    Accepted,
    /// It is right, and this takes the place of the password from now on.
    Exchanged(IdentityToken),
    /// The registry lets everybody in, and did not look at it.
    NotAsked,
}

/// A token that a token service takes for others, in place of a password. Not shown by `Debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityToken(Secret);

/// How docker's credential helpers are told that a password is an identity token.
const TOKEN_USER: &str = "<token>";

/// Where a login is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginPlace {
    /// In docker's `config.json` itself.
    File(PathBuf),
    /// By the program of this name.
    Helper(String),
}

impl Client {
    /// Shows a user and a password to a registry, whatever login is configured for it.
    ///
    /// # Errors
    /// [`Error::LoginRefused`], and what keeps the registry from being reached.
    pub fn check_login(
        &self,
        registry: &str,
        user: &str,
        password: &str,
    ) -> Result<LoginCheck, Error> {
        let password = Secret::new(password);
        let credential = Credential::Password { user: user.to_owned(), password };
        match self.exchange().check_login(registry, credential) {
            Ok((true, Some(identity))) => Ok(LoginCheck::Exchanged(IdentityToken(identity))),
            Ok((true, None)) => Ok(LoginCheck::Accepted),
            Ok((false, _)) => Ok(LoginCheck::NotAsked),
            Err(Error::Unauthorized { registry, .. }) => Err(Error::LoginRefused { registry }),
            Err(Error::NotFound { .. }) => Err(Error::Status {
                url: registry.to_owned(),
                status: 404,
                message: "that is no registry".to_owned(),
            }),
            Err(error) => Err(error),
        }
    }
}

/// Logins in the `config.json` of a directory of docker's, and with the helpers that it names.
#[derive(Clone, Debug)]
pub struct Logins {
    path: PathBuf,
}

impl Logins {
    /// Of a directory, which need not be there.
    pub fn new(docker_config: &Path) -> Self {
        Self { path: docker_config.join("config.json") }
    }

    /// Keeps a login, in place of the one that there was for the registry.
    ///
    /// # Errors
    /// [`Error::DockerConfig`] and [`Error::CredentialHelper`].
    pub fn keep(&self, registry: &str, user: &str, password: &str) -> Result<LoginPlace, Error> {
        let auth = json!({"auth": base64(format!("{user}:{password}").as_bytes())});
        self.store(registry, (user, password), auth)
    }

    /// Keeps a user's identity token, in place of the login that there was for the registry.
    ///
    /// # Errors
    /// [`Error::DockerConfig`] and [`Error::CredentialHelper`].
    pub fn keep_identity(
        &self,
        registry: &str,
        user: &str,
        token: &IdentityToken,
    ) -> Result<LoginPlace, Error> {
        let token = token.0.expose();
        let auth = base64(format!("{user}:").as_bytes());
        let entry = json!({"auth": auth, "identitytoken": token});
        self.store(registry, (TOKEN_USER, token), entry)
    }

    /// Keeps a pair with the helper, or an entry in the file.
    fn store(
        &self,
        registry: &str,
        (user, secret): (&str, &str),
        entry: Value,
    ) -> Result<LoginPlace, Error> {
        let mut config = self.read()?;
        let key = key_of(registry);
        let place = match helper_of(&config, registry) {
            Some(helper) => {
                let login = json!({"ServerURL": key, "Username": user, "Secret": secret});
                run_helper(&helper, "store", &login.to_string())?;
                LoginPlace::Helper(helper)
            }
            None => LoginPlace::File(self.path.clone()),
        };
        let auths = self.auths(&mut config)?;
        auths.retain(|known, _| host_of(known) != host_of(key) || known == key);
        // With a helper the entry only says that there is a login.
        let entry = match &place {
            LoginPlace::Helper(_) => json!({}),
            LoginPlace::File(_) => entry,
        };
        auths.insert(key.to_owned(), entry);
        self.write(&config)?;
        Ok(place)
    }

    /// Takes the login of a registry away, from the file and from the helper. Tells whether there
    /// was one.
    ///
    /// # Errors
    /// [`Error::DockerConfig`] and [`Error::CredentialHelper`].
    pub fn erase(&self, registry: &str) -> Result<bool, Error> {
        let mut config = self.read()?;
        let key = key_of(registry);
        let erased = match helper_of(&config, registry) {
            Some(helper) => run_helper(&helper, "erase", key)?,
            None => false,
        };
        if !config.contains_key("auths") {
            return Ok(erased);
        }
        let auths = self.auths(&mut config)?;
        let before = auths.len();
        auths.retain(|known, _| host_of(known) != host_of(key));
        let was_there = auths.len() < before;
        if was_there {
            self.write(&config)?;
        }
        Ok(was_there || erased)
    }

    fn read(&self) -> Result<Map<String, Value>, Error> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
            Err(error) => return Err(self.wrong(format!("it cannot be read: {error}"))),
        };
        if bytes.trim_ascii().is_empty() {
            return Ok(Map::new());
        }
        // What serde says may repeat what stands there.
        serde_json::from_slice(&bytes).map_err(|_| self.wrong("it is no JSON object".to_owned()))
    }

    fn auths<'c>(
        &self,
        config: &'c mut Map<String, Value>,
    ) -> Result<&'c mut Map<String, Value>, Error> {
        let auths = config.entry("auths").or_insert_with(|| json!({}));
        auths.as_object_mut().ok_or_else(|| self.wrong("`auths` is no JSON object".to_owned()))
    }

    /// Puts the file in its place; one that is a link is replaced where it points.
    fn write(&self, config: &Map<String, Value>) -> Result<(), Error> {
        let failed = |error: io::Error| self.wrong(format!("it cannot be written: {error}"));
        let target = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        if let Some(directory) = target.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        }
        let temporary = target.with_extension(format!("json.kiln-{}", std::process::id()));
        let written = (|| {
            // One that was left behind may be readable by others.
            let _ = fs::remove_file(&temporary);
            let mut file: File =
                File::options().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(format!("{:#}\n", Value::Object(config.clone())).as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &target)
        })();
        written.map_err(|error| {
            let _ = fs::remove_file(&temporary);
            failed(error)
        })
    }

    fn wrong(&self, reason: String) -> Error {
        Error::DockerConfig { path: self.path.clone(), reason }
    }
}

/// Under what name docker keeps a registry's login.
fn key_of(registry: &str) -> &str {
    if registry == "docker.io" { DOCKER_HUB_KEY } else { registry }
}

/// The host that a key is for; keys may be URLs.
fn host_of(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let host = rest.unwrap_or(key).split('/').next().unwrap_or_default();
    if host == "docker.io" { "index.docker.io" } else { host }
}

/// The helper that keeps a registry's login.
fn helper_of(config: &Map<String, Value>, registry: &str) -> Option<String> {
    let helpers = config.get("credHelpers").and_then(Value::as_object);
    let own = helpers.and_then(|helpers| {
        let wanted = host_of(key_of(registry));
        helpers.iter().find(|(known, _)| host_of(known) == wanted).map(|(_, helper)| helper)
    });
    let helper = own.or_else(|| config.get("credsStore"))?.as_str()?;
    (!helper.is_empty()).then(|| format!("docker-credential-{helper}"))
}

/// Runs a helper; `false` if it says that it has nothing. What it prints is not repeated: nobody
/// knows what is in it.
fn run_helper(helper: &str, action: &str, input: &str) -> Result<bool, Error> {
    let failed = |reason: String| Error::CredentialHelper { helper: helper.to_owned(), reason };
    if helper.contains('/') {
        return Err(failed("is no name of a program".to_owned()));
    }
    let mut child = Command::new(helper)
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("cannot be run: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends without reading says why with its code.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(true);
    }
    let text = [output.stdout, output.stderr].concat();
    if action == "erase" && crate::auth::is_not_found(&String::from_utf8_lossy(&text)) {
        return Ok(false);
    }
    Err(failed(format!("fails to {action} the login ({})", output.status)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn logins(config: Option<&str>) -> (tempfile::TempDir, Logins) {
        let directory = tempfile::tempdir().unwrap();
        let docker = directory.path().join("docker");
        if let Some(config) = config {
            fs::create_dir(&docker).unwrap();
            fs::write(docker.join("config.json"), config).unwrap();
        }
        (directory, Logins::new(&docker))
    }

    fn text(logins: &Logins) -> String {
        fs::read_to_string(&logins.path).unwrap()
    }

    #[test]
    fn a_login_is_kept_and_taken_away() {
        let (_directory, logins) = logins(None);
        let place = logins.keep("a.example:5000", "user", "hunter2").unwrap();
        assert_eq!(place, LoginPlace::File(logins.path.clone()));
        let mode = fs::metadata(&logins.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let found = Credential::find(logins.path.parent().unwrap(), "a.example:5000");
        let password = Secret::new("hunter2");
        assert_eq!(found, Credential::Password { user: "user".to_owned(), password });
        assert!(logins.erase("a.example:5000").unwrap());
        assert!(!logins.erase("a.example:5000").unwrap());
        let found = Credential::find(logins.path.parent().unwrap(), "a.example:5000");
        assert_eq!(found, Credential::Anonymous);
    }

    #[test]
    fn an_identity_token_takes_the_place_of_a_password() {
        let (_directory, logins) = logins(None);
        logins.keep("a.example", "user", "hunter2").unwrap();
        let token = IdentityToken(Secret::new("1dentity"));
        logins.keep_identity("a.example", "user", &token).unwrap();
        let expected =
            json!({"auths": {"a.example": {"auth": "dXNlcjo=", "identitytoken": "1dentity"}}});
        assert_eq!(text(&logins), format!("{expected:#}\n"));
        let found = Credential::find(logins.path.parent().unwrap(), "a.example");
        assert_eq!(found, Credential::IdentityToken(Secret::new("1dentity")));
        assert!(!format!("{token:?}").contains("1dentity"));
    }

    #[test]
    fn everything_else_stays() {
        let (_directory, logins) = logins(Some(
            r#"{"proxies": {"z": 1, "a": [2]}, "auths": {"https://b.example/v1/": {"auth": "x"},
                "c.example": {"auth": "y"}}, "HttpHeaders": {"x": "y"}}"#,
        ));
        fs::set_permissions(&logins.path, fs::Permissions::from_mode(0o644)).unwrap();
        logins.keep("b.example", "u", "p").unwrap();
        let expected = json!({
            "proxies": {"z": 1, "a": [2]},
            "auths": {"c.example": {"auth": "y"}, "b.example": {"auth": "dTpw"}},
            "HttpHeaders": {"x": "y"},
        });
        assert_eq!(text(&logins), format!("{expected:#}\n"));
        let mode = fs::metadata(&logins.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn docker_hub_is_kept_as_docker_does() {
        let (_directory, logins) = logins(Some(r#"{"auths": {"docker.io": {"auth": "x"}}}"#));
        logins.keep("docker.io", "u", "p").unwrap();
        let expected = json!({"auths": {DOCKER_HUB_KEY: {"auth": "dTpw"}}});
        assert_eq!(text(&logins), format!("{expected:#}\n"));
        assert!(logins.erase("docker.io").unwrap());
    }

    #[test]
    fn a_link_is_followed() {
        let (directory, logins) = logins(Some("{}"));
        let elsewhere = directory.path().join("dotfiles.json");
        fs::rename(&logins.path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &logins.path).unwrap();
        logins.keep("a.example", "u", "p").unwrap();
        assert!(fs::read_to_string(&elsewhere).unwrap().contains("dTpw"));
        assert!(fs::symlink_metadata(&logins.path).unwrap().is_symlink());
    }

    #[test]
    fn what_is_damaged_is_left_alone() {
        for config in ["[]", "{", r#"{"auths": 5}"#] {
            let (_directory, logins) = logins(Some(config));
            let error = logins.keep("a.example", "u", "p").unwrap_err();
            assert!(matches!(error, Error::DockerConfig { .. }), "{error}");
            assert_eq!(text(&logins), config);
        }
    }

    #[test]
    fn helpers_are_chosen_by_registry() {
        let config = json!({"credsStore": "all", "credHelpers": {"a.example": "own"}});
        let config = config.as_object().unwrap();
        let helper = |registry| helper_of(config, registry);
        assert_eq!(helper("a.example").as_deref(), Some("docker-credential-own"));
        assert_eq!(helper("docker.io").as_deref(), Some("docker-credential-all"));
        assert_eq!(helper_of(&Map::new(), "a.example"), None);
        let (_directory, logins) = logins(Some(r#"{"credsStore": "of-kiln-tests-not-there"}"#));
        let error = logins.keep("a.example", "u", "hunter2").unwrap_err().to_string();
        assert!(error.contains("`docker-credential-of-kiln-tests-not-there` cannot be run"));
        let (_directory, logins) = logins_with_path();
        assert!(logins.keep("a.example", "u", "p").unwrap_err().to_string().contains("no name"));
    }

    fn logins_with_path() -> (tempfile::TempDir, Logins) {
        logins(Some(r#"{"credsStore": "../../bin/true"}"#))
    }
}
