//! The lock file of a build: where it is, and what is done with what it lacks.

use std::io;
use std::path::{Path, PathBuf};

use kiln_core::lock_file::{LOCK_FILE, LockFile, LockFileError};
use kiln_engine::{FetchedContext, Lock, Unlocked};

use super::Build;
use crate::failure::Failure;

impl Build {
    /// The lock file: the one that is named, else the context's own.
    pub(super) fn lock(
        &self,
        directory: &Path,
        fetched: Option<&FetchedContext>,
    ) -> Result<Option<Lock>, Failure> {
        if self.no_lock {
            return Ok(None);
        }
        let path = self.lock_file.clone().unwrap_or_else(|| place(directory));
        let name = shown(&path);
        let bytes = match (&self.lock_file, fetched) {
            (None, Some(context)) => {
                context.read(LOCK_FILE).map_err(|error| Failure::environment(error.to_string()))?
            }
            // A Dockerfile alone.
            (None, None) if directory.as_os_str().is_empty() => None,
            _ => read(&path)?,
        };
        let Some(bytes) = bytes else {
            return match (&self.lock_file, self.locked) {
                (None, false) => Ok(None),
                _ => Err(Failure::input("not-locked", format!("there is no lock file {name}"))
                    .with_help(format!("`{}` writes it", self.lock_command()))),
            };
        };
        let file = parse(&name, &bytes)?;
        let unlocked = if self.locked { Unlocked::Refused } else { Unlocked::Resolved };
        Ok(Some(Lock { file, name, unlocked, command: self.lock_command() }))
    }

    /// The command that locks what this build refers to.
    fn lock_command(&self) -> String {
        let mut words = vec!["kiln".to_owned(), "lock".to_owned()];
        let mut add = |flag: &str, value: &str| words.push(format!("{flag} {}", quoted(value)));
        if let Some(file) = &self.file {
            add("-f", file);
        }
        for platform in &self.platforms {
            add("--platform", &platform.to_string());
        }
        for argument in &self.build_args {
            match &argument.value {
                Some(value) => add("--build-arg", &format!("{}={value}", argument.name)),
                None => add("--build-arg", &argument.name),
            }
        }
        for context in &self.build_contexts {
            add("--build-context", &format!("{}=…", context.name));
        }
        if let Some(path) = &self.lock_file {
            add("--lock-file", &path.display().to_string());
        }
        words.push(quoted(&self.context));
        words.join(" ")
    }
}

/// Where the lock file of a context is.
pub(crate) fn place(directory: &Path) -> PathBuf {
    directory.join(LOCK_FILE)
}

/// A path as messages name it.
pub(crate) fn shown(path: &Path) -> String {
    path.strip_prefix(".").unwrap_or(path).display().to_string()
}

/// The bytes of a file, if it is there.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::file("read", path, error)),
    }
}

/// Reads the text of a lock file.
pub(crate) fn parse(name: &str, bytes: &[u8]) -> Result<LockFile, Failure> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Failure::input("lock-file", format!("{name} is no text")))?;
    LockFile::parse(text).map_err(|error| {
        let help = match &error {
            LockFileError::Conflict { .. } => {
                "keep either side, or delete the file, and run `kiln lock`"
            }
            LockFileError::Version(_) => "use a newer kiln, or `--no-lock`",
            LockFileError::Invalid { .. } => "delete it, and `kiln lock` writes it anew",
        };
        Failure::input("lock-file", format!("{name}: {error}")).with_help(help)
    })
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:=@,+%…".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("a=b/c:1"), "a=b/c:1");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn what_is_no_lock_file_is_told() {
        let message = |bytes: &[u8]| parse("kiln.lock", bytes).unwrap_err().to_string();
        assert_eq!(message(b"\xff"), "kiln.lock is no text");
        assert!(message(b"version = 9").contains("version 9"));
        assert!(message(b"<<<<<<< HEAD\n").contains("line 1: a merge"));
    }
}
