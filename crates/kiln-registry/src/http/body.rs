//! What is sent with a request: so many bytes, which may have to be sent again.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Read};

use crate::error::Error;

/// Starts to read a body from its first byte.
pub(crate) type Open<'a> = dyn Fn() -> Result<Box<dyn Read>, Error> + 'a;

/// The body of a request.
#[derive(Clone, Copy)]
pub(crate) struct Body<'a> {
    /// `Content-Type`; may be empty.
    pub(crate) content_type: &'a str,
    /// `Content-Range`: the first byte's place in the whole, for a part of it.
    pub(crate) first_byte: Option<u64>,
    /// How many bytes there are.
    pub(crate) length_bytes: u64,
    /// Starts to read them.
    pub(crate) open: &'a Open<'a>,
    /// Told how many of them have been handed to the connection.
    pub(crate) progress: &'a (dyn Fn(u64) + 'a),
}

impl Body<'_> {
    /// No bytes.
    pub(crate) const EMPTY: Body<'static> = Body {
        content_type: "",
        first_byte: None,
        length_bytes: 0,
        open: &|| Ok(Box::new(io::empty())),
        progress: &|_| {},
    };

    /// `Content-Range` as distribution-spec wants it: `5-9`, without a unit.
    pub(crate) fn content_range(&self) -> Option<String> {
        let first = self.first_byte?;
        Some(format!("{first}-{}", first + self.length_bytes.saturating_sub(1)))
    }
}

impl fmt::Debug for Body<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("content_type", &self.content_type)
            .field("first_byte", &self.first_byte)
            .field("length_bytes", &self.length_bytes)
            .finish_non_exhaustive()
    }
}

/// Hands out exactly as many bytes as were promised, and keeps the error if there are fewer: who
/// sends cannot tell it from one of the connection.
pub(super) struct Promised<'a> {
    reader: Box<dyn Read>,
    body: &'a Body<'a>,
    read_bytes: u64,
    failure: &'a RefCell<Option<io::Error>>,
}

impl<'a> Promised<'a> {
    /// Opens a body.
    pub(super) fn new(
        body: &'a Body<'a>,
        failure: &'a RefCell<Option<io::Error>>,
    ) -> Result<Self, Error> {
        Ok(Self { reader: (body.open)()?, body, read_bytes: 0, failure })
    }
}

impl Read for Promised<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // What was read before has been sent.
        (self.body.progress)(self.read_bytes);
        let left = self.body.length_bytes - self.read_bytes;
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        loop {
            let error = match self.reader.read(&mut buffer[..wanted]) {
                Ok(0) => io::Error::new(io::ErrorKind::UnexpectedEof, "it is too short"),
                Ok(count) => {
                    self.read_bytes += count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            *self.failure.borrow_mut() = Some(error);
            return Err(io::Error::other("the body cannot be read"));
        }
    }
}
