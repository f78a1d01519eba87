//! Finding and reading the Dockerfile.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use kiln_core::diagnostic::did_you_mean;
use kiln_core::source::SourceFile;

use crate::failure::Failure;

/// A Dockerfile and the ignore file that belongs to it alone.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    /// Its text, named as the user would write its path.
    pub(crate) source_file: SourceFile,
    /// `NAME.dockerignore` beside it, if there is one.
    pub(crate) ignore_file: Option<Vec<u8>>,
}

/// Reads what `-f` names (`-` is standard input), else the context's `Dockerfile`. As with
/// BuildKit, `dockerfile` in lower case serves where there is no `Dockerfile`.
pub(crate) fn load(file: Option<&str>, context: &Path) -> Result<Loaded, Failure> {
    if file == Some("-") {
        let mut bytes = Vec::new();
        io::stdin()
            .lock()
            .read_to_end(&mut bytes)
            .map_err(|error| Failure::file("read", "standard input", error))?;
        return Ok(Loaded {
            source_file: SourceFile::new("<stdin>", utf8("<stdin>", bytes)?),
            ignore_file: None,
        });
    }
    let path = match file {
        Some(file) => PathBuf::from(file),
        None => context.strip_prefix(".").unwrap_or(context).join("Dockerfile"),
    };
    let path = or_lower_case(path);
    let bytes = std::fs::read(&path).map_err(|error| missing(&path, error))?;
    let name = path.display().to_string();
    let name = name.strip_prefix("./").unwrap_or(&name);
    let mut ignore = path.clone().into_os_string();
    ignore.push(".dockerignore");
    let ignore_file = match std::fs::read(&ignore) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(Failure::file("read", PathBuf::from(ignore), error)),
    };
    Ok(Loaded { source_file: SourceFile::new(name, utf8(name, bytes)?), ignore_file })
}

/// A `dockerfile` stands for a `Dockerfile` that is not there.
fn or_lower_case(path: PathBuf) -> PathBuf {
    let lower = path.with_file_name("dockerfile");
    let is_usual = path.file_name().is_some_and(|name| name == "Dockerfile");
    if is_usual && !path.exists() && lower.exists() { lower } else { path }
}

/// The failure to open `path`, with the file that may have been meant.
fn missing(path: &Path, error: io::Error) -> Failure {
    if error.kind() != io::ErrorKind::NotFound {
        return Failure::file("open", path, error);
    }
    let message = format!("open {}: no such file", path.display());
    let failure = Failure::input("no-dockerfile", message);
    match similar(path) {
        Some(near) => failure.with_help(format!("did you mean `-f {}`?", near.display())),
        None => failure.with_help("`-f PATH` names a Dockerfile somewhere else"),
    }
}

/// A file beside `path` that is called alike, or as Dockerfiles usually are.
fn similar(path: &Path) -> Option<PathBuf> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let entries = std::fs::read_dir(directory.unwrap_or(Path::new("."))).ok()?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.ends_with(".dockerignore"))
        .collect();
    names.sort();
    let wanted = path.file_name()?.to_str()?;
    let usual = |name: &&String| {
        let lower = name.to_lowercase();
        lower == "containerfile" || lower == "dockerfile" || lower.starts_with("dockerfile.")
    };
    let near = did_you_mean(wanted, names.iter().map(String::as_str));
    let near = near.or_else(|| names.iter().find(usual).map(String::as_str))?;
    Some(path.with_file_name(near))
}

fn utf8(name: &str, bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.split(|byte| *byte == b'\n').count();
        Failure::input("encoding", format!("{name}:{line}: this line is not UTF-8"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(failure: &Failure) -> String {
        match failure {
            Failure::Input { message, help, .. } => format!("{message} / {help:?}"),
            other => other.to_string(),
        }
    }

    #[test]
    fn what_was_meant_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let hint = |file: Option<&str>| {
            let failure = load(file, directory.path()).unwrap_err();
            message(&failure).replace(directory.path().to_str().unwrap(), "DIR")
        };
        assert!(hint(None).contains("somewhere else"));
        std::fs::write(at("Containerfile"), "FROM scratch").unwrap();
        assert_eq!(
            hint(None),
            r#"open DIR/Dockerfile: no such file / Some("did you mean `-f DIR/Containerfile`?")"#
        );
        std::fs::write(at("Dockerfile.dev"), "FROM scratch").unwrap();
        let near = at("Dockerfile.dve");
        assert!(hint(near.to_str()).contains("-f DIR/Dockerfile.dev"));
    }

    #[test]
    fn the_ignore_file_beside_it_belongs_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("dockerfile"), "FROM scratch").unwrap();
        assert!(load(None, directory.path()).unwrap().ignore_file.is_none());
        std::fs::write(at("x"), "FROM scratch\n").unwrap();
        std::fs::write(at("x.dockerignore"), "*.o").unwrap();
        let loaded = load(at("x").to_str(), directory.path()).unwrap();
        assert_eq!(loaded.ignore_file.as_deref(), Some(&b"*.o"[..]));
        std::fs::write(at("x"), b"FROM scratch\n# \xff\n").unwrap();
        let failure = load(at("x").to_str(), directory.path()).unwrap_err();
        assert!(message(&failure).contains("x:2: this line is not UTF-8"));
    }
}
