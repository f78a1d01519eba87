//! One HTTP exchange: a request goes out, the head of its answer comes back.
//!
//! Connections are pooled and shared by threads. Redirections, retries and logins are not
//! known here. Plain `http` requests through a proxy use CONNECT, as `https` ones do.

mod body;
mod proxy;
mod roots;
mod url;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ureq::http::{HeaderMap, Request as HttpRequest};
use ureq::tls::TlsConfig;
use ureq::{Agent, ProxyProtocol, SendBody};

use crate::auth::{Host, Secret};
use crate::config::Config;
use crate::error::{Error, printable};
use crate::retry::{Again, Cancellation, Failure};
use crate::routes::{Endpoint, Trust};

pub(crate) use body::Body;
use body::Promised;
pub(crate) use url::{Scheme, Url, escape_path, form};

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) enum Method<'a> {
    /// For the body.
    Get,
    /// For the head only.
    Head,
    /// With a form, which may hold secrets.
    PostForm(Secret),
    /// With a body that may be sent again.
    Post(Body<'a>),
    /// The same.
    Patch(Body<'a>),
    /// The same.
    Put(Body<'a>),
}

impl<'a> Method<'a> {
    /// What it sends, if it is one that sends.
    pub(crate) fn body(&self) -> Option<&Body<'a>> {
        match self {
            Self::Post(body) | Self::Patch(body) | Self::Put(body) => Some(body),
            Self::Get | Self::Head | Self::PostForm(_) => None,
        }
    }

    /// The word of the request.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::PostForm(_) | Self::Post(_) => "POST",
            Self::Patch(_) => "PATCH",
            Self::Put(_) => "PUT",
        }
    }
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Request<'a> {
    /// What is asked.
    pub(crate) method: Method<'a>,
    /// Of whom.
    pub(crate) url: Url,
    /// Media types; may be empty.
    pub(crate) accept: &'a str,
    /// First byte that is wanted; 0 for all.
    pub(crate) offset_bytes: u64,
    /// The `Authorization`.
    pub(crate) authorization: Option<&'a Secret>,
    /// `If-None-Match` and `If-Modified-Since`, if they are known.
    pub(crate) conditions: [(&'static str, Option<&'a str>); 2],
    /// What goes to this very host: certificates, headers.
    pub(crate) endpoint: Option<&'a Endpoint>,
    /// Further headers.
    pub(crate) headers: &'a [(&'static str, Secret)],
}

/// Nothing is known: the answer does not depend on it.
pub(crate) const UNCONDITIONAL: [(&str, Option<&str>); 2] =
    [("if-none-match", None), ("if-modified-since", None)];

impl<'a> Request<'a> {
    /// Asks for a URL.
    pub(crate) fn new(method: Method<'a>, url: Url) -> Self {
        let conditions = UNCONDITIONAL;
        Self {
            method,
            url,
            accept: "",
            offset_bytes: 0,
            authorization: None,
            conditions,
            endpoint: None,
            headers: &[],
        }
    }
}

/// The head of an answer, and its body still to be read.
#[derive(Debug)]
pub(crate) struct Response {
    /// The status.
    pub(crate) status: u16,
    /// Who answered.
    pub(crate) url: Url,
    /// The mirror that gave it, if one did.
    pub(crate) mirror: Option<Arc<Host>>,
    headers: HeaderMap,
    body: ureq::Body,
}

/// Bodies of errors are read this far.
const ERROR_BODY_BYTES: u64 = 64 << 10;

impl Response {
    /// A header's value, if it is there and text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// All values of a header that are text.
    pub(crate) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
    }

    /// How many bytes the body has, if the answer says so.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header("content-length")?.trim().parse().ok()
    }

    /// The body, to be read by and by.
    pub(crate) fn into_reader(self) -> impl Read + Send + Sync + 'static {
        self.body.into_reader()
    }

    /// The body, at most `limit_bytes` of it.
    pub(crate) fn read(self, limit_bytes: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.into_reader().take(limit_bytes).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// What an answer that is an error says: code and message of the first of the registry's
    /// errors (distribution-spec, "Error codes"), without control characters, of bounded length.
    pub(crate) fn message(self) -> String {
        let bytes = self.read(ERROR_BODY_BYTES).unwrap_or_default();
        let Ok(json) = serde_json::from_slice::<serde_json::Value>(&bytes) else {
            return String::new();
        };
        let text = |name: &str| json["errors"][0][name].as_str().unwrap_or_default().trim();
        let message = match (text("code"), text("message")) {
            ("", message) => message.to_owned(),
            (code, "") => code.to_owned(),
            (code, message) => format!("{code}: {message}"),
        };
        printable(&message)
    }
}

