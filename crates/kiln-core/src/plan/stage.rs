//! What a stage is while its instructions are read one after the other.

use std::collections::BTreeMap;

use super::history::{self, Layered};
use super::op::Input;
use super::scope::{DeclaredArg, Environment};
use crate::oci::{ContainerConfig, HistoryEntry, ImageConfig, Platform};

/// `PATH` of an image that sets none (BuildKit's default for Linux).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A stage after some of its instructions.
#[derive(Clone, Debug)]
pub(super) struct StageState {
    /// The file system so far.
    pub(super) root: Input,
    /// The image so far; history entries of layers have no time yet.
    pub(super) image: ImageConfig,
    /// The history of the image that it stands on.
    pub(super) base_history: Vec<HistoryEntry>,
    /// What RUN sees and words expand to: ENV and ARG together.
    pub(super) env: Environment,
    /// ARGs of this stage and of those below it.
    pub(super) args: Vec<DeclaredArg>,
    /// The platform that its commands run on.
    pub(super) platform: Platform,
    /// A CMD of this stage keeps ENTRYPOINT from clearing it.
    pub(super) has_cmd: bool,
    /// For messages and progress.
    pub(super) name: String,
    /// `SOURCE_DATE_EPOCH` as a time of history entries.
    pub(super) created: Option<String>,
}

impl StageState {
    /// A stage over an image's config (or over nothing).
    pub(super) fn new(root: Input, image: ImageConfig, platform: Platform) -> Self {
        let mut state = Self {
            root,
            image,
            base_history: Vec::new(),
            env: Environment::default(),
            args: Vec::new(),
            platform,
            has_cmd: false,
            name: String::new(),
            created: None,
        };
        state.enter();
        state
    }

    /// What every stage starts with: a PATH, the image's environment, an absolute directory.
    pub(super) fn enter(&mut self) {
        self.has_cmd = false;
        let env = self.image.config.env.get_or_insert_default();
        // Windows has one of its own.
        let has_path = env.iter().any(|variable| variable.split('=').next() == Some("PATH"));
        if !has_path && self.platform.os != "windows" {
            env.push(format!("PATH={DEFAULT_PATH}"));
        }
        if env.is_empty() {
            self.image.config.env = None;
        }
        for variable in self.image.config.env.clone().unwrap_or_default() {
            let (name, value) = variable.split_once('=').unwrap_or((&variable, ""));
            self.env.set(name, value);
        }
        let directory = self.image.config.working_dir.clone();
        if !directory.is_empty() {
            self.enter_directory(&directory);
        }
    }

    /// The working directory, absolute and clean.
    pub(super) fn cwd(&self) -> String {
        clean_path("/", &self.image.config.working_dir)
    }

    /// Makes `directory` the working directory of the image. As with BuildKit, an absolute one
    /// stays as it is written, `//` and `..` included.
    pub(super) fn enter_directory(&mut self, directory: &str) {
        let is_absolute = directory.starts_with('/');
        self.image.config.working_dir = match (is_absolute, &self.image.config.working_dir) {
            (true, _) => directory.to_owned(),
            (false, current) if directory.is_empty() && current.starts_with('/') => current.clone(),
            (false, current) => clean_path(&clean_path("/", current), directory),
        };
    }

    /// The config that instructions change.
    pub(super) fn config(&mut self) -> &mut ContainerConfig {
        &mut self.image.config
    }

    /// Sets a variable of the image.
    pub(super) fn set_env(&mut self, name: &str, value: &str) {
        self.env.set(name, value);
        let definition = format!("{name}={value}");
        let variables = self.image.config.env.get_or_insert_default();
        let known = variables
            .iter_mut()
            .find(|variable| variable.split_once('=').map_or(variable.as_str(), |v| v.0) == name);
        match known {
            Some(variable) => *variable = definition,
            None => variables.push(definition),
        }
    }

    /// Adds a line of history.
    pub(super) fn record(&mut self, text: &str, layered: Layered) {
        self.image.history.push(history::entry(text, layered, self.created.clone()));
    }

    /// A command line for the stage's shell.
    pub(super) fn with_shell(&self, line: &str) -> Vec<String> {
        let shell = self.image.config.shell.clone().filter(|shell| !shell.is_empty());
        let default: &[&str] = match self.platform.os.as_str() {
            "windows" => &["cmd", "/S", "/C"],
            _ => &["/bin/sh", "-c"],
        };
        let default = || default.iter().map(|word| (*word).to_owned()).collect();
        let mut args = shell.unwrap_or_else(default);
        args.push(line.to_owned());
        args
    }
}

/// The config of an image that stands on nothing.
pub(super) fn empty_image(platform: &Platform) -> ImageConfig {
    ImageConfig {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        os_version: platform.os_version.clone(),
        config: ContainerConfig { working_dir: "/".to_owned(), ..ContainerConfig::default() },
        ..ImageConfig::default()
    }
}

/// `path` seen from `base`, absolute and without `.`, `..` and doubled slashes.
pub(crate) fn clean_path(base: &str, path: &str) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{base}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The same, but a trailing slash stays (it means "a directory").
pub(super) fn clean_destination(base: &str, path: &str) -> String {
    let clean = clean_path(base, path);
    let is_directory =
        path.is_empty() || path.ends_with('/') || path == "." || path.ends_with("/.");
    if is_directory && clean != "/" { format!("{clean}/") } else { clean }
}

/// Exposed ports, volumes, labels: sets and maps that an instruction adds to.
pub(super) fn add_all<V>(
    map: &mut Option<BTreeMap<String, V>>,
    items: impl IntoIterator<Item = (String, V)>,
) {
    map.get_or_insert_default().extend(items);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        assert_eq!(clean_path("/w", "a/../b/./c//d"), "/w/b/c/d");
        assert_eq!(clean_path("/w", "../../../x"), "/x");
        assert_eq!(clean_path("/w", ""), "/w");
        assert_eq!(clean_destination("/w", "."), "/w/");
        assert_eq!(clean_destination("/w", "sub/"), "/w/sub/");
        assert_eq!(clean_destination("/", "/"), "/");
        assert_eq!(clean_destination("/w", ""), "/w/");
    }
}
