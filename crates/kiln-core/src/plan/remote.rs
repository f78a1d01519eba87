//! Sources of ADD that are not of the context: files of the web and git repositories.

use super::planner::{Planner, Stuck};
use super::{GitDir, GitSource, Input, Op, SourceOp};
use crate::diagnostic::Diagnostic;
use crate::git_source::{self, GitAddress, without_credentials};
use crate::source::Span;

/// What one ADD says about its remote sources. As with BuildKit, what the address of one says
/// counts for those that follow.
pub(super) struct Remote {
    is_add: bool,
    checksum: Option<(String, Span)>,
    keep_git_dir: Option<bool>,
    /// Whether a source was a file of the web.
    pub(super) has_download: bool,
}

impl Remote {
    /// Of ADD or COPY, with `--checksum` and `--keep-git-dir`.
    pub(super) fn new(
        is_add: bool,
        checksum: Option<(String, Span)>,
        keep_git_dir: Option<bool>,
    ) -> Self {
        Self { is_add, checksum, keep_git_dir, has_download: false }
    }

    /// The step that fetches a source, and the path to copy from its result; `None` if the source
    /// is a path.
    pub(super) fn step(
        &mut self,
        planner: &mut Planner<'_>,
        source: &str,
        span: Span,
    ) -> Result<Option<(Input, String)>, Stuck> {
        let address = match GitAddress::parse(source) {
            Ok(address) => address.filter(|address| !address.may_be_path),
            Err(error) => {
                return planner.fail(Diagnostic::error("git-address", span, error.to_string()));
            }
        };
        let is_url = is_web(source) && address.is_none();
        if !self.is_add && (is_url || address.is_some()) {
            let (what, help) = if is_url {
                ("URL", "ADD takes URLs")
            } else {
                ("git ref", "ADD takes git repositories")
            };
            let message = format!("source can't be a {what} for COPY");
            return planner
                .fail(Diagnostic::error("unsupported-source", span, message).with_help(help));
        }
        match address {
            Some(address) => self.git(planner, address, span).map(Some),
            None if is_url => self.download(planner, source, span).map(Some),
            None => Ok(None),
        }
    }

    fn git(
        &mut self,
        planner: &mut Planner<'_>,
        address: GitAddress,
        span: Span,
    ) -> Result<(Input, String), Stuck> {
        if let (Some(flag), Some(said)) = (self.keep_git_dir, address.keep_git_dir)
            && flag != said
        {
            let message = "inconsistent keep-git-dir configuration";
            return planner.fail(Diagnostic::error("git-address", span, message));
        }
        if let (Some((flag, span)), Some(said)) = (&self.checksum, &address.checksum)
            && flag != said
        {
            let message = format!("checksum mismatch {flag:?} != {said:?}");
            return planner.fail(Diagnostic::error("invalid-checksum", *span, message));
        }
        self.keep_git_dir = address.keep_git_dir.or(self.keep_git_dir);
        if let Some(said) = &address.checksum {
            self.checksum = Some((said.clone(), span));
        }
        let checksum = self.checksum.as_ref().map(|(checksum, _)| checksum.clone());
        let git_dir = if self.keep_git_dir == Some(true) { GitDir::Keep } else { GitDir::Drop };
        // ADD does not look at `mtime` (BuildKit).
        let address = GitAddress { times: git_source::GitTimes::Checkout, ..address };
        let title = format!("[internal] load git source {}", without_credentials(&address.remote));
        let source = GitSource { checksum, git_dir, ..GitSource::from(address) };
        let op = Op::Source(SourceOp::Git(source));
        Ok((planner.add(op, Vec::new(), span, title), "/".to_owned()))
    }

    fn download(
        &mut self,
        planner: &mut Planner<'_>,
        url: &str,
        span: Span,
    ) -> Result<(Input, String), Stuck> {
        self.has_download = true;
        let checksum = match &self.checksum {
            None => None,
            Some((text, span)) => {
                let Ok(digest) = text.parse() else {
                    let error = Diagnostic::error("invalid-checksum", *span, wrong_digest(text));
                    let help = "a checksum is `sha256:` and 64 hex digits";
                    return planner.fail(error.with_help(help));
                };
                Some(digest)
            }
        };
        let name = file_name(url);
        let path = format!("/{}", literal(&name));
        let op = SourceOp::Download { url: url.to_owned(), name, checksum };
        let title = format!("[internal] download {}", without_credentials(url));
        Ok((planner.add(Op::Source(op), Vec::new(), span, title), path))
    }
}

/// What is wrong with a text that is no sha256 digest.
fn wrong_digest(text: &str) -> String {
    let Some((algorithm, digits)) = text.split_once(':').filter(|(name, _)| !name.is_empty())
    else {
        return format!("invalid checksum digest format: {text}");
    };
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return format!("unsupported digest algorithm: {text}"),
    };
    if digits.len() != length {
        return format!("invalid checksum digest length: {text}");
    }
    if !digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return format!("invalid checksum digest format: {text}");
    }
    format!("digest mismatch: a download is known by its sha256, never by {text}")
}

/// Whether a source is fetched, as far as `--checksum` is concerned.
pub(super) fn is_remote(source: &str) -> bool {
    is_web(source) || matches!(GitAddress::parse(source), Ok(Some(_)) | Err(_))
}

fn is_web(source: &str) -> bool {
    ["http://", "https://"].iter().any(|start| source.starts_with(start))
}

/// The name of the file at a URL: the last part of its path.
fn file_name(url: &str) -> String {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or("");
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    let path = git_source::decode(path).unwrap_or_default();
    match path.trim_end_matches('/').rsplit('/').next() {
        None | Some("" | "." | "..") => "__unnamed__".to_owned(),
        Some(name) if name.contains('\0') => "__unnamed__".to_owned(),
        Some(name) => name.to_owned(),
    }
}

/// A name as a pattern that matches it alone.
fn literal(name: &str) -> String {
    if !name.contains(['*', '?', '[']) {
        // Without wildcards, a path is meant letter by letter.
        return name.to_owned();
    }
    let mut pattern = String::new();
    for character in name.chars() {
        match character {
            '*' | '?' | '[' => pattern.extend(['[', character, ']']),
            '\\' => pattern.push_str("\\\\"),
            character => pattern.push(character),
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_by_the_path() {
        let names = [
            ("http://host", "__unnamed__"),
            ("http://host/", "__unnamed__"),
            ("http://host/?a=b/c", "__unnamed__"),
            ("http://host/a/..", "__unnamed__"),
            ("http://host/a/b?c#d", "b"),
            ("http://host/a/b/", "b"),
            ("http://host/a%20b", "a b"),
            ("http://host/a%2fb", "b"),
            ("http://host/a%zz", "__unnamed__"),
        ];
        for (url, name) in names {
            assert_eq!(file_name(url), name, "{url}");
        }
        let digest = "0".repeat(128);
        let texts = ["foo", "md5:00", "sha256:00", &format!("sha512:{digest}")];
        let said: Vec<String> = texts.map(wrong_digest).to_vec();
        assert!(said[0].contains("invalid checksum digest format"));
        assert!(said[1].contains("unsupported digest algorithm"));
        assert!(said[2].contains("invalid checksum digest length"));
        assert!(said[3].contains("digest mismatch"));
        assert_eq!(literal("a[1]*\\"), "a[[]1][*]\\\\");
        assert_eq!(literal("a\\"), "a\\");
    }
}
