//! The options of caches in object stores, as buildx has them, with the environment's defaults.

use std::fmt;
use std::time::Duration;

use super::actions::ActionsCache;
use super::aws::AccessKey;
use super::azure::Container;
use super::s3::Bucket;
use super::{ObjectPlace, ObjectSettings, Secrets};
use crate::auth::Secret;
use crate::http::Url;

/// A kind of object store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// S3 and what speaks its protocol.
    S3,
    /// GitHub's Actions cache.
    Gha,
    /// Azure Blob Storage.
    Azblob,
}

impl ObjectKind {
    /// The kind of `type=…`.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::S3, Self::Gha, Self::Azblob].into_iter().find(|kind| kind.name() == text)
    }

    /// As `type=` says it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gha => "gha",
            Self::Azblob => "azblob",
        }
    }

    /// The options that say where a cache is and what is shown there.
    pub const fn options(self) -> &'static [&'static str] {
        match self {
            Self::S3 => &[
                "bucket",
                "region",
                "prefix",
                "blobs_prefix",
                "manifests_prefix",
                "name",
                "endpoint_url",
                "use_path_style",
                "access_key_id",
                "secret_access_key",
                "session_token",
                "touch_refresh",
                "upload_parallelism",
            ],
            Self::Gha => {
                &["scope", "url", "url_v2", "token", "version", "timeout", "repository", "ghtoken"]
            }
            Self::Azblob => &[
                "account_url",
                "account_name",
                "secret_access_key",
                "container",
                "prefix",
                "blobs_prefix",
                "manifests_prefix",
                "name",
            ],
        }
    }
}

/// A cache in an object store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectCache {
    /// Where its objects are.
    pub place: ObjectPlace,
    /// The names of its manifest; it is written under all of them.
    pub names: Vec<String>,
    /// Objects that are used and older than this are made new.
    pub touch_after: Duration,
    /// So many objects are written at a time.
    pub parallelism: usize,
    /// Why it is not there at all: the build is not one of GitHub's.
    pub absence: Option<&'static str>,
    /// What the options show.
    pub(super) secrets: Option<Secrets>,
}

impl fmt::Display for ObjectCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.place, self.names.join(", "))
    }
}

const DAY: Duration = Duration::from_hours(24);

/// How many objects are written at a time if nobody says otherwise; BuildKit's number.
const PARALLELISM: usize = 4;

/// Options with the environment.
struct Options<'a> {
    pairs: &'a [(String, String)],
    settings: &'a ObjectSettings,
}

impl Options<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        let found = self.pairs.iter().rev().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// An option, or else the first of these variables.
    fn or_variable(&self, name: &str, variables: &[&str]) -> Option<&str> {
        let variable = || variables.iter().find_map(|name| self.settings.variable(name));
        self.value(name).or_else(variable)
    }

    fn needed(&self, name: &str, variables: &[&str]) -> Result<String, String> {
        let missing = || format!("`{name}=` or {} is needed", variables[0]);
        self.or_variable(name, variables).map(str::to_owned).ok_or_else(missing)
    }

    fn names(&self) -> Vec<String> {
        let names = self.value("name").unwrap_or("kiln");
        names.split(';').filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }
}

impl ObjectCache {
    /// The cache that options of a kind name; keys that the kind doesn't have are left alone.
    ///
    /// # Errors
    /// What is missing or not possible, in words.
    pub fn new(
        kind: ObjectKind,
        pairs: &[(String, String)],
        settings: &ObjectSettings,
    ) -> Result<Self, String> {
        let options = Options { pairs, settings };
        let cache = match kind {
            ObjectKind::S3 => s3(&options),
            ObjectKind::Gha => gha(&options),
            ObjectKind::Azblob => azblob(&options),
        };
        cache.map_err(|reason| format!("type={}: {reason}", kind.name()))
    }
}

