//! Files from anywhere on the web (`ADD https://…`): no registry, no login.
//!
//! A file that was fetched before is asked for with what its server said of it (`ETag`,
//! `Last-Modified`; RFC 9110, 13), so that an unchanged one costs one small answer.

use std::fmt;
use std::io::Read;

use crate::client::Client;
use crate::error::Error;

/// What a server said of a version of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// `ETag`
    pub etag: Option<String>,
    /// `Last-Modified`
    pub last_modified: Option<String>,
}

/// The answer of a server.
#[derive(Debug)]
pub enum Download {
    /// The file is the one that the validators are of.
    NotModified,
    /// The file.
    File(DownloadedFile),
}

/// A file on its way.
pub struct DownloadedFile {
    /// What the server says of it.
    pub validators: Validators,
    /// `Last-Modified` in seconds since 1970, if the server says it.
    pub modified_unix: Option<i64>,
    /// Its length, if the server says it.
    pub size_bytes: Option<u64>,
    /// Its bytes; fewer than `size_bytes` are an error.
    pub body: Box<dyn Read + Send>,
}

impl fmt::Debug for DownloadedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DownloadedFile")
            .field("validators", &self.validators)
            .field("modified_unix", &self.modified_unix)
            .field("size_bytes", &self.size_bytes)
            .finish_non_exhaustive()
    }
}

/// A time as `Last-Modified` has it, in seconds since 1970.
pub fn http_date(text: &str) -> Option<i64> {
    jiff::fmt::rfc2822::parse(text).ok().map(|time| time.timestamp().as_second())
}

impl Client {
    /// Asks for the file at an HTTP(S) URL; `known` is what is known of the version at hand.
    ///
    /// # Errors
    /// Every status but success, and whatever keeps the server from being reached.
    pub fn download(&self, url: &str, known: &Validators) -> Result<Download, Error> {
        let response = self.exchange().web(url, known)?;
        if response.status == 304 {
            return Ok(Download::NotModified);
        }
        let text = |name: &str| response.header(name).map(str::to_owned);
        let validators = Validators { etag: text("etag"), last_modified: text("last-modified") };
        let modified = validators.last_modified.as_deref().and_then(http_date);
        Ok(Download::File(DownloadedFile {
            modified_unix: modified,
            size_bytes: response.content_length(),
            validators,
            body: Box::new(response.into_reader()),
        }))
    }
}
