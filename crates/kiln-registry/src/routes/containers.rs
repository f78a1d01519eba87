//! Podman's `registries.conf`, version 2 (containers-registries.conf(5)).
//!
//! Of `[[registry]]` kiln reads `prefix`, `location`, `insecure`, `blocked`, `mirror` (with
//! `location`, `insecure`, `pull-from-mirror`) and `mirror-by-digest-only`. The longest prefix
//! that fits decides; files of `registries.conf.d` replace tables of the same prefix.
//! `unqualified-search-registries`, `short-name-mode` and aliases are passed over: a name without
//! a registry is one of Docker Hub, as for BuildKit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Endpoint, Route, Way, parse, wrong};
use crate::error::Error;
use crate::repository::Repository;

#[derive(Debug, Default, Deserialize)]
struct File {
    #[serde(default)]
    registry: Vec<Registry>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Registry {
    prefix: Option<String>,
    location: Option<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<Mirror>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(rename = "pull-from-mirror")]
    pull: Option<String>,
}

/// The way that the first of these files and its drop-ins name.
pub(super) fn find(
    paths: &[PathBuf],
    repository: &Repository,
    direct: &Route,
) -> Result<Option<Route>, Error> {
    let mut known: BTreeMap<String, (PathBuf, Registry)> = BTreeMap::new();
    for path in paths {
        let main = parse::<File>(path)?;
        let is_there = main.is_some();
        let mut files = vec![(path.clone(), main.unwrap_or_default())];
        let mut directory = path.clone().into_os_string();
        directory.push(".d");
        let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten();
        let mut dropped: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        dropped.retain(|file| file.extension().is_some_and(|ending| ending == "conf"));
        dropped.sort();
        for file in dropped {
            let read = parse::<File>(&file)?.unwrap_or_default();
            files.push((file, read));
        }
        for (file, registries) in files {
            for registry in registries.registry {
                let Some(prefix) = registry.prefix.as_ref().or(registry.location.as_ref()) else {
                    return Err(wrong(&file, "a `[[registry]]` has neither prefix nor location"));
                };
                known.insert(prefix.trim_end_matches('/').to_owned(), (file.clone(), registry));
            }
        }
        if is_there || !known.is_empty() {
            break;
        }
    }
    let wanted = repository.to_string();
    let fitting =
        known.iter().filter_map(|(prefix, found)| Some((prefix, found, rest(prefix, &wanted)?)));
    match fitting.max_by_key(|(prefix, ..)| prefix.len()) {
        None => Ok(None),
        Some((prefix, (path, registry), rest)) => {
            route(path, (prefix, registry), rest, direct).map(Some)
        }
    }
}

/// What follows a prefix in the name of a repository, if it is one of it: `*.example` stands
/// for all hosts below, anything else for itself and what is below it.
fn rest<'w>(prefix: &str, wanted: &'w str) -> Option<&'w str> {
    if let Some(domain) = prefix.strip_prefix('*') {
        let host = wanted.split(['/', ':']).next()?;
        return (domain.starts_with('.') && host.ends_with(domain))
            .then(|| wanted.split_once('/').map_or("", |(_, rest)| rest));
    }
    let rest = wanted.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/'))
}

fn route(
    path: &Path,
    (prefix, registry): (&str, &Registry),
    rest: &str,
    direct: &Route,
) -> Result<Route, Error> {
    if registry.blocked {
        return Err(Error::Blocked { prefix: prefix.to_owned(), path: path.to_owned() });
    }
    let mut route = direct.clone();
    if let Some(location) = registry.location.as_ref().filter(|location| *location != prefix) {
        route.origin = way(path, location, rest)?;
    }
    if registry.insecure {
        route.origin.endpoint.allow_insecure();
    }
    for mirror in &registry.mirror {
        let mut way = way(path, &mirror.location, rest)?;
        if mirror.insecure {
            way.endpoint.allow_insecure();
        }
        (way.has_tags, way.has_digests) = match mirror.pull.as_deref() {
            _ if registry.mirror_by_digest_only => (false, true),
            None | Some("all") => (true, true),
            Some("digest-only") => (false, true),
            Some("tag-only") => (true, false),
            Some(other) => {
                return Err(wrong(path, format!("`{other}` is no value of `pull-from-mirror`")));
            }
        };
        route.mirrors.push(way);
    }
    Ok(route)
}

fn way(path: &Path, location: &str, rest: &str) -> Result<Way, Error> {
    let (endpoint, below) = Endpoint::parse(location)
        .filter(|_| !location.contains("://"))
        .ok_or_else(|| wrong(path, format!("`{location}` is no location of a registry")))?;
    let parts: Vec<&str> =
        [below.as_str(), rest].into_iter().filter(|part| !part.is_empty()).collect();
    Ok(Way { endpoint, name: parts.join("/"), has_tags: true, has_digests: true })
}
