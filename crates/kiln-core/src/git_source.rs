//! Addresses of git repositories, as BuildKit reads them.
//!
//! ```text
//! https://host/repository.git#REF:SUBDIR      http:// too; only a path that ends in .git
//! ssh://user@host/repository   git://host/repository   user@host:repository
//! https://host/repository.git?branch=B&subdir=D&checksum=COMMIT&keep-git-dir&submodules=false
//! github.com/owner/repository                 for contexts alone
//! ```
//!
//! The part behind `#` and the query say the same things; where both say one, they have to agree.
//! Nothing is looked up: whether there is such a repository, only git can tell.

use std::fmt::Write as _;

use crate::dockerfile::parse_bool;

/// A git repository, and what of it is wanted, as far as an address says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GitAddress {
    /// What git is given: without fragment and query.
    pub remote: String,
    /// Branch, tag, full name (`refs/…`) or commit; empty is the default branch.
    pub reference: String,
    /// Directory of the repository that is taken; empty is all.
    pub subdir: String,
    /// `checksum`: first digits of the commit that it must be.
    pub checksum: Option<String>,
    /// `keep-git-dir`
    pub keep_git_dir: Option<bool>,
    /// `submodules`
    pub submodules: Option<bool>,
    /// `mtime`
    pub times: GitTimes,
    /// `fetch-by-commit`
    pub fetch: GitFetch,
    /// `github.com/…` without a scheme may be a path, too.
    pub may_be_path: bool,
}

/// When files of a checkout were modified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GitTimes {
    /// When they were checked out.
    #[default]
    Checkout,
    /// When their commit was made.
    Commit,
}

/// How a commit is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GitFetch {
    /// By the reference's name; a checksum is compared with what is found.
    #[default]
    Reference,
    /// By the checksum; nobody asks where the reference points.
    Commit,
}

/// What is wrong with the query of a git repository's address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GitAddressError {
    /// The same name twice.
    #[error("query {0:?} has multiple values")]
    Repeated(String),
    /// A name that needs a value.
    #[error("query {0:?} has no value")]
    NoValue(String),
    /// An unknown name.
    #[error("unexpected query {0:?}")]
    Unknown(String),
    /// A value that is none of the possible ones.
    #[error("invalid {name} value: {value:?}{}", possible(name))]
    Invalid {
        /// Its name.
        name: String,
        /// What was written.
        value: String,
    },
    /// Two of fragment, `ref`, `tag` and `branch` (or `subdir`) say different things.
    #[error("{what} conflicts: {one:?} vs {other:?}")]
    Conflict {
        /// `ref` or `subdir`.
        what: &'static str,
        /// What was known.
        one: String,
        /// What is said besides.
        other: String,
    },
    /// `tag` and `branch`.
    #[error("branch conflicts with tag")]
    BranchAndTag,
}

fn possible(name: &str) -> &'static str {
    if name == "mtime" { " (must be \"checkout\" or \"commit\")" } else { "" }
}

impl GitAddress {
    /// Reads an address; `None` is one that is no git repository's.
    ///
    /// # Errors
    /// What is wrong with the query of one that is.
    pub fn parse(text: &str) -> Result<Option<Self>, GitAddressError> {
        let Some((mut address, query)) = Self::split(text) else { return Ok(None) };
        address.read_query(&query)?;
        Ok(Some(address))
    }

