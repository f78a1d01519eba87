//! HTTP/1.1 as far as a registry's tests need it: requests in, answers out, damaged on demand.

use std::io::{self, BufRead, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;

use super::fault::Damage;
use super::{Request, Server, State};

/// An answer before any damage.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Arc<Vec<u8>>,
    /// The first byte of `body` that is sent.
    pub(crate) offset: usize,
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<Arc<Vec<u8>>>) -> Self {
        let body = body.into();
        Self { status, headers: Vec::new(), body, offset: 0 }
    }

    /// An error as distribution-spec wants it.
    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        let body = serde_json::json!({"errors": [{"code": code, "message": message}]});
        Self::new(status, body.to_string().into_bytes()).header("Content-Type", "application/json")
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// Whether the connection lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    Keep,
    Close,
}

/// Reads one request without its body; `None` at the end of the connection.
pub(crate) fn read_head(reader: &mut impl BufRead, server: Server) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_ascii_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok(Some(Request { server, method, path, headers, body: Vec::new() }))
}

/// Reads a request's body, at most `limit` bytes of it.
pub(crate) fn read_body(
    reader: &mut impl BufRead,
    request: &mut Request,
    limit: Option<usize>,
) -> io::Result<()> {
    let length = request.header("content-length").and_then(|text| text.parse::<u64>().ok());
    let length = length.unwrap_or(0).min(limit.map_or(u64::MAX, |limit| limit as u64));
    reader.take(length).read_to_end(&mut request.body)?;
    Ok(())
}

/// Sends an answer, damaged as told.
pub(crate) fn write_answer(
    stream: &mut TcpStream,
    state: &State,
    request: &Request,
    (answer, damage): (&Answer, Option<&Damage>),
) -> io::Result<After> {
    let mut body = answer.body[answer.offset..].to_vec();
    let mut promised = body.len();
    let mut is_chunked = false;
    let mut end = None;
    match damage {
        Some(Damage::CutBeforeHead | Damage::CutRequestAfter(_)) => return cut(stream),
        Some(Damage::Garbage) => {
            stream.write_all(b"\x15\x03\x01\x00\x02\x02\x16")?;
            return cut(stream);
        }
        Some(Damage::Hang) => state.hang(),
        Some(Damage::CutAfter(count) | Damage::IgnoresRangeAndCutsAfter(count)) => {
            end = Some(body.len().min(*count));
        }
        Some(Damage::HangHalfway) => end = Some(body.len() / 2),
        Some(Damage::Longer(count)) => {
            body.resize(body.len() + count, b'x');
            promised = body.len();
        }
        Some(Damage::LongerWithoutLength(count)) => {
            body.resize(body.len() + count, b'x');
            is_chunked = true;
        }
        Some(Damage::Shorter(count)) => {
            body.truncate(body.len().saturating_sub(*count));
            promised = body.len();
        }
        Some(Damage::ShorterWithoutLength(count)) => {
            body.truncate(body.len().saturating_sub(*count));
            is_chunked = true;
        }
        Some(Damage::PromisesMore(count)) => {
            promised += count;
            end = Some(body.len());
        }
        Some(Damage::WrongBit) => {
            let middle = body.len() / 2;
            body[middle] ^= 1;
        }
        _ => {}
    }
    let head = head(answer, (!is_chunked).then_some(promised));
    if damage == Some(&Damage::CutInHead) {
        stream.write_all(&head.as_bytes()[..head.len() / 2])?;
        return cut(stream);
    }
    stream.write_all(head.as_bytes())?;
    if request.method == "HEAD" {
        return Ok(After::Keep);
    }
    if let Some(end) = end {
        stream.write_all(&body[..end])?;
        if damage == Some(&Damage::HangHalfway) {
            stream.flush()?;
            state.hang();
        }
        return cut(stream);
    }
    match damage {
        Some(Damage::Slow(pieces, pause)) => {
            for piece in body.chunks(body.len().div_ceil(*pieces).max(1)) {
                thread::sleep(*pause);
                stream.write_all(piece)?;
            }
        }
        _ if is_chunked => {
            for piece in body.chunks(1000) {
                write!(stream, "{:x}\r\n", piece.len())?;
                stream.write_all(piece)?;
                stream.write_all(b"\r\n")?;
            }
            stream.write_all(b"0\r\n\r\n")?;
        }
        _ => stream.write_all(&body)?,
    }
    Ok(After::Keep)
}

fn head(answer: &Answer, length: Option<usize>) -> String {
    let mut head = format!("HTTP/1.1 {} Tested\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    head + &match length {
        Some(length) => format!("Content-Length: {length}\r\n\r\n"),
        None => "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
    }
}

fn cut(stream: &mut TcpStream) -> io::Result<After> {
    stream.flush()?;
    // The other side may be gone already.
    drop(stream.shutdown(Shutdown::Both));
    Ok(After::Close)
}
