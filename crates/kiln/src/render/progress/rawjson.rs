//! Progress as JSON lines, in the shape of BuildKit's status stream (`docker buildx build
//! --progress=rawjson`): each line holds `vertexes`, `statuses`, `logs` or `warnings`.
//!
//! Bytes (`data`, `short`) are base64, as Go writes them. What kiln adds is `causes` and
//! `unchanged` in a vertex.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use kiln_core::digest::BlobDigest;
use kiln_core::event::{Activity, ActivityId, Event, EventKind, Outcome, Stream};
use serde_json::{Map, Value, json};

/// The fold.
#[derive(Debug)]
pub(crate) struct RawJson {
    start: Timestamp,
    vertexes: BTreeMap<ActivityId, (Activity, Duration)>,
    transfers: BTreeMap<(ActivityId, String), Duration>,
}

impl RawJson {
    /// For a build that began at `start`.
    pub(crate) fn new(start: Timestamp) -> Self {
        Self { start, vertexes: BTreeMap::new(), transfers: BTreeMap::new() }
    }

    /// Takes the next event; gives its line.
    pub(crate) fn handle(&mut self, event: &Event) -> String {
        let line = match &event.kind {
            EventKind::Started(activity) => {
                self.vertexes.insert(activity.id, (activity.clone(), event.at));
                json!({ "vertexes": [self.vertex(activity, event.at)] })
            }
            EventKind::Completed { activity, outcome } => {
                let Some((activity, started)) = self.vertexes.get(activity) else {
                    return String::new();
                };
                let mut vertex = self.vertex(activity, *started);
                vertex.insert("completed".to_owned(), self.time(event.at));
                match outcome {
                    Outcome::Done => None,
                    Outcome::Cached => vertex.insert("cached".to_owned(), true.into()),
                    Outcome::Unchanged => vertex.insert("unchanged".to_owned(), true.into()),
                    Outcome::Failed(message) => {
                        vertex.insert("error".to_owned(), message.as_str().into())
                    }
                    Outcome::Canceled => vertex.insert("error".to_owned(), "canceled".into()),
                };
                json!({ "vertexes": [vertex] })
            }
            EventKind::Log { activity, stream, bytes } => json!({ "logs": [{
                "vertex": self.digest(*activity),
                "stream": match stream { Stream::Stdout => 1, Stream::Stderr => 2 },
                "data": base64(bytes),
                "timestamp": self.time(event.at),
            }] }),
            EventKind::Progress { activity, item, current_bytes, total_bytes } => {
                let key = (*activity, item.clone());
                let started = *self.transfers.entry(key).or_insert(event.at);
                let mut status = json!({
                    "id": item,
                    "vertex": self.digest(*activity),
                    "current": current_bytes,
                    "timestamp": self.time(event.at),
                    "started": self.time(started),
                });
                if let Some(total) = total_bytes {
                    status["total"] = (*total).into();
                }
                if *total_bytes == Some(*current_bytes) {
                    status["completed"] = self.time(event.at);
                }
                json!({ "statuses": [status] })
            }
            EventKind::Used { .. } => return String::new(),
            EventKind::Warning(text) => {
                json!({ "warnings": [{ "level": 1, "short": base64(text.as_bytes()) }] })
            }
        };
        format!("{line}\n")
    }

    fn vertex(&self, activity: &Activity, started: Duration) -> Map<String, Value> {
        let mut vertex = Map::new();
        vertex.insert("digest".to_owned(), vertex_digest(activity).into());
        vertex.insert("name".to_owned(), activity.name.as_str().into());
        vertex.insert("started".to_owned(), self.time(started));
        if !activity.causes.is_empty() {
            let causes: Vec<String> = activity.causes.iter().map(ToString::to_string).collect();
            vertex.insert("causes".to_owned(), causes.into());
        }
        vertex
    }

    fn digest(&self, id: ActivityId) -> Value {
        let activity = self.vertexes.get(&id);
        activity.map_or(Value::Null, |(activity, _)| vertex_digest(activity).into())
    }

    fn time(&self, at: Duration) -> Value {
        let time = self.start.checked_add(at).unwrap_or(self.start);
        time.to_string().into()
    }
}

/// BuildKit's consumers want something of a digest's form that names the vertex.
fn vertex_digest(activity: &Activity) -> String {
    match &activity.step {
        Some(step) => format!("sha256:{step}"),
        None => BlobDigest::of(format!("{} {}", activity.id, activity.name).as_bytes()).to_string(),
    }
}

/// RFC 4648 base64 with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = [0, 1, 2].map(|index| u32::from(*chunk.get(index).unwrap_or(&0)));
        let group = group[0] << 16 | group[1] << 8 | group[2];
        for position in 0..4 {
            if position <= chunk.len() {
                let digit = group >> (18 - 6 * position) & 63;
                text.push(char::from(ALPHABET[digit as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_the_specification() {
        let encoded =
            ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|t| base64(t.as_bytes()));
        let expected = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        assert_eq!(encoded, expected);
    }
}
