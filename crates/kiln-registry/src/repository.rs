//! Where a repository is: its registry and its name there.

use std::fmt;

use kiln_core::oci::Reference;

/// A repository of a registry, such as `library/python` of `docker.io`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    /// Host and optional port, as in references (`docker.io`, not the host behind it).
    pub registry: String,
    /// Path within the registry.
    pub name: String,
}

impl From<&Reference> for Repository {
    fn from(reference: &Reference) -> Self {
        Self { registry: reference.registry.clone(), name: reference.repository.clone() }
    }
}

impl Repository {
    /// Reads what [`Display`](fmt::Display) writes; `None` if the text is no such thing.
    pub fn parse(text: &str) -> Option<Self> {
        let (registry, name) = text.split_once('/')?;
        // A place of another kind begins like this.
        let is_whole = !registry.is_empty() && !registry.starts_with('{') && !name.is_empty();
        is_whole.then(|| Self { registry: registry.to_owned(), name: name.to_owned() })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.name)
    }
}

/// The host that answers for a registry: Docker Hub's API is not at its name.
pub(crate) fn api_host(registry: &str) -> &str {
    match registry {
        "docker.io" | "index.docker.io" => "registry-1.docker.io",
        other => other,
    }
}

/// Host of an authority `host[:port]`, without brackets around an IPv6 address.
pub(crate) fn bare_host(authority: &str) -> &str {
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split_once(']').map_or(rest, |(host, _)| host);
    }
    authority.split_once(':').map_or(authority, |(host, _)| host)
}

/// Whether an authority is on this machine.
pub(crate) fn is_loopback(authority: &str) -> bool {
    let host = bare_host(authority);
    let is_loopback_address =
        host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    is_loopback_address || host.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_authorities() {
        assert_eq!(bare_host("a.example:5000"), "a.example");
        assert_eq!(bare_host("[::1]:5000"), "::1");
        assert_eq!(bare_host("a.example"), "a.example");
        for local in ["localhost", "localhost:5000", "127.0.0.1", "127.8.9.1:5", "[::1]:5"] {
            assert!(is_loopback(local), "{local}");
        }
        for far in ["localhost.example", "127.evil.example", "10.0.0.1", "[::2]"] {
            assert!(!is_loopback(far), "{far}");
        }
    }

    #[test]
    fn repositories_are_read_as_they_are_written() {
        let repository = Repository { registry: "[::1]:5000".into(), name: "a/b".into() };
        assert_eq!(Repository::parse(&repository.to_string()), Some(repository));
        assert!(Repository::parse("a").is_none() && Repository::parse("/a").is_none());
    }

    #[test]
    fn docker_hub_answers_elsewhere() {
        assert_eq!(api_host("docker.io"), "registry-1.docker.io");
        assert_eq!(api_host("ghcr.io"), "ghcr.io");
    }
}
