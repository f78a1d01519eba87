//! One HTTP/1.1 exchange on a connection of its own (RFC 9112), as far as an engine's API needs it.
//!
//! The body of a request has a known length, so that it goes out as it is. Answers come with a
//! length, in chunks, or end with the connection.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use rustix::net::Shutdown;

use super::EngineAddress;

/// How often it is looked whether all was cancelled.
const CANCEL_POLL: Duration = Duration::from_millis(30);
/// Answers other than to a load come within this time.
const PATIENCE: Duration = Duration::from_mins(1);
/// The longest answer that is read: a list of very many images.
const LONGEST_ANSWER: u64 = 64 << 20;
/// The longest head of an answer.
const LONGEST_HEAD: u64 = 64 << 10;
const BUFFER_BYTES: usize = 1 << 20;

/// How long an answer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// It comes soon, or not at all.
    Bounded,
    /// As long as the engine works.
    Endless,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// A request on its way. It ends when it is dropped, or when `cancelled` is set.
#[derive(Debug)]
pub(super) struct Exchange {
    out: BufWriter<File>,
    _running: mpsc::Sender<()>,
}

/// Connects.
fn connect(address: &EngineAddress, patience: Patience) -> io::Result<OwnedFd> {
    let timeout = (patience == Patience::Bounded).then_some(PATIENCE);
    match address {
        EngineAddress::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(timeout)?;
            Ok(stream.into())
        }
        EngineAddress::Tcp(host) => {
            let stream = TcpStream::connect(host)?;
            stream.set_read_timeout(timeout)?;
            Ok(stream.into())
        }
    }
}

impl Exchange {
    /// Connects and sends the head of a request, whose body has `size_bytes`.
    pub(super) fn start(
        address: &EngineAddress,
        (method, path): (&str, &str),
        (media_type, size_bytes): (&str, u64),
        patience: Patience,
        cancelled: &Arc<AtomicBool>,
    ) -> io::Result<Self> {
        let stream = connect(address, patience)?;
        let running = shut_down_with(&stream, cancelled)?;
        let host = match address {
            EngineAddress::Unix(_) => "docker",
            EngineAddress::Tcp(host) => host,
        };
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, File::from(stream));
        write!(
            out,
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: kiln\r\n\
             Connection: close\r\nContent-Length: {size_bytes}\r\n"
        )?;
        if size_bytes > 0 {
            write!(out, "Content-Type: {media_type}\r\n")?;
        }
        out.write_all(b"\r\n")?;
        Ok(Self { out, _running: running })
    }

    /// Where the body goes.
    pub(super) fn body(&mut self) -> &mut BufWriter<File> {
        &mut self.out
    }

    /// Ends the body before its time.
    pub(super) fn stop_sending(&self) {
        // It may be gone already.
        let _ = rustix::net::shutdown(self.out.get_ref(), Shutdown::Write);
    }

    /// Reads the answer. An engine that has answered before all was sent has reason to: its answer
    /// counts more than that sending failed.
    pub(super) fn finish(mut self) -> io::Result<Answer> {
        let sent = self.out.flush();
        match (sent, answer(self.out.get_ref())) {
            (Err(error), Err(_)) => Err(error),
            (_, answer) => answer,
        }
    }
}

/// Ends the connection once the flag is set, until the result is dropped.
fn shut_down_with(stream: &OwnedFd, cancelled: &Arc<AtomicBool>) -> io::Result<mpsc::Sender<()>> {
    let (stream, flag) = (stream.try_clone()?, Arc::clone(cancelled));
    let (running, ended) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        while ended.recv_timeout(CANCEL_POLL) == Err(mpsc::RecvTimeoutError::Timeout) {
            if flag.load(Ordering::Relaxed) {
                // It may be gone already.
                let _ = rustix::net::shutdown(&stream, Shutdown::Both);
                return;
            }
        }
    });
    Ok(running)
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("this is no HTTP: {what}"))
}

/// A line without its end.
fn line(input: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    input.take(LONGEST_HEAD).read_line(&mut line)?;
    match line.strip_suffix('\n') {
        Some(text) => Ok(text.trim_end_matches('\r').to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn answer(stream: impl Read) -> io::Result<Answer> {
    let mut input = BufReader::new(stream.take(LONGEST_ANSWER));
    loop {
        let first = line(&mut input)?;
        let mut words = first.split(' ');
        let version = words.next().is_some_and(|word| word.starts_with("HTTP/1."));
        let status = words.next().and_then(|word| word.parse::<u16>().ok());
        let Some(status) = status.filter(|_| version) else {
            return Err(malformed(&first));
        };
        let (mut length, mut is_chunked) = (None, false);
        loop {
            let header = line(&mut input)?;
            if header.is_empty() {
                break;
            }
            let (name, value) = header.split_once(':').ok_or_else(|| malformed(&header))?;
            match name.to_ascii_lowercase().as_str() {
                "content-length" => {
                    length = Some(value.trim().parse().map_err(|_| malformed(&header))?);
                }
                "transfer-encoding" => {
                    is_chunked = value.trim().eq_ignore_ascii_case("chunked");
                }
                _ => {}
            }
        }
        if status == 100 {
            continue;
        }
        let mut body = Vec::new();
        match (is_chunked, length) {
            (true, _) => read_chunks(&mut input, &mut body)?,
            (false, Some(length)) => read_exactly(&mut input, length, &mut body)?,
            (false, None) if status == 204 => {}
            (false, None) => {
                input.read_to_end(&mut body)?;
            }
        }
        return Ok(Answer { status, body });
    }
}

fn read_exactly(input: &mut impl Read, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
    let read = input.take(length).read_to_end(body)?;
    if read as u64 == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn read_chunks(input: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let size = line(input)?;
        let digits = size.split(';').next().unwrap_or_default().trim();
        let length = u64::from_str_radix(digits, 16).map_err(|_| malformed(&size))?;
        if length == 0 {
            // Trailers say nothing of interest.
            return Ok(());
        }
        read_exactly(input, length, body)?;
        if !line(input)?.is_empty() {
            return Err(malformed("a chunk is longer than it says"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> io::Result<(u16, String)> {
        let answer = answer(text.as_bytes())?;
        Ok((answer.status, String::from_utf8(answer.body).unwrap()))
    }

    #[test]
    fn bodies_have_a_length_or_chunks_or_the_end() {
        let expected = (200, "hello".to_owned());
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
            "HTTP/1.0 200 OK\r\n\r\nhello",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200\r\ncontent-length:5\r\n\r\nhello",
        ] {
            assert_eq!(body(text).unwrap(), expected, "{text}");
        }
        assert_eq!(body("HTTP/1.1 204 No Content\r\n\r\n").unwrap(), (204, String::new()));
    }

    #[test]
    fn what_is_cut_is_an_error() {
        for text in [
            "",
            "SSH-2.0-OpenSSH\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
            "HTTP/1.1 200 OK\r\nContent-Length: 5",
            "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n",
        ] {
            assert!(body(text).is_err(), "{text}");
        }
    }
}
