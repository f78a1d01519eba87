//! A blob on its way: a stream that ends well only if its bytes are right.
//!
//! Size and sha256 are those of the descriptor, or reading ends with an error; the last bytes
//! are handed out after the check, so that wrong content is never complete. A broken
//! connection is taken up again where it broke (`Range`, RFC 9110, 14); what a registry that
//! knows no ranges sends again is skipped. The number of attempts is bounded, and starts anew
//! with every [`PROGRESS_BYTES`].

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use kiln_core::digest::BlobDigest;
use kiln_core::oci::Descriptor;
use sha2::{Digest as _, Sha256};

use crate::auth::Host;
use crate::client::get;
use crate::error::Error;
use crate::exchange::{Call, Exchange};
use crate::http::Response;
use crate::limit::Permit;
use crate::objects::{Key, ObjectPlace};
use crate::repository::Repository;
use crate::retry::{Again, Attempts, Failure};

/// After this many bytes the connection is worth as many further attempts as at first.
const PROGRESS_BYTES: u64 = 256 << 10;

/// Reads one blob. Whatever [`read`](Read::read) fails with is an [`Error`] of this crate inside
/// an [`io::Error`]; [`Error::from_io`] takes it out. Only a reader that has returned 0, or all
/// of the descriptor's bytes, was verified.
pub struct BlobReader {
    exchange: Arc<Exchange>,
    origin: Origin,
    digest: BlobDigest,
    size_bytes: u64,
    received_bytes: u64,
    hasher: Sha256,
    body: Option<Box<dyn Read + Send + Sync>>,
    /// Who sends the body, if that is a mirror.
    mirror: Option<Arc<Host>>,
    attempts: Attempts,
    restart_at_bytes: u64,
    state: State,
    /// Given back with the last byte.
    permit: Option<Permit>,
}

/// Who has a blob.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// A registry.
    Repository(Repository),
    /// An object store.
    Objects(ObjectPlace),
}

/// A body, and the mirror that sends it, if it is one.
type Answer = (Box<dyn Read + Send + Sync>, Option<Arc<Host>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Reading,
    Verified,
    Failed,
}

