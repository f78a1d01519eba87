//! Git repositories, fetched by the user's own `git`.
//!
//! Two things cost a connection: [`Client::git_reference`] asks where a reference points (one
//! `ls-remote`), and [`GitWork::fetch`] brings one commit, without its history where the server
//! knows how to. What git leaves behind is as BuildKit's git source leaves it.
//!
//! What always holds:
//! - git asks nobody for a password, runs no hook and no filter of the user's, and speaks http,
//!   https, ssh and its own protocol alone. It reads the user's configuration for what goes over
//!   the network (credentials, `insteadOf`), and none for what it writes.
//! - Passwords and tokens are in no argument and in no message.
//! - Everything git started ends when the client is cancelled.
//!
//! What it does not do: git LFS, and repositories of the local file system.

mod program;

use std::fmt;
use std::path::{Path, PathBuf};

use kiln_core::git_source::{is_commit, without_credentials};

use crate::auth::{Secret, base64};
use crate::client::Client;
use crate::error::Error;
use program::{Access, Git};

/// A repository.
#[derive(Clone)]
pub struct GitRemote {
    /// Its address as git reads it.
    pub url: String,
    authorization: Option<Secret>,
}

/// What lets kiln into a repository.
#[derive(Clone)]
pub enum GitLogin {
    /// The value of the `Authorization` header.
    Header(Vec<u8>),
    /// A token, as code hosts hand them out.
    Token(Vec<u8>),
}

impl fmt::Debug for GitLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GitLogin(…)")
    }
}

impl fmt::Debug for GitRemote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitRemote").field("url", &self.shown()).finish_non_exhaustive()
    }
}

impl GitRemote {
    /// A repository, with what its server is sent to let kiln in.
    pub fn new(url: &str, login: Option<&GitLogin>) -> Self {
        let value = login.map(|login| match login {
            GitLogin::Header(value) => String::from_utf8_lossy(value.trim_ascii()).into_owned(),
            GitLogin::Token(token) => {
                let pair = [b"x-access-token:", token.trim_ascii()].concat();
                format!("basic {}", base64(&pair))
            }
        });
        Self { url: url.to_owned(), authorization: value.map(Secret::new) }
    }

    /// Its address without credentials.
    pub fn shown(&self) -> String {
        without_credentials(&self.url)
    }

    /// Which addresses the authorization is for: all of github.com has the same (BuildKit).
    fn scope(&self) -> &str {
        let all = ["https://github.com/", "https://www.github.com/"];
        all.into_iter().find(|prefix| self.url.starts_with(prefix)).unwrap_or(&self.url)
    }
}

/// Where a reference points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitReference {
    /// Its full name (`refs/heads/main`), or a commit.
    pub name: String,
    /// What it points to: a commit, or the object of an annotated tag.
    pub object: String,
    /// The commit of an annotated tag.
    pub tagged: Option<String>,
}

impl GitReference {
    /// A commit that is known by its own name.
    pub fn of_commit(commit: &str) -> Self {
        Self { name: commit.to_owned(), object: commit.to_owned(), tagged: None }
    }
}

impl Client {
    /// Where a reference of a repository points now; the empty one is the default branch. A
    /// branch goes before a tag of the same name.
    ///
    /// # Errors
    /// [`Error::NoReference`] if there is none, and what keeps git from asking.
    pub fn git_reference(
        &self,
        remote: &GitRemote,
        reference: &str,
    ) -> Result<GitReference, Error> {
        let git = Git::new(self.exchange(), remote)?;
        if reference.is_empty() {
            let output =
                git.run(Access::Network, &["ls-remote", "--symref", "--", &remote.url, "HEAD"])?;
            return default_branch(&output.stdout).ok_or_else(|| Error::Git {
                url: remote.shown(),
                stderr: "could not find default branch for repository".to_owned(),
            });
        }
        let peeled = format!("{reference}^{{}}");
        let words = ["ls-remote", "--", &remote.url, reference, &peeled];
        let output = git.run(Access::Network, &words)?;
        choose(reference, &output.stdout).ok_or_else(|| Error::NoReference {
            url: remote.shown(),
            reference: reference.to_owned(),
        })
    }

    /// Prepares to fetch from a repository.
    ///
    /// `scratch` is an empty directory for what git needs meanwhile. Everything that git says is
    /// given to `log`, line by line.
    ///
    /// # Errors
    /// There is no git, or it cannot write there.
    pub fn git_work<'a>(
        &'a self,
        remote: &'a GitRemote,
        scratch: &Path,
        log: &'a (dyn Fn(&str) + Sync),
    ) -> Result<GitWork<'a>, Error> {
        let git = Git::new(self.exchange(), remote)?.logged(log);
        Ok(GitWork { git, remote, bare: scratch.join("repository") })
    }
}

/// The work of fetching one commit.
#[derive(Debug)]
pub struct GitWork<'a> {
    git: Git<'a>,
    remote: &'a GitRemote,
    /// The repository that is fetched into.
    bare: PathBuf,
}

