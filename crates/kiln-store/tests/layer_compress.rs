//! Compressed layers are the same on every machine, and every tool reads them.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::path::Path;
use std::process::{Command, Stdio};

use kiln_core::digest::BlobDigest;
use kiln_store::layer::{
    Compression, Compressor, DigestWriter, OldFrames, Packing, TarOptions, TarTimes, TarXattrs,
    decompressor, pack, scan,
};
use kiln_store::layer_error::LayerError;
use proptest::prelude::*;
use support::{apply, dir, file, is_root, link};

const COMPRESSIONS: [Compression; 5] = [
    Compression::Uncompressed,
    Compression::Gzip { level: Some(1) },
    Compression::GZIP,
    Compression::ZSTD,
    Compression::Zstd { level: 19 },
];

/// Bytes that compress somewhat.
fn bytes(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8 & 0x3f
    };
    (0..length).map(|_| next()).collect()
}

fn compressed(bytes: &[u8], compression: Compression, threads: usize, piece: usize) -> Vec<u8> {
    let threads = NonZero::new(threads).unwrap();
    let mut compressor = Compressor::with_threads(Vec::new(), compression, threads).unwrap();
    for piece in bytes.chunks(piece) {
        compressor.write_all(piece).unwrap();
        compressor.flush().unwrap();
    }
    compressor.finish().unwrap().out
}

fn packing(compression: Compression) -> Packing<'static> {
    static OPTIONS: TarOptions = TarOptions { times: TarTimes::Own, xattrs: TarXattrs::Capability };
    Packing { compression, options: &OPTIONS, old: None }
}

