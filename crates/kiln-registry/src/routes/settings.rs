//! Registries in `kiln.toml`, with the keys of `buildkitd.toml`:
//!
//! ```toml
//! [registry."docker.io"]
//! mirrors = ["mirror.example", "proxy.example:5000/hub"]  # asked in this order, then docker.io
//!
//! [registry."proxy.example:5000"]
//! http = true                 # no TLS
//! insecure = true             # any certificate, or no TLS
//! ca = ["ca.pem"]             # trusted besides the system's
//! keypair = [{ cert = "client.cert", key = "client.key" }]
//! ```
//!
//! A mirror's path comes before the repository's name (`/v2/hub/library/alpine`). Relative paths
//! of files begin at the directory of the `kiln.toml`. Unknown keys are errors. Other tables are
//! read elsewhere.
//!
//! A project's file names mirrors, which come before those of the user's file, and nothing else:
//! whoever clones a repository trusts nobody by that, and sends no login unprotected.

use std::path::{Path, PathBuf};

use kiln_core::diagnostic::did_you_mean;
use toml::{Table, Value};

use super::{Endpoint, Route, Way, parse, wrong};
use crate::error::Error;
use crate::http::Scheme;
use crate::repository::Repository;

/// `budget` and `cache` are about other things.
const TABLES: [&str; 3] = ["registry", "budget", "cache"];
const KEYS: [&str; 5] = ["mirrors", "http", "insecure", "ca", "keypair"];
const KEYPAIR_KEYS: [&str; 2] = ["cert", "key"];

/// What is said of one host.
#[derive(Clone, Debug, Default)]
struct Settings {
    /// With the file that names each.
    mirrors: Vec<(PathBuf, String)>,
    is_http: bool,
    is_insecure: bool,
    ca: Vec<PathBuf>,
    client: Vec<(PathBuf, PathBuf)>,
}

/// The way that the project's and the user's file name, if they know the registry.
pub(super) fn find(
    (project, user): (Option<&Path>, Option<&Path>),
    repository: &Repository,
    direct: &Route,
) -> Result<Option<Route>, Error> {
    let load = |path: Option<&Path>| -> Result<Option<(PathBuf, Table)>, Error> {
        let Some(path) = path else { return Ok(None) };
        let Some(file) = parse::<Table>(path)? else { return Ok(None) };
        check(path, &file)?;
        Ok(Some((path.to_owned(), file)))
    };
    let (project, user) = (load(project)?, load(user)?);
    if let Some((path, file)) = &project {
        names_only_mirrors(path, file)?;
    }
    let names = [repository.registry.as_str(), &direct.origin.endpoint.authority];
    let of = |file: &Option<(PathBuf, Table)>| match file {
        Some((path, file)) => names.iter().find_map(|name| lookup((path, file), name)).transpose(),
        None => Ok(None),
    };
    let (own, trusted) = (of(&project)?, of(&user)?);
    if own.is_none() && trusted.is_none() {
        return Ok(None);
    }
    let mut route = direct.clone();
    let mut mirrors = Vec::new();
    mirrors.extend(own.map(|settings| settings.mirrors));
    if let Some(settings) = trusted {
        apply(&settings, &mut route.origin.endpoint);
        mirrors.push(settings.mirrors);
    }
    for mirror in mirrors.iter().flatten() {
        let (mut endpoint, prefix) = parse_mirror(mirror)?;
        if let Some((path, file)) = &user
            && let Some(settings) = lookup((path, file), &endpoint.login).transpose()?
        {
            apply(&settings, &mut endpoint);
        }
        let name = match prefix.as_str() {
            "" => repository.name.clone(),
            prefix => format!("{prefix}/{}", repository.name),
        };
        route.mirrors.push(Way { endpoint, name, has_tags: true, has_digests: true });
    }
    Ok(Some(route))
}

/// What a file says of a registry.
fn lookup((path, file): (&Path, &Table), name: &str) -> Option<Result<Settings, Error>> {
    let settings = file.get("registry")?.as_table()?.get(name)?.as_table()?;
    Some(settings_of(path, settings))
}

fn parse_mirror((path, address): &(PathBuf, String)) -> Result<(Endpoint, String), Error> {
    Endpoint::parse(address)
        .ok_or_else(|| wrong(path, format!("`{address}` is not the address of a mirror")))
}

