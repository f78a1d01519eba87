//! eStargz: a gzip layer whose files can be had one by one, before the rest of it is there.
//!
//! The format is that of stargz-snapshotter, `docs/estargz.md`. It is a layer as any other: each file's
//! bytes begin a gzip member of their own (a large file has several, of [`CHUNK_BYTES`]), and after the
//! archive follow a member with one more archive, whose only file is the table of contents, and an
//! empty one of 51 bytes that says where that begins. Readers that do not know the format see a file
//! more, or, as an archive has ended before it, nothing of it.
//!
//! As in `BuildKit`'s layers, the archive itself stays as it was, byte by byte. The diff ID is that of
//! all that decompression gives, the table included.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::num::NonZero;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kiln_core::digest::{BlobDigest, DiffId};
use kiln_core::image::rfc3339;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::resume::DigestWriter;
use super::tar_header::{BLOCK_BYTES, plain_header};
use super::tar_read::{Member, MemberKind, TarReader};
use crate::layer_error::LayerError;

/// A larger file is cut into pieces of so many bytes.
const CHUNK_BYTES: usize = 4 << 20;
/// So much is compressed at a time, by all threads.
const BATCH_BYTES: usize = 32 << 20;
/// The file that holds the table of contents.
const TOC_NAME: &str = "stargz.index.json";

/// A layer that was written as eStargz.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stargz {
    /// Digest of the archive that went in.
    pub archive: DiffId,
    /// Digest of the blob.
    pub digest: BlobDigest,
    /// Its size.
    pub size_bytes: u64,
    /// Digest of all that it decompresses to: the diff ID of this layer.
    pub diff_id: DiffId,
    /// Length of that.
    pub uncompressed_bytes: u64,
    /// Digest of the table of contents.
    pub toc: BlobDigest,
}

/// The table of contents.
#[derive(Serialize)]
struct Toc {
    version: u32,
    entries: Vec<TocEntry>,
}

/// A file, or a piece of one beyond its first.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct TocEntry {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    size: u64,
    #[serde(rename = "modtime", skip_serializing_if = "Option::is_none")]
    modified: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    link_name: String,
    #[serde(skip_serializing_if = "is_zero")]
    mode: u64,
    #[serde(skip_serializing_if = "is_zero")]
    uid: u64,
    #[serde(skip_serializing_if = "is_zero")]
    gid: u64,
    /// Where the member with its bytes begins; the number of that member, until this is known.
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    dev_major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    dev_minor: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk_digest: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl TocEntry {
    fn of(member: &Member) -> Self {
        let kind = match member.kind {
            MemberKind::File => "reg",
            MemberKind::HardLink => "hardlink",
            MemberKind::Symlink => "symlink",
            MemberKind::CharDevice => "char",
            MemberKind::BlockDevice => "block",
            MemberKind::Directory => "dir",
            MemberKind::Fifo => "fifo",
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let seconds = member.mtime.seconds;
        Self {
            name: text(&member.path),
            kind,
            size: member.size_bytes,
            modified: (seconds != 0).then(|| rfc3339(seconds)).flatten(),
            link_name: text(&member.link),
            mode: member.mode.into(),
            uid: member.uid.into(),
            gid: member.gid.into(),
            dev_major: member.device.0.into(),
            dev_minor: member.device.1.into(),
            xattrs: member
                .xattrs
                .iter()
                .map(|(name, value)| (text(name), BASE64.encode(value)))
                .collect(),
            ..Self::default()
        }
    }
}

/// A reader that keeps what passes.
#[derive(Debug)]
struct Recorder<R> {
    input: R,
    seen: Vec<u8>,
}

impl<R: Read> Read for Recorder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(buffer)?;
        self.seen.extend_from_slice(&buffer[..length]);
        Ok(length)
    }
}

/// Writes an uncompressed archive as eStargz to `out`, deflated at `level` (0 to 12). The bytes depend on
/// the archive and the level only.
///
/// # Errors
/// Those of reading the archive and of `out`, which then holds a part of the blob;
/// [`LayerError::MalformedTar`] also of an archive that is eStargz's already, or has sparse files.
pub fn write_stargz(
    archive: impl Read,
    level: u32,
    out: &mut impl Write,
) -> Result<Stargz, LayerError> {
    let failed = LayerError::stream("write a layer as eStargz");
    let mut members = Members::new(out, level)?;
    let mut tar = TarReader::new(Recorder { input: archive, seen: Vec::new() });
    let mut toc = Toc { version: 1, entries: Vec::new() };
    loop {
        let member = tar.next_member()?;
        members.push(&mut tar.input_mut().seen);
        let Some(member) = member else { break };
        if member.path.strip_prefix(b"./").unwrap_or(&member.path) == TOC_NAME.as_bytes() {
            return Err(tar.malformed("it holds a file that is called stargz.index.json"));
        }
        file(&mut tar, &member, (&mut toc, &mut members)).and_then(|()| {
            members.write_batch(BATCH_BYTES).map_err(LayerError::stream("write a layer as eStargz"))
        })?;
    }
    let rest = tar.input_mut();
    io::copy(rest, &mut io::sink()).map_err(LayerError::stream("read a layer archive"))?;
    members.push(&mut rest.seen);
    members.finish(toc).map_err(failed)
}

