//! `ADD https://…`: a file of the web as a layer with that one file.
//!
//! The file is 0600, root's, and dated by `Last-Modified` (1970 without it), as BuildKit makes it.
//! What its server said of it is remembered, so that an unchanged file is not sent again. A file
//! with a checksum that is known is not even asked for.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kiln_core::cache_key::{KeyPart, KeyParts};
use kiln_core::digest::BlobDigest;
use kiln_core::git_source::without_credentials;
use kiln_registry::{Download, DownloadedFile, Validators};
use kiln_store::layer::scan;
use kiln_store::{Layer, Store};
use sha2::{Digest as _, Sha256};

use crate::activity::Running;
use crate::error::{BuildError, FileContext, StepError, with_causes};
use crate::solve::{Solver, record_of};

/// Names of the parts that keep what a server said.
const ETAG: &str = "etag";
const LAST_MODIFIED: &str = "last-modified";
const DIGEST: &str = "sha256";

/// What is to be downloaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) url: &'a str,
    pub(crate) name: &'a str,
    pub(crate) checksum: Option<BlobDigest>,
    /// The lock file that says the checksum, if no instruction does.
    pub(crate) lock: Option<&'a str>,
}

impl Wanted<'_> {
    /// Under what a download is remembered; what the server said is not part of it.
    fn parts(&self) -> KeyParts {
        let part = |name: &str, value: &str| KeyPart { name: name.to_owned(), value: value.into() };
        KeyParts(vec![
            part("operation", "download"),
            part("url", self.url),
            part("name", self.name),
        ])
    }
}

/// The layer that holds the file.
pub(crate) fn download(
    solver: &Solver<'_>,
    wanted: Wanted<'_>,
    activity: &Running<'_>,
) -> Result<Arc<Layer>, StepError> {
    let store = &solver.engine.store;
    let key = wanted.parts().key();
    let _lock = store.lock_step(&key, &solver.cancelled)?;
    let known = match store.cache_index().lookup(&key)? {
        Some(record) => store.layers().by_id(&record.result.layer)?.map(|layer| (record, layer)),
        None => None,
    };
    let value = |name: &str| {
        let parts = known.iter().flat_map(|(record, _)| &record.parts.0);
        parts.into_iter().find(|part| part.name == name).map(|part| part.value.clone())
    };
    let digest = value(DIGEST).and_then(|text| text.parse::<BlobDigest>().ok());
    if let (Some((_, layer)), Some(_)) = (&known, wanted.checksum)
        && digest == wanted.checksum
    {
        return Ok(Arc::new(layer.clone()));
    }
    let validators = Validators { etag: value(ETAG), last_modified: value(LAST_MODIFIED) };
    let failed = |error: kiln_registry::Error| {
        let message = match &error {
            kiln_registry::Error::Status { url, status, .. } => {
                format!("{url}: invalid response status {status}")
            }
            error => with_causes(error),
        };
        let failed = StepError::failed("download-failed", message);
        match error.hint() {
            Some(hint) => failed.with_help(hint),
            None => failed,
        }
    };
    let answer = solver.engine.registry.download(wanted.url, &validators).map_err(failed)?;
    let file = match (answer, known) {
        (Download::NotModified, Some((_, layer))) => {
            check(&wanted, digest)?;
            return Ok(Arc::new(layer));
        }
        (Download::NotModified, None) => {
            let message = format!("{}: the server says \"not modified\" unasked", wanted.url);
            return Err(StepError::failed("download-failed", message));
        }
        (Download::File(file), _) => file,
    };
    let said = file.validators.clone();
    let (layer, digest) = write(solver, &wanted, file, activity)?;
    let mut parts = wanted.parts();
    let more = [
        (ETAG, said.etag),
        (LAST_MODIFIED, said.last_modified),
        (DIGEST, Some(digest.to_string())),
    ];
    for (name, value) in more {
        parts.0.extend(value.map(|value| KeyPart { name: name.to_owned(), value }));
    }
    let record = record_of(&layer, (*key.as_bytes(), parts), wanted.url);
    store.cache_index().record(key, &record)?;
    Ok(Arc::new(layer))
}

/// What is remembered of a file that was downloaded.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kept {
    /// Of its bytes.
    pub(crate) digest: Option<BlobDigest>,
    /// `Last-Modified`, in seconds since 1970.
    pub(crate) modified_unix: Option<i64>,
}