/// Sends requests.
#[derive(Debug)]
pub(crate) struct Transport {
    config: Config,
    cancellation: Arc<Cancellation>,
    /// Made when first needed: by scheme, directly and by proxy.
    agents: Agents,
    /// The same for hosts with certificates of their own.
    special: Mutex<BTreeMap<Trust, Arc<Agents>>>,
    on_use: OnUse,
}

/// What is called before the next request.
#[derive(Default)]
struct OnUse(Mutex<Vec<Box<dyn FnOnce() + Send>>>);

impl fmt::Debug for OnUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnUse")
    }
}

type Agents = [OnceLock<Agent>; 4];

impl Transport {
    /// A transport without any connection. Certificates are read when first needed.
    pub(crate) fn new(config: Config, cancellation: Arc<Cancellation>) -> Self {
        Self {
            config,
            cancellation,
            agents: Default::default(),
            special: Mutex::default(),
            on_use: OnUse::default(),
        }
    }

    /// Has something called before the next request is sent.
    pub(crate) fn on_use(&self, begin: Box<dyn FnOnce() + Send>) {
        self.on_use.0.lock().unwrap_or_else(PoisonError::into_inner).push(begin);
    }

    /// Breaks off all connections; nothing can be sent any more.
    pub(crate) fn shut_down(&self) {
        for agent in self.agents.iter().filter_map(OnceLock::get) {
            agent.clone().shutdown();
        }
        for agents in self.special.lock().unwrap_or_else(PoisonError::into_inner).values() {
            for agent in agents.iter().filter_map(OnceLock::get) {
                agent.clone().shutdown();
            }
        }
    }

    /// One exchange. Any status is an answer.
    pub(crate) fn send(&self, request: &Request<'_>) -> Result<Response, Failure> {
        let begin =
            std::mem::take(&mut *self.on_use.0.lock().unwrap_or_else(PoisonError::into_inner));
        for begin in begin {
            begin();
        }
        self.cancellation.check()?;
        let url = &request.url;
        let trust = request.endpoint.map(|endpoint| &endpoint.trust);
        let special = trust.filter(|trust| **trust != Trust::default()).map(|trust| {
            let mut special = self.special.lock().unwrap_or_else(PoisonError::into_inner);
            (trust, Arc::clone(special.entry(trust.clone()).or_default()))
        });
        let agent = match &special {
            None => self.agent(url, &self.agents, &Trust::default())?,
            Some((trust, agents)) => self.agent(url, agents, trust)?,
        };
        let invalid = |_| Error::InvalidUrl { url: url.to_string() };
        let mut head = HttpRequest::builder().uri(url.full());
        if !request.accept.is_empty() {
            head = head.header("accept", request.accept);
        }
        if request.offset_bytes > 0 {
            head = head.header("range", format!("bytes={}-", request.offset_bytes));
        }
        for (name, value) in request.conditions {
            if let Some(value) = value {
                head = head.header(name, value);
            }
        }
        if let Some(authorization) = request.authorization {
            head = head.header("authorization", authorization.expose());
        }
        for (name, value) in request.endpoint.iter().flat_map(|endpoint| &endpoint.headers) {
            head = head.header(name, value);
        }
        for (name, value) in request.headers {
            head = head.header(*name, value.expose());
        }
        let head = head.method(request.method.name());
        // Why the body could not be read, if that is why the exchange failed.
        let unread = RefCell::new(None);
        let answer = match &request.method {
            Method::Get | Method::Head => agent.run(head.body(()).map_err(invalid)?),
            Method::PostForm(form) => {
                let head = head.header("content-type", "application/x-www-form-urlencoded");
                agent.run(head.body(form.expose()).map_err(invalid)?)
            }
            Method::Post(body) | Method::Patch(body) | Method::Put(body) => {
                let mut head = head.header("content-length", body.length_bytes);
                if !body.content_type.is_empty() {
                    head = head.header("content-type", body.content_type);
                }
                if let Some(range) = body.content_range() {
                    head = head.header("content-range", range);
                }
                if body.length_bytes == 0 {
                    agent.run(head.body(&[] as &[u8]).map_err(invalid)?)
                } else {
                    let mut reader = Promised::new(body, &unread)?;
                    agent.run(head.body(SendBody::from_reader(&mut reader)).map_err(invalid)?)
                }
            }
        };
        if let Some(source) = unread.take() {
            self.cancellation.check()?;
            return Err(Error::from_io(source)
                .unwrap_or_else(|source| Error::Unread { url: url.to_string(), source })
                .into());
        }
        match answer {
            Ok(answer) => {
                let (head, body) = answer.into_parts();
                Ok(Response {
                    status: head.status.as_u16(),
                    url: url.clone(),
                    mirror: None,
                    headers: head.headers,
                    body,
                })
            }
            Err(error) => {
                self.cancellation.check()?;
                let proxy = agent.config().proxy().map(ureq::Proxy::host);
                Err(name_proxy(explain(error, url), proxy))
            }
        }
    }