/// Takes a member's bytes.
fn file<R: Read, W: Write>(
    tar: &mut TarReader<Recorder<R>>,
    member: &Member,
    (toc, members): (&mut Toc, &mut Members<W>),
) -> Result<(), LayerError> {
    let mut entry = TocEntry::of(member);
    let first = toc.entries.len();
    let (mut whole, mut done) = (Sha256::new(), 0);
    let mut buffer =
        vec![0; CHUNK_BYTES.min(usize::try_from(member.size_bytes).unwrap_or(CHUNK_BYTES))];
    while done < member.size_bytes {
        let mut filled = 0;
        loop {
            let length = tar.read(&mut buffer[filled..])?;
            filled += length;
            if length == 0 || filled == buffer.len() {
                break;
            }
        }
        let chunk = &buffer[..filled];
        let stored = &mut tar.input_mut().seen;
        if stored != chunk {
            return Err(tar.malformed("eStargz has no room for sparse files"));
        }
        whole.update(chunk);
        members.begin();
        entry.offset = members.count;
        entry.chunk_offset = done;
        entry.chunk_size = if filled == CHUNK_BYTES { filled as u64 } else { 0 };
        entry.chunk_digest = Some(BlobDigest::of(chunk).to_string());
        members.push(stored);
        done += filled as u64;
        let next = TocEntry { name: entry.name.clone(), kind: "chunk", ..TocEntry::default() };
        toc.entries.push(std::mem::replace(&mut entry, next));
    }
    if member.size_bytes == 0 {
        toc.entries.push(entry);
    }
    if member.kind == MemberKind::File {
        let digest = BlobDigest::from_bytes(whole.finalize().into());
        toc.entries[first].digest = Some(digest.to_string());
    }
    Ok(())
}

/// gzip members on their way out.
struct Members<W: Write> {
    out: DigestWriter<W>,
    level: libdeflater::CompressionLvl,
    threads: NonZero<usize>,
    plain: Sha256,
    plain_bytes: u64,
    /// Members that are not written yet, uncompressed; the last one is being filled.
    waiting: Vec<Vec<u8>>,
    waiting_bytes: usize,
    /// Number of the member that is being filled.
    count: u64,
    /// Where the members begin that are written.
    offsets: Vec<u64>,
    size_bytes: u64,
}

