//! What ARCHITECTURE.md promises of the sources, held without building them.
//!
//! The rules are lists: a change that needs another one adds its line here, with the reason.

mod book;
mod crates;
mod documents;
mod sources;

use std::path::{Path, PathBuf};

/// The root of the repository.
fn root() -> &'static Path {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("in crates/");
    crates.parent().expect("in the repository")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below a directory of the repository, as paths from its root; without what is built.
fn files(below: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![root().join(below)];
    while let Some(directory) = directories.pop() {
        let entries = std::fs::read_dir(&directory)
            .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        for entry in entries {
            let entry = entry.expect("readable");
            let path: PathBuf = entry.path();
            let kind = entry.file_type().expect("known");
            let name = entry.file_name();
            if kind.is_dir() {
                let skipped = ["target", ".git", ".cache", "__pycache__"];
                if !skipped.iter().any(|skipped| name == *skipped) {
                    directories.push(path);
                }
            } else if kind.is_file() && name != ".git" {
                let path = path.strip_prefix(root()).expect("below the root");
                found.push(path.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

/// Whether a path ends with `.extension`.
fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == extension)
}

/// The Rust files below a directory that are part of the product: no tests, no examples.
fn sources(below: &str) -> Vec<String> {
    let mut found = files(below);
    found.retain(|path| {
        let is_test = path.ends_with("tests.rs") || path.contains("/tests/");
        has_extension(path, "rs") && path.contains("/src/") && !is_test
    });
    assert!(!found.is_empty(), "the sources are where these tests look");
    found
}
