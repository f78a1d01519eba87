//! One blob on its way to a registry.
//!
//! A session is begun (POST), and the blob is sent whole with the request that ends it (PUT). When
//! that breaks, the registry is asked whether the blob is there after all (the answer may be what
//! was lost), then how far the session came (GET): what is missing follows in parts (PATCH), and
//! an empty PUT ends it. A registry, or a proxy before it, that takes no bodies of this size (413)
//! is sent smaller parts; one that takes no parts is sent the whole again.
//!
//! Where a session goes on is the registry's business: a `Location` may be relative, have a query
//! or be on another host, which then gets no credentials.
//!
//! distribution-spec 1.1, "Pushing blobs", "Pushing a blob in chunks", "Mounting a blob".

use kiln_core::digest::BlobDigest;

use crate::client::{Client, get};
use crate::error::Error;
use crate::exchange::{Access, Call};
use crate::http::{Body, Method, Response, Url, form};
use crate::push::{BlobUpload, check_claim, refusal, unexpected};
use crate::repository::Repository;
use crate::retry::{Again, Failure};

/// Length of parts after a connection broke: what is lost with the next one.
const PART_BYTES: u64 = 16 << 20;

/// Parts are made no shorter than this where a registry wants shorter ones.
const SHORTEST_PART_BYTES: u64 = 1 << 20;

/// After this many bytes an upload is worth as many further attempts as at first.
const PROGRESS_BYTES: u64 = 256 << 10;

/// What the answer to a first request was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// The blob is there.
    Mounted,
    /// It has to be sent.
    Session,
}

/// How a blob is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// In one request.
    Whole,
    /// In parts of this many bytes.
    Parts(u64),
}

/// What a failed request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Begin,
    Part,
    End,
}

/// An upload.
#[derive(Debug)]
pub(crate) struct Upload<'a> {
    client: &'a Client,
    repository: &'a Repository,
    blob: &'a BlobUpload<'a>,
    /// How errors name the blob.
    name: String,
    /// Where the session goes on.
    location: Option<Url>,
    /// How many bytes the session has.
    taken_bytes: u64,
    way: Way,
    shortest_part_bytes: u64,
    takes_parts: bool,
    stage: Stage,
}

impl<'a> Upload<'a> {
    /// An upload of which nothing was said to the registry.
    pub(crate) fn new(
        client: &'a Client,
        repository: &'a Repository,
        blob: &'a BlobUpload<'a>,
    ) -> Self {
        Self {
            client,
            repository,
            blob,
            name: format!("{repository}@{}", blob.descriptor.digest),
            location: None,
            taken_bytes: 0,
            way: Way::Whole,
            shortest_part_bytes: SHORTEST_PART_BYTES,
            takes_parts: true,
            stage: Stage::Begin,
        }
    }

    /// Asks for the blob of another repository of the same registry. One that cannot be had is no
    /// error: the blob is sent then.
    pub(crate) fn mount(&mut self, from: &str) -> Result<Begun, Error> {
        let digest = self.digest().to_string();
        let query = form(&[("mount", &digest), ("from", from)]);
        let call = Call {
            access: Access::Mount(from),
            ..self.call(Method::Post(Body::EMPTY), Some(format!("/blobs/uploads/?{query}")))
        };
        let exchange = self.client.exchange();
        match exchange.retrying(|| exchange.attempt(&call)) {
            Ok(response) if response.status == 201 => {
                self.check_digest(&response)?;
                drop(response.message());
                Ok(Begun::Mounted)
            }
            Ok(response) => {
                if response.status == 202 {
                    self.take_session(response)?;
                }
                Ok(Begun::Session)
            }
            // Perhaps only the other repository is closed; what else is wrong is found again.
            Err(Error::Cancelled) => Err(Error::Cancelled),
            Err(_) => Ok(Begun::Session),
        }
    }

    /// Sends the blob.
    pub(crate) fn run(mut self) -> Result<(), Error> {
        let exchange = self.client.exchange();
        let mut attempts = exchange.attempts();
        let mut restart_at_bytes = PROGRESS_BYTES;
        loop {
            exchange.cancellation().check()?;
            let Err(failure) = self.send() else {
                return Ok(());
            };
            let failure = self.reconsider(failure);
            if self.taken_bytes >= restart_at_bytes {
                restart_at_bytes = self.taken_bytes + PROGRESS_BYTES;
                attempts.restart();
            }
            let wait = attempts.next(failure)?;
            exchange.cancellation().wait(wait)?;
            if self.is_there()? {
                return Ok(());
            }
            self.look_up_session()?;
        }
    }

    fn digest(&self) -> BlobDigest {
        self.blob.descriptor.digest
    }

