//! `certs.d`: containerd's `HOST/hosts.toml`, and certificates in the form of docker and podman.
//!
//! `hosts.toml` has a `server` (the origin) and tables `[host."URL"]`, asked in the order in
//! which they are written. Of both kinds kiln reads `capabilities` (`pull`: what digests stand
//! for, `resolve`: what tags stand for), `ca`, `client`, `skip_verify`, `header` and
//! `override_path`; what else there is is passed over, as containerd does it. A host that is the
//! origin tells the origin's certificates. The first host with the capability `push` is written
//! to; the origin is the last of them. A host without `capabilities` has all of them. `_default`
//! stands for all registries that have no directory.
//!
//! Without `hosts.toml`, `*.crt` are authorities, and each `X.cert` with `X.key` is a certificate
//! of kiln's own.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::{Endpoint, PushTo, Route, Trust, Way, parse, wrong};
use crate::error::Error;
use crate::http::Scheme;
use crate::repository::Repository;

#[derive(Debug, Deserialize)]
struct File {
    server: Option<String>,
    #[serde(flatten)]
    origin: Host,
    #[serde(default)]
    host: HashMap<Spanned<String>, Host>,
}

#[derive(Debug, Default, Deserialize)]
struct Host {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany<String>>,
    client: Option<Client>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    header: BTreeMap<String, OneOrMany<String>>,
    #[serde(default)]
    override_path: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T: Clone> OneOrMany<T> {
    fn all(&self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one.clone()],
            Self::Many(many) => many.clone(),
        }
    }
}

/// A file with certificate and key, or a list of such files and of pairs of files.
type Client = OneOrMany<OneOrMany<String>>;

impl Host {
    fn can(&self, what: &str) -> bool {
        let known = self.capabilities.as_deref().unwrap_or_default();
        known.is_empty() || known.iter().any(|known| known == what)
    }
}

/// The way that the first `hosts.toml` names that is for the registry.
pub(super) fn find(
    directories: &[PathBuf],
    repository: &Repository,
    direct: &Route,
) -> Result<Option<Route>, Error> {
    for directory in directories {
        for name in names(&repository.registry) {
            let path = directory.join(name).join("hosts.toml");
            // A directory that only root may read is passed over, too.
            if !path.exists() {
                continue;
            }
            if let Some(file) = parse::<File>(&path)? {
                return route(&path, file, repository, direct).map(Some);
            }
        }
    }
    Ok(None)
}

/// What the directory of a registry may be called.
fn names(registry: &str) -> Vec<String> {
    let port = registry.rsplit_once(':').map(|(host, port)| format!("{host}_{port}_"));
    [Some(registry.to_owned()), port, Some("_default".to_owned())].into_iter().flatten().collect()
}

fn route(path: &Path, file: File, repository: &Repository, direct: &Route) -> Result<Route, Error> {
    let mut route = direct.clone();
    if let Some(server) = &file.server {
        let mut endpoint = endpoint(path, server, &file.origin)?;
        if endpoint.authority == direct.origin.endpoint.authority {
            endpoint.login.clone_from(&direct.origin.endpoint.login);
        }
        route.origin.endpoint = endpoint;
    } else {
        complete(path, &file.origin, &mut route.origin.endpoint)?;
    }
    let mut hosts: Vec<_> = file.host.into_iter().collect();
    hosts.sort_by_key(|(url, _)| url.span().start);
    let origin_takes_pushes = file.origin.can("push");
    let mut push = None;
    for (url, host) in hosts {
        let mut mirror = endpoint(path, url.get_ref(), &host)?;
        let origin = &mut route.origin.endpoint;
        if mirror.authority == origin.authority {
            mirror.login.clone_from(&origin.login);
            *origin = mirror;
            if host.can("push") {
                push.get_or_insert(PushTo::Origin);
            }
            continue;
        }
        mirror.namespace = Some(repository.registry.clone());
        if host.can("push") {
            push.get_or_insert(PushTo::Mirror(route.mirrors.len()));
        }
        route.mirrors.push(Way {
            endpoint: mirror,
            name: repository.name.clone(),
            has_tags: host.can("resolve"),
            has_digests: host.can("pull"),
        });
    }
    route.push = push.unwrap_or_else(|| {
        if origin_takes_pushes { PushTo::Origin } else { PushTo::Nobody(path.to_owned()) }
    });
    Ok(route)
}

fn endpoint(path: &Path, url: &str, host: &Host) -> Result<Endpoint, Error> {
    let (mut endpoint, below) = Endpoint::parse(url)
        .ok_or_else(|| wrong(path, format!("`{url}` is not the URL of a host")))?;
    endpoint.base = match below.as_str() {
        "" if host.override_path => String::new(),
        "" => "/v2".to_owned(),
        below if host.override_path || below == "v2" || below.ends_with("/v2") => {
            format!("/{below}")
        }
        below => format!("/{below}/v2"),
    };
    complete(path, host, &mut endpoint)?;
    Ok(endpoint)
}

fn complete(path: &Path, host: &Host, endpoint: &mut Endpoint) -> Result<(), Error> {
    let beside = |file: &String| path.parent().unwrap_or(Path::new("")).join(file);
    let trust = &mut endpoint.trust;
    trust.ca =
        host.ca.iter().flat_map(|ca| ca.all().iter().map(beside).collect::<Vec<_>>()).collect();
    for pair in host.client.iter().flat_map(OneOrMany::all) {
        trust.client.push(match pair.all().as_slice() {
            [both] => (beside(both), beside(both)),
            [certificate, key] if key.is_empty() => (beside(certificate), beside(certificate)),
            [certificate, key] => (beside(certificate), beside(key)),
            _ => return Err(wrong(path, "`client` must be a file or pairs of files")),
        });
    }
    trust.is_unverified = host.skip_verify;
    if host.skip_verify && endpoint.scheme.is_none() {
        endpoint.scheme = Some(Scheme::Https);
    }
    for (name, values) in &host.header {
        let name = name.to_ascii_lowercase();
        endpoint.headers.extend(values.all().into_iter().map(|value| (name.clone(), value)));
    }
    Ok(())
}

/// Adds the certificates of the first directory that has some for a host.
pub(super) fn add_certificates(
    directories: &[PathBuf],
    host: &str,
    trust: &mut Trust,
) -> Result<(), Error> {
    for directory in directories {
        let directory = directory.join(host);
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        let ending = |path: &Path, ending| path.extension().is_some_and(|found| found == ending);
        for file in &files {
            if ending(file, "crt") {
                trust.ca.push(file.clone());
            } else if ending(file, "cert") {
                let key = file.with_extension("key");
                if !key.exists() {
                    return Err(wrong(file, "there is no key beside this certificate"));
                }
                trust.client.push((file.clone(), key));
            }
        }
        if *trust != Trust::default() {
            break;
        }
    }
    Ok(())
}