/// Refuses what only the user's own file may say.
fn names_only_mirrors(path: &Path, file: &Table) -> Result<(), Error> {
    let registries = file.get("registry").and_then(Value::as_table);
    for (name, settings) in registries.into_iter().flatten() {
        let keys = settings.as_table().into_iter().flat_map(Table::keys);
        let key = keys.map(String::as_str).find(|key| *key != "mirrors");
        let mirrors = settings.get("mirrors").and_then(strings).unwrap_or_default();
        let plain = mirrors.into_iter().find(|mirror| mirror.starts_with("http://"));
        if let Some(what) = key.or(plain.as_deref()) {
            let reason = format!(
                "`{what}` of `{name}` decides who is trusted: it may stand only in your own file, \
                 kiln/kiln.toml of the configuration directory"
            );
            return Err(wrong(path, reason));
        }
    }
    Ok(())
}

fn apply(settings: &Settings, endpoint: &mut Endpoint) {
    endpoint.trust.ca.clone_from(&settings.ca);
    endpoint.trust.client.clone_from(&settings.client);
    if settings.is_insecure {
        endpoint.allow_insecure();
    }
    if settings.is_http {
        endpoint.scheme = Some(Scheme::Http);
    }
}

/// Sees that a file says nothing that kiln does not know.
fn check(path: &Path, file: &Table) -> Result<(), Error> {
    known(path, file, "", &TABLES)?;
    if let Some(registries) = file.get("registry") {
        let registries = registries
            .as_table()
            .ok_or_else(|| wrong(path, "`registry` must be a table of hosts"))?;
        for (name, settings) in registries {
            let settings = settings.as_table().ok_or_else(|| {
                wrong(path, format!("`registry.\"{name}\"` must be a table; quote the host's name"))
            })?;
            settings_of(path, settings)?;
        }
    }
    Ok(())
}

fn known(path: &Path, table: &Table, of: &str, keys: &[&str]) -> Result<(), Error> {
    let Some(unknown) = table.keys().find(|key| !keys.contains(&key.as_str())) else {
        return Ok(());
    };
    let advice = match did_you_mean(unknown, keys.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there is {}", keys.join(", ")),
    };
    Err(wrong(path, format!("unknown key `{unknown}`{of} ({advice})")))
}

fn settings_of(path: &Path, table: &Table) -> Result<Settings, Error> {
    known(path, table, " of a registry", &KEYS)?;
    let mut settings = Settings::default();
    for (key, value) in table {
        let bad = |what: &str| wrong(path, format!("`{key}` of a registry must be {what}"));
        match key.as_str() {
            "mirrors" => {
                let mirrors = strings(value).ok_or_else(|| bad("a list of addresses"))?;
                settings.mirrors =
                    mirrors.into_iter().map(|mirror| (path.to_owned(), mirror)).collect();
            }
            "http" => settings.is_http = value.as_bool().ok_or_else(|| bad("true or false"))?,
            "insecure" => {
                settings.is_insecure = value.as_bool().ok_or_else(|| bad("true or false"))?;
            }
            "ca" => {
                let files = strings(value).ok_or_else(|| bad("a list of files"))?;
                settings.ca = files.iter().map(|file| beside(path, file)).collect();
            }
            _ => settings.client = keypairs(path, value)?,
        }
    }
    Ok(settings)
}

fn keypairs(path: &Path, value: &Value) -> Result<Vec<(PathBuf, PathBuf)>, Error> {
    let bad =
        || wrong(path, "`keypair` of a registry must be [{ cert = \"FILE\", key = \"FILE\" }]");
    let read = |pair: &Value| {
        let pair = pair.as_table().ok_or_else(bad)?;
        known(path, pair, " of a keypair", &KEYPAIR_KEYS)?;
        let file = |name: &str| Some(beside(path, pair.get(name)?.as_str()?));
        file("cert").zip(file("key")).ok_or_else(bad)
    };
    let pairs: Vec<_> =
        value.as_array().ok_or_else(bad)?.iter().map(read).collect::<Result<_, _>>()?;
    if pairs.is_empty() { Err(bad()) } else { Ok(pairs) }
}

fn strings(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|item| Some(item.as_str()?.to_owned())).collect()
}

fn beside(path: &Path, file: &str) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).join(file)
}