fn s3(options: &Options<'_>) -> Result<ObjectCache, String> {
    let bucket = options.needed("bucket", &["AWS_BUCKET"])?;
    let region = options.needed("region", &["AWS_REGION", "AWS_DEFAULT_REGION"])?;
    let variables = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];
    let endpoint = options.or_variable("endpoint_url", &variables).map(str::to_owned);
    if let Some(endpoint) = &endpoint
        && !Url::parse(endpoint).is_ok_and(|url| url.query().is_none())
    {
        return Err("endpoint_url is no URL such as https://s3.example".to_owned());
    }
    let path_style = match options.value("use_path_style") {
        None | Some("false" | "0") => false,
        Some("true" | "1") => true,
        Some(_) => return Err("use_path_style is true or false".to_owned()),
    };
    let secrets = match (options.value("access_key_id"), options.value("secret_access_key")) {
        (Some(id), Some(secret)) => {
            Some(Secrets::Aws(AccessKey::new(id, secret, options.value("session_token"))))
        }
        (None, None) => None,
        _ => return Err("access_key_id and secret_access_key need each other".to_owned()),
    };
    let touch_after = match options.value("touch_refresh") {
        None => DAY,
        Some(text) => {
            let wrong = || "touch_refresh is a time such as 24h".to_owned();
            let time: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
            time.try_into().map_err(|_| wrong())?
        }
    };
    let parallelism = match options.value("upload_parallelism").map(str::parse) {
        None => PARALLELISM,
        Some(Ok(number @ 1..=64)) => number,
        Some(_) => return Err("upload_parallelism is a number from 1 to 64".to_owned()),
    };
    let prefix = options.value("prefix").unwrap_or_default();
    let below =
        |name: &str, usual: &str| format!("{prefix}{}", options.value(name).unwrap_or(usual));
    Ok(ObjectCache {
        place: ObjectPlace::S3(Bucket {
            name: bucket,
            region,
            endpoint,
            path_style,
            blobs: below("blobs_prefix", "blobs/"),
            manifests: below("manifests_prefix", "manifests/"),
        }),
        names: options.names(),
        touch_after,
        parallelism,
        absence: None,
        secrets,
    })
}

fn gha(options: &Options<'_>) -> Result<ObjectCache, String> {
    if let Some(version) = options.value("version").filter(|version| *version != "2") {
        return Err(format!(
            "version={version} is not possible: kiln speaks version 2, GitHub has ended the first"
        ));
    }
    let url = options.or_variable("url_v2", &["ACTIONS_RESULTS_URL"]);
    let url = url.or_else(|| options.value("url"));
    let token = options.or_variable("token", &["ACTIONS_RUNTIME_TOKEN"]);
    let absence = match (url, token) {
        (None, _) => Some("ACTIONS_RESULTS_URL is not set: this is no step of an action"),
        (_, None) => Some("ACTIONS_RUNTIME_TOKEN is not set: this is no step of an action"),
        _ => None,
    };
    let url = url.unwrap_or_default().to_owned();
    let scope = options.value("scope").unwrap_or("buildkit");
    if scope.contains(',') || scope.len() > 400 {
        return Err("scope has no comma and at most 400 bytes".to_owned());
    }
    Ok(ObjectCache {
        place: ObjectPlace::Gha(ActionsCache { url }),
        names: vec![scope.to_owned()],
        touch_after: DAY,
        parallelism: PARALLELISM,
        absence,
        secrets: options.value("token").map(|token| Secrets::Token(Secret::new(token))),
    })
}

fn azblob(options: &Options<'_>) -> Result<ObjectCache, String> {
    let variables = ["BUILDKIT_AZURE_STORAGE_ACCOUNT_URL"];
    let url = options.needed("account_url", &variables)?;
    let (url, signature) = match url.split_once('?') {
        Some((url, signature)) => (url.to_owned(), Some(signature.to_owned())),
        None => (url, None),
    };
    let wrong = |_| "account_url is no URL such as https://ACCOUNT.blob.core.windows.net";
    let parsed = Url::parse(&url).map_err(wrong)?;
    let named = options.or_variable("account_name", &["BUILDKIT_AZURE_STORAGE_ACCOUNT_NAME"]);
    let account = named.or_else(|| parsed.host().split('.').next()).unwrap_or_default().to_owned();
    let container = options.or_variable("container", &["BUILDKIT_AZURE_STORAGE_CONTAINER"]);
    let prefix = options.or_variable("prefix", &["BUILDKIT_AZURE_STORAGE_PREFIX"]);
    // These are parts of a path, other than S3's.
    let below = |name: &str, usual: &str| {
        let parts = [prefix.unwrap_or_default(), options.value(name).unwrap_or(usual)];
        let parts = parts.iter().map(|part| part.trim_matches('/')).filter(|part| !part.is_empty());
        parts.map(|part| format!("{part}/")).collect::<String>()
    };
    let key = options.value("secret_access_key");
    let key = key.map(|key| Secrets::AccountKey(Secret::new(key)));
    Ok(ObjectCache {
        place: ObjectPlace::Azblob(Container {
            account_url: url,
            account,
            name: container.unwrap_or("buildkit-cache").to_owned(),
            blobs: below("blobs_prefix", "blobs"),
            manifests: below("manifests_prefix", "manifests"),
        }),
        names: options.names(),
        touch_after: DAY,
        parallelism: PARALLELISM,
        absence: None,
        secrets: key.or_else(|| signature.map(|text| Secrets::Signature(Secret::new(text)))),
    })
}
