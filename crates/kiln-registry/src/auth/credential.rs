//! The user's logins, as `docker login` leaves them: in `config.json` or in a credential helper
//! that it names (docker's `cli` documentation, "Credential stores" and "Credential helpers").

use std::fs::File;
use std::io::{BufReader, ErrorKind};
use std::path::Path;

use docker_credential::{CredentialRetrievalError, DockerCredential};

use super::secret::Secret;
use crate::error::Login;

/// Under what name docker keeps Docker Hub's login.
pub(crate) const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// What there is to log in with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Credential {
    /// Nothing.
    Anonymous,
    /// A user and a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A token that a token service takes for others.
    IdentityToken(Secret),
    /// There is something, but it could not be had, for this reason.
    Unavailable(String),
}

impl Credential {
    /// The credential for a registry in the `config.json` of docker's directory. Helpers that
    /// it names are run.
    pub(crate) fn find(docker_config: &Path, registry: &str) -> Self {
        let keys: &[&str] = match registry {
            "docker.io" => &[DOCKER_HUB_KEY, "docker.io"],
            other => &[other],
        };
        let path = docker_config.join("config.json");
        for key in keys {
            let file = match File::open(&path) {
                Ok(file) => BufReader::new(file),
                Err(error) if error.kind() == ErrorKind::NotFound => return Self::Anonymous,
                Err(error) => {
                    return Self::Unavailable(format!(
                        "{} cannot be read: {error}",
                        path.display()
                    ));
                }
            };
            match docker_credential::get_credential_from_reader(file, key) {
                Ok(DockerCredential::IdentityToken(token)) => {
                    return Self::IdentityToken(Secret::new(token));
                }
                Ok(DockerCredential::UsernamePassword(user, password)) => {
                    let password = Secret::new(password);
                    return Self::Password { user, password };
                }
                Err(error) => match explain(error, &path) {
                    None => {}
                    Some(reason) => return Self::Unavailable(reason),
                },
            }
        }
        Self::Anonymous
    }

    /// How an error describes that this was shown.
    pub(crate) fn login(&self) -> Login {
        match self {
            Self::Anonymous => Login::Anonymous,
            Self::Password { .. } | Self::IdentityToken(_) => Login::Credentials,
            Self::Unavailable(reason) => Login::Unavailable(reason.clone()),
        }
    }

    /// The `Authorization` of HTTP Basic (RFC 7617), if this is a password.
    pub(crate) fn basic(&self) -> Option<Secret> {
        match self {
            Self::Password { user, password } => {
                let pair = format!("{user}:{}", password.expose());
                Some(Secret::new(format!("Basic {}", base64(pair.as_bytes()))))
            }
            _ => None,
        }
    }
}

/// Why a login that is configured cannot be had; `None` when none is configured. A helper's
/// output is not repeated: nobody knows what is in it.
fn explain(error: CredentialRetrievalError, path: &Path) -> Option<String> {
    use CredentialRetrievalError as Error;
    let path = path.display();
    match error {
        Error::NoCredentialConfigured | Error::ConfigNotFound => None,
        Error::HelperFailure { stdout, stderr, .. }
            if [&stdout, &stderr].iter().any(|text| is_not_found(text)) =>
        {
            None
        }
        Error::HelperFailure { helper, .. } => Some(format!("`{helper}` failed")),
        Error::HelperCommunicationError => {
            Some(format!("the credential helper that {path} names cannot be run"))
        }
        Error::MalformedHelperResponse => {
            Some(format!("the credential helper that {path} names gave no valid answer"))
        }
        Error::CredentialDecodingError | Error::CredentialMismatchError => {
            Some(format!("the login in {path} is not valid"))
        }
        Error::ConfigReadError => Some(format!("{path} is not valid")),
    }
}

/// Whether a helper says that it has nothing (docker-credential-helpers' own words, and those
/// of pass and of the ECR helper).
pub(crate) fn is_not_found(output: &str) -> bool {
    let output = output.to_ascii_lowercase();
    ["credentials not found", "no credentials", "not found in keychain"]
        .iter()
        .any(|words| output.contains(words))
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |position: usize| u32::from(chunk.get(position).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit <= chunk.len() { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(config: &str, registry: &str) -> Credential {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config.json"), config).unwrap();
        Credential::find(directory.path(), registry)
    }

    fn password(user: &str, password: &str) -> Credential {
        Credential::Password { user: user.to_owned(), password: Secret::new(password) }
    }

    #[test]
    fn base64_of_the_standard() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
            ("\u{ff}\u{fe}?>", "w7/Dvj8+"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn logins_of_dockers_config() {
        // "user:pass:word"
        let config = r#"{"auths": {
            "a.example:5000": {"auth": "dXNlcjpwYXNzOndvcmQ="},
            "https://b.example/v2/": {"auth": "dXNlcjpwYXNzOndvcmQ="},
            "c.example": {"auth": "dXNlcjo=", "identitytoken": "t0ken"},
            "d.example": {},
            "e.example": {"auth": "?"}
        }}"#;
        assert_eq!(find(config, "a.example:5000"), password("user", "pass:word"));
        assert_eq!(find(config, "b.example"), password("user", "pass:word"));
        let token = Credential::IdentityToken(Secret::new("t0ken"));
        assert_eq!(find(config, "c.example"), token);
        assert_eq!(find(config, "d.example"), Credential::Anonymous);
        assert!(matches!(find(config, "e.example"), Credential::Unavailable(_)));
        assert_eq!(find(config, "a.example"), Credential::Anonymous);
        assert_eq!(find(config, "docker.io"), Credential::Anonymous);
        assert!(matches!(find("{", "a.example"), Credential::Unavailable(_)));
    }

    #[test]
    fn docker_hub_has_several_names() {
        for key in ["https://index.docker.io/v1/", "docker.io", "index.docker.io"] {
            let config = format!(r#"{{"auths": {{"{key}": {{"auth": "dTpw"}}}}}}"#);
            assert_eq!(find(&config, "docker.io"), password("u", "p"), "{key}");
        }
    }

    #[test]
    fn a_helper_that_cannot_be_run_is_no_end() {
        let config = r#"{"credsStore": "of-kiln-tests-that-does-not-exist"}"#;
        let Credential::Unavailable(reason) = find(config, "a.example") else {
            panic!("there is no such helper");
        };
        assert!(reason.contains("config.json names cannot be run"), "{reason}");
    }

    #[test]
    fn a_helper_that_has_nothing_is_told_from_one_that_fails() {
        let failure = |output: &str| CredentialRetrievalError::HelperFailure {
            helper: "docker-credential-x".to_owned(),
            stdout: output.to_owned(),
            stderr: String::new(),
        };
        let path = Path::new("config.json");
        let nothing = failure("credentials not found in native keychain\n");
        assert_eq!(explain(nothing, path), None);
        let broken = explain(failure("hunter2"), path);
        assert_eq!(broken.as_deref(), Some("`docker-credential-x` failed"));
    }

    #[test]
    fn debug_output_hides_passwords() {
        let text = format!("{:?}", password("user", "hunter2"));
        assert!(text.contains("user") && !text.contains("hunter2"), "{text}");
        assert!(!format!("{:?}", password("user", "hunter2").basic()).contains("aHVudGVyMg"));
    }
}
