//! Taking blobs and manifests (distribution-spec 1.1, "Push").

use std::collections::HashMap;
use std::sync::Arc;

use kiln_core::digest::BlobDigest;
use serde_json::Value;

use super::fault::Damage;
use super::login::{parse_form, repository};
use super::wire::Answer;
use super::{Content, Referrers, Request, State};

/// How a registry takes uploads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uploads {
    /// Where it says that a session goes on.
    pub locations: Locations,
    /// Whether it mounts blobs of other repositories.
    pub mounts: Mounts,
    /// It takes no longer bodies than this.
    pub longest_body: Option<usize>,
    /// `OCI-Chunk-Min-Length`.
    pub shortest_part: Option<u64>,
}

/// Where a session goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Locations {
    /// At an absolute path.
    #[default]
    Relative,
    /// At a whole URL.
    Absolute,
    /// At a path with a query, which changes with every answer and has to be shown.
    WithQuery,
    /// On the other port, where no credentials may be shown.
    Elsewhere,
}

/// Whether blobs of other repositories are mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mounts {
    /// Yes.
    #[default]
    Given,
    /// No: a session is begun.
    Refused,
}

/// An upload that has not ended.
#[derive(Debug)]
pub(crate) struct Session {
    repository: String,
    bytes: Vec<u8>,
    /// What the query has to say.
    state: u32,
}

/// Answers a request for a path of uploads.
pub(crate) fn serve(
    state: &State,
    content: &mut Content,
    request: &Request,
    damage: Option<&Damage>,
) -> Answer {
    let query = request.path.split_once('?').map_or("", |(_, query)| query);
    let query: HashMap<String, String> = parse_form(query).into_iter().collect();
    let longest = content.uploading.longest_body;
    if longest.is_some_and(|longest| request.body.len() > longest) {
        return Answer::error(413, "SIZE_INVALID", "the body is too long");
    }
    if request.method == "POST" {
        return begin(state, content, request, &query);
    }
    let number = request.bare_path().rsplit_once("/u").and_then(|(_, text)| text.parse().ok());
    if damage == Some(&Damage::ForgetsSession) {
        content.sessions.clear();
    }
    let uploading = content.uploading;
    let Some((number, session)) =
        number.and_then(|number| Some((number, content.sessions.get_mut(&number)?)))
    else {
        return Answer::error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry");
    };
    let has_state = query.get("state") == Some(&session.state.to_string());
    if uploading.locations == Locations::WithQuery && !has_state {
        return Answer::error(404, "BLOB_UPLOAD_UNKNOWN", "the state is wrong");
    }
    match request.method.as_str() {
        "GET" => {
            let range = range_of(session);
            place(state, (number, session), uploading, Answer::new(204, Vec::new()))
                .header("Range", &range)
        }
        "PATCH" => {
            let first = request.header("content-range").and_then(|range| range.split_once('-'));
            let first = first.map(|(first, _)| first.parse().unwrap_or(usize::MAX));
            if first.is_some_and(|first| first != session.bytes.len()) {
                return Answer::error(416, "RANGE_INVALID", "out of order");
            }
            session.bytes.extend(&request.body);
            session.state += 1;
            let range = range_of(session);
            place(state, (number, session), uploading, Answer::new(202, Vec::new()))
                .header("Range", &range)
        }
        "PUT" => end(content, number, (request, damage), query.get("digest")),
        _ => Answer::error(405, "UNSUPPORTED", "that is no way to upload"),
    }
}

fn begin(
    state: &State,
    content: &mut Content,
    request: &Request,
    query: &HashMap<String, String>,
) -> Answer {
    let repository = repository(request).unwrap_or_default().to_owned();
    let mount: Option<BlobDigest> = query.get("mount").and_then(|digest| digest.parse().ok());
    if let (Some(digest), Some(from)) = (mount, query.get("from"))
        && content.uploading.mounts == Mounts::Given
        && let Some(bytes) = content.blobs.get(&(from.clone(), digest)).cloned()
    {
        content.blobs.insert((repository.clone(), digest), bytes);
        return created(&format!("/v2/{repository}/blobs/{digest}"), &digest.to_string());
    }
    content.begun += 1;
    let number = content.begun;
    let session = Session { repository, bytes: Vec::new(), state: 0 };
    let uploading = content.uploading;
    let answer = place(state, (number, &session), uploading, Answer::new(202, Vec::new()));
    content.sessions.insert(number, session);
    match uploading.shortest_part {
        Some(shortest) => answer.header("OCI-Chunk-Min-Length", &shortest.to_string()),
        None => answer,
    }
}

