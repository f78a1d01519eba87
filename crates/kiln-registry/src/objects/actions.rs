//! The cache of a repository's workflows on GitHub, version 2 of its service.
//!
//! Three calls of a JSON API (Twirp, `github.actions.results.api.v1.CacheService`) reserve an entry,
//! finish it and find one; its bytes go to and come from Azure Blob Storage by URLs that the
//! service signs. Entries never change, and belong to the branch of the workflow: it finds those of
//! its own branch first, then those of the branch that it began at, then those of the default branch.
//! So a manifest is an entry with a number, of which the newest is found by the key's beginning.

use std::fmt;
use std::io::{Cursor, Read};
use std::time::SystemTime;

use kiln_core::digest::BlobDigest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::judge;
use super::s3::finish;
use super::{Access, Found, Key, Object, ObjectSettings, Secrets};
use crate::auth::Secret;
use crate::error::{Error, printable};
use crate::http::{Body, Method, Request, Response, Scheme, Url};
use crate::retry::{Again, Failure};

const SERVICE: &str = "twirp/github.actions.results.api.v1.CacheService";

/// An answer of the service is not longer than this.
const ANSWER_BYTES: u64 = 64 << 10;

/// A cache of a repository's workflows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ActionsCache {
    /// The service (`ACTIONS_RESULTS_URL`).
    pub(super) url: String,
}

impl fmt::Display for ActionsCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GitHub's Actions cache")
    }
}

/// The token of the environment; why there is none.
pub(super) fn find(settings: &ObjectSettings) -> Result<Secrets, String> {
    let token = settings.variable("ACTIONS_RUNTIME_TOKEN");
    token.map(|token| Secrets::Token(Secret::new(token))).ok_or_else(|| {
        "ACTIONS_RUNTIME_TOKEN is not set: it is there in steps of actions only".to_owned()
    })
}

/// An entry that was found.
struct Entry {
    key: String,
    url: String,
}

impl ActionsCache {
    pub(super) fn read(
        &self,
        access: Access<'_>,
        key: &Key,
        offset_bytes: u64,
    ) -> Result<Response, Failure> {
        let asked = format!("GET {}", beginning(key));
        let missing = || Error::NotFound { reference: format!("{asked} of {self}") };
        let entry = self.entry(access, key)?.ok_or_else(missing)?;
        let (exchange, _) = access;
        let method = Method::Get;
        let request = Request { offset_bytes, ..Request::new(method, Url::parse(&entry.url)?) };
        judge(&self.to_string(), &asked, exchange.transport().send(&request)?)
    }

    pub(super) fn find(&self, access: Access<'_>, key: &Key) -> Result<Found, Failure> {
        let is_there = self.entry(access, key)?.is_some();
        Ok(if is_there { Found::Since(None) } else { Found::Nothing })
    }

    pub(super) fn write(&self, access: Access<'_>, object: &Object<'_>) -> Result<(), Error> {
        let (exchange, _) = access;
        let key = match &object.key {
            Key::Blob(_) => beginning(&object.key),
            Key::Manifest(_) => {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                let now = now.unwrap_or_default().as_millis();
                format!("{}{now}", beginning(&object.key))
            }
        };
        let version = version();
        let reserve = json!({"key": key, "version": version});
        let answer = exchange.retrying(|| self.call(access, "CreateCacheEntry", &reserve));
        let answer = match answer {
            // Another job writes it, or has done so.
            Err(Error::Objects { status: 409, .. }) => return Ok(()),
            answer => answer?,
        };
        let refused = |call: &str, answer: &Value| Error::Objects {
            place: self.to_string(),
            asked: format!("{call} {key}"),
            status: 200,
            code: String::new(),
            message: printable(text(answer, "message").unwrap_or("it does not take the entry")),
        };
        let Some(url) = text(&answer, "signed_upload_url").filter(|_| is_ok(&answer)) else {
            return Err(refused("CreateCacheEntry", &answer));
        };
        let url = Url::parse(url)?;
        let headers = [("x-ms-blob-type", Secret::new("BlockBlob"))];
        exchange.retrying(|| {
            let method = Method::Put(object.body);
            let request = Request { headers: &headers, ..Request::new(method, url.clone()) };
            let response = exchange.transport().send(&request)?;
            judge(&self.to_string(), &format!("PUT {key}"), response).map(finish)
        })?;
        let size = object.body.length_bytes.to_string();
        let finalize = json!({"key": key, "version": version, "size_bytes": size});
        let done =
            exchange.retrying(|| self.call(access, "FinalizeCacheEntryUpload", &finalize))?;
        if is_ok(&done) { Ok(()) } else { Err(refused("FinalizeCacheEntryUpload", &done)) }
    }

