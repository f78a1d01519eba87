//! Directory, index and archive say the same.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use kiln_core::digest::{DiffId, FileDigest};
use kiln_store::layer::{
    BlobCheck, Compression, Entry, EntryKind, LayerIndex, Packing, TarOptions, TarReader, TarTimes,
    Timestamp, Unpack, pack, scan, unpack, write_tar,
};
use kiln_store::layer_error::LayerError;
use proptest::prelude::*;
use support::{
    Raw, apply, apply_bytes, dir, file, is_root, link, member, raw, unpackable, written,
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// What is unpacked is what is on disk, and packing it and unpacking that changes nothing.
    #[test]
    fn apply_scan_and_write_agree(members in proptest::collection::vec(member(), 0..18)) {
        if !is_root() { return Ok(()); }
        let members = unpackable(members);
        let one = tempfile::tempdir().unwrap();
        let applied = apply(&members, one.path()).unwrap();
        let scanned = scan(one.path()).unwrap();
        prop_assert_eq!(applied.entries(), scanned.entries());

        let tar = written(&scanned, one.path());
        let two = tempfile::tempdir().unwrap();
        let again = apply_bytes(&tar, two.path()).unwrap();
        prop_assert_eq!(&again.entries()[1..], &scanned.entries()[1..]);
        prop_assert_eq!(written(&again, two.path()), tar);

        prop_assert_eq!(&LayerIndex::decode(&applied.encode()).unwrap(), &applied);
        let rebuilt = LayerIndex::from_entries(scanned.entries().to_vec()).unwrap();
        prop_assert_eq!(rebuilt.content_id(), applied.content_id());
    }

    #[test]
    fn decoding_garbage_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = LayerIndex::decode(&bytes);
        bytes.splice(0..0, *b"kilnidx\x01");
        // With the right checksum, the body itself is what is looked at.
        let checksum = blake3::hash(&bytes);
        bytes.extend(&checksum.as_bytes()[..16]);
        let _ = LayerIndex::decode(&bytes);
    }

    #[test]
    fn reading_garbage_never_panics(
        mut tar in proptest::collection::vec(member(), 1..4).prop_map(|m| support::archive(&m)),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        if !is_root() { return Ok(()); }
        for (at, byte) in flips {
            let at = at.index(tar.len());
            tar[at] = byte;
        }
        tar.truncate(cut.index(tar.len()));
        let dest = tempfile::tempdir().unwrap();
        if let Ok(index) = apply_bytes(&tar, dest.path()) {
            let scanned = scan(dest.path()).unwrap();
            prop_assert_eq!(index.entries(), scanned.entries());
        }
    }
}

#[test]
fn an_empty_layer_is_two_zero_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let index = scan(dir.path()).unwrap();
    assert_eq!(index.entries().len(), 1);
    assert_eq!(written(&index, dir.path()), vec![0; 1024]);
}

#[test]
fn awkward_names_and_numbers_survive() {
    if !is_root() {
        return;
    }
    let deep = vec![vec![b'd'; 200]; 30].join(&b'/');
    let members = vec![
        file(vec![b'n'; 100], b"1"),
        file([&[b'p'; 120][..], b"/", &[b'q'; 90]].concat(), b"2"),
        file(vec![b'r'; 255], b"3"),
        file(b"new\nline", b"4"),
        file(b"\xff\xfe\x80", b"5"),
        file("ümlaut/ß", b"6"),
        file(&deep, b"deeper than the kernel's PATH_MAX"),
        link(b'2', "long", vec![b's'; 300]),
        link(b'2', "dangling", "../../nowhere"),
        Raw { mtime: -86_400, ..file("old", b"7") },
        file("future", b"8").pax("mtime", "8589934592"),
        Raw { uid: 4_000_000_000, gid: 2_097_152, ..file("owned", b"9") },
        Raw { mode: 0o6755, uid: 1000, ..file("setuid", b"10") },
        file("times", b"").pax("mtime", "1.25"),
        Raw { device: (1, 3), ..raw(b'3', "null") },
        Raw { device: (259, 70_000), ..raw(b'4', "disk") },
        raw(b'6', "fifo"),
    ];
    let one = tempfile::tempdir().unwrap();
    let applied = apply(&members, one.path()).unwrap();
    assert_eq!(applied.entries(), scan(one.path()).unwrap().entries());
    assert_eq!(applied.find(&deep).map(|e| e.mode), Some(0o644));
    assert_eq!(applied.find(b"setuid").map(|e| (e.mode, e.uid)), Some((0o6755, 1000)));
    assert_eq!(applied.find(b"old").map(|e| e.mtime.seconds), Some(-86_400));
    let times = Timestamp { seconds: 1, nanoseconds: 250_000_000 };
    assert_eq!(applied.find(b"times").map(|e| e.mtime), Some(times));

    let two = tempfile::tempdir().unwrap();
    let again = apply_bytes(&written(&applied, one.path()), two.path()).unwrap();
    for (old, new) in applied.entries()[1..].iter().zip(&again.entries()[1..]) {
        let whole = Timestamp { nanoseconds: 0, ..old.mtime };
        assert_eq!(new, &Entry { mtime: whole, ..old.clone() });
    }
}