impl<W: Write> Members<W> {
    fn new(out: W, level: u32) -> Result<Self, LayerError> {
        let wrong = |_| LayerError::CompressionLevel {
            compression: "estargz",
            level: level.into(),
            first: 0,
            last: 12,
        };
        Ok(Self {
            out: DigestWriter::new(out),
            level: libdeflater::CompressionLvl::new(level.cast_signed()).map_err(wrong)?,
            threads: std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN),
            plain: Sha256::new(),
            plain_bytes: 0,
            waiting: vec![Vec::new()],
            waiting_bytes: 0,
            count: 0,
            offsets: Vec::new(),
            size_bytes: 0,
        })
    }

    /// Takes bytes into the member that is being filled.
    fn push(&mut self, bytes: &mut Vec<u8>) {
        self.plain.update(&bytes);
        self.plain_bytes += bytes.len() as u64;
        self.waiting_bytes += bytes.len();
        match self.waiting.last_mut() {
            Some(last) if !last.is_empty() => {
                last.extend_from_slice(bytes);
                bytes.clear();
            }
            Some(last) => std::mem::swap(last, bytes),
            None => self.waiting.push(std::mem::take(bytes)),
        }
    }

    /// Begins a new member.
    fn begin(&mut self) {
        self.waiting.push(Vec::new());
        self.count += 1;
    }

    /// Compresses and writes all members but the last when so many bytes are waiting.
    fn write_batch(&mut self, most: usize) -> io::Result<()> {
        if self.waiting_bytes < most {
            return Ok(());
        }
        let last = self.waiting.pop().unwrap_or_default();
        let batch = std::mem::take(&mut self.waiting);
        self.waiting_bytes = last.len();
        self.waiting.push(last);
        self.write(&batch)
    }

    fn write(&mut self, batch: &[Vec<u8>]) -> io::Result<()> {
        let (level, share) = (self.level, batch.len().div_ceil(self.threads.get()).max(1));
        let compressed = std::thread::scope(|scope| {
            let parts: Vec<_> = batch
                .chunks(share)
                .map(|part| scope.spawn(move || compress(part, level)))
                .collect();
            parts
                .into_iter()
                .map(|part| part.join().expect("compressing does not panic"))
                .collect::<io::Result<Vec<_>>>()
        })?;
        for member in compressed.iter().flatten() {
            self.offsets.push(self.size_bytes);
            self.size_bytes += member.len() as u64;
            self.out.write_all(member)?;
        }
        Ok(())
    }

    /// Writes what is left, the table of contents and where that is.
    fn finish(mut self, mut toc: Toc) -> io::Result<Stargz> {
        self.write_batch(0)?;
        let last = std::mem::take(&mut self.waiting);
        self.write(&last)?;
        let archive = DiffId::from_bytes(self.plain.clone().finalize().into());
        for entry in toc.entries.iter_mut().filter(|entry| entry.chunk_digest.is_some()) {
            entry.offset = self.offsets[entry.offset as usize];
        }
        let json = serde_json::to_vec(&toc)?;
        let mut table = plain_header(TOC_NAME, Some(json.len() as u64)).to_vec();
        table.extend_from_slice(&json);
        table.resize(table.len().next_multiple_of(BLOCK_BYTES) + 2 * BLOCK_BYTES, 0);
        let toc_offset = self.size_bytes;
        self.push(&mut table);
        let table = std::mem::take(&mut self.waiting);
        self.write(&table)?;
        self.out.write_all(&footer(toc_offset))?;
        self.out.flush()?;
        let (_, digest, size_bytes) = self.out.finish();
        Ok(Stargz {
            archive,
            digest,
            size_bytes,
            diff_id: DiffId::from_bytes(self.plain.finalize().into()),
            uncompressed_bytes: self.plain_bytes,
            toc: BlobDigest::of(&json),
        })
    }
}

fn compress(members: &[Vec<u8>], level: libdeflater::CompressionLvl) -> io::Result<Vec<Vec<u8>>> {
    let mut encoder = libdeflater::Compressor::new(level);
    let compress = |member: &Vec<u8>| {
        let mut room = vec![0; encoder.gzip_compress_bound(member.len())];
        let length = encoder
            .gzip_compress(member, &mut room)
            .map_err(|error| io::Error::other(error.to_string()))?;
        room.truncate(length);
        Ok(room)
    };
    members.iter().map(compress).collect()
}

