//! Reading layers, compressed or not.

use std::fmt;
use std::io::{self, BufReader, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

const READ_BYTES: usize = 128 << 10;

type Source<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

enum Decoder<R: Read> {
    /// Nothing was read yet.
    Start(Option<R>),
    Plain(Source<R>),
    Gzip(Box<MultiGzDecoder<Source<R>>>),
    Zstd(zstd::stream::read::Decoder<'static, Source<R>>),
}

/// The reader that [`decompressor`] returns.
pub struct Decompressor<R: Read>(Decoder<R>);

impl<R: Read> fmt::Debug for Decompressor<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decompressor")
    }
}

/// Reads what `reader` holds uncompressed: its first bytes tell gzip (also of many members) and
/// zstd (also of many frames); anything else is passed on as it is.
pub fn decompressor<R: Read>(reader: R) -> Decompressor<R> {
    Decompressor(Decoder::Start(Some(reader)))
}

impl<R: Read> Decompressor<R> {
    fn detect(mut reader: R) -> io::Result<Decoder<R>> {
        let mut head = Vec::with_capacity(4);
        (&mut reader).take(4).read_to_end(&mut head)?;
        let gzip = head.starts_with(&[0x1f, 0x8b]);
        // A zstd frame or a skippable one, which may come first.
        let zstd = head == [0x28, 0xb5, 0x2f, 0xfd]
            || matches!(head[..], [first, 0x2a, 0x4d, 0x18] if first & 0xf0 == 0x50);
        let source = BufReader::with_capacity(READ_BYTES, Cursor::new(head).chain(reader));
        Ok(if gzip {
            Decoder::Gzip(Box::new(MultiGzDecoder::new(source)))
        } else if zstd {
            Decoder::Zstd(zstd::stream::read::Decoder::with_buffer(source)?)
        } else {
            Decoder::Plain(source)
        })
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Decoder::Start(reader) = &mut self.0 {
            let reader = reader.take().ok_or_else(|| io::Error::other("reading has failed"))?;
            self.0 = Self::detect(reader)?;
        }
        match &mut self.0 {
            Decoder::Start(_) => Ok(0),
            Decoder::Plain(reader) => reader.read(buffer),
            Decoder::Gzip(reader) => reader.read(buffer),
            Decoder::Zstd(reader) => reader.read(buffer),
        }
    }
}
