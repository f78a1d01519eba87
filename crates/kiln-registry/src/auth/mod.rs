//! Logging in: what a registry asks for in a 401 answer, and what it is given.
//!
//! `Basic` is answered with user and password. `Bearer` names a token service: it is asked with
//! user and password (GET, distribution's `token.md`), with an identity token (POST, its
//! `oauth.md`), or anonymously. Tokens are remembered per repository and actions until shortly
//! before they expire. `kiln login` asks for an identity token besides. Nothing is sent before a registry asks for it.

mod challenge;
mod credential;
mod secret;
mod token;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::error::Error;
use crate::http::{Response, Scheme, Url};
use crate::routes::Endpoint;

use challenge::Challenge;
pub(crate) use credential::{Credential, DOCKER_HUB_KEY, base64, is_not_found};
pub(crate) use secret::Secret;
pub(crate) use token::{Purpose, Token, TokenRequest};

/// What is known of one registry while a client lives.
#[derive(Debug)]
pub(crate) struct Host {
    /// Its name in references.
    pub(crate) registry: String,
    /// Host and port of its API.
    pub(crate) authority: String,
    /// What is configured for it.
    pub(crate) endpoint: Endpoint,
    /// The same with one pair of kiln's own certificates each, where there are several.
    by_pair: Vec<Endpoint>,
    pair: AtomicUsize,
    has_taken_pair: AtomicBool,
    /// Whether it speaks TLS; empty until one that may do without has answered.
    pub(crate) scheme: OnceLock<Scheme>,
    is_put_aside: AtomicBool,
    credential: OnceLock<Credential>,
    purpose: Purpose,
    identity: OnceLock<Secret>,
    remembered: Mutex<HashMap<String, Remembered>>,
}

/// An `Authorization` that worked, or should.
#[derive(Clone, Debug)]
struct Remembered {
    header: Secret,
    expires: Option<std::time::Instant>,
}

/// Under what scope a Basic login is remembered: all of them.
const ALL_SCOPES: &str = "";

