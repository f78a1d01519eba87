//! A bounded byte pipe between two threads, in recycled chunks.
//!
//! The writer collects small writes; the reader sees each chunk in place through [`BufRead`], or
//! takes it ([`PipeReader::next_chunk`]), so bytes are copied once. An end that is dropped early is
//! an error at the other one: a reader never takes half a stream for a whole one.

use std::io::{self, BufRead, Read, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Size of a chunk in bytes, where one layer is worked on.
pub(super) const CHUNK_BYTES: usize = 1 << 20;
/// The same where several layers are, each with several pipes.
pub(super) const SMALL_CHUNK_BYTES: usize = 256 << 10;
/// How many full chunks may wait.
const DEPTH: usize = 3;

/// How long chunks are, in bytes.
#[derive(Debug)]
enum ChunkBytes {
    /// All so long.
    Each(usize),
    /// One after the other; what comes then is not written.
    Of(std::vec::IntoIter<usize>),
}

/// The writing end.
#[derive(Debug)]
pub(super) struct PipeWriter {
    chunk_bytes: ChunkBytes,
    chunk: Vec<u8>,
    filled: usize,
    full: SyncSender<Option<Vec<u8>>>,
    empty: Receiver<Vec<u8>>,
}

/// The reading end.
#[derive(Debug)]
pub(super) struct PipeReader {
    chunk: Vec<u8>,
    offset: usize,
    ended: bool,
    full: Receiver<Option<Vec<u8>>>,
    empty: Sender<Vec<u8>>,
}

/// A pipe of at most a few chunks of this size.
pub(super) fn pipe(chunk_bytes: usize) -> (PipeWriter, PipeReader) {
    pipe_of(ChunkBytes::Each(chunk_bytes))
}

/// A pipe whose chunks have these sizes, none of which is 0; it takes no more bytes than that.
pub(super) fn pipe_in(chunks: Vec<usize>) -> (PipeWriter, PipeReader) {
    pipe_of(ChunkBytes::Of(chunks.into_iter()))
}

fn pipe_of(chunk_bytes: ChunkBytes) -> (PipeWriter, PipeReader) {
    let (full_in, full_out) = sync_channel(DEPTH);
    let (empty_in, empty_out) = channel();
    (
        PipeWriter { chunk_bytes, chunk: Vec::new(), filled: 0, full: full_in, empty: empty_out },
        PipeReader { chunk: Vec::new(), offset: 0, ended: false, full: full_out, empty: empty_in },
    )
}

/// Whether `error` only says that the other end of a pipe gave up; the reason is elsewhere.
pub(super) fn is_hang_up(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<HangUp>)
}

#[derive(Debug, thiserror::Error)]
#[error("the other end of the pipe gave up")]
struct HangUp;

fn hang_up() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, HangUp)
}

impl PipeWriter {
    fn send(&mut self) -> io::Result<()> {
        let mut chunk = std::mem::take(&mut self.chunk);
        chunk.truncate(self.filled);
        self.filled = 0;
        self.full.send(Some(chunk)).map_err(|_| hang_up())
    }

    /// Ends the stream; without it the reader gets an error.
    pub(super) fn finish(mut self) -> io::Result<()> {
        if self.filled > 0 {
            self.send()?;
        }
        self.full.send(None).map_err(|_| hang_up())
    }

    /// Reads from `source` straight into the pipe, until its end; each piece is shown to `see`.
    pub(super) fn fill(
        &mut self,
        source: &mut impl Read,
        mut see: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        loop {
            let room = self.room();
            match source.read(room) {
                Ok(0) => return Ok(()),
                Ok(length) => {
                    see(&room[..length]);
                    self.advance(length)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What is free in the current chunk; empty only after the last one.
    fn room(&mut self) -> &mut [u8] {
        if self.chunk.is_empty() {
            let length = match &mut self.chunk_bytes {
                ChunkBytes::Each(length) => *length,
                ChunkBytes::Of(lengths) => lengths.next().unwrap_or(0),
            };
            self.chunk = self.empty.try_recv().unwrap_or_default();
            self.chunk.reserve_exact(length.saturating_sub(self.chunk.len()));
            self.chunk.resize(length, 0);
        }
        &mut self.chunk[self.filled..]
    }

    fn advance(&mut self, length: usize) -> io::Result<()> {
        self.filled += length;
        if length > 0 && self.filled == self.chunk.len() { self.send() } else { Ok(()) }
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.room();
        let length = bytes.len().min(room.len());
        room[..length].copy_from_slice(&bytes[..length]);
        self.advance(length)?;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl PipeReader {
    /// The next chunk, whole; `None` at the end. It is given back when it is done with.
    pub(super) fn next_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let next = self.full.recv().map_err(|_| hang_up())?;
        self.ended = next.is_none();
        Ok(next)
    }

    /// Lets the writer use a chunk again.
    pub(super) fn give_back(&self, chunk: Vec<u8>) {
        if chunk.capacity() > 0 {
            // The writer may be gone already.
            let _ = self.empty.send(chunk);
        }
    }
}

impl BufRead for PipeReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.offset == self.chunk.len() && !self.ended {
            let next = self.full.recv().map_err(|_| hang_up())?;
            self.ended = next.is_none();
            let used = std::mem::replace(&mut self.chunk, next.unwrap_or_default());
            self.offset = 0;
            self.give_back(used);
        }
        Ok(&self.chunk[self.offset..])
    }

    fn consume(&mut self, length: usize) {
        self.offset += length;
    }
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pass_in_order() {
        let bytes: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
        let (mut writer, mut reader) = pipe(CHUNK_BYTES);
        let read = std::thread::scope(|scope| {
            scope.spawn(|| {
                for piece in bytes.chunks(70_001) {
                    writer.write_all(piece).unwrap();
                }
                writer.finish().unwrap();
            });
            let mut read = Vec::new();
            reader.read_to_end(&mut read).unwrap();
            read
        });
        assert!(read == bytes);
    }

    #[test]
    fn chunks_are_taken_whole_in_the_sizes_that_were_asked_for() {
        let (mut writer, mut reader) = pipe_in(vec![3, 1, 7_000]);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                writer.write_all(&[7; 7_004]).unwrap();
                assert_eq!(
                    writer.write_all(&[7]).unwrap_err().kind(),
                    io::ErrorKind::WriteZero,
                    "there is room for no more"
                );
                writer.finish().unwrap();
            });
            for length in [3, 1, 7_000] {
                let chunk = reader.next_chunk().unwrap().unwrap();
                assert!(chunk == vec![7; length]);
                reader.give_back(chunk);
            }
            assert_eq!(reader.next_chunk().unwrap(), None);
        });
    }

    #[test]
    fn an_end_that_gives_up_is_an_error_at_the_other() {
        let (mut writer, mut reader) = pipe(CHUNK_BYTES);
        writer.write_all(b"half").unwrap();
        drop(writer);
        assert!(is_hang_up(&reader.read(&mut [0; 8]).unwrap_err()));

        let (mut writer, reader) = pipe(CHUNK_BYTES);
        drop(reader);
        assert!(is_hang_up(&writer.write_all(&vec![0; CHUNK_BYTES]).unwrap_err()));
    }
}
