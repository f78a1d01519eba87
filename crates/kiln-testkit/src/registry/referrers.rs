//! What points to a manifest (distribution-spec 1.1, "Listing Referrers").

use std::collections::BTreeMap;

use kiln_core::oci::{Descriptor, Index, Referrer, media_type};

use super::wire::Answer;
use super::{Content, Request, login};

/// How what points to a manifest is listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Referrers {
    /// All at once, filtered if that is asked for.
    #[default]
    Listed,
    /// This many on a page, never filtered.
    Paged(usize),
    /// Not at all, as registries before distribution-spec 1.1.
    Unknown,
}

/// Answers a request for a list.
pub(super) fn list(content: &Content, repository: &str, request: &Request) -> Answer {
    if content.referrers == Referrers::Unknown {
        return Answer::new(404, b"404 page not found\n".to_vec());
    }
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let (_, subject) = path.rsplit_once('/').unwrap_or_default();
    let query: BTreeMap<String, String> = login::parse_form(query).into_iter().collect();
    let of_repository = content.manifests.iter().filter(|((known, _), _)| known == repository);
    let pointing = of_repository.filter_map(|(_, (media_type, bytes))| {
        let referrer = Referrer::of(media_type, bytes)?;
        let descriptor = referrer.descriptor;
        let points_there = referrer.subject.to_string() == subject;
        points_there.then(|| (descriptor.digest.to_string(), descriptor))
    });
    // What has a tag is there twice.
    let mut found: BTreeMap<String, Descriptor> = pointing.collect();
    let mut answer = Answer::new(200, Vec::new());
    match (content.referrers, query.get("artifactType")) {
        (Referrers::Paged(most), _) => {
            let last = query.get("last").cloned().unwrap_or_default();
            let rest: Vec<String> = found.keys().filter(|name| **name > last).cloned().collect();
            found.retain(|name, _| rest.iter().take(most).any(|kept| kept == name));
            if rest.len() > most {
                let link = format!("<{path}?n={most}&last={}>; rel=\"next\"", rest[most - 1]);
                answer = answer.header("Link", &link);
            }
        }
        (_, Some(wanted)) => {
            found.retain(|_, descriptor| descriptor.artifact_type() == Some(wanted));
            answer = answer.header("OCI-Filters-Applied", "artifactType");
        }
        _ => {}
    }
    let index = Index::new(found.into_values().collect());
    answer.body = std::sync::Arc::new(serde_json::to_vec(&index).expect("an index is JSON"));
    answer.header("Content-Type", media_type::OCI_INDEX)
}
