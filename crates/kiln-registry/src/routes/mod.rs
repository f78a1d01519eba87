//! The way to a registry: which hosts are asked for a repository, in what order, and what each
//! of them wants.
//!
//! What is configured for a registry is looked for in three places, and the first that has
//! something about it decides alone:
//! 1. `kiln.toml` ([`settings`]): the user's, and mirrors of the project's;
//! 2. `certs.d/HOST/hosts.toml` of containerd ([`hosts`]);
//! 3. `registries.conf` of podman ([`containers`]).
//!
//! Certificates of `certs.d/HOST` (docker's and podman's form) are added to an origin or mirror
//! that was given none. Files are read when a repository is first asked for, never before.
//!
//! Invariants: the origin is always the last that is asked, and only it is written to, unless a
//! `hosts.toml` names another host for that. A host gets the login of its own name and of no other.

mod containers;
mod hosts;
mod settings;

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::error::Error;
use crate::http::{Scheme, Url};
use crate::repository::{Repository, api_host, bare_host, is_loopback};

/// Where it is said how registries are reached. All of these may be missing.
#[derive(Clone, Debug, Default)]
pub struct RouteFiles {
    /// `kiln.toml` of the project: it may name mirrors, and nothing else.
    pub project_settings: Option<PathBuf>,
    /// `kiln.toml` of the user.
    pub user_settings: Option<PathBuf>,
    /// `certs.d` directories, the one that decides first.
    pub certificates: Vec<PathBuf>,
    /// `registries.conf` files; the first that is there is read, with its `registries.conf.d`.
    pub registries_conf: Vec<PathBuf>,
}

/// What a host shows, and by whom it is trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Trust {
    /// PEM bundles of authorities trusted besides the usual ones.
    pub(crate) ca: Vec<PathBuf>,
    /// PEM files of kiln's own certificates, each with its key: the first that the host takes.
    pub(crate) client: Vec<(PathBuf, PathBuf)>,
    /// Whether any certificate will do.
    pub(crate) is_unverified: bool,
}

/// One host that speaks the protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Endpoint {
    /// Whose login it gets.
    pub(crate) login: String,
    /// Host and port.
    pub(crate) authority: String,
    /// What its paths begin with, such as `/v2`.
    pub(crate) base: String,
    /// With or without TLS; `None` finds out.
    pub(crate) scheme: Option<Scheme>,
    /// Certificates.
    pub(crate) trust: Trust,
    /// Sent to it with every request.
    pub(crate) headers: Vec<(String, String)>,
    /// The registry that it stands for, told as `ns=` (containerd's protocol of mirrors).
    pub(crate) namespace: Option<String>,
}

impl Endpoint {
    /// A registry of which nothing is configured but whether it is plain HTTP.
    pub(crate) fn of(registry: &str, plain_http_hosts: &[String]) -> Self {
        let authority = api_host(registry).to_owned();
        let is_plain =
            plain_http_hosts.iter().any(|plain| plain == registry || plain == bare_host(registry));
        let scheme = if is_plain {
            Some(Scheme::Http)
        } else if is_loopback(&authority) {
            None
        } else {
            Some(Scheme::Https)
        };
        Self {
            login: registry.to_owned(),
            authority,
            base: "/v2".to_owned(),
            scheme,
            trust: Trust::default(),
            headers: Vec::new(),
            namespace: None,
        }
    }

    /// The host of a name or URL, such as `mirror.example/path` or `http://mirror.example`;
    /// its path is what is left of the second part. `None` if it is neither.
    fn parse(text: &str) -> Option<(Self, String)> {
        let with_scheme = text.contains("://");
        let url = if with_scheme { text.to_owned() } else { format!("https://{text}") };
        let url = Url::parse(&url).ok()?;
        let full = url.full();
        let path = full.splitn(4, '/').nth(3).unwrap_or_default().trim_matches('/').to_owned();
        if full.contains('?') {
            return None;
        }
        let mut endpoint = Self::of(&url.authority, &[]);
        if endpoint.authority == "registry-1.docker.io" {
            "docker.io".clone_into(&mut endpoint.login);
        }
        if with_scheme {
            endpoint.scheme = Some(url.scheme);
        }
        Some((endpoint, path))
    }