/// The last 51 bytes: an empty gzip member whose extra field (RFC 1952, 2.3.1.1) says where the member
/// of the table begins.
fn footer(toc_offset: u64) -> Vec<u8> {
    let place = format!("{toc_offset:016x}STARGZ");
    let mut bytes = vec![0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff];
    bytes.extend_from_slice(&(place.len() as u16 + 4).to_le_bytes());
    bytes.extend_from_slice(b"SG");
    bytes.extend_from_slice(&(place.len() as u16).to_le_bytes());
    bytes.extend_from_slice(place.as_bytes());
    // One stored block of nothing, its checksum and its length.
    bytes.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
    bytes.extend_from_slice(&[0; 8]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::decompressor;

    /// An archive of files with these bytes, a directory and a link.
    fn archive(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let header = |kind: tar::EntryType, size: usize| {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(kind);
            header.set_size(size as u64);
            header.set_mode(0o640);
            header.set_uid(7);
            header.set_mtime(981_173_106);
            header
        };
        for (name, bytes) in files {
            let mut header = header(tar::EntryType::Regular, bytes.len());
            builder.append_data(&mut header, name, &bytes[..]).unwrap();
        }
        builder.append_data(&mut header(tar::EntryType::Directory, 0), "dir/", &[][..]).unwrap();
        builder.append_link(&mut header(tar::EntryType::Link, 0), "dir/hard", files[0].0).unwrap();
        builder.into_inner().unwrap()
    }

    fn decompress(mut gzip: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        decompressor(&mut gzip).read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// What a lazy reader gets: the member at an offset, and no more.
    fn member(blob: &[u8], offset: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(&blob[offset as usize..]).read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn files_are_read_one_by_one_by_the_table_at_the_end() {
        let large: Vec<u8> = (0..CHUNK_BYTES as u32 + 9_u32).map(|n| (n % 251) as u8).collect();
        let small = b"small".to_vec();
        let tar = archive(&[("large", large.clone()), ("small", small.clone()), ("empty", vec![])]);
        let mut blob = Vec::new();
        let written = write_stargz(&tar[..], 2, &mut blob).unwrap();
        assert_eq!(written.digest, BlobDigest::of(&blob));
        assert_eq!(written.size_bytes, blob.len() as u64);
        assert_eq!(written.archive.as_blob(), BlobDigest::of(&tar));
        // A gzip layer as any other, whose archive is what it was.
        let plain = decompress(&blob);
        assert_eq!(written.diff_id.as_blob(), BlobDigest::of(&plain));
        assert_eq!(written.uncompressed_bytes, plain.len() as u64);
        assert!(plain.starts_with(&tar));

        let footer = &blob[blob.len() - 51..];
        let place = str::from_utf8(&footer[16..38]).unwrap();
        let toc_offset = u64::from_str_radix(place.strip_suffix("STARGZ").unwrap(), 16).unwrap();
        let table = member(&blob, toc_offset);
        assert_eq!(table, plain[tar.len()..]);
        let mut table = tar::Archive::new(&table[..]);
        let mut entry = table.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap().to_str(), Some(TOC_NAME));
        let mut json = Vec::new();
        entry.read_to_end(&mut json).unwrap();
        assert_eq!(written.toc, BlobDigest::of(&json));
        let toc: serde_json::Value = serde_json::from_slice(&json).unwrap();

        let entries = toc["entries"].as_array().unwrap();
        let chunks: Vec<&[u8]> = large.chunks(CHUNK_BYTES).chain([&small[..]]).collect();
        let of_files = entries.iter().filter(|entry| entry.get("chunkDigest").is_some());
        for (entry, chunk) in of_files.zip(&chunks) {
            assert!(member(&blob, entry["offset"].as_u64().unwrap()).starts_with(chunk));
            assert_eq!(entry["chunkDigest"], BlobDigest::of(chunk).to_string());
        }
        let mut shown = toc.clone();
        for entry in shown["entries"].as_array_mut().unwrap() {
            for (key, value) in entry.as_object_mut().unwrap() {
                if ["offset", "digest", "chunkDigest"].contains(&key.as_str()) {
                    *value = "…".into();
                }
            }
        }
        let shown: Vec<String> =
            shown["entries"].as_array().unwrap().iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        {"name":"large","type":"reg","size":4194313,"modtime":"2001-02-03T04:05:06Z","mode":416,"uid":7,"offset":"…","digest":"…","chunkSize":4194304,"chunkDigest":"…"}
        {"name":"large","type":"chunk","offset":"…","chunkOffset":4194304,"chunkDigest":"…"}
        {"name":"small","type":"reg","size":5,"modtime":"2001-02-03T04:05:06Z","mode":416,"uid":7,"offset":"…","digest":"…","chunkDigest":"…"}
        {"name":"empty","type":"reg","modtime":"2001-02-03T04:05:06Z","mode":416,"uid":7,"digest":"…"}
        {"name":"dir/","type":"dir","modtime":"2001-02-03T04:05:06Z","mode":416,"uid":7}
        {"name":"dir/hard","type":"hardlink","modtime":"2001-02-03T04:05:06Z","linkName":"large","mode":416,"uid":7}
        "#);
    }

    #[test]
    fn bytes_depend_on_the_archive_alone() {
        let files: Vec<(String, Vec<u8>)> =
            (0..300_u32).map(|n| (format!("f{n}"), vec![n as u8; 200_000])).collect();
        let files: Vec<(&str, Vec<u8>)> =
            files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
        let tar = archive(&files);
        let write = |input: &mut dyn Read| {
            let mut blob = Vec::new();
            write_stargz(input, 2, &mut blob).unwrap();
            blob
        };
        let blob = write(&mut &tar[..]);
        assert!(blob == write(&mut io::BufReader::with_capacity(7, &tar[..])));
        assert!(decompress(&blob).starts_with(&tar));
    }

    #[test]
    fn what_is_stargz_already_or_broken_is_refused() {
        let tar = archive(&[(TOC_NAME, vec![1])]);
        let error = write_stargz(&tar[..], 2, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains(TOC_NAME), "{error}");
        let tar = archive(&[("file", vec![1; 5000])]);
        write_stargz(&tar[..3000], 2, &mut Vec::new()).unwrap_err();
    }
}
