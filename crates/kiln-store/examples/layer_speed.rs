//! How fast layers are scanned, written, packed and unpacked: 10,000 files of 10 KiB, and one of
//! 512 MiB.
//!
//! `cargo run --release -p kiln-store --example layer_speed [DIRECTORY]`; the directory (default:
//! the system's temporary one) should be on the file system to be measured.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a measurement, not the product"
)]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use kiln_store::layer::{
    BlobCheck, Compression, DigestWriter, Ignored, LayerIndex, Packing, TarOptions, Tree, Unpack,
    apply_tar, pack, scan, unpack, write_tar,
};

/// Runs `work` a few times and prints the median.
fn time<T>(name: &str, files: usize, bytes: u64, mut work: impl FnMut(usize) -> T) -> T {
    let mut result = None;
    let mut times: Vec<f64> = (0..5)
        .map(|round| {
            let start = Instant::now();
            result = Some(work(round));
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let (best, median) = (times[0], times[times.len() / 2]);
    let (files, mb) = (files as f64 / median, bytes as f64 / 1e6 / median);
    println!(
        "{name:28} {:8.2} ms (best {:8.2})  {files:10.0} files/s  {mb:8.0} MB/s",
        median * 1e3,
        best * 1e3
    );
    result.unwrap()
}

fn words(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(length + 16);
    while bytes.len() < length {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        write!(bytes, "{} ", (state >> 20) * 37).unwrap();
    }
    bytes.truncate(length);
    bytes
}

fn measure(name: &str, root: &Path, tree: &Path) {
    println!("-- {name}");
    let index = scan(tree).unwrap();
    let files = index.entries().len();
    let bytes = index.size_bytes();
    time("scan", files, bytes, |_| scan(tree).unwrap());
    let encoded = time("encode", files, bytes, |_| index.encode());
    time("decode", files, bytes, |_| LayerIndex::decode(&encoded).unwrap());
    time("content id", files, bytes, |_| index.content_id());
    let view = Tree::new(vec![Arc::new(index.clone())]);
    time("content of the tree", files, bytes, |_| {
        view.content_of(&[b""], Ignored::default()).unwrap()
    });
    let options = TarOptions::default();
    let mut tar = Vec::with_capacity(bytes as usize + files * 1024);
    time("write tar", files, bytes, |_| {
        tar.clear();
        write_tar(&index, tree, &options, &mut tar).unwrap();
    });
    time("sha256", files, bytes, |_| {
        let mut writer = DigestWriter::new(std::io::sink());
        writer.write_all(&tar).unwrap();
        writer.finish()
    });
    time("apply tar", files, bytes, |round| {
        apply_tar(&tar[..], &root.join(format!("{name}-apply-{round}"))).unwrap()
    });
    for compression in [Compression::Uncompressed, Compression::GZIP, Compression::ZSTD] {
        let mut blob = Vec::new();
        let packed = time(&format!("pack {compression:?}"), files, bytes, |_| {
            blob.clear();
            let packing = Packing { compression, options: &options, old: None };
            pack(&index, tree, packing, &mut blob).unwrap()
        });
        let expected = Unpack { digest: packed.digest, diff_id: packed.diff_id };
        time(&format!("unpack {compression:?}"), files, bytes, |round| {
            let dest = root.join(format!("{name}-{}-{round}", blob.len()));
            unpack(&blob[..], (expected, BlobCheck::Here), Some(&dest)).unwrap()
        });
    }
}

fn main() {
    let base = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, Into::into);
    let root = tempfile::tempdir_in(base).unwrap();
    let small = root.path().join("small");
    for dir in 0..100 {
        let dir_path = small.join(format!("package-{dir}"));
        fs::create_dir_all(&dir_path).unwrap();
        for file in 0..100 {
            let path = dir_path.join(format!("module_{file}.py"));
            fs::write(path, words(10 << 10, dir * 100 + file)).unwrap();
        }
    }
    measure("small", root.path(), &small);
    let big = root.path().join("big");
    fs::create_dir(&big).unwrap();
    fs::write(big.join("model.bin"), words(512 << 20, 1)).unwrap();
    measure("big", root.path(), &big);
}
