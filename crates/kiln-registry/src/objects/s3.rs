//! A bucket of S3, or of what speaks its protocol.
//!
//! Requests are signed with AWS Signature Version 4, headers included; the digest of a blob is also the
//! payload's hash, so that a store which verifies signatures takes no other bytes.
//! Source: Amazon S3 API Reference, "Authenticating Requests: Using the Authorization Header".

use std::fmt;
use std::time::SystemTime;

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use kiln_core::digest::BlobDigest;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::answer::judge;
use super::aws::AccessKey;
use super::{Access, Found, Key, Object, Secrets};
use crate::auth::Secret;
use crate::error::Error;
use crate::http::{Body, Method, Request, Response, Url, escape_path};
use crate::retry::Failure;

/// Where a bucket is, and where in it a cache is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Bucket {
    pub(super) name: String,
    pub(super) region: String,
    /// `https://host[:port][/path]`; without one it is Amazon's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) endpoint: Option<String>,
    /// Whether the bucket's name is in the path; else it is in the host's name.
    #[serde(default)]
    pub(super) path_style: bool,
    /// What the keys of blobs begin with.
    pub(super) blobs: String,
    /// What the keys of manifests begin with.
    pub(super) manifests: String,
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.name)
    }
}

impl Bucket {
    pub(super) fn read(
        &self,
        access: Access<'_>,
        key: &Key,
        offset_bytes: u64,
    ) -> Result<Response, Failure> {
        self.send(access, (Method::Get, key, &[]), offset_bytes)
    }

    pub(super) fn find(&self, access: Access<'_>, key: &Key) -> Result<Found, Failure> {
        match self.send(access, (Method::Head, key, &[]), 0) {
            Ok(response) => {
                let written = response.header("last-modified").and_then(crate::download::http_date);
                let written = written.and_then(|time| Timestamp::from_second(time).ok());
                Ok(Found::Since(written.map(SystemTime::from)))
            }
            // Who may not list a bucket is not told what is missing.
            Err(Failure {
                error: Error::NotFound { .. } | Error::Objects { status: 403, .. },
                ..
            }) => Ok(Found::Nothing),
            Err(failure) => Err(failure),
        }
    }

    pub(super) fn write(&self, access: Access<'_>, object: &Object<'_>) -> Result<(), Failure> {
        let hash = ("x-amz-content-sha256", Secret::new(object.digest.hex()));
        self.send(access, (Method::Put(object.body), &object.key, &[hash]), 0).map(finish)
    }

    /// Copies an object onto itself: it is as if written now.
    pub(super) fn touch(&self, access: Access<'_>, key: &Key) -> Result<(), Failure> {
        let source = escape_path(&format!("{}/{}", self.name, self.object_name(key)));
        let headers = [
            ("x-amz-copy-source", Secret::new(source)),
            ("x-amz-metadata-directive", Secret::new("REPLACE")),
        ];
        self.send(access, (Method::Put(Body::EMPTY), key, &headers), 0).map(finish)
    }

    /// The key of an object.
    fn object_name(&self, key: &Key) -> String {
        match key {
            Key::Blob(digest) => format!("{}{digest}", self.blobs),
            Key::Manifest(name) => format!("{}{name}", self.manifests),
        }
    }

    fn url(&self, name: &str) -> Result<Url, Error> {
        let amazon = || {
            let end = if self.region.starts_with("cn-") { ".cn" } else { "" };
            format!("https://s3.{}.amazonaws.com{end}", self.region)
        };
        let endpoint = self.endpoint.clone().unwrap_or_else(amazon);
        let endpoint = endpoint.trim_end_matches('/');
        let name = escape_path(name);
        if self.path_style {
            return Url::parse(&format!("{endpoint}/{}/{name}", escape_path(&self.name)));
        }
        let invalid = || Error::InvalidUrl { url: endpoint.to_owned() };
        let (scheme, rest) = endpoint.split_once("://").ok_or_else(invalid)?;
        Url::parse(&format!("{scheme}://{}.{rest}/{name}", self.name))
    }

    fn send(
        &self,
        (exchange, secrets): Access<'_>,
        (method, key, headers): (Method<'_>, &Key, &[(&'static str, Secret)]),
        offset_bytes: u64,
    ) -> Result<Response, Failure> {
        let Secrets::Aws(access_key) = secrets else { unreachable!("a bucket has an access key") };
        let name = self.object_name(key);
        let url = self.url(&name)?;
        let mut headers = headers.to_vec();
        let now = Timestamp::now();
        let authorization =
            sign((method.name(), &url), &mut headers, (access_key, &self.region), now);
        let asked = format!("{} {name}", method.name());
        let request = Request {
            offset_bytes,
            authorization: Some(&authorization),
            headers: &headers,
            ..Request::new(method, url)
        };
        judge(&self.to_string(), &asked, exchange.transport().send(&request)?)
    }
}

