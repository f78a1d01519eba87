//! Bake files in, what `docker buildx bake --print` prints for them out.
//!
//! Each directory of `cases` is a project; `call` beside its files has the call's options and
//! environment, `print.json` is what buildx printed (`docker buildx bake --print` in that directory, with
//! those options, refreshes it).

#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "cases are files")]

mod errors;
mod laws;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kiln_core::bake::{File, World, read, read_dotenv};

/// Files in the order in which they are looked for.
const FILES: [&str; 5] = [
    "compose.yaml",
    "docker-compose.yml",
    "docker-bake.json",
    "docker-bake.hcl",
    "docker-bake.override.hcl",
];

#[derive(Default)]
struct Call {
    world: World,
    sets: Vec<String>,
    targets: Vec<String>,
}

fn call(directory: &Path) -> Call {
    let mut call = Call::default();
    let built_in = [("BAKE_CMD_CONTEXT", "cwd://"), ("BAKE_LOCAL_PLATFORM", "linux/amd64")];
    call.world.built_in =
        built_in.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
    let text = std::fs::read_to_string(directory.join("call")).unwrap_or_default();
    for line in text.lines() {
        let (kind, value) = line.split_once(' ').unwrap();
        let pair = || {
            let (name, value) = value.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        };
        match kind {
            "env" => call.world.environment.extend([pair()]),
            "var" => call.world.variables.extend([pair()]),
            "set" => call.sets.push(value.to_owned()),
            "target" => call.targets.push(value.to_owned()),
            other => panic!("{other} is no part of a call"),
        }
    }
    if call.targets.is_empty() {
        call.targets.push("default".to_owned());
    }
    if let Ok(text) = std::fs::read_to_string(directory.join(".env")) {
        call.world.compose_environment = read_dotenv(&text, &BTreeMap::new()).unwrap();
    }
    call
}

fn files(directory: &Path) -> Vec<File> {
    let there = FILES.iter().filter_map(|name| {
        let text = std::fs::read_to_string(directory.join(name)).ok()?;
        Some(File { name: (*name).to_owned(), text })
    });
    there.collect()
}

fn printed(directory: &Path) -> String {
    let call = call(directory);
    let config = match read(&files(directory), &call.world) {
        Ok(config) => config,
        Err(problems) => return format!("{problems:#?}"),
    };
    match config.resolve(&call.targets, &call.sets, &call.world) {
        Ok(definition) => definition.to_json() + "\n",
        Err(problem) => format!("{problem:#?}"),
    }
}

#[test]
fn definitions_are_those_that_buildx_prints() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bake/cases");
    let mut directories: Vec<PathBuf> =
        std::fs::read_dir(cases).unwrap().map(|entry| entry.unwrap().path()).collect();
    directories.sort();
    assert!(directories.len() > 10, "the search finds what is there");
    for directory in directories {
        let expected = std::fs::read_to_string(directory.join("print.json")).unwrap();
        let found = printed(&directory);
        let name = directory.file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(found, expected, "{name}");
    }
}
