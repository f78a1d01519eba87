//! What a registry can be told to do wrong.

use std::time::Duration;

use super::{Request, Server};

/// A fault, and which requests it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which requests.
    pub target: Target,
    /// What goes wrong.
    pub damage: Damage,
}

impl Fault {
    /// A fault of requests for blobs, whoever serves them.
    pub const fn of_blobs(damage: Damage) -> Self {
        Self { target: Target::Blob, damage }
    }

    /// A fault of requests of this method of uploads.
    pub const fn of_uploads(method: &'static str, damage: Damage) -> Self {
        Self { target: Target::Upload(method), damage }
    }

    /// A fault of requests for manifests and indexes.
    pub const fn of_manifests(damage: Damage) -> Self {
        Self { target: Target::Manifest, damage }
    }
}

/// Which requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// For blobs, from the server that has them.
    Blob,
    /// For manifests and indexes.
    Manifest,
    /// For lists of what points to a manifest.
    Referrers,
    /// For tokens.
    Token,
    /// Of uploads, with this method.
    Upload(&'static str),
    /// That put manifests.
    PutManifest,
}

impl Target {
    pub(crate) fn matches(self, request: &Request) -> bool {
        let path = request.bare_path();
        match self {
            Self::Blob => {
                !path.contains("/uploads/")
                    && (path.contains("/blobs/") || request.server == Server::Storage)
            }
            Self::Upload(method) => path.contains("/uploads/") && request.method == method,
            Self::PutManifest => path.contains("/manifests/") && request.method == "PUT",
            Self::Manifest => path.contains("/manifests/"),
            Self::Referrers => path.contains("/referrers/"),
            Self::Token => path == "/token",
        }
    }
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The connection ends before any answer.
    CutBeforeHead,
    /// It ends within the head.
    CutInHead,
    /// It ends after this many bytes of the body.
    CutAfter(usize),
    /// The body has this many further bytes, and the head agrees.
    Longer(usize),
    /// The body has this many fewer bytes, and the head agrees.
    Shorter(usize),
    /// The head says this many bytes more than there are; then the connection ends.
    PromisesMore(usize),
    /// The body has these further bytes, and the head says nothing of length (chunked).
    LongerWithoutLength(usize),
    /// The body ends this many bytes early, and the head says nothing of length (chunked).
    ShorterWithoutLength(usize),
    /// One bit in the middle of the body is wrong.
    WrongBit,
    /// `Docker-Content-Digest` is this.
    ClaimsDigest(String),
    /// `Range` is not understood: the answer is the whole.
    IgnoresRange,
    /// The same, and the connection ends after this many bytes.
    IgnoresRangeAndCutsAfter(usize),
    /// The answer to a range begins this many bytes too early.
    WrongRange(u64),
    /// The body comes in this many pieces, with this pause before each.
    Slow(usize, Duration),
    /// No answer until the registry is released.
    Hang,
    /// Half of the body, then nothing until the registry is released.
    HangHalfway,
    /// This status with an error body, and this `Retry-After`.
    Status(u16, Option<&'static str>),
    /// A 401 answer with a Bearer challenge, whatever was shown.
    Unauthorized,
    /// A redirection to this address.
    RedirectsTo(String),
    /// The connection ends after this many bytes of the request's body were taken.
    CutRequestAfter(usize),
    /// This status at once, and the connection ends with the request's body unread.
    RefusesUnread(u16),
    /// Nothing of the request's body is read until the registry is released; then it ends.
    HangsUnread,
    /// The registry has lost the session.
    ForgetsSession,
    /// Something that is not HTTP.
    Garbage,
}
