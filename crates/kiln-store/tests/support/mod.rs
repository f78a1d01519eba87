//! Archives made by hand, and strategies for random ones.
#![allow(dead_code, reason = "every test file uses a part of it")]

use std::path::Path;

use kiln_core::digest::{BlobDigest, DiffId};
use kiln_store::layer::{
    BlobCheck, LayerIndex, TarOptions, TarXattrs, Unpack, apply_tar, unpack, write_tar,
};
use kiln_store::layer_error::LayerError;
use proptest::prelude::*;

/// Whether this process may make devices and owners; the tests of unpacking need that.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// One member of a hand-made archive.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    pub(crate) name: Vec<u8>,
    pub(crate) type_flag: u8,
    pub(crate) link: Vec<u8>,
    pub(crate) data: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) mtime: i64,
    pub(crate) device: (u32, u32),
    pub(crate) pax: Vec<(Vec<u8>, Vec<u8>)>,
}

pub(crate) fn raw(type_flag: u8, name: impl AsRef<[u8]>) -> Raw {
    Raw {
        name: name.as_ref().to_vec(),
        type_flag,
        link: Vec::new(),
        data: Vec::new(),
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: 1_700_000_000,
        device: (0, 0),
        pax: Vec::new(),
    }
}

pub(crate) fn file(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Raw {
    Raw { data: data.as_ref().to_vec(), mode: 0o644, ..raw(b'0', name) }
}

pub(crate) fn dir(name: impl AsRef<[u8]>) -> Raw {
    raw(b'5', name)
}

pub(crate) fn link(type_flag: u8, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Raw {
    Raw { link: target.as_ref().to_vec(), ..raw(type_flag, name) }
}

impl Raw {
    pub(crate) fn pax(mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.pax.push((key.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }
}

pub(crate) fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length =
        (rest..rest + 20).find(|length| length.to_string().len() + rest == *length).unwrap();
    [format!("{length} ").as_bytes(), key, b"=", value, b"\n"].concat()
}

fn header(raw: &Raw, type_flag: u8, name: &[u8], size: usize) -> Vec<u8> {
    let mut block = vec![0; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &name[..name.len().min(100)]);
    put(100, format!("{:07o}\0", raw.mode).as_bytes());
    for (at, id) in [(108, raw.uid), (116, raw.gid)] {
        if id > 0o7_777_777 {
            let mut bytes = [0x80, 0, 0, 0, 0, 0, 0, 0];
            bytes[1..].copy_from_slice(&id.to_be_bytes()[1..]);
            put(at, &bytes);
        } else {
            put(at, format!("{id:07o}\0").as_bytes());
        }
    }
    put(124, format!("{size:011o}\0").as_bytes());
    if raw.mtime < 0 {
        put(136, &[0xff; 4]);
        put(140, &raw.mtime.to_be_bytes());
    } else {
        put(136, format!("{:011o}\0", raw.mtime).as_bytes());
    }
    put(148, b"        ");
    put(156, &[type_flag]);
    put(157, &raw.link[..raw.link.len().min(100)]);
    put(257, b"ustar\x0000");
    put(329, format!("{:07o}\0", raw.device.0).as_bytes());
    put(337, format!("{:07o}\0", raw.device.1).as_bytes());
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// The archive of `members`, with its end mark.
pub(crate) fn archive(members: &[Raw]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for raw in members {
        let mut pax: Vec<u8> = raw.pax.iter().flat_map(|(k, v)| record(k, v)).collect();
        if raw.name.len() > 100 {
            pax.extend(record(b"path", &raw.name));
        }
        if raw.link.len() > 100 {
            pax.extend(record(b"linkpath", &raw.link));
        }
        if !pax.is_empty() {
            bytes.extend(header(&raw.clone(), b'x', b"pax", pax.len()));
            bytes.extend(&pax);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes.extend(header(raw, raw.type_flag, &raw.name, raw.data.len()));
        bytes.extend(&raw.data);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

pub(crate) fn apply(members: &[Raw], dest: &Path) -> Result<LayerIndex, LayerError> {
    apply_bytes(&archive(members), dest)
}

/// Unpacks an archive. To look into it without unpacking anything must tell the same.
pub(crate) fn apply_bytes(bytes: &[u8], dest: &Path) -> Result<LayerIndex, LayerError> {
    let applied = apply_tar(bytes, dest);
    let digest = BlobDigest::of(bytes);
    let expected = Unpack { digest, diff_id: DiffId::from_bytes(*digest.as_bytes()) };
    let listed = unpack(bytes, (expected, BlobCheck::Here), None);
    match (&applied, &listed) {
        (Ok(applied), Ok(listed)) => assert_eq!(applied, listed),
        // The kernel may refuse what the archive says.
        (Err(_), _) => {}
        (Ok(_), Err(error)) => panic!("it cannot be looked into: {error}"),
    }
    applied
}

/// The archive that kiln writes for a layer, with all attributes.
pub(crate) fn written(index: &LayerIndex, fs: &Path) -> Vec<u8> {
    let options = TarOptions { xattrs: TarXattrs::All, ..TarOptions::default() };
    let mut bytes = Vec::new();
    write_tar(index, fs, &options, &mut bytes).unwrap();
    bytes
}

/// Names that collide often, and a few awkward ones.
pub(crate) fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        12 => proptest::sample::select(vec![&b"a"[..], b"b", b"c", b"a-b", b"d"])
            .prop_map(<[u8]>::to_vec),
        1 => Just(b"new\nline=7 x".to_vec()),
        1 => Just(b"\xff\xfe latin".to_vec()),
        1 => Just("größe".as_bytes().to_vec()),
        1 => Just(vec![b'l'; 120]),
        1 => Just(vec![b'm'; 255]),
    ]
}

pub(crate) fn path() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(name(), 1..4).prop_map(|names| names.join(&b'/'))
}

/// Any member that an archive may have, whether it can be unpacked or not.
pub(crate) fn member() -> impl Strategy<Value = Raw> {
    let kind = prop_oneof![
        5 => proptest::collection::vec(any::<u8>(), 0..700).prop_map(|data| (b'0', data)),
        4 => Just((b'5', Vec::new())),
        2 => Just((b'1', Vec::new())),
        2 => Just((b'2', Vec::new())),
        1 => Just((b'6', Vec::new())),
        1 => Just((b'3', Vec::new())),
        3 => Just((b'w', Vec::new())),
        1 => Just((b'o', Vec::new())),
    ];
    let target = prop_oneof![
        4 => path(),
        1 => path().prop_map(|path| [b"../", &path[..]].concat()),
        1 => path().prop_map(|path| [b"/", &path[..]].concat()),
    ];
    let owner = prop_oneof![3 => Just(0_u64), 1 => Just(1000), 1 => Just(3_000_000_000)];
    let mode = proptest::sample::select(vec![0o644_u32, 0o755, 0o4755, 0o2775, 0o1777, 0, 0o111]);
    let xattr = prop_oneof![4 => Just(None), 1 => Just(Some(b"v\nalue=\0".to_vec()))];
    (path(), kind, target, owner, mode, -5_i64..2_000_000_000, xattr).prop_map(
        |(path, (type_flag, data), target, uid, mode, mtime, xattr)| {
            let slash = path.iter().rposition(|byte| *byte == b'/');
            let (dir, base) = slash.map_or((&b""[..], &path[..]), |at| path.split_at(at + 1));
            let mut raw = match type_flag {
                // A name of 255 bytes leaves no room for the prefix.
                b'w' => file([dir, b".wh.", &base[..base.len().min(250)]].concat(), b""),
                b'o' => file([dir, b".wh..wh..opq"].concat(), b""),
                b'1' | b'2' => link(type_flag, path, target),
                _ => Raw { data, ..raw(type_flag, path) },
            };
            (raw.uid, raw.gid, raw.mode, raw.mtime) = (uid, uid / 2, mode, mtime);
            raw.device = (1, 3);
            if let Some(value) = xattr {
                raw = raw.pax("SCHILY.xattr.user.x", value);
            }
            raw
        },
    )
}

/// The members of `members` that can be unpacked one after another.
pub(crate) fn unpackable(members: Vec<Raw>) -> Vec<Raw> {
    let mut kept: Vec<Raw> = Vec::new();
    for member in members {
        kept.push(member);
        let dest = tempfile::tempdir().unwrap();
        if apply(&kept, dest.path()).is_err() {
            kept.pop();
        }
    }
    kept
}