impl GitWork<'_> {
    /// Fetches what a reference was found to point to. `written` is how the user wrote it.
    ///
    /// # Errors
    /// What git says; also if the commit is gone meanwhile.
    pub fn fetch(&self, reference: &GitReference, written: &str) -> Result<(), Error> {
        let bare = text(&self.bare)?;
        let format = if reference.object.len() == 64 { "sha256" } else { "sha1" };
        let format = format!("--object-format={format}");
        self.git.run(Access::None, &["init", "--bare", &format, "--", bare])?;
        let git = self.git.within(&self.bare);
        git.run(Access::None, &["remote", "add", "origin", &self.remote.url])?;
        let object = reference.object.as_str();
        if is_commit(&reference.name) {
            return self.fetch_commit(&git, object);
        }
        let target = local_name(written_name(reference, written));
        let both = format!("{}:{target}", reference.name);
        git.run_shallow(Access::Network, &["fetch", "--no-tags", "--force", "origin", &both])?;
        let found = git.run(Access::None, &["rev-parse", &target])?;
        if found.stdout.trim() != object {
            // It was moved since it was looked at.
            self.fetch_commit(&git, object)?;
            git.run(Access::None, &["update-ref", &target, object, "--no-deref"])?;
        }
        Ok(())
    }

    fn fetch_commit(&self, git: &Git<'_>, commit: &str) -> Result<(), Error> {
        let words = ["fetch", "--no-tags", "origin", commit];
        let direct = git.run_shallow(Access::Network, &words);
        if let Err(error @ (Error::Cancelled | Error::RunGit { .. })) = direct {
            return Err(error);
        }
        let is_there = |git: &Git<'_>| {
            git.run(Access::None, &["cat-file", "-e", &format!("{commit}^{{commit}}")])
        };
        if direct.is_ok() && is_there(git).is_ok() {
            return Ok(());
        }
        // Some servers give no commits by name: then all that they have is looked through.
        let is_shallow = self.bare.join("shallow").exists();
        let unshallow = is_shallow.then_some("--unshallow");
        let all = ["fetch", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*"];
        let words: Vec<&str> =
            all[..2].iter().copied().chain(unshallow).chain(all[2..].iter().copied()).collect();
        git.run(Access::Network, &words)?;
        is_there(git).map(drop).map_err(|_| match direct {
            Err(error) => error,
            Ok(_) => Error::NoReference { url: self.remote.shown(), reference: commit.to_owned() },
        })
    }

    /// The object that the checksum of a reference can be of: itself, and the commit of a tag.
    ///
    /// # Errors
    /// What git says.
    pub fn names_of(&self, object: &str) -> Result<Vec<String>, Error> {
        let git = self.git.within(&self.bare);
        let mut names = vec![object.to_owned()];
        let commit = git.run(Access::None, &["rev-parse", &format!("{object}^{{}}")])?;
        let commit = commit.stdout.trim().to_owned();
        if commit != object {
            names.push(commit);
        }
        Ok(names)
    }

    /// When the commit of an object was made, in seconds since 1970.
    ///
    /// # Errors
    /// What git says.
    pub fn committed_unix(&self, object: &str) -> Result<i64, Error> {
        let git = self.git.within(&self.bare);
        let commit = format!("{object}^{{commit}}");
        let output = git.run(Access::None, &["log", "-1", "--format=%ct", &commit])?;
        output.stdout.trim().parse().map_err(|_| Error::Git {
            url: self.remote.shown(),
            stderr: format!("{object} has no time"),
        })
    }

    /// Writes the files of what was fetched into an empty directory.
    ///
    /// # Errors
    /// What git says.
    pub fn check_out(&self, object: &str, directory: &Path) -> Result<(), Error> {
        let git = self.git.within(&self.bare).over(directory);
        git.run(Access::None, &["checkout", "--no-overlay", object, "--", "."])?;
        Ok(())
    }

    /// Adds the files of submodules to those that are checked out; `git_dir` is the directory's
    /// own, if it has one.
    ///
    /// # Errors
    /// What git says.
    pub fn add_submodules(&self, directory: &Path, git_dir: Option<&Path>) -> Result<(), Error> {
        if !directory.join(".gitmodules").exists() {
            return Ok(());
        }
        let git = self.git.within(git_dir.unwrap_or(&self.bare)).over(directory);
        let words = ["submodule", "update", "--init", "--recursive", "--depth=1"];
        git.run_shallow(Access::Network, &words)?;
        Ok(())
    }

    /// Makes an empty directory a repository of its own that has what was fetched checked out.
    ///
    /// # Errors
    /// What git says.
    pub fn clone_into(
        &self,
        (reference, written): (&GitReference, &str),
        directory: &Path,
    ) -> Result<(), Error> {
        let git_dir = directory.join(".git");
        let bare = self.git.within(&self.bare);
        let git = self.git.within(&git_dir).over(directory);
        let format = if reference.object.len() == 64 { "sha256" } else { "sha1" };
        git.run(Access::None, &["init", &format!("--object-format={format}")])?;
        let origin = format!("file://{}", text(&self.bare)?);
        git.run(Access::None, &["remote", "add", "origin", &origin])?;
        let written = written_name(reference, written);
        let kind = bare.run(Access::None, &["cat-file", "-t", &reference.object])?;
        let pulled = if is_commit(&reference.name) {
            let name = "refs/kiln/commit";
            bare.run(Access::None, &["update-ref", name, &reference.object])?;
            name.to_owned()
        } else if kind.stdout.trim() == "tag" {
            let tag = written.strip_prefix("refs/tags/").unwrap_or(written);
            format!("{written}:refs/tags/{tag}")
        } else {
            format!("{written}:{written}")
        };
        let words = ["fetch", "-u", "--depth=1", "--", "origin", &pulled];
        git.run(Access::Files, &words)?;
        git.run(Access::None, &["checkout", "FETCH_HEAD"])?;
        git.run(Access::None, &["remote", "set-url", "origin", &self.remote.shown()])?;
        git.run(Access::None, &["reflog", "expire", "--all", "--expire=now"])?;
        let head = git_dir.join("FETCH_HEAD");
        match std::fs::remove_file(&head) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::RunGit { source })
            }
            _ => Ok(()),
        }
    }
}

