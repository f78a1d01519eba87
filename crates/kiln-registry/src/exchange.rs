//! From a request to an answer that counts: logging in, following redirections, trying again.
//!
//! One *attempt* is a request with all redirections and logins that it takes. Redirections are
//! followed here and not by the HTTP library, so that what is sent where can be read in one
//! place: an `Authorization` goes to the origin of the registry and to no other.

mod contact;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::auth::{Authorization, Credential, Demand, Host, Secret, Token, TokenRequest};
use crate::config::Config;
use crate::download::Validators;
use crate::error::Error;
use crate::http::{Method, Request, Response, Scheme, Transport, UNCONDITIONAL, Url, form};
use crate::limit::{Permit, Transfers};
use crate::objects::ObjectKeys;
use crate::repository::{Repository, bare_host, is_loopback};
use crate::retry::{Again, Attempts, Cancellation, Failure, parse_retry_after};
use crate::routes::{Endpoint, Route, Way};

/// A redirection is followed this many times.
const REDIRECTIONS: u32 = 5;

/// A 401 answer is reacted to this many times in one attempt: a token may have expired, and a
/// new one is shown once.
const LOGINS: u32 = 2;

/// A request to a registry's API.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    /// What is asked.
    pub(crate) method: Method<'a>,
    /// Of which repository.
    pub(crate) repository: &'a Repository,
    /// Path below the repository, such as `/blobs/sha256:…`, with query.
    pub(crate) path: String,
    /// Where to, in place of the path: the registry has told it.
    pub(crate) at: Option<Url>,
    /// What a token has to allow.
    pub(crate) access: Access<'a>,
    /// Media types; may be empty.
    pub(crate) accept: &'a str,
    /// First byte that is wanted; 0 for all.
    pub(crate) offset_bytes: u64,
    /// How errors name what is asked for.
    pub(crate) reference: &'a str,
}

/// What a token has to allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access<'a> {
    /// To read the repository.
    Pull,
    /// To write to it.
    Push,
    /// To write to it, and to read another one of the same registry.
    Mount(&'a str),
}

impl Way {
    /// Whether a mirror is asked this.
    fn has(&self, call: &Call<'_>) -> bool {
        // What a mirror has cached of a list that grows is not the list.
        if call.path.starts_with("/referrers/") || call.path.starts_with("/manifests/sha256-") {
            return false;
        }
        let names_tag = call.path.starts_with("/manifests/") && !call.path.contains("/sha256:");
        if names_tag { self.has_tags } else { self.has_digests }
    }
}

impl Call<'_> {
    /// The scopes of a token that allows the call, separated by spaces.
    fn scope(&self) -> String {
        let name = &self.repository.name;
        if name.is_empty() {
            return String::new();
        }
        match self.access {
            Access::Pull => format!("repository:{name}:pull"),
            Access::Push => format!("repository:{name}:pull,push"),
            Access::Mount(from) => {
                format!("repository:{name}:pull,push repository:{from}:pull")
            }
        }
    }
}

/// What the threads of a client share.
#[derive(Debug)]
pub(crate) struct Exchange {
    config: Config,
    transport: Transport,
    cancellation: Arc<Cancellation>,
    hosts: Mutex<HashMap<Endpoint, Arc<Host>>>,
    routes: Mutex<HashMap<Repository, Arc<Route>>>,
    downloads: Arc<Transfers>,
    object_keys: ObjectKeys,
    uploads: Arc<Transfers>,
}

impl Exchange {
    /// Nothing known, nothing connected.
    pub(crate) fn new(config: Config) -> Self {
        let cancellation = Arc::new(Cancellation::default());
        Self {
            transport: Transport::new(config.clone(), Arc::clone(&cancellation)),
            config,
            cancellation,
            hosts: Mutex::default(),
            routes: Mutex::default(),
            downloads: Arc::default(),
            object_keys: ObjectKeys::default(),
            uploads: Arc::default(),
        }
    }

    /// Ends all waits, breaks off all connections.
    pub(crate) fn cancel(&self) {
        self.cancellation.cancel();
        self.transport.shut_down();
    }

    /// What sends requests.
    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// What the client was told.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// What object stores are told to let the client in.
    pub(crate) fn object_keys(&self) -> &ObjectKeys {
        &self.object_keys
    }

    /// Whether to stop.
    pub(crate) fn cancellation(&self) -> &Cancellation {
        &self.cancellation
    }

    /// Waits for the right to download a blob from a registry.
    pub(crate) fn permit(&self, registry: &str) -> Result<Permit, Error> {
        self.downloads.permit(registry, &self.cancellation)
    }