fn end(
    content: &mut Content,
    number: u32,
    (request, damage): (&Request, Option<&Damage>),
    digest: Option<&String>,
) -> Answer {
    let Some(session) = content.sessions.get_mut(&number) else {
        return Answer::error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry");
    };
    session.bytes.extend(&request.body);
    if let Some(Damage::CutRequestAfter(_)) = damage {
        // It is cut before this is sent.
        return Answer::new(202, Vec::new());
    }
    let bytes = std::mem::take(&mut session.bytes);
    let actual = BlobDigest::of(&bytes);
    if digest.map(String::as_str) != Some(&actual.to_string()) {
        return Answer::error(400, "DIGEST_INVALID", "provided digest did not match");
    }
    if let Some(session) = content.sessions.remove(&number) {
        content.blobs.insert((session.repository, actual), Arc::new(bytes));
    }
    let claimed = match damage {
        Some(Damage::ClaimsDigest(digest)) => digest.clone(),
        _ => actual.to_string(),
    };
    created("/elsewhere", &claimed)
}

/// Takes a manifest, if everything that it names is there.
pub(crate) fn put_manifest(
    content: &mut Content,
    repository: &str,
    (request, damage): (&Request, Option<&Damage>),
) -> Answer {
    let (_, name) = request.bare_path().rsplit_once('/').unwrap_or_default();
    let digest = BlobDigest::of(&request.body);
    if name.contains(':') && name != digest.to_string() {
        return Answer::error(400, "DIGEST_INVALID", "provided digest did not match");
    }
    let document: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let list = |name: &str| document[name].as_array().cloned().unwrap_or_default();
    let text = |part: &Value| part["digest"].as_str().unwrap_or_default().to_owned();
    let has_blob = |part: &Value| {
        let digest = text(part).parse();
        digest.is_ok_and(|digest| content.blobs.contains_key(&(repository.to_owned(), digest)))
    };
    let mut parts = list("layers");
    parts.extend(document.get("config").cloned());
    let has_manifest =
        |part: &Value| content.manifests.contains_key(&(repository.to_owned(), text(part)));
    let missing = parts.iter().find(|part| !has_blob(part)).map(text);
    let manifests = list("manifests");
    let missing = missing.or_else(|| manifests.iter().find(|part| !has_manifest(part)).map(text));
    if let Some(missing) = missing {
        return Answer::error(400, "MANIFEST_BLOB_UNKNOWN", &format!("{missing} is unknown"));
    }
    let media_type = request.header("content-type").unwrap_or_default().to_owned();
    let bytes = Arc::new(request.body.clone());
    for name in [digest.to_string(), name.to_owned()] {
        let value = (media_type.clone(), Arc::clone(&bytes));
        content.manifests.insert((repository.to_owned(), name), value);
    }
    let claimed = match damage {
        Some(Damage::ClaimsDigest(digest)) => digest.clone(),
        _ => digest.to_string(),
    };
    let answer = created(&format!("/v2/{repository}/manifests/{digest}"), &claimed);
    match document["subject"]["digest"].as_str() {
        Some(subject) if content.referrers != Referrers::Unknown => {
            answer.header("OCI-Subject", subject)
        }
        _ => answer,
    }
}

fn created(location: &str, digest: &str) -> Answer {
    Answer::new(201, Vec::new())
        .header("Location", location)
        .header("Docker-Content-Digest", digest)
}

/// As the reference implementation says it: `0-0` of none, too.
fn range_of(session: &Session) -> String {
    format!("0-{}", session.bytes.len().saturating_sub(1))
}

fn place(
    state: &State,
    (number, session): (u32, &Session),
    uploading: Uploads,
    answer: Answer,
) -> Answer {
    let path = format!("/v2/{}/blobs/uploads/u{number}", session.repository);
    let location = match uploading.locations {
        Locations::Relative => path,
        Locations::Absolute => format!("http://{}{path}", state.registry),
        Locations::WithQuery => format!("{path}?state={}", session.state),
        Locations::Elsewhere => format!("http://{}/uploads/u{number}", state.storage),
    };
    answer.header("Location", &location)
}