#[test]
fn hard_links_are_canonical() {
    if !is_root() {
        return;
    }
    let members = vec![
        file("z", b"shared"),
        link(b'1', "b", "z"),
        link(b'1', "c", "/b"),
        link(b'2', "s", "z"),
        link(b'1', "t", "s"),
    ];
    let dest = tempfile::tempdir().unwrap();
    // A link whose header differs speaks for all names.
    let mut members = members;
    members[2].mode = 0o600;
    let index = apply(&members, dest.path()).unwrap();
    assert_eq!(index.entries(), scan(dest.path()).unwrap().entries());
    let kind = |path: &[u8]| index.find(path).unwrap().kind.clone();
    assert_eq!(kind(b"b"), EntryKind::File { size_bytes: 6, digest: FileDigest::of(b"shared") });
    assert_eq!(kind(b"z"), EntryKind::HardLink { target: b"b".to_vec() });
    assert_eq!(kind(b"t"), EntryKind::Symlink { target: b"z".to_vec() });
    assert!([b"b", b"c", b"z"].iter().all(|path| index.find(*path).unwrap().mode == 0o600));
    assert_eq!(index.size_bytes(), 6);
}

#[test]
fn capabilities_survive_chown() {
    if !is_root() {
        return;
    }
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let ping = file("ping", b"elf").pax("SCHILY.xattr.security.capability", capability);
    let ping = Raw { uid: 1000, ..ping };
    let one = tempfile::tempdir().unwrap();
    let members = [ping.clone(), link(b'1', "pong", "ping")];
    let index = apply(&members, one.path()).unwrap();
    // The link's header speaks of another owner, which takes capabilities away unless set again.
    assert_eq!(index.entries(), scan(one.path()).unwrap().entries());
    let two = tempfile::tempdir().unwrap();
    let mut tar = Vec::new();
    write_tar(&index, one.path(), &TarOptions::default(), &mut tar).unwrap();
    let again = apply_bytes(&tar, two.path()).unwrap();
    assert_eq!(&index.entries()[1..], &again.entries()[1..]);
    assert_eq!(again.entries()[1].xattrs[&b"security.capability"[..]], capability);
}

#[test]
fn only_capabilities_are_written_by_default() {
    if !is_root() {
        return;
    }
    let dest = tempfile::tempdir().unwrap();
    let index = apply(&[file("f", b"").pax("SCHILY.xattr.user.x", "1")], dest.path()).unwrap();
    assert_eq!(index.entries()[1].xattrs.len(), 1);
    let mut tar = Vec::new();
    write_tar(&index, dest.path(), &TarOptions::default(), &mut tar).unwrap();
    assert_eq!(tar.len(), 512 + 1024);
}

#[test]
fn times_are_clamped_and_truncated() {
    if !is_root() {
        return;
    }
    let dest = tempfile::tempdir().unwrap();
    let members = [
        Raw { mtime: 100, ..file("old", b"") },
        Raw { mtime: 300, ..file("new", b"") },
        file(".wh.gone", b""),
    ];
    let index = apply(&members, dest.path()).unwrap();
    let options = TarOptions { times: TarTimes::NotAfter(200), ..TarOptions::default() };
    let mut tar = Vec::new();
    write_tar(&index, dest.path(), &options, &mut tar).unwrap();
    let times: Vec<_> = tar::Archive::new(&tar[..])
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.path_bytes().into_owned(), entry.header().mtime().unwrap())
        })
        .collect();
    assert_eq!(times, [(b".wh.gone".to_vec(), 0), (b"new".to_vec(), 200), (b"old".to_vec(), 100)]);
}