    /// Waits for the right to upload a blob to a registry.
    pub(crate) fn upload_permit(&self, registry: &str) -> Result<Permit, Error> {
        self.uploads.permit(registry, &self.cancellation)
    }

    /// A count of attempts as configured.
    pub(crate) fn attempts(&self) -> Attempts {
        Attempts::new(self.config.retries)
    }

    /// Runs `attempt` until it succeeds, or no further attempt is allowed.
    pub(crate) fn retrying<T>(
        &self,
        mut attempt: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let mut attempts = self.attempts();
        loop {
            self.cancellation.check()?;
            match attempt() {
                Ok(answer) => return Ok(answer),
                Err(failure) => {
                    let wait = attempts.next(failure)?;
                    self.cancellation.wait(wait)?;
                }
            }
        }
    }

    /// One attempt at a call. An answer is a success (2xx), or a range that cannot be had (416).
    /// What is only read is asked of mirrors first; whatever they fail with, the next is asked.
    /// What belongs to a push goes to the one host that takes pushes.
    pub(crate) fn attempt(&self, call: &Call<'_>) -> Result<Response, Failure> {
        let route = self.route(call.repository)?;
        let is_read = call.access == Access::Pull
            && call.at.is_none()
            && matches!(call.method, Method::Get | Method::Head);
        for mirror in route.mirrors.iter().filter(|mirror| is_read && mirror.has(call)) {
            let host = self.host(&mirror.endpoint);
            if host.is_put_aside() {
                continue;
            }
            match self.attempt_at(&host, &mirror.name, call) {
                Ok(mut answer) if answer.status != 416 => {
                    answer.mirror = Some(host);
                    return Ok(answer);
                }
                Err(Failure { error: error @ Error::Cancelled, again }) => {
                    return Err(Failure { error, again });
                }
                // It has nothing of this name or range, but may have others.
                Ok(_) | Err(Failure { error: Error::NotFound { .. }, .. }) => {}
                Err(_) => host.put_aside(),
            }
        }
        let way = if call.access == Access::Pull { &route.origin } else { route.push()? };
        self.attempt_at(&self.host(&way.endpoint), &way.name, call)
    }

    /// Asks for nothing but to be let in, with these credentials. Tells whether they were asked for,
    /// and gives the identity token that takes their place, if the registry has such.
    pub(crate) fn check_login(
        &self,
        registry: &str,
        credential: Credential,
    ) -> Result<(bool, Option<Secret>), Error> {
        // One of its own: what is known of the registry goes with the configured credentials.
        let repository = Repository { registry: registry.to_owned(), name: String::new() };
        let endpoint = Route::find(&repository, &self.config)?.origin.endpoint;
        let host = Host::for_login(endpoint, credential);
        let call = crate::client::get(&repository, String::new(), registry);
        self.retrying(|| self.attempt_at(&host, "", &call).map(drop))?;
        Ok((host.remembered(&call.scope()).is_some(), host.into_identity()))
    }

    /// One attempt at a host, where the repository has this name.
    fn attempt_at(&self, host: &Host, name: &str, call: &Call<'_>) -> Result<Response, Failure> {
        let registry = call.repository.registry.clone();
        let there = Repository { registry, name: name.to_owned() };
        let call = &Call { repository: &there, ..call.clone() };
        let scope = call.scope();
        let mut shown = host.remembered(&scope);
        for _ in 0..=LOGINS {
            let (response, is_registry) = self.follow(host, call, shown.as_ref())?;
            if response.status != 401 || !is_registry {
                return self.judge(host, call, response);
            }
            let demand = Demand::of(&response, &host.registry)?;
            // The connection can be used again when the body was read.
            drop(response.message());
            shown = host.authorize(&scope, shown.as_ref(), || match demand {
                None => Ok(None),
                Some(demand) => self.login(host, &scope, &demand, call),
            })?;
            if shown.is_none() {
                break;
            }
        }
        Err(self.refused(host, call).into())
    }

    /// Asks for a file of the web, with redirections and further attempts. An answer is a success,
    /// or "not modified".
    pub(crate) fn web(&self, url: &str, known: &Validators) -> Result<Response, Error> {
        let start = Url::parse(url)?;
        self.retrying(|| {
            let mut at = start.clone();
            for _ in 0..=REDIRECTIONS {
                let mut request = Request::new(Method::Get, at.clone());
                request.conditions[0].1 = known.etag.as_deref();
                request.conditions[1].1 = known.last_modified.as_deref();
                let response = self.transport.send(&request)?;
                let is_redirection = matches!(response.status, 301 | 302 | 303 | 307 | 308);
                if let Some(location) = response.header("location").filter(|_| is_redirection) {
                    let target = at.join(location)?;
                    self.check_redirection(&at, &target)?;
                    drop(response.message());
                    at = target;
                    continue;
                }
                if matches!(response.status, 200..=299 | 304) {
                    return Ok(response);
                }
                let again = Self::again(&response);
                let (url, status) = (start.to_string(), response.status);
                let error = Error::Status { url, status, message: response.message() };
                return Err(Failure { error, again });
            }
            Err(redirect(&start, &at, "there are too many redirections").into())
        })
    }

