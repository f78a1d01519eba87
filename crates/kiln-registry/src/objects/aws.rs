//! Access keys of AWS: of the environment, or of the files that AWS's own tools write.
//!
//! Looked for in this order: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`; the profile
//! (`AWS_PROFILE`, else `default`) in the shared credentials file, then in the configuration file.
//! Tokens of web identities, roles of containers and machines and single sign-on are not exchanged
//! for keys here: `aws configure export-credentials --format env` does that.

use std::path::{Path, PathBuf};

use super::ObjectSettings;
use crate::auth::Secret;

/// A key, as AWS makes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccessKey {
    pub(super) id: String,
    pub(super) secret: Secret,
    pub(super) session_token: Option<Secret>,
}

impl AccessKey {
    pub(super) fn new(id: &str, secret: &str, session_token: Option<&str>) -> Self {
        let session_token = session_token.map(Secret::new);
        Self { id: id.to_owned(), secret: Secret::new(secret), session_token }
    }
}

/// The access key of the environment; why there is none.
pub(super) fn find(settings: &ObjectSettings) -> Result<AccessKey, String> {
    let variable = |name: &str| settings.variable(name);
    match (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
        (Some(id), Some(secret)) => {
            return Ok(AccessKey::new(id, secret, variable("AWS_SESSION_TOKEN")));
        }
        (Some(_), None) => return Err("AWS_SECRET_ACCESS_KEY is not set".to_owned()),
        (None, Some(_)) => return Err("AWS_ACCESS_KEY_ID is not set".to_owned()),
        (None, None) => {}
    }
    let profile = variable("AWS_PROFILE").unwrap_or("default");
    let file = |variable_name: &str, name: &str| {
        let named = variable(variable_name).map(PathBuf::from);
        named.or_else(|| Some(settings.home.as_ref()?.join(".aws").join(name)))
    };
    let in_configuration = format!("profile {profile}");
    let files = [
        (file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), vec![profile]),
        (file("AWS_CONFIG_FILE", "config"), vec![in_configuration.as_str(), profile]),
    ];
    for (path, sections) in files {
        let Some(path) = path else { continue };
        let Some(text) = read(&path)? else { continue };
        if let Some(key) = sections.iter().find_map(|section| of_section(&text, section)) {
            return Ok(key);
        }
    }
    let roles = [
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ];
    if let Some(name) = roles.iter().find(|name| variable(name).is_some()) {
        return Err(format!(
            "kiln does not exchange what {name} names for an access key; \
             `aws configure export-credentials --format env` does"
        ));
    }
    Err(format!(
        "there is no access key: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the \
         profile `{profile}` one in ~/.aws/credentials"
    ))
}

fn read(path: &Path) -> Result<Option<String>, String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

/// The key of a section, if it has one.
fn of_section(text: &str, wanted: &str) -> Option<AccessKey> {
    let mut is_wanted = false;
    let (mut id, mut secret, mut token) = (None, None, None);
    for line in text.lines() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[') {
            let name = name.split(']').next().unwrap_or_default();
            is_wanted = name.split_whitespace().eq(wanted.split_whitespace());
        } else if let Some((name, value)) = line.split_once('=').filter(|_| is_wanted) {
            let place = match name.trim() {
                "aws_access_key_id" => &mut id,
                "aws_secret_access_key" => &mut secret,
                "aws_session_token" => &mut token,
                _ => continue,
            };
            *place = Some(value.trim());
        }
    }
    Some(AccessKey::new(id?, secret?, token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_of_variables_then_of_files() {
        let home = tempfile::tempdir().unwrap();
        let mut settings =
            ObjectSettings { home: Some(home.path().to_owned()), ..ObjectSettings::default() };
        assert!(find(&settings).unwrap_err().contains("profile `default`"));
        std::fs::create_dir(home.path().join(".aws")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(home.path().join(name), text).unwrap();
        write(
            ".aws/credentials",
            "# keys\n[default]\naws_access_key_id = A\naws_secret_access_key = s=/1\n\n\
             [ other ]\naws_access_key_id=B\naws_secret_access_key=2\naws_session_token = t\n",
        );
        write(".aws/config", "[profile third]\naws_access_key_id=C\naws_secret_access_key=3\n");
        assert_eq!(find(&settings).unwrap(), AccessKey::new("A", "s=/1", None));
        let mut with = |name: &str, value: &str| {
            settings.variables.insert(name.to_owned(), value.to_owned());
            find(&settings)
        };
        assert_eq!(with("AWS_PROFILE", "other").unwrap(), AccessKey::new("B", "2", Some("t")));
        assert_eq!(with("AWS_PROFILE", "third").unwrap(), AccessKey::new("C", "3", None));
        assert!(with("AWS_PROFILE", "none").unwrap_err().contains("profile `none`"));
        let error = with("AWS_WEB_IDENTITY_TOKEN_FILE", "/x").unwrap_err();
        assert!(error.contains("AWS_WEB_IDENTITY_TOKEN_FILE"), "{error}");
        assert!(with("AWS_ACCESS_KEY_ID", "D").unwrap_err().contains("SECRET"));
        let key = with("AWS_SECRET_ACCESS_KEY", "hunter2").unwrap();
        assert!(!format!("{key:?} {settings:?}").contains("hunter2"));
    }
}