    /// Takes any certificate, and plain HTTP where there is no TLS.
    fn allow_insecure(&mut self) {
        self.trust.is_unverified = true;
        if self.scheme == Some(Scheme::Https) {
            self.scheme = None;
        }
    }
}

/// A host, and what a repository is called there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// The host.
    pub(crate) endpoint: Endpoint,
    /// The repository's name there.
    pub(crate) name: String,
    /// Whether it is asked for what tags stand for.
    pub(crate) has_tags: bool,
    /// Whether it is asked for what digests stand for.
    pub(crate) has_digests: bool,
}

/// The hosts that have a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Asked first, in this order.
    pub(crate) mirrors: Vec<Way>,
    /// Asked when no mirror has it.
    pub(crate) origin: Way,
    /// Who is written to.
    pub(crate) push: PushTo,
}

/// The host that is written to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum PushTo {
    /// The origin.
    #[default]
    Origin,
    /// The mirror of this number.
    Mirror(usize),
    /// None, by what this file says.
    Nobody(PathBuf),
}

impl Route {
    /// The way to a registry of which nothing is configured.
    fn direct(repository: &Repository, config: &Config) -> Self {
        let origin = Way {
            endpoint: Endpoint::of(&repository.registry, &config.plain_http_hosts),
            name: repository.name.clone(),
            has_tags: true,
            has_digests: true,
        };
        Self { mirrors: Vec::new(), origin, push: PushTo::Origin }
    }

    /// The host that is written to.
    pub(crate) fn push(&self) -> Result<&Way, Error> {
        match &self.push {
            PushTo::Origin => Ok(&self.origin),
            PushTo::Mirror(number) => Ok(self.mirrors.get(*number).unwrap_or(&self.origin)),
            PushTo::Nobody(path) => {
                Err(wrong(path, "no host has the capability `push`, so nothing can be pushed"))
            }
        }
    }

    /// The way to a repository. Errors are [`Error::Route`] and [`Error::Blocked`].
    pub(crate) fn find(repository: &Repository, config: &Config) -> Result<Self, Error> {
        let files = &config.routes;
        let direct = Self::direct(repository, config);
        let of_kiln = (files.project_settings.as_deref(), files.user_settings.as_deref());
        let mut route = match settings::find(of_kiln, repository, &direct)? {
            Some(route) => route,
            None => match hosts::find(&files.certificates, repository, &direct)? {
                Some(route) => route,
                None => {
                    containers::find(&files.registries_conf, repository, &direct)?.unwrap_or(direct)
                }
            },
        };
        for way in route.mirrors.iter_mut().chain([&mut route.origin]) {
            let Endpoint { login, trust, scheme, .. } = &mut way.endpoint;
            if trust.ca.is_empty() && trust.client.is_empty() {
                hosts::add_certificates(&files.certificates, login, trust)?;
            }
            // Who has certificates speaks TLS, also on this machine.
            if scheme.is_none() && *trust != Trust::default() && !trust.is_unverified {
                *scheme = Some(Scheme::Https);
            }
        }
        Ok(route)
    }
}

/// A file's text; `None` if there is no such file.
fn read(path: &Path) -> Result<Option<String>, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(wrong(path, error.to_string())),
    }
}

/// A TOML file; `None` if there is no such file.
fn parse<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let Some(text) = read(path)? else { return Ok(None) };
    toml::from_str(&text).map(Some).map_err(|error| {
        let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
        let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
        wrong(path, format!("{place}{}", error.message()))
    })
}

fn wrong(path: &Path, reason: impl Into<String>) -> Error {
    Error::Route { path: path.to_owned(), reason: reason.into() }
}

#[cfg(test)]
mod tests;