#[test]
fn compiled_python_counts_after_times_are_rewritten() {
    if !is_root() {
        return;
    }
    let bytecode = |time: u32| [&[0; 8][..], &time.to_le_bytes(), &[0; 8]].concat();
    let members = [
        Raw { mtime: 300, ..file("m.py", b"") },
        file("__pycache__/m.cpython-312.pyc", bytecode(300)),
        file("__pycache__/stale.cpython-312.pyc", bytecode(300)),
    ];
    let dest = tempfile::tempdir().unwrap();
    let index = apply(&members, dest.path()).unwrap();
    let times = |times| {
        let options = TarOptions { times, ..TarOptions::default() };
        let mut tar = Vec::new();
        write_tar(&index, dest.path(), &options, &mut tar).unwrap();
        let mut archive = tar::Archive::new(&tar[..]);
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            if bytes.len() == 20 {
                found.push(u32::from_le_bytes(bytes[8..12].try_into().unwrap()));
            }
        }
        found
    };
    assert_eq!(times(TarTimes::Own), [300, 300]);
    assert_eq!(
        times(TarTimes::NotAfter(200)),
        [200, 300],
        "a source that is elsewhere has its time"
    );
    assert_eq!(times(TarTimes::NotAfter(400)), [300, 300]);
    assert_eq!(times(TarTimes::All(7)), [7, 300]);
}

#[test]
fn times_outside_the_window_have_a_digest() {
    let at = |seconds| Timestamp { seconds, nanoseconds: 0 };
    let entry = |path: &str, kind, seconds| Entry {
        path: path.into(),
        kind,
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: at(seconds),
        xattrs: BTreeMap::new(),
    };
    let index = |a, b| {
        let dir = || EntryKind::Directory { opaque: false };
        let entries = vec![entry("", dir(), 50), entry("a", dir(), a), entry("b", dir(), b)];
        LayerIndex::from_entries(entries).unwrap()
    };
    let window = Some((at(40), at(60)));
    assert_eq!(index(1, 50).times_digest(window), index(1, 55).times_digest(window));
    assert_ne!(index(1, 50).times_digest(window), index(2, 50).times_digest(window));
    assert_ne!(index(1, 50).times_digest(None), index(1, 55).times_digest(None));
    assert_eq!(index(1, 50).content_id(), index(2, 55).content_id());
}

#[test]
fn a_file_of_another_size_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    std::fs::write(&path, b"12345").unwrap();
    let index = scan(dir.path()).unwrap();
    for changed in [&b"1234"[..], b"123456", b""] {
        std::fs::write(&path, changed).unwrap();
        let error = write_tar(&index, dir.path(), &TarOptions::default(), &mut Vec::new());
        assert!(matches!(error, Err(LayerError::Changed { path: p, .. }) if p == path));
    }
    std::fs::remove_file(&path).unwrap();
    let error = write_tar(&index, dir.path(), &TarOptions::default(), &mut Vec::new());
    assert!(matches!(error, Err(LayerError::Io { path: p, .. }) if p == path));
}

#[test]
fn files_named_like_whiteouts_are_written_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(".wh.x"), b"text").unwrap();
    let index = scan(dir.path()).unwrap();
    let mut archive = Vec::new();
    write_tar(&index, dir.path(), &TarOptions::default(), &mut archive).unwrap();
    let member = TarReader::new(&archive[..]).next_member().unwrap().unwrap();
    assert_eq!((&member.path[..], member.size_bytes), (&b".wh.x"[..], 4));
}