/// What a reference is called where it was written by hand; without, its own name.
fn written_name<'a>(reference: &'a GitReference, written: &'a str) -> &'a str {
    if written.is_empty() {
        return reference.name.strip_prefix("refs/heads/").unwrap_or(&reference.name);
    }
    written
}

/// Under what a fetched reference is kept: a tag, whatever it is (BuildKit).
fn local_name(written: &str) -> String {
    if written.starts_with("refs/tags/") {
        return written.to_owned();
    }
    format!("refs/tags/{written}")
}

fn text(path: &Path) -> Result<&str, Error> {
    path.to_str().ok_or_else(|| Error::RunGit {
        source: std::io::Error::other(format!("{} is not UTF-8", path.display())),
    })
}

/// Reads `ls-remote --symref URL HEAD`.
fn default_branch(output: &str) -> Option<GitReference> {
    let rows = output.lines().filter_map(|line| line.split_once('\t'));
    let rows: Vec<(&str, &str)> = rows.filter(|(_, name)| *name == "HEAD").collect();
    let name = rows.iter().find_map(|(value, _)| value.strip_prefix("ref: "))?;
    let object = rows.iter().find_map(|(value, _)| is_commit(value).then_some(*value))?;
    let name = name.starts_with("refs/heads/").then(|| name.to_owned())?;
    Some(GitReference { name, object: object.to_owned(), tagged: None })
}

/// Reads `ls-remote URL NAME NAME^{}`: which of the references that end in NAME is meant.
fn choose(reference: &str, output: &str) -> Option<GitReference> {
    let within =
        |kind: &str| format!("{kind}{}", reference.strip_prefix(kind).unwrap_or(reference));
    let object = |name: &str| {
        let mut rows = output.lines().filter_map(|line| line.split_once('\t'));
        let (object, _) = rows.find(|(object, row)| *row == name && is_commit(object))?;
        Some(object.to_owned())
    };
    let tag = within("refs/tags/");
    for name in [within("refs/"), within("refs/heads/"), tag.clone()] {
        if let Some(found) = object(&name) {
            let is_tag = name == tag;
            let tagged = is_tag.then(|| object(&format!("{tag}^{{}}"))).flatten();
            return Some(GitReference { name, object: found, tagged });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_go_before_tags() {
        let [a, b, c] = ["a", "b", "c"].map(|digit| digit.repeat(40));
        let output = format!(
            "{a}\trefs/heads/x\n{b}\trefs/tags/x\n{c}\trefs/tags/x^{{}}\n{c}\trefs/heads/y/x\n"
        );
        let found = |name: &str| choose(name, &output);
        let reference = |name: &str, object: &str, tagged: Option<&String>| {
            let (name, object) = (name.to_owned(), object.to_owned());
            Some(GitReference { name, object, tagged: tagged.cloned() })
        };
        assert_eq!(found("x"), reference("refs/heads/x", &a, None));
        assert_eq!(found("refs/heads/x"), reference("refs/heads/x", &a, None));
        assert_eq!(found("heads/x"), reference("refs/heads/x", &a, None));
        assert_eq!(found("refs/tags/x"), reference("refs/tags/x", &b, Some(&c)));
        assert_eq!(found("y/x"), reference("refs/heads/y/x", &c, None));
        assert_eq!(found("z"), None);
    }

    #[test]
    fn the_default_branch_is_what_head_names() {
        let object = "a".repeat(40);
        let output = format!("ref: refs/heads/a/b\tHEAD\n{object}\tHEAD\n");
        let found = default_branch(&output).unwrap();
        assert_eq!((found.name.as_str(), found.object), ("refs/heads/a/b", object.clone()));
        assert_eq!(default_branch(&format!("{object}\tHEAD\n")), None);
        assert_eq!(default_branch(""), None);
    }
}