impl fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobReader")
            .field("origin", &self.origin)
            .field("digest", &self.digest)
            .field("size_bytes", &self.size_bytes)
            .field("received_bytes", &self.received_bytes)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl BlobReader {
    /// Asks for a blob; a small one needs no permit.
    pub(crate) fn open(
        exchange: Arc<Exchange>,
        origin: Origin,
        descriptor: &Descriptor,
        permit: Option<Permit>,
    ) -> Result<Self, Error> {
        let attempts = exchange.attempts();
        let mut reader = Self {
            exchange,
            origin,
            digest: descriptor.digest,
            size_bytes: descriptor.size,
            received_bytes: 0,
            hasher: Sha256::new(),
            body: None,
            mirror: None,
            attempts,
            restart_at_bytes: PROGRESS_BYTES,
            state: State::Reading,
            permit,
        };
        let (body, mirror) = reader.request()?;
        (reader.body, reader.mirror) = (Some(body), mirror);
        Ok(reader)
    }

    /// Whether it failed by what a mirror sent, so that another attempt may be better.
    pub(crate) fn was_misled(&self) -> bool {
        self.state == State::Failed && self.mirror.is_some()
    }

    /// How errors name the blob.
    fn name(&self) -> String {
        match &self.origin {
            Origin::Repository(repository) => format!("{repository}@{}", self.digest),
            Origin::Objects(place) => format!("{} in {place}", self.digest),
        }
    }

    /// The rest of the blob, from where it broke off.
    fn request(&self) -> Result<Answer, Error> {
        let name = self.name();
        let repository = match &self.origin {
            Origin::Repository(repository) => repository,
            Origin::Objects(place) => {
                return self.exchange.retrying(|| {
                    let key = Key::Blob(self.digest);
                    let response = place.read(&self.exchange, &key, self.received_bytes)?;
                    Ok((self.accept(response)?, None))
                });
            }
        };
        let call = Call {
            offset_bytes: self.received_bytes,
            ..get(repository, format!("/blobs/{}", self.digest), &name)
        };
        self.exchange.retrying(|| {
            let response = self.exchange.attempt(&call)?;
            let mirror = response.mirror.clone();
            match (self.accept(response), mirror) {
                (Ok(body), mirror) => Ok((body, mirror)),
                (Err(failure), None) => Err(failure),
                // The next host may have the right one.
                (Err(failure), Some(mirror)) => {
                    mirror.put_aside();
                    Err(Failure { again: Again::Later, ..failure })
                }
            }
        })
    }

    /// The body of an answer, put forward to the first byte that is missing.
    fn accept(&self, response: Response) -> Result<Box<dyn Read + Send + Sync>, Failure> {
        let offset_bytes = self.received_bytes;
        let range = response.header("content-range").and_then(parse_content_range);
        let mismatch = |actual_bytes| {
            Failure::from(Error::SizeMismatch {
                url: self.name(),
                expected_bytes: self.size_bytes,
                actual_bytes,
            })
        };
        let (has_from, total) = match (response.status, range) {
            (416, range) => {
                let total = range.and_then(|range| range.total_bytes);
                return Err(mismatch(total.unwrap_or(offset_bytes)));
            }
            (206, Some(range)) if offset_bytes > 0 && range.first_byte == Some(offset_bytes) => {
                let rest = response.content_length().map(|rest| offset_bytes + rest);
                (offset_bytes, range.total_bytes.or(rest))
            }
            (200, _) => (0, response.content_length()),
            (status, _) => {
                return Err(Failure::from(Error::Status {
                    url: response.url.to_string(),
                    status,
                    message: "that is no answer to a request for a blob".to_owned(),
                }));
            }
        };
        if let Some(total) = total.filter(|total| *total != self.size_bytes) {
            return Err(mismatch(total));
        }
        let mut body = response.into_reader();
        let again_bytes = offset_bytes - has_from;
        if again_bytes > 0 {
            let skipped = io::copy(&mut body.by_ref().take(again_bytes), &mut io::sink());
            match skipped {
                Ok(skipped) if skipped == again_bytes => {}
                Ok(_) => return Err(self.interrupted(io::ErrorKind::UnexpectedEof.into())),
                Err(source) => return Err(self.interrupted(source)),
            }
        }
        Ok(Box::new(body))
    }

    fn interrupted(&self, source: io::Error) -> Failure {
        Failure {
            error: Error::Interrupted {
                url: self.name(),
                received_bytes: self.received_bytes,
                expected_bytes: self.size_bytes,
                source,
            },
            again: Again::Later,
        }
    }

    /// Reads on; asks again when the connection breaks.
    fn advance(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        loop {
            self.exchange.cancellation().check()?;
            if self.received_bytes == self.size_bytes {
                self.verify()?;
                return Ok(0);
            }
            let mut body = if let Some(body) = self.body.take() {
                body
            } else {
                let (body, mirror) = self.request()?;
                self.mirror = mirror;
                body
            };
            let left = self.size_bytes - self.received_bytes;
            let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            match body.read(&mut buffer[..wanted]) {
                Ok(0) => self.wait(io::ErrorKind::UnexpectedEof.into())?,
                Ok(count) => {
                    self.body = Some(body);
                    self.count(&buffer[..count]);
                    if self.received_bytes == self.size_bytes {
                        self.verify()?;
                    }
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.body = Some(body);
                }
                Err(error) => self.wait(error)?,
            }
        }
    }

    fn count(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.received_bytes += bytes.len() as u64;
        if self.received_bytes >= self.restart_at_bytes {
            self.attempts.restart();
        }
    }

    /// Waits after a connection broke.
    fn wait(&mut self, source: io::Error) -> Result<(), Error> {
        let cancellation = self.exchange.cancellation();
        cancellation.check()?;
        // The rest comes from the next host.
        if let Some(mirror) = self.mirror.take() {
            mirror.put_aside();
        }
        let failure = self.interrupted(source);
        let wait = self.attempts.next(failure)?;
        self.restart_at_bytes = self.received_bytes + PROGRESS_BYTES;
        self.exchange.cancellation().wait(wait)
    }

    /// All bytes are here: they must be the right ones, and no more may follow. Reading to the
    /// end of the answer also gives its connection back.
    fn verify(&mut self) -> Result<(), Error> {
        if let Some(mut body) = self.body.take() {
            // A connection that breaks here has done its work.
            if matches!(body.read(&mut [0]), Ok(count) if count > 0) {
                return Err(Error::SizeMismatch {
                    url: self.name(),
                    expected_bytes: self.size_bytes,
                    actual_bytes: self.size_bytes + 1,
                });
            }
        }
        let actual = BlobDigest::from_bytes(self.hasher.finalize_reset().into());
        if actual != self.digest {
            return Err(Error::DigestMismatch { url: self.name(), expected: self.digest, actual });
        }
        self.state = State::Verified;
        self.permit = None;
        Ok(())
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.state {
            State::Verified => return Ok(0),
            State::Failed => return Err(io::Error::other("the download has failed before")),
            State::Reading if buffer.is_empty() => return Ok(0),
            State::Reading => {}
        }
        self.advance(buffer).map_err(|error| {
            self.state = State::Failed;
            if let Some(mirror) = &self.mirror {
                mirror.put_aside();
            }
            self.body = None;
            self.permit = None;
            error.into()
        })
    }
}

struct ContentRange {
    first_byte: Option<u64>,
    total_bytes: Option<u64>,
}

/// Reads `bytes 5-9/10`, `bytes 5-9/*` and `bytes */10`.
fn parse_content_range(value: &str) -> Option<ContentRange> {
    let (range, total) = value.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    let first_byte = match range.trim() {
        "*" => None,
        range => Some(range.split_once('-')?.0.trim().parse().ok()?),
    };
    let total_bytes = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    Some(ContentRange { first_byte, total_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        let parse = |value| parse_content_range(value).map(|r| (r.first_byte, r.total_bytes));
        assert_eq!(parse("bytes 5-9/10"), Some((Some(5), Some(10))));
        assert_eq!(parse("bytes 5-9/*"), Some((Some(5), None)));
        assert_eq!(parse("bytes */10"), Some((None, Some(10))));
        assert_eq!(parse("items 5-9/10"), None);
        assert_eq!(parse("bytes x-9/10"), None);
    }
}