    fn host(&self, endpoint: &Endpoint) -> Arc<Host> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let host =
            hosts.entry(endpoint.clone()).or_insert_with(|| Arc::new(Host::new(endpoint.clone())));
        Arc::clone(host)
    }

    fn route(&self, repository: &Repository) -> Result<Arc<Route>, Error> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(route) = routes.get(repository) {
            return Ok(Arc::clone(route));
        }
        let route = Arc::new(Route::find(repository, &self.config)?);
        routes.insert(repository.clone(), Arc::clone(&route));
        Ok(route)
    }

    /// Sends a call and follows redirections. Tells whether the registry itself gave the answer.
    fn follow(
        &self,
        host: &Host,
        call: &Call<'_>,
        shown: Option<&Secret>,
    ) -> Result<(Response, bool), Failure> {
        let (mut response, registry) = match &call.at {
            None => {
                let name = &call.repository.name;
                let Endpoint { base, namespace, .. } = &host.endpoint;
                let mut path = if name.is_empty() {
                    format!("{base}/")
                } else {
                    format!("{base}/{name}{}", call.path)
                };
                if let Some(namespace) = namespace {
                    path.push(if path.contains('?') { '&' } else { '?' });
                    path.push_str(&form(&[("ns", namespace)]));
                }
                let response = self.send_first(host, call, &path, shown)?;
                let registry = response.url.clone();
                (response, registry)
            }
            Some(url) => {
                let scheme = host.scheme.get().copied().unwrap_or(Scheme::Https);
                let registry = Url::new(scheme, &host.authority, "/v2/")?;
                self.check_redirection(&registry, url)?;
                let authorization = shown.filter(|_| url.has_origin_of(&registry));
                let request = request_of((host, host.shown()), call, url.clone(), authorization);
                (self.transport.send(&request)?, registry)
            }
        };
        for _ in 0..=REDIRECTIONS {
            let is_redirection = match call.method.body() {
                None => matches!(response.status, 301 | 302 | 303 | 307 | 308),
                // The others would change what is asked (RFC 9110, 15.4).
                Some(_) => matches!(response.status, 307 | 308),
            };
            let Some(location) = response.header("location").filter(|_| is_redirection) else {
                let is_registry = response.url.has_origin_of(&registry);
                return Ok((response, is_registry));
            };
            let target = response.url.join(location)?;
            self.check_redirection(&response.url, &target)?;
            let authorization = shown.filter(|_| target.has_origin_of(&registry));
            drop(response.message());
            response = self.transport.send(&request_of(
                (host, host.shown()),
                call,
                target,
                authorization,
            ))?;
        }
        let target = response.url.clone();
        Err(redirect(&registry, &target, "there are too many redirections").into())
    }

    /// A redirection must not give up TLS, but for hosts that are known to have none.
    fn check_redirection(&self, from: &Url, to: &Url) -> Result<(), Error> {
        let gives_up_tls = from.scheme == Scheme::Https && to.scheme == Scheme::Http;
        if gives_up_tls && !self.is_plain(to) {
            return Err(redirect(from, to, "that would give up TLS"));
        }
        Ok(())
    }

    /// Answers a demand, if there is anything to answer it with.
    fn login(
        &self,
        host: &Host,
        scope: &str,
        demand: &Demand,
        call: &Call<'_>,
    ) -> Result<Option<Authorization>, Error> {
        let credential = self.credential(host);
        let challenge = match demand {
            Demand::Basic => return Ok(credential.basic().map(Authorization::Basic)),
            Demand::Bearer(challenge) => challenge,
        };
        let registry = host.registry.as_str();
        let is_plain =
            |realm: &Url| host.scheme.get() == Some(&Scheme::Http) || self.is_plain(realm);
        let mut asked = TokenRequest::new(challenge, scope, credential, registry, is_plain)?
            .with_purpose(host.purpose());
        let realm = asked.url().to_string();
        let wrong = |reason: String| Error::TokenService {
            registry: registry.to_owned(),
            url: realm.clone(),
            reason,
        };
        self.retrying(|| {
            // A token service beside the registry mostly has its certificate, too.
            let is_beside = asked.url().host().eq_ignore_ascii_case(bare_host(&host.authority));
            let endpoint = Some(host.shown()).filter(|_| is_beside);
            let endpoint = endpoint.map(|known| Endpoint { headers: Vec::new(), ..known.clone() });
            let send = |asked: &TokenRequest<'_>| {
                let authorization = asked.authorization();
                self.transport.send(&Request {
                    authorization: authorization.as_ref(),
                    endpoint: endpoint.as_ref(),
                    ..asked.request()
                })
            };
            let mut response = send(&asked)?;
            if let (404 | 405, Some(by_post)) = (response.status, asked.by_post()) {
                drop(response.message());
                response = send(&by_post)?;
                asked = by_post;
            }
            match response.status {
                200..=299 => Token::read(response)
                    .map(Authorization::Bearer)
                    .map_err(|(reason, again)| Failure { error: wrong(reason), again }),
                400..=403 => Err(self.refused(host, call).into()),
                status => {
                    let again = Self::again(&response);
                    let error = wrong(format!("answered {status}"));
                    Err(Failure { error, again })
                }
            }
        })
        .map(Some)
    }

    fn credential<'h>(&self, host: &'h Host) -> &'h Credential {
        host.credential(|| match &self.config.docker_config {
            Some(directory) => Credential::find(directory, &host.registry),
            None => Credential::Anonymous,
        })
    }

    /// Whether a host may be spoken to without TLS.
    pub(crate) fn is_plain(&self, url: &Url) -> bool {
        let plain = &self.config.plain_http_hosts;
        is_loopback(&url.authority)
            || plain.iter().any(|host| *host == url.authority || host == url.host())
    }

    fn refused(&self, host: &Host, call: &Call<'_>) -> Error {
        Error::Unauthorized {
            registry: host.registry.clone(),
            reference: call.reference.to_owned(),
            login: self.credential(host).login(),
        }
    }

    /// Makes errors of statuses.
    fn judge(&self, host: &Host, call: &Call<'_>, response: Response) -> Result<Response, Failure> {
        let again = Self::again(&response);
        let is_registry = response.url.authority == host.authority;
        let error = match response.status {
            200..=299 | 416 => return Ok(response),
            404 if is_registry => Error::NotFound { reference: call.reference.to_owned() },
            403 if is_registry => self.refused(host, call),
            429 => Error::TooManyRequests {
                registry: host.registry.clone(),
                retry_after: match again {
                    Again::After(wait) => Some(wait),
                    _ => None,
                },
            },
            status => {
                Error::Status { url: response.url.to_string(), status, message: response.message() }
            }
        };
        Err(Failure { error, again })
    }

    /// Whether another attempt at what was answered like this may help.
    pub(crate) fn again(response: &Response) -> Again {
        if !matches!(response.status, 408 | 429 | 500 | 502 | 503 | 504) {
            return Again::Never;
        }
        response
            .header("retry-after")
            .and_then(|value| parse_retry_after(value, SystemTime::now()))
            .map_or(Again::Later, Again::After)
    }
}

