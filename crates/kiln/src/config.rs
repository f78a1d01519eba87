//! What the environment says: the only place that reads it.
//!
//! Everything else gets a [`Config`], so that a command's behaviour follows from its arguments.
//! `kiln.toml` is named here and read where it is needed (`kiln_registry::RouteFiles`): a build
//! that asks no registry reads none.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// The environment, read once at the start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Config {
    /// All variables whose name and value are UTF-8: `--build-arg NAME`, `--secret env=` and
    /// `kiln run -e NAME` look here.
    pub(crate) variables: BTreeMap<String, String>,
    /// `KILN_ROOT` or `--root`, when given.
    pub(crate) named_root: Option<PathBuf>,
    /// The user who started kiln. Read once, because inside a user namespace everyone is root.
    pub(crate) user_id: u32,
    /// `PATH`, for emulators and `kiln doctor`.
    pub(crate) path: OsString,
    /// The command line, with the name of the program as its first word.
    pub(crate) arguments: Vec<String>,
    /// Where programs are started from.
    pub(crate) working_directory: PathBuf,
}

impl Config {
    /// Reads the environment of this process.
    pub(crate) fn from_environment() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self {
            variables,
            named_root: std::env::var_os("KILN_ROOT")
                .filter(|root| !root.is_empty())
                .map(PathBuf::from),
            user_id: rustix::process::geteuid().as_raw(),
            path: std::env::var_os("PATH").unwrap_or_default(),
            arguments: std::env::args_os()
                .map(|word| word.to_string_lossy().into_owned())
                .collect(),
            working_directory: std::env::current_dir().unwrap_or_default(),
        }
    }

    /// A variable that is set and not empty.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        let value = self.variables.get(name)?;
        (!value.is_empty()).then_some(value)
    }

    /// Whether kiln was started by root.
    pub(crate) fn is_root(&self) -> bool {
        self.user_id == 0
    }

    /// Where the store is: what was named, else `/var/lib/kiln` for root, else the user's data
    /// directory (XDG base directory specification).
    pub(crate) fn root(&self) -> PathBuf {
        if let Some(root) = &self.named_root {
            return root.clone();
        }
        if self.is_root() {
            return PathBuf::from("/var/lib/kiln");
        }
        let data = self.variable("XDG_DATA_HOME").map(PathBuf::from);
        let home = || PathBuf::from(self.variable("HOME").unwrap_or("/")).join(".local/share");
        data.filter(|path| path.is_absolute()).unwrap_or_else(home).join("kiln")
    }

    /// The user's directory of settings (XDG base directory specification).
    pub(crate) fn user_configuration(&self) -> Option<PathBuf> {
        let named = self.variable("XDG_CONFIG_HOME").map(PathBuf::from);
        named
            .filter(|path| path.is_absolute())
            .or_else(|| Some(PathBuf::from(self.variable("HOME")?).join(".config")))
    }

    /// The settings of the directory that kiln was started in.
    pub(crate) fn project_settings(&self) -> PathBuf {
        self.working_directory.join("kiln.toml")
    }

    /// The settings of the user.
    pub(crate) fn user_settings(&self) -> Option<PathBuf> {
        self.user_configuration().map(|directory| directory.join("kiln/kiln.toml"))
    }

    /// The directory of docker's `config.json`.
    pub(crate) fn docker_config(&self) -> Option<PathBuf> {
        let named = self.variable("DOCKER_CONFIG").map(PathBuf::from);
        named.or_else(|| Some(PathBuf::from(self.variable("HOME")?).join(".docker")))
    }

    /// The user's name as the environment gives it, for `/etc/subuid`.
    pub(crate) fn user(&self) -> Option<&str> {
        self.variable("USER").or_else(|| self.variable("LOGNAME"))
    }

    /// Whether colours are unwanted (`NO_COLOR`, any value) or cannot be shown.
    pub(crate) fn no_color(&self) -> bool {
        self.variable("NO_COLOR").is_some() || self.is_dumb_terminal()
    }

    /// Whether the terminal cannot move its cursor.
    pub(crate) fn is_dumb_terminal(&self) -> bool {
        self.variable("TERM") == Some("dumb")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_named_or_follows_from_the_user() {
        let mut config = Config { named_root: Some("/x".into()), ..Config::default() };
        assert_eq!(config.root(), PathBuf::from("/x"));
        config.named_root = None;
        assert_eq!(config.root(), PathBuf::from("/var/lib/kiln"));
        config.user_id = 1000;
        config.variables.insert("HOME".into(), "/home/u".into());
        assert_eq!(config.root(), PathBuf::from("/home/u/.local/share/kiln"));
        // The specification says that a relative path is to be ignored.
        config.variables.insert("XDG_DATA_HOME".into(), "data".into());
        assert_eq!(config.root(), PathBuf::from("/home/u/.local/share/kiln"));
        config.variables.insert("XDG_DATA_HOME".into(), "/data".into());
        assert_eq!(config.root(), PathBuf::from("/data/kiln"));
    }
}
