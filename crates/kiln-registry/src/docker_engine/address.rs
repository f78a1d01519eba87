//! Where an engine listens, as `DOCKER_HOST` says it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::DockerEngineError;

/// Where an engine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineAddress {
    /// `unix://PATH`
    Unix(PathBuf),
    /// `tcp://HOST:PORT`, without TLS.
    Tcp(String),
}

impl Default for EngineAddress {
    /// Where the engine of the machine listens.
    fn default() -> Self {
        Self::Unix(PathBuf::from("/var/run/docker.sock"))
    }
}

impl fmt::Display for EngineAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(host) => write!(f, "tcp://{host}"),
        }
    }
}

impl FromStr for EngineAddress {
    type Err = DockerEngineError;

    /// # Errors
    /// [`DockerEngineError::Address`] for other ways to an engine, and what is none.
    fn from_str(text: &str) -> Result<Self, DockerEngineError> {
        let wrong = |why: &'static str| DockerEngineError::Address { text: text.to_owned(), why };
        match text.split_once("://") {
            Some(("unix", "")) => Ok(Self::default()),
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(PathBuf::from(path))),
            Some(("unix", _)) => Err(wrong("the path of a socket begins with `/`")),
            Some(("tcp" | "http", rest)) => {
                let host = rest.trim_end_matches('/');
                let port = host.rsplit_once(':').map_or("", |(_, port)| port);
                match host {
                    "" => Err(wrong("there is no host")),
                    host if host.contains('/') => Err(wrong("an engine has no path")),
                    host if port.parse::<u16>().is_ok() => Ok(Self::Tcp(host.to_owned())),
                    // The engine's own port without TLS.
                    host => Ok(Self::Tcp(format!("{host}:2375"))),
                }
            }
            Some(("ssh", _)) => Err(wrong(
                "kiln does not start ssh; forward the socket with `ssh -L`, or pipe \
                 `-o type=docker,dest=-` into `docker load`",
            )),
            Some(_) => Err(wrong("kiln knows `unix://` and `tcp://`")),
            None => Err(wrong("it is written `unix://PATH` or `tcp://HOST:PORT`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_docker() {
        let address = |text: &str| match text.parse::<EngineAddress>() {
            Ok(address) => address.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(address("unix:///run/d.sock"), "unix:///run/d.sock");
        assert_eq!(address("unix://"), "unix:///var/run/docker.sock");
        assert_eq!(address("tcp://127.0.0.1:99"), "tcp://127.0.0.1:99");
        assert_eq!(address("tcp://[::1]:99/"), "tcp://[::1]:99");
        assert_eq!(address("tcp://host"), "tcp://host:2375");
        for (text, why) in [
            ("unix://a", "begins with `/`"),
            ("tcp://", "there is no host"),
            ("tcp://a/b", "no path"),
            ("ssh://a", "`docker load`"),
            ("npipe:////./pipe/d", "kiln knows `unix://` and `tcp://`"),
            ("here", "it is written `unix://PATH`"),
        ] {
            assert!(address(text).contains(why), "{text}: {}", address(text));
        }
    }
}