    /// The address without its query, and the query.
    fn split(text: &str) -> Option<(Self, String)> {
        if text.starts_with("./") || text.starts_with("../") {
            return None;
        }
        if text.starts_with("github.com/") {
            let (remote, query, fragment) = parts(text);
            let address = Self { remote: format!("https://{remote}"), ..Self::default() };
            let address = Self { may_be_path: true, ..address.with_fragment(&decode(fragment)?) };
            return Some((address, query.to_owned()));
        }
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        let scheme = scheme.filter(|text| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
        });
        let (remote, query, fragment) = parts(text);
        let Some(scheme) = scheme else {
            let is_host = |text: &str| is_made_of(text, "-.");
            let (user, rest) = remote.split_once('@')?;
            let (host, _) = rest.split_once(':')?;
            if !is_made_of(user, "-_") || !is_host(host) || text.contains('\n') {
                return None;
            }
            let address = Self { remote: remote.to_owned(), ..Self::default() };
            return Some((address.with_fragment(fragment), query.to_owned()));
        };
        let lower = scheme.to_ascii_lowercase();
        let rest = &remote[scheme.len() + "://".len()..];
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let is_git = match lower.as_str() {
            "http" | "https" => decode(path)?.strip_suffix(".git").is_some(),
            "ssh" | "git" => true,
            _ => false,
        };
        if !is_git || !is_authority(authority) {
            return None;
        }
        let address = Self { remote: format!("{lower}://{rest}"), ..Self::default() };
        Some((address.with_fragment(&decode(fragment)?), query.to_owned()))
    }

    fn with_fragment(mut self, fragment: &str) -> Self {
        let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
        reference.clone_into(&mut self.reference);
        self.subdir = clean_subdir(subdir);
        self
    }

    fn read_query(&mut self, query: &str) -> Result<(), GitAddressError> {
        let pairs = pairs(query);
        let (mut tag, mut branch) = (None, None);
        for (position, (name, value)) in pairs.iter().enumerate() {
            if pairs[..position].iter().any(|(known, _)| known == name) {
                return Err(GitAddressError::Repeated(name.clone()));
            }
            let is_switch =
                matches!(name.as_str(), "submodules" | "keep-git-dir" | "fetch-by-commit");
            if value.is_empty() && !is_switch {
                return Err(GitAddressError::NoValue(name.clone()));
            }
            let invalid = || GitAddressError::Invalid { name: name.clone(), value: value.clone() };
            let switch = || match value.as_str() {
                "" => Ok(true),
                text => parse_bool(text).ok_or_else(invalid),
            };
            match name.as_str() {
                "ref" => agree("ref", &mut self.reference, value)?,
                "tag" => tag = Some(with_prefix("refs/tags/", value)),
                "branch" => branch = Some(with_prefix("refs/heads/", value)),
                "subdir" => agree("subdir", &mut self.subdir, value)?,
                "checksum" | "commit" => self.checksum = Some(value.clone()),
                "keep-git-dir" => self.keep_git_dir = Some(switch()?),
                "submodules" => self.submodules = Some(switch()?),
                "fetch-by-commit" => {
                    self.fetch = if switch()? { GitFetch::Commit } else { GitFetch::Reference };
                }
                "mtime" => {
                    self.times = match value.as_str() {
                        "checkout" => GitTimes::Checkout,
                        "commit" => GitTimes::Commit,
                        _ => return Err(invalid()),
                    };
                }
                _ => return Err(GitAddressError::Unknown(name.clone())),
            }
        }
        if tag.is_some() && branch.is_some() {
            return Err(GitAddressError::BranchAndTag);
        }
        if let Some(reference) = tag.or(branch) {
            agree("ref", &mut self.reference, &reference)?;
        }
        self.subdir = clean_subdir(&self.subdir);
        Ok(())
    }
}

/// An address's remote without user and password, for messages and records.
pub fn without_credentials(remote: &str) -> String {
    let Some((scheme, rest)) = remote.split_once("://") else { return remote.to_owned() };
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, format!("/{path}")),
        None => (rest, String::new()),
    };
    let Some((user, host)) = authority.rsplit_once('@') else { return remote.to_owned() };
    match user.split_once(':') {
        Some(_) => format!("{scheme}://xxxxx:xxxxx@{host}{path}"),
        // A token may be a user's name; that of ssh says nothing.
        None if scheme == "ssh" => remote.to_owned(),
        None => format!("{scheme}://xxxxx@{host}{path}"),
    }
}

