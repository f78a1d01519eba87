//! The few parts of a URL (RFC 3986) that a registry client needs: where it points, how a
//! redirection continues it, and how it may be shown.

use std::fmt;

use ureq::http::Uri;

use crate::error::Error;
use crate::repository::bare_host;

/// With or without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    /// Plain.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// As in a URL.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// An absolute `http` or `https` URL without user and fragment. Its `Debug` and `Display` leave
/// out the query, which may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url {
    /// With or without TLS.
    pub(crate) scheme: Scheme,
    /// Host and optional port.
    pub(crate) authority: String,
    path_and_query: String,
}

impl Url {
    /// The URL of a path (with query) at a host.
    pub(crate) fn new(scheme: Scheme, authority: &str, path: &str) -> Result<Self, Error> {
        Self::parse(&format!("{}://{authority}{path}", scheme.name()))
    }

    /// Reads a URL as a registry sends it.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        Self::read(text).ok_or_else(|| Error::InvalidUrl { url: shown(text).to_owned() })
    }

    fn read(text: &str) -> Option<Self> {
        let text = text.split('#').next().unwrap_or(text);
        let uri: Uri = escape(text).parse().ok()?;
        let scheme = match uri.scheme_str()? {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        let authority = uri.authority()?.as_str();
        if authority.contains('@') || uri.host()?.is_empty() {
            return None;
        }
        Some(Self {
            scheme,
            authority: authority.to_owned(),
            path_and_query: uri
                .path_and_query()
                .map_or_else(|| "/".to_owned(), ToString::to_string),
        })
    }

    /// Where a `Location` leads from here.
    pub(crate) fn join(&self, location: &str) -> Result<Self, Error> {
        let scheme = self.scheme.name();
        if location.starts_with("http://") || location.starts_with("https://") {
            Self::parse(location)
        } else if location.starts_with("//") {
            Self::parse(&format!("{scheme}:{location}"))
        } else if location.starts_with('/') {
            Self::new(self.scheme, &self.authority, location)
        } else {
            let path = self.path_and_query.split('?').next().unwrap_or("/");
            let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
            Self::new(self.scheme, &self.authority, &format!("{directory}/{location}"))
        }
    }

    /// This URL with further fields in its query.
    pub(crate) fn with_query(&self, fields: &[(&str, &str)]) -> Self {
        let mut path_and_query = self.path_and_query.clone();
        if !fields.is_empty() {
            path_and_query.push(if path_and_query.contains('?') { '&' } else { '?' });
            path_and_query.push_str(&form(fields));
        }
        Self { path_and_query, ..self.clone() }
    }

    /// The whole URL, to be asked for.
    pub(crate) fn full(&self) -> String {
        let Self { authority, path_and_query, .. } = self;
        format!("{}://{authority}{path_and_query}", self.scheme.name())
    }

    /// The path, as it is asked for.
    pub(crate) fn path(&self) -> &str {
        self.path_and_query.split('?').next().unwrap_or("/")
    }

    /// The fields of the query, as they are asked for.
    pub(crate) fn query(&self) -> Option<&str> {
        self.path_and_query.split_once('?').map(|(_, query)| query)
    }

    /// Host, without port.
    pub(crate) fn host(&self) -> &str {
        bare_host(&self.authority)
    }

    /// Port, also when it goes without saying.
    pub(crate) fn port(&self) -> u16 {
        self.authority
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok())
            .unwrap_or(self.scheme.default_port())
    }

    /// Whether both have scheme, host and port in common, so that one's credentials may go to
    /// the other.
    pub(crate) fn has_origin_of(&self, other: &Self) -> bool {
        self.scheme == other.scheme
            && self.host().eq_ignore_ascii_case(other.host())
            && self.port() == other.port()
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(shown(&self.full()))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

/// The part of a text that may be shown: no query, no user.
fn shown(text: &str) -> &str {
    let end = text.find(['?', '#']).unwrap_or(text.len());
    let text = &text[..end];
    text.rsplit_once('@').map_or(text, |(_, rest)| rest)
}

/// Escapes what may not stand in a URL at all, and nothing else.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            push_escape(&mut escaped, byte);
        }
    }
    escaped
}

/// Fields as a query or as a form (`application/x-www-form-urlencoded`).
pub(crate) fn form(fields: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        if !text.is_empty() {
            text.push('&');
        }
        push_field(&mut text, name);
        text.push('=');
        push_field(&mut text, value);
    }
    text
}

fn push_field(text: &mut String, field: &str) {
    for byte in field.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            push_escape(text, byte);
        }
    }
}

/// A path of which nothing but `/` has a meaning, as RFC 3986 wants it in a URL.
pub(crate) fn escape_path(path: &str) -> String {
    let mut escaped = String::new();
    for (position, part) in path.split('/').enumerate() {
        if position > 0 {
            escaped.push('/');
        }
        push_field(&mut escaped, part);
    }
    escaped
}

fn push_escape(text: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    text.push('%');
    text.push(char::from(DIGITS[usize::from(byte >> 4)]));
    text.push(char::from(DIGITS[usize::from(byte & 15)]));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn redirections_continue_a_url() {
        let base = url("https://a.example:5000/v2/x/blobs/y?z=1");
        let join = |location: &str| base.join(location).unwrap().full();
        assert_eq!(join("https://b.example/c?d=e#f"), "https://b.example/c?d=e");
        assert_eq!(join("//b.example/c"), "https://b.example/c");
        assert_eq!(join("/c?d"), "https://a.example:5000/c?d");
        assert_eq!(join("c"), "https://a.example:5000/v2/x/blobs/c");
        assert_eq!(join("/a b|c"), "https://a.example:5000/a%20b%7Cc");
        assert!(base.join("https://user@b.example/").is_err());
        assert!(base.join("https:///c").is_err());
    }

    #[test]
    fn origins_are_scheme_host_and_port() {
        let same = |a: &str, b: &str| url(a).has_origin_of(&url(b));
        assert!(same("https://a.example/x", "https://A.example:443/y"));
        assert!(!same("https://a.example", "http://a.example"));
        assert!(!same("https://a.example", "https://a.example:8443"));
        assert!(!same("https://a.example", "https://a.example.evil.example"));
        assert!(same("http://[::1]:80/", "http://[::1]/"));
    }

    #[test]
    fn queries_are_escaped_and_not_shown() {
        let url = url("https://a.example/token?x=1")
            .with_query(&[("scope", "repository:a/b:pull"), ("service", "s & t")]);
        assert_eq!(
            url.full(),
            "https://a.example/token?x=1&scope=repository%3Aa%2Fb%3Apull&service=s%20%26%20t"
        );
        assert_eq!(
            format!("{url} {url:?}"),
            "https://a.example/token Url(https://a.example/token)"
        );
        let error = Url::parse("ftp://user:hunter2@a.example/x?sig=hunter2").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