fn decompressed(blob: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    decompressor(blob).read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn the_bytes_do_not_depend_on_threads_or_on_how_they_are_written() {
    for length in [0, 1, 1000, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5_300_000] {
        let bytes = bytes(length);
        for compression in &COMPRESSIONS[..4] {
            let one = compressed(&bytes, *compression, 1, 1 << 22);
            for (threads, piece) in [(2, 1 << 22), (4, 70_001), (1, 8191)] {
                let other = compressed(&bytes, *compression, threads, piece);
                assert!(other == one, "{compression:?} {length} {threads}");
            }
            assert!(decompressed(&one) == bytes, "{compression:?} {length}");
        }
    }
}

/// Frozen: a change here changes the digests of images that people have built.
#[test]
fn the_bytes_do_not_change() {
    let bytes = bytes(3_000_000);
    let digest = |compression| BlobDigest::of(&compressed(&bytes, compression, 2, 1 << 20)).hex();
    let digests = [
        digest(Compression::Gzip { level: Some(1) })[..16].to_owned(),
        digest(Compression::GZIP)[..16].to_owned(),
        digest(Compression::ZSTD)[..16].to_owned(),
    ];
    insta::assert_debug_snapshot!(digests, @r#"
    [
        "8ac6bc8d534254ed",
        "5dc77a4f4dd312d3",
        "8ac8efb343e2fa0f",
    ]
    "#);
}

proptest! {
    #[test]
    fn plain_bytes_pass_unless_they_are_compressed(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut read = Vec::new();
        let result = decompressor(&bytes[..]).read_to_end(&mut read);
        let gzip = bytes.starts_with(&[0x1f, 0x8b]);
        if !gzip && !bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) && result.is_ok() {
            prop_assert_eq!(read, bytes);
        }
    }
}

#[test]
fn cut_streams_are_errors() {
    let bytes = bytes(2_500_000);
    for compression in [Compression::GZIP, Compression::ZSTD] {
        let blob = compressed(&bytes, compression, 2, 1 << 20);
        for cut in [5, 100, blob.len() / 2, blob.len() - 1] {
            let mut read = Vec::new();
            assert!(
                decompressor(&blob[..cut]).read_to_end(&mut read).is_err(),
                "{compression:?} {cut}"
            );
        }
        let mut trailing = blob.clone();
        trailing.extend(b"garbage");
        assert!(decompressor(&trailing[..]).read_to_end(&mut Vec::new()).is_err());
    }
}

#[test]
fn a_skippable_frame_may_come_first() {
    let mut blob = vec![0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    blob.extend(compressed(b"hello", Compression::ZSTD, 1, 10));
    assert_eq!(decompressed(&blob), b"hello");
}

#[test]
fn levels_have_limits() {
    for compression in [
        Compression::Gzip { level: Some(13) },
        Compression::Zstd { level: 0 },
        Compression::Zstd { level: 23 },
    ] {
        let error = Compressor::new(Vec::new(), compression).map(|_| ());
        assert!(matches!(error, Err(LayerError::CompressionLevel { .. })));
    }
    for compression in [Compression::Gzip { level: Some(0) }, Compression::Gzip { level: Some(12) }]
    {
        assert_eq!(decompressed(&compressed(b"x", compression, 1, 1)), b"x");
    }
}

#[test]
fn a_failing_writer_is_an_error_and_not_a_hang() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let tree = tempfile::tempdir().unwrap();
    fs::write(tree.path().join("f"), bytes(20_000_000)).unwrap();
    let index = scan(tree.path()).unwrap();
    for compression in COMPRESSIONS {
        let result = pack(&index, tree.path(), packing(compression), &mut Full(1 << 21));
        let Err(LayerError::Stream { source, .. }) = result else { panic!("{result:?}") };
        assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
    }
    // The other way round: a file that shrinks.
    fs::write(tree.path().join("f"), b"short").unwrap();
    let result = pack(&index, tree.path(), packing(Compression::GZIP), &mut Vec::new());
    assert!(matches!(result, Err(LayerError::Changed { .. })), "{result:?}");
}

#[test]
fn blocks_of_an_older_blob_change_no_byte() {
    let tree = tempfile::tempdir().unwrap();
    for n in 0..600 {
        fs::write(tree.path().join(format!("f{n:03}")), bytes(5000 + n)).unwrap();
    }
    fs::write(tree.path().join("large"), bytes(3_500_000)).unwrap();
    let mut round = 0;
    for compression in &COMPRESSIONS[..4] {
        let older = tempfile::NamedTempFile::new().unwrap();
        let index = scan(tree.path()).unwrap();
        let first = pack(&index, tree.path(), packing(*compression), &mut older.as_file()).unwrap();
        // Nothing, the first, one in the middle, within large files, at the end, one more.
        for name in ["", "f000", "f300", "large", "zlast", "zlast2"] {
            round += 1;
            if !name.is_empty() {
                let length = if name == "large" { 3_600_000 } else { 7777 };
                fs::write(tree.path().join(name), bytes(length + round)).unwrap();
            }
            let index = scan(tree.path()).unwrap();
            let mut alone = Vec::new();
            let expected = pack(&index, tree.path(), packing(*compression), &mut alone).unwrap();
            let old = OldFrames::new(older.reopen().unwrap(), first.frames.clone());
            let mut reusing = Vec::new();
            let again = Packing { old: Some(old), ..packing(*compression) };
            let packed = pack(&index, tree.path(), again, &mut reusing).unwrap();
            assert_eq!(packed, expected, "{compression:?} {name}");
            assert!(reusing == alone);
            assert_eq!(packed.digest == first.digest, name.is_empty());
        }
        for name in ["zlast", "zlast2"] {
            fs::remove_file(tree.path().join(name)).unwrap();
        }
    }
}

#[test]
fn a_layer_is_cut_as_its_archive_is() {
    let tree = tempfile::tempdir().unwrap();
    for n in 0..300 {
        fs::write(tree.path().join(format!("f{n:03}")), bytes(9000 + n)).unwrap();
    }
    for (name, length) in [("g", 2 << 20), ("h", 1), ("i", 3_500_000), ("j", (1 << 20) - 512)] {
        fs::write(tree.path().join(name), bytes(length)).unwrap();
    }
    let index = scan(tree.path()).unwrap();
    for compression in COMPRESSIONS {
        let mut blob = Vec::new();
        let packed = pack(&index, tree.path(), packing(compression), &mut blob).unwrap();
        let archive = decompressed(&blob);
        assert_eq!(packed.uncompressed_bytes, archive.len() as u64);
        assert_eq!(packed.diff_id.as_blob(), BlobDigest::of(&archive));
        assert_eq!((packed.digest, packed.size_bytes), (BlobDigest::of(&blob), blob.len() as u64));
        assert!(compressed(&archive, compression, 2, 12_345) == blob, "{compression:?}");
    }
}

#[test]
fn files_before_the_first_change_are_not_read() {
    let tree = tempfile::tempdir().unwrap();
    for n in 0..600 {
        fs::write(tree.path().join(format!("f{n:03}")), bytes(5000 + n)).unwrap();
    }
    let older = tempfile::NamedTempFile::new().unwrap();
    let index = scan(tree.path()).unwrap();
    let compression = Compression::GZIP;
    let first = pack(&index, tree.path(), packing(compression), &mut older.as_file()).unwrap();
    fs::write(tree.path().join("f590"), "changed").unwrap();
    let index = scan(tree.path()).unwrap();
    fs::remove_file(tree.path().join("f000")).unwrap();
    assert!(pack(&index, tree.path(), packing(compression), &mut Vec::new()).is_err());
    let reuse = |blob| Packing {
        old: Some(OldFrames::new(blob, first.frames.clone())),
        ..packing(compression)
    };
    pack(&index, tree.path(), reuse(older.reopen().unwrap()), &mut Vec::new()).unwrap();
    // An older blob that was cut short is none.
    older.as_file().set_len(1000).unwrap();
    let cut = pack(&index, tree.path(), reuse(older.reopen().unwrap()), &mut Vec::new());
    assert!(cut.is_err());
}

#[test]
fn digests_are_of_what_was_written() {
    let mut writer = DigestWriter::new(Vec::new());
    writer.write_all(b"hello ").unwrap();
    writer.write_all(b"world").unwrap();
    assert_eq!(writer.finish(), (b"hello world".to_vec(), BlobDigest::of(b"hello world"), 11));
}

fn run(program: &str, args: &[&str], stdin: &Path) -> Option<Vec<u8>> {
    let output = Command::new(program)
        .args(args)
        .stdin(fs::File::open(stdin).unwrap())
        .stderr(Stdio::piped())
        .output();
    // A tool that is not installed has no opinion.
    let output = output.ok()?;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && error.is_empty(), "{program} {args:?}: {error}");
    Some(output.stdout)
}

