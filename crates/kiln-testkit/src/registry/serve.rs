//! What is answered to which request (distribution-spec, "Pull"; [`upload`] has "Push").

use std::io::BufReader;
use std::net::TcpStream;
use std::sync::Arc;

use kiln_core::digest::BlobDigest;

use super::fault::Damage;
use super::wire::{After, Answer, read_body, read_head, write_answer};
use super::{Blobs, Content, Request, Server, State, login, referrers, upload};

/// Serves one connection to its end.
pub(crate) fn connection(mut stream: TcpStream, server: Server, state: &Arc<State>) {
    let Ok(incoming) = stream.try_clone() else {
        return;
    };
    // Answers are written in small pieces; without this, each would wait for the other side.
    drop(stream.set_nodelay(true));
    let mut reader = BufReader::new(incoming);
    while let Ok(Some(mut request)) = read_head(&mut reader, server) {
        let damage = take_fault(&mut state.lock(), &request);
        let limit = match damage {
            Some(Damage::CutRequestAfter(count)) => Some(count),
            Some(Damage::RefusesUnread(_) | Damage::HangsUnread) => Some(0),
            _ => None,
        };
        if read_body(&mut reader, &mut request, limit).is_err() {
            return;
        }
        let answer = {
            let mut content = state.lock();
            content.requests.push(request.clone());
            if damage == Some(Damage::HangsUnread) {
                drop(content);
                state.hang();
                return;
            }
            match rebase(&content, request.clone()) {
                Some(request) => answer(state, &mut content, &request, damage.as_ref()),
                None => Answer::error(404, "NAME_UNKNOWN", "there is nothing here"),
            }
        };
        let written = write_answer(&mut stream, state, &request, (&answer, damage.as_ref()));
        let is_unread = matches!(damage, Some(Damage::RefusesUnread(_)));
        if !matches!(written, Ok(After::Keep)) || is_unread {
            return;
        }
    }
}

/// The request as if the registry were at its usual place.
fn rebase(content: &Content, mut request: Request) -> Option<Request> {
    if let Some(base) = &content.base
        && request.server == Server::Registry
    {
        request.path = format!("/v2{}", request.path.strip_prefix(base.as_str())?);
    }
    Some(request)
}

fn take_fault(content: &mut Content, request: &Request) -> Option<Damage> {
    // A blob that is redirected is damaged by the one who serves it.
    if request.server == Server::Registry
        && content.serving == Blobs::Redirected
        && request.path.contains("/blobs/")
        && !request.path.contains("/uploads/")
    {
        return None;
    }
    let (fault, times) = content
        .faults
        .iter_mut()
        .find(|(fault, times)| *times > 0 && fault.target.matches(request))?;
    *times -= 1;
    Some(fault.damage.clone())
}

fn answer(
    state: &State,
    content: &mut Content,
    request: &Request,
    damage: Option<&Damage>,
) -> Answer {
    match damage {
        Some(Damage::Status(status, retry_after)) => {
            let answer = Answer::error(*status, "TESTED", "this was asked for");
            return match retry_after {
                Some(value) => answer.header("Retry-After", value),
                None => answer,
            };
        }
        Some(Damage::RefusesUnread(status)) => {
            return Answer::error(*status, "TESTED", "this was asked for");
        }
        Some(Damage::Unauthorized) => return login::challenge(state, "repository:a:pull"),
        Some(Damage::RedirectsTo(target)) => {
            return Answer::new(307, Vec::new()).header("Location", target);
        }
        _ => {}
    }
    if request.path.contains("/uploads/") {
        let refusal = match request.server {
            Server::Registry => login::check(state, content, request),
            Server::Storage => login::check_none(request),
        };
        return refusal.unwrap_or_else(|| upload::serve(state, content, request, damage));
    }
    if request.server == Server::Storage {
        return stored_blob(content, request, damage);
    }
    if request.bare_path() == "/token" {
        return login::issue(content, request);
    }
    if let Some(refusal) = login::check(state, content, request) {
        return refusal;
    }
    if request.bare_path() == "/v2/" {
        return Answer::new(200, b"{}".to_vec());
    }
    let Some(repository) = login::repository(request) else {
        return Answer::error(404, "NAME_UNKNOWN", "there is nothing here");
    };
    let (_, name) = request.bare_path().rsplit_once('/').unwrap_or_default();
    if request.method == "PUT" && request.bare_path().contains("/manifests/") {
        return upload::put_manifest(content, repository, (request, damage));
    }
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return Answer::error(405, "UNSUPPORTED", "that is not supported");
    }
    if request.bare_path().contains("/referrers/") {
        referrers::list(content, repository, request)
    } else if request.bare_path().contains("/manifests/") {
        manifest(content, repository, name, damage)
    } else if content.serving == Blobs::Redirected {
        // As with pre-signed addresses: whoever has this may read the blob.
        let target = format!("http://{}/{repository}/{name}?signature=s3cret", state.storage);
        Answer::new(307, Vec::new()).header("Location", &target)
    } else {
        blob(content, repository, name, (request, damage))
    }
}

fn manifest(content: &Content, repository: &str, name: &str, damage: Option<&Damage>) -> Answer {
    let key = (repository.to_owned(), name.to_owned());
    let Some((media_type, bytes)) = content.manifests.get(&key) else {
        return Answer::error(404, "MANIFEST_UNKNOWN", "manifest unknown");
    };
    let digest = match damage {
        Some(Damage::ClaimsDigest(digest)) => digest.clone(),
        _ => BlobDigest::of(bytes).to_string(),
    };
    Answer::new(200, Arc::clone(bytes))
        .header("Content-Type", media_type)
        .header("Docker-Content-Digest", &digest)
}

fn stored_blob(content: &Content, request: &Request, damage: Option<&Damage>) -> Answer {
    if let Some(refusal) = login::check_none(request) {
        return refusal;
    }
    let path = request.bare_path().trim_start_matches('/');
    let (repository, name) = path.rsplit_once('/').unwrap_or_default();
    blob(content, repository, name, (request, damage))
}

fn blob(
    content: &Content,
    repository: &str,
    name: &str,
    (request, damage): (&Request, Option<&Damage>),
) -> Answer {
    let blob =
        name.parse().ok().and_then(|digest| content.blobs.get(&(repository.to_owned(), digest)));
    let Some(bytes) = blob else {
        return Answer::error(404, "BLOB_UNKNOWN", "blob unknown to registry");
    };
    let answer =
        Answer::new(200, Arc::clone(bytes)).header("Content-Type", "application/octet-stream");
    let first: Option<usize> = request
        .header("range")
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let knows_ranges =
        !matches!(damage, Some(Damage::IgnoresRange | Damage::IgnoresRangeAndCutsAfter(_)));
    let Some(mut first) = first.filter(|_| knows_ranges) else {
        return answer;
    };
    if first >= bytes.len() {
        let range = format!("bytes */{}", bytes.len());
        return Answer::error(416, "RANGE_INVALID", "out of range").header("Content-Range", &range);
    }
    if let Some(Damage::WrongRange(early)) = damage {
        first = first.saturating_sub(*early as usize);
    }
    let range = format!("bytes {first}-{}/{}", bytes.len() - 1, bytes.len());
    Answer { status: 206, offset: first, ..answer }.header("Content-Range", &range)
}