    /// A request for a path, or for where the session goes on.
    fn call<'c>(&'c self, method: Method<'c>, path: Option<String>) -> Call<'c> {
        let at = if path.is_some() { None } else { self.location.clone() };
        Call {
            method,
            at,
            access: Access::Push,
            ..get(self.repository, path.unwrap_or_default(), &self.name)
        }
    }

    /// One go at all that is missing.
    fn send(&mut self) -> Result<(), Failure> {
        if self.location.is_none() {
            self.begin()?;
        }
        if self.way == Way::Whole && self.taken_bytes == 0 {
            return self.end(self.blob.descriptor.size);
        }
        while self.taken_bytes < self.blob.descriptor.size {
            self.send_part()?;
        }
        self.end(0)
    }

    fn begin(&mut self) -> Result<(), Failure> {
        self.stage = Stage::Begin;
        let call = self.call(Method::Post(Body::EMPTY), Some("/blobs/uploads/".to_owned()));
        let response = self.client.exchange().attempt(&call).map_err(|failure| {
            let error = refusal(failure.error, self.repository);
            Failure { error, ..failure }
        })?;
        match response.status {
            202 => Ok(self.take_session(response)?),
            // It has got the blob meanwhile, or so it says: the end finds out.
            _ => Err(unexpected(response).into()),
        }
    }

    fn take_session(&mut self, response: Response) -> Result<(), Error> {
        self.location = Some(next_location(&response)?);
        self.taken_bytes = 0;
        let shortest = response.header("oci-chunk-min-length");
        if let Some(shortest) = shortest.and_then(|text| text.trim().parse::<u64>().ok()) {
            self.shortest_part_bytes = shortest.max(SHORTEST_PART_BYTES);
        }
        drop(response.message());
        Ok(())
    }

    fn send_part(&mut self) -> Result<(), Failure> {
        self.stage = Stage::Part;
        let (first, size) = (self.taken_bytes, self.blob.descriptor.size);
        let length = match self.way {
            Way::Whole => size - first,
            Way::Parts(length) => length.max(self.shortest_part_bytes).min(size - first),
        };
        let response = self.send_body((Some(first), first, length))?;
        if response.status != 202 && response.status != 204 && response.status != 201 {
            return Err(unexpected(response).into());
        }
        let location = next_location(&response).ok();
        let end = response.header("range").and_then(parse_range_end);
        drop(response.message());
        self.location = location.or(self.location.take());
        // What it has is what counts; it cannot have more than it was sent.
        self.taken_bytes = end.filter(|end| *end > first).unwrap_or(first + length);
        if self.taken_bytes > first + length {
            self.location = None;
            self.taken_bytes = 0;
        }
        Ok(())
    }

    /// Ends the session, with the whole blob or, after parts, with nothing.
    fn end(&mut self, length: u64) -> Result<(), Failure> {
        self.stage = Stage::End;
        let digest = self.digest().to_string();
        let plain = self.location.clone();
        self.location = plain.as_ref().map(|url| url.with_query(&[("digest", &digest)]));
        let answer = self.send_body((None, 0, length));
        // The digest is for this request only.
        self.location = plain;
        let response = answer?;
        if !matches!(response.status, 200..=299) {
            return Err(unexpected(response).into());
        }
        self.check_digest(&response)?;
        drop(response.message());
        Ok(())
    }

    fn send_body(
        &self,
        (first_byte, skip_bytes, length_bytes): (Option<u64>, u64, u64),
    ) -> Result<Response, Failure> {
        let BlobUpload { descriptor, source, progress, .. } = self.blob;
        let open = || source.open(self.client, descriptor, skip_bytes);
        let progress = |sent: u64| progress(skip_bytes + sent);
        let content_type = "application/octet-stream";
        let body =
            Body { content_type, first_byte, length_bytes, open: &open, progress: &progress };
        let body = if length_bytes == 0 { Body { content_type, ..Body::EMPTY } } else { body };
        let method =
            if self.stage == Stage::Part { Method::Patch(body) } else { Method::Put(body) };
        self.client.exchange().attempt(&self.call(method, None))
    }

    fn check_digest(&self, response: &Response) -> Result<(), Error> {
        let claimed = response.header("docker-content-digest");
        check_claim(claimed, self.digest(), || response.url.to_string())
    }

