//! A container of Azure Blob Storage.
//!
//! Requests are signed with the account's key ("Authorize with Shared Key"), or carry a shared access
//! signature (SAS). A blob is written by one Put Blob.
//! Source: Microsoft's REST API reference of Azure Storage.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::answer::judge;
use super::s3::{finish, mac};
use super::{Access, Found, Key, Object, ObjectSettings, Secrets};
use crate::auth::Secret;
use crate::error::Error;
use crate::http::{Method, Request, Response, Url, escape_path};
use crate::retry::Failure;

/// The version of the protocol.
const VERSION: &str = "2021-12-02";

/// Where a container is, and where in it a cache is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Container {
    /// `https://ACCOUNT.blob.core.windows.net`
    pub(super) account_url: String,
    pub(super) account: String,
    pub(super) name: String,
    /// What the names of blobs begin with.
    pub(super) blobs: String,
    /// What the names of manifests begin with.
    pub(super) manifests: String,
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "azblob://{}/{}", self.account, self.name)
    }
}

/// What the environment shows; why it is nothing.
pub(super) fn find(settings: &ObjectSettings) -> Result<Secrets, String> {
    if let Some(key) = settings.variable("AZURE_STORAGE_KEY") {
        return Ok(Secrets::AccountKey(Secret::new(key)));
    }
    if let Some(signature) = settings.variable("AZURE_STORAGE_SAS_TOKEN") {
        return Ok(Secrets::Signature(Secret::new(signature.trim_start_matches('?'))));
    }
    Err("there is no key: give secret_access_key, a SAS in account_url, AZURE_STORAGE_KEY or \
         AZURE_STORAGE_SAS_TOKEN; kiln knows no managed identities, service principals and \
         logins of `az`"
        .to_owned())
}

impl Container {
    pub(super) fn read(
        &self,
        access: Access<'_>,
        key: &Key,
        offset_bytes: u64,
    ) -> Result<Response, Failure> {
        self.send(access, (Method::Get, key), offset_bytes)
    }

    pub(super) fn find(&self, access: Access<'_>, key: &Key) -> Result<Found, Failure> {
        match self.send(access, (Method::Head, key), 0) {
            Ok(_) => Ok(Found::Since(None)),
            Err(Failure { error: Error::NotFound { .. }, .. }) => Ok(Found::Nothing),
            Err(failure) => Err(failure),
        }
    }

    pub(super) fn write(&self, access: Access<'_>, object: &Object<'_>) -> Result<(), Failure> {
        self.send(access, (Method::Put(object.body), &object.key), 0).map(finish)
    }

    fn send(
        &self,
        (exchange, secrets): Access<'_>,
        (method, key): (Method<'_>, &Key),
        offset_bytes: u64,
    ) -> Result<Response, Failure> {
        let name = match key {
            Key::Blob(digest) => format!("{}{digest}", self.blobs),
            Key::Manifest(name) => format!("{}{name}", self.manifests),
        };
        let path = escape_path(&format!("{}/{name}", self.name));
        let url = format!("{}/{path}", self.account_url.trim_end_matches('/'));
        let date = Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        // In the order in which they are signed.
        let mut headers =
            vec![("x-ms-date", Secret::new(date)), ("x-ms-version", Secret::new(VERSION))];
        if matches!(method, Method::Put(_)) {
            headers.insert(0, ("x-ms-blob-type", Secret::new("BlockBlob")));
        }
        if offset_bytes > 0 {
            headers.insert(1, ("x-ms-range", Secret::new(format!("bytes={offset_bytes}-"))));
        }
        let asked = format!("{} {name}", method.name());
        let (url, authorization) = match secrets {
            Secrets::Signature(query) => (Url::parse(&format!("{url}?{}", query.expose()))?, None),
            Secrets::AccountKey(key) => {
                let url = Url::parse(&url)?;
                let text = signed_text(&method, &url, (&headers, &self.account));
                let wrong = |_| Error::ObjectLogin {
                    place: self.to_string(),
                    reason: "the account's key is not base64".to_owned(),
                };
                let key = STANDARD.decode(key.expose().trim()).map_err(wrong)?;
                let signature = STANDARD.encode(mac(&key, &text));
                (url, Some(Secret::new(format!("SharedKey {}:{signature}", self.account))))
            }
            _ => unreachable!("a container has a key or a signature"),
        };
        let request = Request {
            authorization: authorization.as_ref(),
            headers: &headers,
            ..Request::new(method, url)
        };
        judge(&self.to_string(), &asked, exchange.transport().send(&request)?)
    }
}

/// What of a request is signed.
fn signed_text(
    method: &Method<'_>,
    url: &Url,
    (headers, account): (&[(&str, Secret)], &str),
) -> String {
    let body = method.body();
    let length = body.map(|body| body.length_bytes).filter(|length| *length > 0);
    let length = length.map(|length| length.to_string()).unwrap_or_default();
    let content_type = body.map_or("", |body| body.content_type);
    let lines: String =
        headers.iter().map(|(name, value)| format!("{name}:{}\n", value.expose())).collect();
    format!(
        "{}\n\n\n{length}\n\n{content_type}\n\n\n\n\n\n\n{lines}/{account}{}",
        method.name(),
        url.path()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Body;

    /// What Microsoft's own library for Python makes of these requests.
    #[test]
    fn signatures_are_microsofts() {
        let headers = |kind: Option<&'static str>| {
            let kind = kind.map(|kind| ("x-ms-blob-type", Secret::new(kind)));
            let date = Secret::new("Tue, 24 Nov 2026 00:00:00 GMT");
            let own = [("x-ms-date", date), ("x-ms-version", Secret::new(VERSION))];
            kind.into_iter().chain(own).collect::<Vec<_>>()
        };
        let signature = |method: &Method<'_>, path: &str, headers: &[(&str, Secret)]| {
            let url = Url::parse(&format!("https://account.blob.core.windows.net/{path}")).unwrap();
            let text = signed_text(method, &url, (headers, "account"));
            STANDARD.encode(mac(b"s3cretkey", &text))
        };
        let body =
            Body { content_type: "application/octet-stream", length_bytes: 5, ..Body::EMPTY };
        assert_eq!(
            signature(&Method::Put(body), "c/blobs/sha256%3Aab", &headers(Some("BlockBlob"))),
            "bkogkKx5rdesBPR5phcGVgUxQQ+1T6XjOsFgGtvDQqs="
        );
        assert_eq!(
            signature(&Method::Head, "c/manifests/kiln", &headers(None)),
            "lC9gZCDxcSOwJCoCkSITJHhfaUrFsC3oEIvhFfwneSk="
        );
    }
}