impl Host {
    /// A host that nobody has spoken to yet.
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        let scheme = endpoint.scheme.map(OnceLock::from).unwrap_or_default();
        Self {
            registry: endpoint.login.clone(),
            authority: endpoint.authority.clone(),
            by_pair: by_pair(&endpoint),
            pair: AtomicUsize::new(0),
            has_taken_pair: AtomicBool::new(false),
            endpoint,
            scheme,
            is_put_aside: AtomicBool::new(false),
            credential: OnceLock::new(),
            purpose: Purpose::Request,
            identity: OnceLock::new(),
            remembered: Mutex::default(),
        }
    }

    /// A host that a user logs in to with this.
    pub(crate) fn for_login(endpoint: Endpoint, credential: Credential) -> Self {
        let credential = OnceLock::from(credential);
        Self { credential, purpose: Purpose::Login, ..Self::new(endpoint) }
    }

    /// What tokens of it are asked for.
    pub(crate) fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// The identity token that its token service gave for a login.
    pub(crate) fn into_identity(self) -> Option<Secret> {
        self.identity.into_inner()
    }

    /// The certificates and headers that it gets now.
    pub(crate) fn shown(&self) -> &Endpoint {
        self.shown_with(self.pair())
    }

    /// The same with this pair of certificates.
    pub(crate) fn shown_with(&self, pair: usize) -> &Endpoint {
        self.by_pair.get(pair).unwrap_or(&self.endpoint)
    }

    /// The number of the pair of certificates that it is shown now.
    pub(crate) fn pair(&self) -> usize {
        self.pair.load(Ordering::Relaxed)
    }

    /// The host has taken a pair of certificates: no other is tried.
    pub(crate) fn keep_pair(&self) {
        self.has_taken_pair.store(true, Ordering::Relaxed);
    }

    /// The host may have refused this pair of certificates: tells whether there is another one to
    /// try. After the last, the next request begins anew.
    pub(crate) fn pass_pair(&self, refused: usize) -> bool {
        if self.by_pair.is_empty() || self.has_taken_pair.load(Ordering::Relaxed) {
            return false;
        }
        let next = (refused + 1) % self.by_pair.len();
        let order = Ordering::Relaxed;
        // Another thread may have gone on already.
        let _ = self.pair.compare_exchange(refused, next, order, order);
        next > 0
    }

    /// Whether a URL is one of this host, so that its certificates and headers may go there.
    pub(crate) fn has(&self, url: &Url) -> bool {
        url.authority.eq_ignore_ascii_case(&self.authority)
            && self.scheme.get().is_none_or(|scheme| *scheme == url.scheme)
    }

    /// A mirror that failed is not asked again.
    pub(crate) fn put_aside(&self) {
        self.is_put_aside.store(true, Ordering::Relaxed);
    }

    /// Whether it has failed as a mirror.
    pub(crate) fn is_put_aside(&self) -> bool {
        self.is_put_aside.load(Ordering::Relaxed)
    }

    /// The user's login, found by `find` the first time.
    pub(crate) fn credential(&self, find: impl FnOnce() -> Credential) -> &Credential {
        self.credential.get_or_init(find)
    }

    /// What to show for `scope` right away.
    pub(crate) fn remembered(&self, scope: &str) -> Option<Secret> {
        let remembered = self.lock();
        let now = std::time::Instant::now();
        [scope, ALL_SCOPES]
            .iter()
            .filter_map(|scope| remembered.get(*scope))
            .find(|known| known.expires.is_none_or(|expires| now < expires))
            .map(|known| known.header.clone())
    }

    /// What to show after a 401 answer, `None` if there is nothing better than what was
    /// `rejected`. While one thread asks the token service, others wait for what it gets.
    pub(crate) fn authorize(
        &self,
        scope: &str,
        rejected: Option<&Secret>,
        fetch: impl FnOnce() -> Result<Option<Authorization>, Error>,
    ) -> Result<Option<Secret>, Error> {
        let mut remembered = self.lock();
        for key in [scope, ALL_SCOPES] {
            match remembered.get(key) {
                Some(known) if Some(&known.header) != rejected => {
                    return Ok(Some(known.header.clone()));
                }
                Some(_) => {
                    remembered.remove(key);
                }
                None => {}
            }
        }
        let Some(authorization) = fetch()? else {
            return Ok(None);
        };
        let (key, header, expires) = match authorization {
            Authorization::Basic(header) => (ALL_SCOPES, header, None),
            Authorization::Bearer(token) => {
                if let Some(identity) = token.identity {
                    self.identity.get_or_init(|| identity);
                }
                (scope, token.header, Some(token.expires))
            }
        };
        if Some(&header) == rejected {
            return Ok(None);
        }
        let known = Remembered { header: header.clone(), expires };
        remembered.insert(key.to_owned(), known);
        Ok(Some(header))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Remembered>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An endpoint for each pair of certificates, if there are several.
fn by_pair(endpoint: &Endpoint) -> Vec<Endpoint> {
    if endpoint.trust.client.len() < 2 {
        return Vec::new();
    }
    let with = |pair: &(std::path::PathBuf, std::path::PathBuf)| {
        let mut endpoint = endpoint.clone();
        endpoint.trust.client = vec![pair.clone()];
        endpoint
    };
    endpoint.trust.client.iter().map(with).collect()
}

/// An answer to a challenge.
#[derive(Debug)]
pub(crate) enum Authorization {
    /// User and password.
    Basic(Secret),
    /// A token.
    Bearer(Token),
}

/// What a 401 answer asks for.
#[derive(Debug)]
pub(crate) enum Demand {
    /// User and password.
    Basic,
    /// A token, to be asked for with these parameters.
    Bearer(Challenge),
}

impl Demand {
    /// The demand of a 401 answer: a token if it can be, else a password. `None` if the answer
    /// names nothing at all.
    pub(crate) fn of(response: &Response, registry: &str) -> Result<Option<Self>, Error> {
        let challenges: Vec<Challenge> =
            response.headers("www-authenticate").flat_map(challenge::parse).collect();
        let named = |scheme: &str| challenges.iter().find(|known| known.scheme == scheme);
        if let Some(bearer) = named("bearer").filter(|bearer| bearer.parameter("realm").is_some()) {
            return Ok(Some(Self::Bearer(bearer.clone())));
        }
        if named("basic").is_some() {
            return Ok(Some(Self::Basic));
        }
        if challenges.is_empty() {
            return Ok(None);
        }
        let schemes: Vec<&str> = challenges.iter().map(|known| known.scheme.as_str()).collect();
        Err(Error::UnknownChallenge {
            registry: registry.to_owned(),
            challenge: schemes.join(", "),
        })
    }
}
