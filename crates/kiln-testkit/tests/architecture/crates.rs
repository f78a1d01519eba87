//! Who depends on whom.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::{read, root};

/// The drawing of ARCHITECTURE.md: every crate and the crates of kiln that it stands on. Crates
/// of the same column never know each other.
const ARROWS: [(&str, &[&str]); 7] = [
    ("kiln", &["kiln-core", "kiln-engine", "kiln-registry", "kiln-sandbox", "kiln-store"]),
    ("kiln-engine", &["kiln-core", "kiln-registry", "kiln-sandbox", "kiln-store"]),
    ("kiln-registry", &["kiln-core"]),
    ("kiln-sandbox", &["kiln-core"]),
    ("kiln-store", &["kiln-core"]),
    ("kiln-core", &[]),
    ("kiln-testkit", &["kiln-core"]),
];

/// Everything that kiln-core may be built with. None of these opens a file or a socket.
const CORE: [&str; 13] = [
    "base64",
    "blake3",
    "hcl-edit",
    "jiff",
    "md-5",
    "regex-lite",
    "saphyr-parser",
    "serde",
    "serde_json",
    "sha1",
    "sha2",
    "thiserror",
    "toml",
];

struct Package {
    name: String,
    /// What it is built with.
    dependencies: BTreeSet<String>,
    /// What its tests are built with, besides.
    test_dependencies: BTreeSet<String>,
}

fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let package = |package: Value| {
        let of_kind = |dev: bool| {
            let dependencies = list(&package["dependencies"]).into_iter();
            let wanted = dependencies.filter(|one| (one["kind"] == "dev") == dev);
            wanted.map(|one| text(&one["name"])).collect()
        };
        Package {
            name: text(&package["name"]),
            dependencies: of_kind(false),
            test_dependencies: of_kind(true),
        }
    };
    list(&metadata["packages"]).into_iter().map(package).collect()
}

#[test]
fn arrows_point_as_drawn() {
    let drawn: BTreeMap<&str, BTreeSet<&str>> =
        ARROWS.iter().map(|(name, to)| (*name, to.iter().copied().collect())).collect();
    let packages = packages();
    let found: BTreeMap<&str, BTreeSet<&str>> = packages
        .iter()
        .map(|package| {
            let ours = package.dependencies.iter().map(String::as_str);
            (package.name.as_str(), ours.filter(|name| name.starts_with("kiln")).collect())
        })
        .collect();
    assert_eq!(found, drawn);
}

#[test]
fn fixtures_are_of_tests_only() {
    for package in packages() {
        let ours = package.test_dependencies.iter().filter(|name| name.starts_with("kiln"));
        let others: Vec<&String> = ours.filter(|name| *name != "kiln-testkit").collect();
        assert_eq!(others, Vec::<&String>::new(), "tests of {}", package.name);
        assert!(!package.dependencies.contains("kiln-testkit"), "{}", package.name);
    }
}

#[test]
fn core_is_built_with_nothing_that_has_effects() {
    let packages = packages();
    let core = packages.iter().find(|package| package.name == "kiln-core").expect("it exists");
    let found: Vec<&str> = core.dependencies.iter().map(String::as_str).collect();
    assert_eq!(found, CORE);
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    for package in packages() {
        let manifest = read(format!("crates/{}/Cargo.toml", package.name));
        assert!(manifest.contains("[lints]\nworkspace = true"), "{}", package.name);
    }
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = read("Cargo.toml");
    let section = manifest.split("[workspace.dependencies]").nth(1).expect("it exists");
    let section = section.split("\n[").next().expect("it begins");
    let declared = section.lines().filter(|line| line.contains('=') && !line.starts_with('#'));
    for line in declared {
        let reason = line.rsplit_once("# ").map_or("", |(_, reason)| reason);
        let is_ours = line.starts_with("kiln-");
        assert!(is_ours || reason.len() > 10, "no reason: {line}");
    }
    for package in packages() {
        for line in read(format!("crates/{}/Cargo.toml", package.name)).lines() {
            let own_version = line.contains("version = \"") || line.contains("= \"0");
            assert!(!own_version, "{}: not of the workspace: {line}", package.name);
        }
    }
}
