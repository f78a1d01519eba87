//! ARCHITECTURE.md speaks of what exists.

use std::collections::BTreeSet;

use crate::{files, has_extension, read, root, sources};

const DOCUMENT: &str = "ARCHITECTURE.md";

/// What stands between backticks.
fn quoted(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for line in text.lines() {
        found.extend(line.split('`').skip(1).step_by(2));
    }
    found
}

fn is_path(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let known = ["crates/", "docs/", "tests/", "scripts/", "examples/", ".ci/"];
    text.chars().all(plain)
        && (known.iter().any(|start| text.starts_with(start)) || has_extension(text, "toml"))
}

#[test]
fn it_is_short() {
    let lines = read(DOCUMENT).lines().count();
    assert!(lines <= 200, "{lines} lines");
}

#[test]
fn every_path_and_test_that_it_names_exists() {
    let text = read(DOCUMENT);
    let mut paths = 0;
    for name in quoted(&text) {
        let (path, test) = name.split_once("::").unwrap_or((name, ""));
        if !is_path(path) {
            continue;
        }
        paths += 1;
        assert!(root().join(path).exists(), "{path} does not exist");
        if !test.is_empty() {
            assert!(read(path).contains(&format!("fn {test}(")), "{path} has no test {test}");
        }
    }
    assert!(paths > 20, "the search finds what is there");
}

#[test]
fn every_crate_is_named_and_every_name_is_a_crate() {
    let text = read(DOCUMENT);
    let directory = std::fs::read_dir(root().join("crates")).expect("readable");
    let crates: BTreeSet<String> = directory
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .collect();
    let named: BTreeSet<String> = text
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .filter(|word| word.starts_with("kiln-"))
        .map(str::to_owned)
        .collect();
    let named: BTreeSet<String> = named.into_iter().chain(["kiln".to_owned()]).collect();
    assert_eq!(named, crates);
}

/// The code map has a row `| name |` for each module of a crate's first level.
#[test]
fn every_module_is_on_the_map() {
    let text = read(DOCUMENT);
    let mut missing = Vec::new();
    let crates = files("crates").into_iter().filter_map(|path| {
        let (crate_path, _) = path.split_once("/src/lib.rs")?;
        Some(crate_path.to_owned())
    });
    for crate_path in crates.chain(["crates/kiln".to_owned()]) {
        let heading = format!("### `{crate_path}`");
        let Some((_, rest)) = text.split_once(&format!("{heading}\n")) else {
            missing.push(heading);
            continue;
        };
        let section = rest.split("\n#").next().expect("it begins");
        let names: BTreeSet<&str> = quoted(section).into_iter().collect();
        let modules: BTreeSet<String> = sources(&crate_path)
            .iter()
            .map(|path| {
                let inner = &path[crate_path.len() + "/src/".len()..];
                let first = inner.split('/').next().expect("it is a path");
                first.trim_end_matches(".rs").to_owned()
            })
            .filter(|module| !["lib", "main", "error"].contains(&module.as_str()))
            .collect();
        let lost = modules.iter().filter(|module| !names.contains(module.as_str()));
        missing.extend(lost.map(|module| format!("{crate_path}: {module}")));
    }
    assert_eq!(missing, Vec::<String>::new());
}