/// Whether a reference is a commit by its full name.
pub fn is_commit(reference: &str) -> bool {
    matches!(reference.len(), 40 | 64)
        && reference.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A value that may be said twice, if it is said alike.
fn agree(what: &'static str, known: &mut String, value: &str) -> Result<(), GitAddressError> {
    if !known.is_empty() && known != value {
        let (one, other) = (known.clone(), value.to_owned());
        return Err(GitAddressError::Conflict { what, one, other });
    }
    value.clone_into(known);
    Ok(())
}

fn with_prefix(prefix: &str, name: &str) -> String {
    if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") }
}

/// Text before `?` and `#`, between them, and after the first `#`.
fn parts(text: &str) -> (&str, &str, &str) {
    let (before, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (remote, query) = before.split_once('?').unwrap_or((before, ""));
    (remote, query, fragment)
}

fn is_made_of(text: &str, besides: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || besides.contains(c);
    !text.is_empty() && text.chars().all(known)
}

/// Whether a URL's host part is one: what is no URL is no repository.
fn is_authority(text: &str) -> bool {
    let host = text.rsplit_once('@').map_or(text, |(_, host)| host);
    let port = match host.rsplit_once(']') {
        Some((_, rest)) => rest.strip_prefix(':'),
        None => host.split_once(':').map(|(_, port)| port),
    };
    let is_port = port.is_none_or(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    is_port && !text.contains([' ', '\n', '"', '\\', '<', '>', '^'])
}

/// A path below a repository's top: `..` stops there.
fn clean_subdir(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Names and values of a query in their order; what cannot be read is passed over.
fn pairs(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';'));
    let read = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let text = |text: &str| decode(&text.replace('+', " "));
        Some((text(name)?, text(value)?))
    };
    pairs.filter_map(read).collect()
}

/// Text with its `%XX` read; `None` if one is not whole, or the result is no text.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digits = String::new();
        for _ in 0..2 {
            write!(digits, "{}", char::from(rest.next()?)).ok()?;
        }
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        bytes.push(u8::from_str_radix(&digits, 16).ok().filter(|_| is_hex)?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        match GitAddress::parse(text) {
            Ok(None) => "no".to_owned(),
            Err(error) => error.to_string(),
            Ok(Some(address)) => {
                let GitAddress { remote, reference, subdir, .. } = &address;
                let mut shown = format!("{remote} {reference}:{subdir}");
                let rest = (&address.checksum, address.keep_git_dir, address.submodules);
                if rest != (&None, None, None) {
                    write!(shown, " {rest:?}").unwrap();
                }
                if address.may_be_path {
                    shown.push_str(" maybe");
                }
                shown
            }
        }
    }

    #[test]
    fn addresses_are_told_from_others() {
        for other in [
            "file",
            "./x.git",
            "../x@y:z",
            "https://host/x",
            "https://host/x.git/",
            "https://host/x.git/y",
            "http://host/?x.git",
            "https://host/x%zz.git",
            "file:///x.git",
            "ftp://host/x.git",
            "https://ho st/x.git",
            "host:path",
            "@host:path",
            "a b@host:path",
            "a@ho/st:path",
        ] {
            assert_eq!(read(other), "no", "{other}");
        }
        let read_all = |all: &[&str]| all.iter().map(|text| read(text) + "\n").collect::<String>();
        insta::assert_snapshot!(read_all(&[
            "https://host/x.git",
            "HTTPS://host/x.git#main:a/../b/./c",
            "http://user:word@host:80/a/x.git#:../sub/",
            "git://host/x#v1",
            "ssh://git@host:22/x#refs/heads/a:b",
            "git@host:a/x.git#b:c",
            "me-2@h.o-st:x?branch=b#:s",
            "github.com/a/b#c:d",
            "https://host/x%2egit#a%20b",
        ]), @r"
        https://host/x.git :
        https://host/x.git main:b/c
        http://user:word@host:80/a/x.git :sub
        git://host/x v1:
        ssh://git@host:22/x refs/heads/a:b
        git@host:a/x.git b:c
        me-2@h.o-st:x refs/heads/b:s
        https://github.com/a/b c:d maybe
        https://host/x%2egit a b:
        ");
    }

    #[test]
    fn queries_say_more() {
        let read = |query: &str| read(&format!("https://h/x.git{query}"));
        let all = [
            "?ref=a&subdir=/b/../c/",
            "?tag=a",
            "?tag=refs/tags/a",
            "?branch=a#refs/heads/a",
            "?checksum=ab&keep-git-dir&submodules=0",
            "?commit=ab&keep-git-dir=false&submodules=",
            "?ref=a#b",
            "?branch=a#b",
            "?tag=a&branch=a",
            "?subdir=a#:b",
            "?ref=",
            "?ref=a&ref=a",
            "?foo",
            "?foo=1",
            "?keep-git-dir=x",
            "?mtime=x",
            "?fetch-by-commit=maybe",
        ];
        let shown: String = all.iter().map(|query| read(query) + "\n").collect();
        insta::assert_snapshot!(shown, @r#"
        https://h/x.git a:c
        https://h/x.git refs/tags/a:
        https://h/x.git refs/tags/a:
        https://h/x.git refs/heads/a:
        https://h/x.git : (Some("ab"), Some(true), Some(false))
        https://h/x.git : (Some("ab"), Some(false), Some(true))
        ref conflicts: "b" vs "a"
        ref conflicts: "b" vs "refs/heads/a"
        branch conflicts with tag
        subdir conflicts: "b" vs "a"
        query "ref" has no value
        query "ref" has multiple values
        query "foo" has no value
        unexpected query "foo"
        invalid keep-git-dir value: "x"
        invalid mtime value: "x" (must be "checkout" or "commit")
        invalid fetch-by-commit value: "maybe"
        "#);
    }

    #[test]
    fn credentials_are_not_shown() {
        assert_eq!(without_credentials("https://a:b@h/x.git"), "https://xxxxx:xxxxx@h/x.git");
        assert_eq!(without_credentials("https://token@h/x.git"), "https://xxxxx@h/x.git");
        assert_eq!(without_credentials("https://h/x@y.git"), "https://h/x@y.git");
        assert_eq!(without_credentials("ssh://git@h/x.git"), "ssh://git@h/x.git");
        assert_eq!(without_credentials("git@h:x.git"), "git@h:x.git");
    }
}