    /// What a failure says about how to go on, and whether that may help.
    fn reconsider(&mut self, failure: Failure) -> Failure {
        let size = self.blob.descriptor.size;
        let (status, is_unknown) = match &failure.error {
            Error::Status { status, .. } => (Some(*status), false),
            Error::NotFound { .. } => (Some(404), true),
            _ => (None, false),
        };
        let resumed = self.taken_bytes > 0;
        let again = match (self.stage, status) {
            (Stage::Begin, _) => failure.again,
            (_, Some(413)) => self.shorten(),
            (Stage::Part, Some(400 | 404 | 405 | 501)) if self.takes_parts => {
                self.takes_parts = false;
                self.start_over();
                Again::Later
            }
            // The session is gone, or what it has is not what was sent.
            (_, Some(404)) => {
                self.start_over();
                Again::Later
            }
            (_, Some(416)) => Again::Later,
            (Stage::End, Some(400)) if resumed => {
                self.takes_parts = false;
                self.start_over();
                Again::Later
            }
            _ => {
                let is_broken = failure.again != Again::Never && self.takes_parts;
                self.way = match self.way {
                    Way::Whole if is_broken && size > PART_BYTES => Way::Parts(PART_BYTES),
                    // A proxy that takes no such body may say so by hanging up.
                    Way::Parts(length) if is_broken => {
                        Way::Parts((length / 4).max(self.shortest_part_bytes))
                    }
                    way => way,
                };
                failure.again
            }
        };
        let error = match failure.error {
            Error::NotFound { .. } if is_unknown && self.stage != Stage::Begin => Error::Status {
                url: self.name.clone(),
                status: 404,
                message: "the registry forgets the upload".to_owned(),
            },
            error => error,
        };
        Failure { error, again }
    }

    fn start_over(&mut self) {
        self.location = None;
        self.taken_bytes = 0;
        if !self.takes_parts {
            self.way = Way::Whole;
        }
    }

    /// Bodies are too long.
    fn shorten(&mut self) -> Again {
        let now = match self.way {
            Way::Whole => self.blob.descriptor.size,
            Way::Parts(length) => length.min(self.blob.descriptor.size),
        };
        if now <= self.shortest_part_bytes || !self.takes_parts {
            return Again::Never;
        }
        self.way = Way::Parts((now / 4).clamp(self.shortest_part_bytes, 4 * PART_BYTES));
        Again::Later
    }

    /// Whether the blob is there after all. What goes wrong here goes wrong again.
    fn is_there(&self) -> Result<bool, Error> {
        let path = format!("/blobs/{}", self.digest());
        let call = self.call(Method::Head, Some(path));
        match self.client.exchange().attempt(&call) {
            Err(Failure { error: Error::Cancelled, .. }) => Err(Error::Cancelled),
            answer => Ok(answer.is_ok_and(|response| response.status == 200)),
        }
    }

    /// How far the session came; without an answer, another one is begun.
    fn look_up_session(&mut self) -> Result<(), Error> {
        if self.location.is_none() {
            return Ok(());
        }
        let answer = self.client.exchange().attempt(&self.call(Method::Get, None));
        self.start_over();
        match answer {
            Err(Failure { error: Error::Cancelled, .. }) => Err(Error::Cancelled),
            Ok(response) if matches!(response.status, 200 | 202 | 204) => {
                let end = response.header("range").and_then(parse_range_end).unwrap_or(0);
                let location = next_location(&response).unwrap_or_else(|_| response.url.clone());
                drop(response.message());
                // A session that has nothing is not worth more than a new one; neither is one
                // that has too much, or whose parts are refused.
                if end > 1 && end <= self.blob.descriptor.size && self.takes_parts {
                    self.location = Some(location);
                    self.taken_bytes = end;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Where a session goes on. The registry's own host is spoken to as before, also when it forgets
/// that there is TLS before it.
fn next_location(response: &Response) -> Result<Url, Error> {
    let Some(location) = response.header("location") else {
        return Err(Error::MissingHeader {
            url: response.url.to_string(),
            status: response.status,
            header: "Location",
        });
    };
    let mut url = response.url.join(location)?;
    if url.authority.eq_ignore_ascii_case(&response.url.authority) {
        url.scheme = response.url.scheme;
    }
    Ok(url)
}

/// How many bytes there are, of `0-9` or `bytes=0-9`. Some registries say `0-0` of none and of one.
fn parse_range_end(range: &str) -> Option<u64> {
    let (first, last) = range.trim().trim_start_matches("bytes=").split_once('-')?;
    let last: u64 = last.trim().parse().ok()?;
    (first.trim() == "0").then_some(last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_ranges() {
        assert_eq!(parse_range_end("0-9"), Some(10));
        assert_eq!(parse_range_end("bytes=0-9"), Some(10));
        assert_eq!(parse_range_end("5-9"), None);
        assert_eq!(parse_range_end("0--1"), None);
        assert_eq!(parse_range_end(""), None);
    }
}
