//! An image into the store.

use std::io::{Read, Write};

use kiln_core::oci::Descriptor;

use super::Work;
use super::registry::each;
use super::source::{Source, unread};
use super::tree::Tree;
use crate::error::{BuildError, FileContext};

const COPY_BYTES: usize = 256 << 10;

/// So many bytes make progress worth a word.
pub(super) const PROGRESS_BYTES: u64 = 1 << 20;

/// Brings all that the store lacks of an image; gives its root.
pub(super) fn keep(
    work: &Work<'_>,
    source: &Source,
    tree: &Tree,
) -> Result<Descriptor, BuildError> {
    let store = &work.engine.store;
    each(work, &tree.blobs, |descriptor| {
        let name = format!("blob-{}", descriptor.digest.hex());
        let _lock = store.lock_unless(&name, work.cancelled)?;
        if store.content().size(&descriptor.digest)? == Some(descriptor.size) {
            return Ok(());
        }
        let mut writer = store.content().unhashed_writer()?;
        let path = store.content().path(&descriptor.digest);
        copy_blob(work, (source, descriptor), |bytes| writer.write_all(bytes).at("write", &path))?;
        Ok(writer.commit_known(descriptor.digest, descriptor.size)?)
    })?;
    if let Source::Registry(repository, _) = source {
        let digests: Vec<_> = tree.blobs.iter().map(|blob| blob.digest).collect();
        store.remote_blobs().note(&digests, &repository.to_string())?;
    }
    for document in &tree.documents {
        store.content().put(&document.bytes)?;
    }
    Ok(tree.root().clone())
}

/// Reads a verified blob to its end, with progress.
pub(super) fn copy_blob(
    work: &Work<'_>,
    (source, descriptor): (&Source, &Descriptor),
    mut write: impl FnMut(&[u8]) -> Result<(), BuildError>,
) -> Result<(), BuildError> {
    let item = descriptor.digest.to_string();
    let total = Some(descriptor.size);
    work.activity.progress(&item, 0, total);
    let mut reader = source.reader(work, descriptor)?;
    let mut buffer = vec![0; COPY_BYTES];
    let (mut read_bytes, mut reported_bytes) = (0, 0);
    loop {
        if work.is_cancelled() {
            return Err(BuildError::Canceled);
        }
        let count = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unread(descriptor, error)),
        };
        write(&buffer[..count])?;
        read_bytes += count as u64;
        if read_bytes - reported_bytes >= PROGRESS_BYTES {
            reported_bytes = read_bytes;
            work.activity.progress(&item, read_bytes, total);
        }
    }
    work.activity.progress(&item, read_bytes, total);
    Ok(())
}