    fn agent<'a>(&self, url: &Url, agents: &'a Agents, trust: &Trust) -> Result<&'a Agent, Error> {
        let proxies = &self.config.proxies;
        let (slot, proxy) = match url.scheme {
            Scheme::Http => (0, &proxies.http),
            Scheme::Https => (2, &proxies.https),
        };
        let proxy = proxy
            .as_deref()
            .filter(|proxy| !proxy.is_empty() && !proxy::is_direct(url, &proxies.no_proxy));
        let slot = &agents[slot + usize::from(proxy.is_some())];
        if let Some(agent) = slot.get() {
            return Ok(agent);
        }
        let scheme = url.scheme.name();
        let proxy =
            proxy.map(|proxy| parse_proxy(proxy).ok_or(Error::Proxy { scheme })).transpose()?;
        let needs_tls = url.scheme == Scheme::Https || proxy.is_some();
        let tls = needs_tls.then(|| roots::load(&self.config, trust)).transpose()?;
        let agent = self.new_agent(proxy, tls.unwrap_or_default());
        let agent = slot.get_or_init(|| agent);
        // Cancelled while the agent was made: it must not come to life.
        self.cancellation.check()?;
        Ok(agent)
    }

    fn new_agent(&self, proxy: Option<ureq::Proxy>, tls: TlsConfig) -> Agent {
        let timeouts = &self.config.timeouts;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(proxy)
            .tls_config(tls)
            .user_agent(self.config.user_agent.as_str())
            .timeout_resolve(Some(timeouts.resolve))
            .timeout_connect(Some(timeouts.connect))
            .timeout_recv_response(Some(timeouts.answer))
            .timeout_per_read(Some(timeouts.read))
            .timeout_per_write(Some(timeouts.read))
            .input_buffer_size(128 << 10)
            .max_idle_connections_per_host(8)
            .build();
        config.new_agent()
    }
}

/// A proxy of a kind that is spoken to; SOCKS is none, and must not be passed by silently.
fn parse_proxy(url: &str) -> Option<ureq::Proxy> {
    let proxy = ureq::Proxy::new(url).ok()?;
    let is_known = matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https);
    (is_known && !proxy.host().is_empty()).then_some(proxy)
}

/// Says that a proxy was asked, where that may be why nothing answers.
fn name_proxy(mut failure: Failure, proxy: Option<&str>) -> Failure {
    if let (Error::Unreachable { source, .. }, Some(proxy)) = (&mut failure.error, proxy) {
        let text = format!("{source} (through the proxy {proxy})");
        *source = io::Error::new(source.kind(), text);
    }
    failure
}

/// Whether a name was not found, by the words of the standard library: there is no kind for it.
fn is_lookup_failure(error: &io::Error) -> bool {
    error.to_string().starts_with("failed to lookup address")
}

/// What a failed exchange means.
fn explain(error: ureq::Error, url: &Url) -> Failure {
    use std::io::ErrorKind;
    use ureq::{Error as Http, Timeout};
    let unreachable = |source, again| Failure {
        error: Error::Unreachable { registry: url.authority.clone(), url: url.to_string(), source },
        again,
    };
    let tls =
        |reason: String| Failure::from(Error::Tls { registry: url.authority.clone(), reason });
    match error {
        Http::Io(source) => match source.kind() {
            // TLS reports its errors so.
            ErrorKind::InvalidData if url.scheme == Scheme::Https => tls(source.to_string()),
            ErrorKind::ConnectionRefused
            | ErrorKind::NetworkUnreachable
            | ErrorKind::HostUnreachable => unreachable(source, Again::Soon),
            _ if is_lookup_failure(&source) => unreachable(source, Again::Soon),
            _ => unreachable(source, Again::Later),
        },
        Http::HostNotFound => {
            let source = io::Error::new(ErrorKind::NotFound, "no such host");
            unreachable(source, Again::Soon)
        }
        Http::Timeout(at) => {
            let again = match at {
                Timeout::Resolve | Timeout::Connect => Again::Soon,
                _ => Again::Later,
            };
            let source = io::Error::new(ErrorKind::TimedOut, format!("no answer in time ({at})"));
            unreachable(source, again)
        }
        Http::Protocol(error) => {
            let source = io::Error::new(ErrorKind::InvalidData, error.to_string());
            unreachable(source, Again::Later)
        }
        Http::ConnectProxyFailed(reason) => {
            unreachable(io::Error::other(format!("the proxy refuses: {reason}")), Again::Soon)
        }
        Http::Rustls(error) => tls(error.to_string()),
        Http::Tls(reason) => tls(reason.to_owned()),
        Http::Pem(error) => tls(error.to_string()),
        other => unreachable(other.into_io(), Again::Never),
    }
}
