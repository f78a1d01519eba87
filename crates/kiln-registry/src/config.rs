//! What a client has to be told, because this crate reads neither environment nor settings.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::objects::ObjectSettings;
use crate::routes::RouteFiles;

/// Settings of a [`Client`](crate::Client). Start from `Config::default()`.
#[derive(Clone)]
pub struct Config {
    /// Sent with every request.
    pub user_agent: String,
    /// PEM bundles of trusted certificate authorities. When this and `ca_directories` are
    /// empty, the system's bundle is used, and Mozilla's where the system has none.
    /// (`SSL_CERT_FILE` goes here.)
    pub ca_files: Vec<PathBuf>,
    /// Directories whose files are such bundles; files that are not are passed over.
    /// (`SSL_CERT_DIR`, split at `:`, goes here.)
    pub ca_directories: Vec<PathBuf>,
    /// PEM bundles trusted besides those above.
    pub extra_ca_files: Vec<PathBuf>,
    /// The directory of docker's `config.json`; `None` is anonymous.
    pub docker_config: Option<PathBuf>,
    /// Proxies.
    pub proxies: Proxies,
    /// Registries (`host` or `host:port`) that are spoken to without TLS. Loopback ones are
    /// tried without it in any case.
    pub plain_http_hosts: Vec<String>,
    /// Files with mirrors, certificates and the like of registries.
    pub routes: RouteFiles,
    /// How often and how long to try again.
    pub retries: Retries,
    /// How long to wait for an answer.
    pub timeouts: Timeouts,
    /// The program `git`.
    pub git: GitProgram,
    /// How object stores let the client in.
    pub objects: ObjectSettings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            user_agent: concat!("kiln/", env!("CARGO_PKG_VERSION")).to_owned(),
            ca_files: Vec::new(),
            ca_directories: Vec::new(),
            extra_ca_files: Vec::new(),
            docker_config: None,
            proxies: Proxies::default(),
            plain_http_hosts: Vec::new(),
            routes: RouteFiles::default(),
            retries: Retries::default(),
            timeouts: Timeouts::default(),
            git: GitProgram::default(),
            objects: ObjectSettings::default(),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("user_agent", &self.user_agent)
            .field("ca_files", &self.ca_files)
            .field("ca_directories", &self.ca_directories)
            .field("extra_ca_files", &self.extra_ca_files)
            .field("docker_config", &self.docker_config)
            .field("proxies", &self.proxies)
            .field("plain_http_hosts", &self.plain_http_hosts)
            .field("routes", &self.routes)
            .field("retries", &self.retries)
            .field("timeouts", &self.timeouts)
            .finish_non_exhaustive()
    }
}

/// Proxies, in the form of the environment variables of these names. Requests to loopback
/// addresses never go through one.
#[derive(Clone, Default)]
pub struct Proxies {
    /// Proxy of `http://` requests: `[http[s]://][user:password@]host[:port]`.
    pub http: Option<String>,
    /// Proxy of `https://` requests.
    pub https: Option<String>,
    /// What goes without proxy, separated by commas: `*`, `host`, `.domain`, addresses, CIDR
    /// ranges, each with an optional port. A host stands for its subdomains too.
    pub no_proxy: String,
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A proxy's URL may hold a password.
        let shown = |proxy: &Option<String>| {
            proxy
                .as_deref()
                .map(|url| url.rsplit_once('@').map_or(url, |(_, host)| host).to_owned())
        };
        f.debug_struct("Proxies")
            .field("http", &shown(&self.http))
            .field("https", &shown(&self.https))
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

/// What the program `git` is told of its user's environment; everything else is hidden from it.
#[derive(Clone, Default)]
pub struct GitProgram {
    /// `PATH`: where `git` is looked for, and where it finds its own helpers.
    pub path: OsString,
    /// The home directory: git's configuration (with credentials) and the keys of ssh.
    pub home: Option<PathBuf>,
    /// Variables that are handed on, such as `SSH_AUTH_SOCK` and proxies.
    pub variables: Vec<(String, String)>,
}

impl fmt::Debug for GitProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Proxies may hold passwords.
        f.debug_struct("GitProgram").field("path", &self.path).finish_non_exhaustive()
    }
}

impl GitProgram {
    /// Names of the variables that git, curl and ssh know and a user may count on.
    pub const VARIABLES: [&str; 20] = [
        "XDG_CONFIG_HOME",
        "GIT_CONFIG_GLOBAL",
        "GIT_SSH",
        "GIT_SSH_COMMAND",
        "GIT_SSL_CAINFO",
        "GIT_SSL_CAPATH",
        "GIT_SSL_CERT",
        "GIT_SSL_KEY",
        "SSH_AUTH_SOCK",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "CURL_CA_BUNDLE",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "all_proxy",
    ];
}

/// How often and how long to try again after a connection broke or a registry answered 408,
/// 429, 500, 502, 503 or 504.
#[derive(Clone, Copy, Debug)]
pub struct Retries {
    /// Attempts in all, at least 1. A blob that makes progress starts counting anew.
    pub attempts: u32,
    /// Longest wait before the second attempt; it doubles with each further one. The wait is
    /// drawn at random from its upper half.
    pub first_wait: Duration,
    /// Longest wait between two attempts; a registry that asks (`Retry-After`) for more is an
    /// error at once.
    pub longest_wait: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_wait: Duration::from_millis(400),
            longest_wait: Duration::from_mins(1),
        }
    }
}

/// How long to wait for an answer.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// To look up a name.
    pub resolve: Duration,
    /// To connect, with the TLS handshake.
    pub connect: Duration,
    /// For an answer's head after the request was sent.
    pub answer: Duration,
    /// For the next byte, anywhere.
    pub read: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            resolve: Duration::from_secs(10),
            connect: Duration::from_secs(20),
            answer: Duration::from_mins(1),
            read: Duration::from_mins(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_proxy_passwords() {
        let config = Config {
            proxies: Proxies {
                http: Some("http://user:hunter2@proxy.example:3128".to_owned()),
                https: Some("user:p@hunter2@proxy.example".to_owned()),
                no_proxy: String::new(),
            },
            ..Config::default()
        };
        let text = format!("{config:?}");
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("proxy.example:3128"), "{text}");
    }
}