/// What is remembered of a file.
pub(crate) fn known(solver: &Solver<'_>, wanted: &Wanted<'_>) -> Result<Kept, StepError> {
    let record = solver.lookup(&wanted.parts().key())?;
    let parts = record.map(|record| record.parts.0).unwrap_or_default();
    let value = |name: &str| parts.iter().find(|part| part.name == name).map(|part| &part.value);
    Ok(Kept {
        digest: value(DIGEST).and_then(|text| text.parse().ok()),
        modified_unix: value(LAST_MODIFIED).and_then(|text| kiln_registry::http_date(text)),
    })
}

/// Keeps a file that came another way, as if it had been downloaded from `scheme` and its digest,
/// which is returned.
pub(crate) fn keep(
    store: &Store,
    scheme: &str,
    body: &mut dyn Read,
) -> Result<BlobDigest, BuildError> {
    let name = kiln_core::plan::CONTEXT_FILE;
    let mut working = store.layers().begin()?;
    let path = working.upper.join(name);
    let mut out = std::fs::File::create_new(&path).at("create", &path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = body.read(&mut buffer).at("read", Path::new("standard input"))?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        out.write_all(&buffer[..count]).at("write", &path)?;
    }
    let digest = BlobDigest::from_bytes(hasher.finalize().into());
    finish(&out, &path, 0)?;
    let index = scan(&working.upper)?;
    working.size_bytes = Some(index.size_bytes());
    let content = index.content_id();
    let layer = store.layers().commit(working, &index.encode(), content, content)?;
    let url = format!("{scheme}{digest}");
    let mut parts = Wanted { url: &url, name, checksum: None, lock: None }.parts();
    let key = parts.key();
    parts.0.push(KeyPart { name: DIGEST.to_owned(), value: digest.to_string() });
    let record = record_of(&layer, (*key.as_bytes(), parts), &url);
    store.cache_index().record(key, &record)?;
    Ok(digest)
}

/// Gives a file the mode and the time of one from the web.
fn finish(file: &std::fs::File, path: &Path, modified_unix: u64) -> Result<(), BuildError> {
    file.set_permissions(PermissionsExt::from_mode(0o600)).at("change the mode of", path)?;
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(modified_unix);
    file.set_modified(modified).at("set the time of", path)
}

fn check(wanted: &Wanted<'_>, digest: Option<BlobDigest>) -> Result<(), StepError> {
    match (wanted.checksum, digest) {
        (Some(expected), Some(found)) if expected != found => {
            if let Some(lock) = wanted.lock {
                let url = without_credentials(wanted.url);
                let message = format!("{url} is {found} now, and {lock} has it as {expected}");
                let help = format!("`kiln lock --upgrade={url}` locks what is there now");
                return Err(StepError::failed("lock-mismatch", message).with_help(help));
            }
            let message = format!("{}: digest mismatch {found}: {expected}", wanted.url);
            Err(StepError::failed("download-failed", message)
                .with_help("the file is not the one that --checksum names"))
        }
        _ => Ok(()),
    }
}

/// Writes the file into a new layer; nothing is kept of one with another checksum.
fn write(
    solver: &Solver<'_>,
    wanted: &Wanted<'_>,
    mut file: DownloadedFile,
    activity: &Running<'_>,
) -> Result<(Layer, BlobDigest), StepError> {
    let mut working = solver.engine.store.layers().begin()?;
    let path = working.upper.join(wanted.name);
    let mut out = std::fs::File::create_new(&path).at("create", &path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let (mut done, mut reported) = (0_u64, 0);
    loop {
        if solver.is_canceled() {
            return Err(BuildError::Canceled.into());
        }
        let count = file.body.read(&mut buffer).map_err(|error| {
            StepError::failed("download-failed", format!("{}: {error}", wanted.url))
        })?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        out.write_all(&buffer[..count]).at("write", &path)?;
        done += count as u64;
        if done - reported >= 1 << 20 {
            reported = done;
            activity.progress(wanted.url, done, file.size_bytes);
        }
    }
    let digest = BlobDigest::from_bytes(hasher.finalize().into());
    check(wanted, Some(digest))?;
    let modified = u64::try_from(file.modified_unix.unwrap_or(0)).unwrap_or(0);
    finish(&out, &path, modified)?;
    drop(out);
    let index = scan(&working.upper)?;
    working.size_bytes = Some(index.size_bytes());
    let content = index.content_id();
    let layer = solver.engine.store.layers().commit(working, &index.encode(), content, content)?;
    Ok((layer, digest))
}
