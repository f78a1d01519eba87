//! Finding and reading bake files, and what they may know of this machine.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use jiff::Timestamp;
use kiln_core::bake::{self, File, World};
use kiln_core::dockerfile::parse_bool;
use kiln_core::oci::Platform;

use super::Bake;
use crate::config::Config;
use crate::failure::Failure;

/// What is read when no file is named, each if it is there.
const DEFAULT_FILES: [&str; 8] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
    "docker-bake.json",
    "docker-bake.hcl",
    "docker-bake.override.json",
    "docker-bake.override.hcl",
];

impl Bake {
    /// The files that are named by `-f` or `BUILDX_BAKE_FILE`, else the usual ones.
    pub(super) fn files(&self, config: &Config) -> Result<Vec<File>, Failure> {
        let mut names: Vec<String> = self.files.clone();
        if names.is_empty()
            && let Some(list) = config.variable("BUILDX_BAKE_FILE")
        {
            let separator = config.variable("BUILDX_BAKE_PATH_SEPARATOR").unwrap_or(":");
            let parts = list.split(separator).map(str::trim);
            names = parts.filter(|name| !name.is_empty()).map(str::to_owned).collect();
        }
        if !names.is_empty() {
            return names.iter().map(|name| read(name)).collect();
        }
        let usual = DEFAULT_FILES.iter().filter(|name| Path::new(name).exists());
        let files: Vec<File> = usual.map(|name| read(name)).collect::<Result<_, _>>()?;
        if files.is_empty() {
            let failure = Failure::input("no-bake-file", "couldn't find a bake definition here");
            return Err(failure.with_help(
                "it is looked for in docker-bake.hcl, docker-bake.json and compose.yaml; `-f FILE` \
                 names another file",
            ));
        }
        Ok(files)
    }
}

fn read(name: &str) -> Result<File, Failure> {
    let path = name.strip_prefix("cwd://").unwrap_or(name);
    if path == "-" {
        let mut text = String::new();
        let read = std::io::stdin().lock().read_to_string(&mut text);
        read.map_err(|error| Failure::file("read", "standard input", error))?;
        return Ok(File { name: "-".to_owned(), text });
    }
    let bytes = std::fs::read(path).map_err(|error| Failure::file("open", path, error))?;
    let text = String::from_utf8(bytes);
    let text = text.map_err(|_| Failure::input("bake-syntax", format!("{path} is no text")))?;
    Ok(File { name: path.to_owned(), text })
}

/// What bake files see: the environment, `--var`, `.env` for compose files, and the built-in
/// variables.
pub(super) fn world(variables: &[String], config: &Config) -> Result<World, Failure> {
    let mut own = BTreeMap::new();
    for variable in variables.iter().filter(|variable| !variable.is_empty()) {
        match variable.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                own.insert(name.to_owned(), value.to_owned());
            }
            _ => {
                let message = format!("invalid variable \"{variable}\", expected name=value");
                return Err(Failure::usage(message));
            }
        }
    }
    let hidden = config.variable("BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP");
    let environment = if hidden.and_then(parse_bool) == Some(true) {
        BTreeMap::new()
    } else {
        config.variables.clone()
    };
    let dotenv = match std::fs::read_to_string(".env") {
        Ok(text) => bake::read_dotenv(&text, &environment)
            .map_err(|why| Failure::input("dotenv", format!(".env: {why}")))?,
        Err(_) => BTreeMap::new(),
    };
    let built_in = BTreeMap::from([
        ("BAKE_CMD_CONTEXT".to_owned(), "cwd://".to_owned()),
        ("BAKE_LOCAL_PLATFORM".to_owned(), Platform::host().to_string()),
    ]);
    Ok(World {
        environment,
        variables: own,
        built_in,
        compose_environment: dotenv,
        now: Timestamp::now().as_second(),
        home: config.variable("HOME").unwrap_or("/").to_owned(),
    })
}