#[test]
fn archives_leave_out_sockets_and_what_is_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    std::fs::write(dir.path().join("a"), b"text").unwrap();
    for name in ["b", "c"] {
        std::fs::hard_link(dir.path().join("a"), dir.path().join(name)).unwrap();
    }
    let index = scan(dir.path()).unwrap().with_unchanged([&b"a"[..]]);
    assert_eq!(LayerIndex::decode(&index.encode()).unwrap(), index);
    let mut archive = Vec::new();
    write_tar(&index, dir.path(), &TarOptions::default(), &mut archive).unwrap();
    let mut members = TarReader::new(&archive[..]);
    let mut found = Vec::new();
    while let Some(member) = members.next_member().unwrap() {
        let link = String::from_utf8(member.link).unwrap();
        found.push((String::from_utf8(member.path).unwrap(), link, member.size_bytes));
    }
    let file = |path: &str, link: &str, size| (path.to_owned(), link.to_owned(), size);
    assert_eq!(found, [file("b", "", 4), file("c", "b", 0)]);
}

#[test]
fn unreadable_files_are_read_by_root_and_big_layers_by_many_threads() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..600_u32 {
        let path = dir.path().join(format!("f{n:03}"));
        std::fs::write(&path, n.to_le_bytes().repeat(n as usize * 30)).unwrap();
        let mode = if is_root() { 0 } else { 0o644 };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let index = scan(dir.path()).unwrap();
    for (n, entry) in (0..600_u32).zip(&index.entries()[1..]) {
        let bytes = n.to_le_bytes().repeat(n as usize * 30);
        let kind =
            EntryKind::File { size_bytes: bytes.len() as u64, digest: FileDigest::of(&bytes) };
        assert_eq!((&entry.path[..], &entry.kind), (format!("f{n:03}").as_bytes(), &kind));
    }
}

#[test]
fn pack_and_unpack_in_every_compression() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for size in [10, 5_000_000_u32] {
        let bytes: Vec<u8> = (0..size).flat_map(|n| (n / 7).to_le_bytes()).collect();
        std::fs::write(dir.path().join(format!("f{size}")), bytes).unwrap();
        let index = scan(dir.path()).unwrap();
        let mut diff_ids = Vec::new();
        for compression in [Compression::Uncompressed, Compression::GZIP, Compression::ZSTD] {
            let mut blob = Vec::new();
            let options = TarOptions::default();
            let packed = pack(
                &index,
                dir.path(),
                Packing { compression, options: &options, old: None },
                &mut blob,
            )
            .unwrap();
            assert_eq!(packed.size_bytes, blob.len() as u64);
            diff_ids.push((packed.diff_id, packed.uncompressed_bytes));

            let expected = Unpack { digest: packed.digest, diff_id: packed.diff_id };
            let dest = tempfile::tempdir().unwrap();
            let unpacked =
                unpack(&blob[..], (expected, BlobCheck::Here), Some(dest.path())).unwrap();
            assert_eq!(unpacked.content_id(), scan(dest.path()).unwrap().content_id());
            assert_eq!(unpacked.entries()[1].kind, index.entries()[1].kind);

            let dest = tempfile::tempdir().unwrap();
            let wrong = Unpack { diff_id: DiffId::from_bytes([7; 32]), ..expected };
            let error = unpack(&blob[..], (wrong, BlobCheck::Here), Some(dest.path()));
            assert!(matches!(error, Err(LayerError::DiffIdMismatch { .. })), "{error:?}");

            for damage in [0, 600, blob.len() / 2, blob.len() - 1] {
                let mut damaged = blob.clone();
                if let Some(byte) = damaged.get_mut(damage) {
                    *byte ^= 0x55;
                }
                let dest = tempfile::tempdir().unwrap();
                let error = unpack(&damaged[..], (expected, BlobCheck::Here), Some(dest.path()));
                let damaged_blob = matches!(error, Err(LayerError::BlobMismatch { .. }));
                assert!(damaged_blob || damage >= blob.len(), "{compression:?} {error:?}");
            }
            let dest = tempfile::tempdir().unwrap();
            let error =
                unpack(&blob[..blob.len() - 1], (expected, BlobCheck::Here), Some(dest.path()));
            assert!(matches!(error, Err(LayerError::BlobMismatch { .. })));
        }
        assert!(diff_ids.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

#[test]
fn what_is_there_already_is_an_error() {
    let dest = tempfile::tempdir().unwrap();
    std::fs::write(dest.path().join("x"), b"").unwrap();
    let error = apply(&[dir("a")], dest.path());
    assert!(matches!(error, Err(LayerError::NotEmpty { .. })));
}