/// The connection can be used again when the body was read.
pub(super) fn finish(response: Response) {
    drop(response.message());
}

/// Adds what a signature needs to the headers; gives the `Authorization`.
fn sign(
    (method, url): (&str, &Url),
    headers: &mut Vec<(&'static str, Secret)>,
    (access_key, region): (&AccessKey, &str),
    now: Timestamp,
) -> Secret {
    let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = &time[..8];
    headers.push(("x-amz-date", Secret::new(time.as_str())));
    let given = headers.iter().find(|(name, _)| *name == "x-amz-content-sha256");
    let given = given.map(|(_, hash)| hash.expose().to_owned());
    let hash = given.unwrap_or_else(|| {
        let of_nothing = BlobDigest::of(b"").hex();
        headers.push(("x-amz-content-sha256", Secret::new(of_nothing.as_str())));
        of_nothing
    });
    if let Some(token) = &access_key.session_token {
        headers.push(("x-amz-security-token", token.clone()));
    }
    let mut signed: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (*name, value.expose())).collect();
    signed.push(("host", &url.authority));
    signed.sort_unstable();
    let names: Vec<&str> = signed.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: String =
        signed.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let (path, query) = (url.path(), url.query().unwrap_or_default());
    let request = format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{hash}");
    let scope = format!("{day}/{region}/s3/aws4_request");
    let request = BlobDigest::of(request.as_bytes()).hex();
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{request}");
    let mut key = mac(format!("AWS4{}", access_key.secret.expose()).as_bytes(), day);
    for part in [region, "s3", "aws4_request"] {
        key = mac(&key, part);
    }
    let signature: String = mac(&key, &text).iter().map(|byte| format!("{byte:02x}")).collect();
    Secret::new(format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={names},Signature={signature}",
        access_key.id
    ))
}

/// HMAC-SHA256
pub(super) fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of Amazon's documentation.
    #[test]
    fn signatures_are_amazons() {
        let now: Timestamp = "2013-05-24T00:00:00Z".parse().unwrap();
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let key = AccessKey::new("AKIAIOSFODNN7EXAMPLE", secret, None);
        let signature = |method: &str, url: &str, mut headers: Vec<(&'static str, Secret)>| {
            let url = Url::parse(url).unwrap();
            let signed = sign((method, &url), &mut headers, (&key, "us-east-1"), now);
            signed.expose().rsplit_once("Signature=").unwrap().1.to_owned()
        };
        assert_eq!(
            signature(
                "GET",
                "https://examplebucket.s3.amazonaws.com/test.txt",
                vec![("range", Secret::new("bytes=0-9"))]
            ),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        let hash = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
        assert_eq!(
            signature(
                "PUT",
                "https://examplebucket.s3.amazonaws.com/test%24file.text",
                vec![
                    ("date", Secret::new("Fri, 24 May 2013 00:00:00 GMT")),
                    ("x-amz-storage-class", Secret::new("REDUCED_REDUNDANCY")),
                    ("x-amz-content-sha256", Secret::new(hash)),
                ]
            ),
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
        );
        assert_eq!(
            signature("GET", "https://examplebucket.s3.amazonaws.com/?lifecycle=", vec![]),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
        );
    }

    #[test]
    fn buckets_are_in_the_host_or_in_the_path() {
        let mut bucket = Bucket {
            name: "b".into(),
            region: "eu-west-1".into(),
            endpoint: None,
            path_style: false,
            blobs: "p/blobs/".into(),
            manifests: "p/manifests/".into(),
        };
        let url = |bucket: &Bucket| {
            bucket.url(&bucket.object_name(&Key::Manifest("a b".into()))).unwrap()
        };
        let text = url(&bucket).full();
        assert_eq!(text, "https://b.s3.eu-west-1.amazonaws.com/p/manifests/a%20b");
        bucket.endpoint = Some("http://localhost:9000/".into());
        assert_eq!(url(&bucket).full(), "http://b.localhost:9000/p/manifests/a%20b");
        bucket.path_style = true;
        assert_eq!(url(&bucket).full(), "http://localhost:9000/b/p/manifests/a%20b");
    }
}