    /// The entry of a key. Of manifests, the newest.
    fn entry(&self, access: Access<'_>, key: &Key) -> Result<Option<Entry>, Failure> {
        let beginning = beginning(key);
        let restore_keys: &[&str] = match key {
            Key::Blob(_) => &[],
            Key::Manifest(_) => &[&beginning],
        };
        let ask = json!({"key": beginning, "restore_keys": restore_keys, "version": version()});
        let answer = match self.call(access, "GetCacheEntryDownloadURL", &ask) {
            Err(Failure { error: Error::NotFound { .. }, .. }) => return Ok(None),
            answer => answer?,
        };
        let (url, matched) = (text(&answer, "signed_download_url"), text(&answer, "matched_key"));
        let entry = url.zip(matched).filter(|_| is_ok(&answer));
        let entry = entry.map(|(url, key)| Entry { url: url.to_owned(), key: key.to_owned() });
        Ok(entry.filter(|entry| match key {
            // Beginnings of keys match, too.
            Key::Blob(_) => entry.key == beginning,
            Key::Manifest(_) => entry.key.starts_with(&beginning),
        }))
    }

    fn call(
        &self,
        (exchange, secrets): Access<'_>,
        name: &str,
        message: &Value,
    ) -> Result<Value, Failure> {
        let Secrets::Token(token) = secrets else { unreachable!("the service has a token") };
        let url = Url::parse(&format!("{}/{SERVICE}/{name}", self.url.trim_end_matches('/')))?;
        if url.scheme == Scheme::Http && !exchange.is_plain(&url) {
            let reason = "its URL is not https: it does not get the token".to_owned();
            return Err(Error::ObjectLogin { place: self.to_string(), reason }.into());
        }
        let authorization = Secret::new(format!("Bearer {}", token.expose()));
        let bytes = message.to_string().into_bytes();
        let open = || Ok(Box::new(Cursor::new(bytes.clone())) as Box<dyn Read>);
        let body = Body {
            content_type: "application/json",
            length_bytes: bytes.len() as u64,
            open: &open,
            ..Body::EMPTY
        };
        let request = Request {
            accept: "application/json",
            authorization: Some(&authorization),
            ..Request::new(Method::Post(body), url)
        };
        let response = exchange.transport().send(&request)?;
        let response = judge(&self.to_string(), name, response)?;
        let url = response.url.to_string();
        let expected_bytes = response.content_length().unwrap_or(0);
        let bytes = response.read(ANSWER_BYTES).map_err(|source| {
            let url = url.clone();
            let error = Error::Interrupted { url, received_bytes: 0, expected_bytes, source };
            Failure { error, again: Again::Later }
        })?;
        let answer = serde_json::from_slice(&bytes);
        let wrong = |_| Error::InvalidDocument { url, reason: "it is not JSON".to_owned() };
        Ok(answer.map_err(wrong)?)
    }
}

fn is_ok(answer: &Value) -> bool {
    answer["ok"].as_bool() == Some(true)
}

fn text<'a>(answer: &'a Value, name: &str) -> Option<&'a str> {
    answer[name].as_str().filter(|text| !text.is_empty())
}

/// What the key of an entry begins with; of a blob, all of it.
fn beginning(key: &Key) -> String {
    match key {
        Key::Blob(digest) => format!("kiln-blob-1-{}", digest.hex()),
        Key::Manifest(name) => format!("kiln-manifest-1-{name}#"),
    }
}

/// What the service tells entries of one kind from those of another by.
fn version() -> String {
    BlobDigest::of(b"kiln cache 1").hex()
}