/// A call as a request to one host, which is shown this.
fn request_of<'a>(
    (host, shown): (&'a Host, &'a Endpoint),
    call: &Call<'a>,
    url: Url,
    authorization: Option<&'a Secret>,
) -> Request<'a> {
    Request {
        endpoint: Some(shown).filter(|_| host.has(&url)),
        method: call.method.clone(),
        url,
        accept: call.accept,
        offset_bytes: call.offset_bytes,
        authorization,
        conditions: UNCONDITIONAL,
        headers: &[],
    }
}

fn redirect(from: &Url, to: &Url, reason: &'static str) -> Error {
    Error::Redirect { url: from.to_string(), target: to.to_string(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirection_keeps_tls() {
        let exchange = Exchange::new(Config {
            plain_http_hosts: vec!["plain.example".to_owned()],
            ..Config::default()
        });
        let check = |from: &str, to: &str| {
            let [from, to] = [from, to].map(|url| Url::parse(url).unwrap());
            exchange.check_redirection(&from, &to).is_ok()
        };
        assert!(check("https://a.example", "https://b.example"));
        assert!(check("http://a.example", "http://b.example"));
        assert!(check("https://a.example", "http://plain.example:8080"));
        assert!(check("https://a.example", "http://127.0.0.1:8080"));
        assert!(!check("https://a.example", "http://b.example"));
        assert!(!check("https://a.example", "http://a.example"));
    }
}