#[test]
fn other_tools_read_what_kiln_writes() {
    if !is_root() {
        return;
    }
    let deep = [&[b'p'; 90][..], b"/", &[b'q'; 90], b"/", &[b'r'; 120]].concat();
    let members = [
        dir("d"),
        file("d/f", bytes(3_000_000)),
        link(b'1', "d/g", "d/f"),
        link(b'2', "s", vec![b't'; 150]),
        file(&deep, b"deep"),
        file("größe\nzwei", b"utf-8"),
        file(b"\xff\xfe", b"latin"),
        file(b"long\xff".repeat(30), b"long latin"),
        file("old", b"").pax("mtime", "-100"),
        file("uid", b"").pax("uid", "4000000000"),
        file("cap", b"").pax(
            "SCHILY.xattr.security.capability",
            b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        ),
        file(".wh.gone", b""),
        file("d/.wh..wh..opq", b""),
    ];
    let root = tempfile::tempdir().unwrap();
    let tree = root.path().join("tree");
    let index = apply(&members, &tree).unwrap();
    let mut expected: Vec<Vec<u8>> = index.entries()[1..]
        .iter()
        .map(|entry| match &entry.path[..] {
            b"gone" => b".wh.gone".to_vec(),
            path => path.to_vec(),
        })
        .collect();
    expected.push(b"d/.wh..wh..opq".to_vec());
    expected.retain(|path| index.implied().all(|entry| entry.path != *path));
    expected.sort();

    for (compression, name) in
        [(Compression::Uncompressed, "tar"), (Compression::GZIP, "gz"), (Compression::ZSTD, "zst")]
    {
        let path = root.path().join(name);
        let mut out = fs::File::create(&path).unwrap();
        pack(&index, &tree, packing(compression), &mut out).unwrap();
        let plain = decompressed(&fs::read(&path).unwrap());
        match name {
            "gz" => {
                assert_eq!(run("gzip", &["-t"], &path), Some(Vec::new()));
                assert!(run("gzip", &["-dc"], &path) == Some(plain));
            }
            "zst" => assert!(run("zstd", &["-dcq"], &path).is_none_or(|bytes| bytes == plain)),
            _ => {}
        }
        let listing = "import sys, tarfile, os
names = [os.fsencode(m.name) for m in tarfile.open(sys.argv[1])]
sys.stdout.buffer.write(b'\\0'.join(sorted(names)))";
        if name != "zst"
            && let Some(names) = run("python3", &["-c", listing, path.to_str().unwrap()], &path)
        {
            let names: Vec<Vec<u8>> = names.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
            assert_eq!(names, expected);
        }
    }
    let path = root.path().join("tar");
    let listed = run("tar", &["--quoting-style=literal", "--null", "-tf", "-"], &path).unwrap();
    let lines = listed.split(|byte| *byte == b'\n').count() - 1;
    assert_eq!(lines, expected.len() + 1, "one of the names has a line end");

    // GNU tar unpacks the same files.
    let copy = root.path().join("copy");
    fs::create_dir(&copy).unwrap();
    run(
        "tar",
        &[
            "-C",
            copy.to_str().unwrap(),
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=*",
            "--warning=no-timestamp",
            "-xpf",
            "-",
        ],
        &path,
    );
    let copied = scan(&copy).unwrap();
    for entry in &index.entries()[1..] {
        let name = String::from_utf8_lossy(&entry.path).into_owned();
        if entry.path == b"gone" || entry.kind.is_directory() {
            continue;
        }
        let other = copied.find(&entry.path).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(other, entry, "{name}");
    }
}
