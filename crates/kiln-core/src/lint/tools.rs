//! Package managers: where each keeps its cache, and which of its commands install what a project
//! depends on.
//!
//! Sources: the tools' own documentation of their cache directories.

use super::commands::SimpleCommand;
use super::scope::Scope;
use crate::plan::clean_path;

/// A package manager.
#[derive(Debug)]
pub(super) struct Tool {
    pub(super) name: &'static str,
    commands: &'static [&'static str],
    /// Variables that name the cache directory; the first one is the one to recommend.
    variables: &'static [&'static str],
    /// Below a variable's directory, where the tool keeps caches; empty means it is one itself.
    below: &'static [&'static str],
    /// Option that names the cache directory.
    option: Option<&'static str>,
    /// Cache directories without any of these; `~` is the user's home. The first one is shown.
    defaults: &'static [&'static str],
}

pub(super) const TOOLS: [Tool; 12] = [
    Tool {
        name: "uv",
        commands: &["uv", "uvx"],
        variables: &["UV_CACHE_DIR"],
        below: &[],
        option: Some("--cache-dir"),
        defaults: &["~/.cache/uv"],
    },
    Tool {
        name: "pip",
        commands: &["pip", "pip3"],
        variables: &["PIP_CACHE_DIR"],
        below: &[],
        option: Some("--cache-dir"),
        defaults: &["~/.cache/pip"],
    },
    Tool {
        name: "apt",
        commands: &["apt-get", "apt"],
        variables: &[],
        below: &[],
        option: None,
        defaults: &["/var/cache/apt", "/var/lib/apt"],
    },
    Tool {
        name: "npm",
        commands: &["npm", "npx"],
        variables: &["npm_config_cache", "NPM_CONFIG_CACHE"],
        below: &[],
        option: Some("--cache"),
        defaults: &["~/.npm"],
    },
    Tool {
        name: "yarn",
        commands: &["yarn"],
        variables: &["YARN_CACHE_FOLDER"],
        below: &[],
        option: Some("--cache-folder"),
        defaults: &["/usr/local/share/.cache/yarn", "~/.cache/yarn", "~/.yarn"],
    },
    Tool {
        name: "pnpm",
        commands: &["pnpm"],
        variables: &["PNPM_HOME", "npm_config_store_dir"],
        below: &[],
        option: Some("--store-dir"),
        defaults: &["~/.local/share/pnpm/store", "~/.cache/pnpm", "/pnpm/store"],
    },
    Tool {
        name: "cargo",
        commands: &["cargo"],
        variables: &["CARGO_HOME"],
        below: &["registry", "git"],
        option: None,
        defaults: &[
            "/usr/local/cargo/registry",
            "/usr/local/cargo/git",
            "~/.cargo/registry",
            "~/.cargo/git",
        ],
    },
    Tool {
        name: "go",
        commands: &["go"],
        variables: &["GOMODCACHE", "GOCACHE"],
        below: &[],
        option: None,
        defaults: &["/go/pkg/mod", "~/.cache/go-build", "~/go/pkg/mod"],
    },
    Tool {
        name: "poetry",
        commands: &["poetry"],
        variables: &["POETRY_CACHE_DIR"],
        below: &[],
        option: None,
        defaults: &["~/.cache/pypoetry"],
    },
    Tool {
        name: "composer",
        commands: &["composer"],
        variables: &["COMPOSER_CACHE_DIR"],
        below: &[],
        option: None,
        defaults: &["~/.composer/cache", "~/.cache/composer", "/tmp/cache"],
    },
    Tool {
        name: "maven",
        commands: &["mvn", "mvnw"],
        variables: &[],
        below: &[],
        option: Some("-Dmaven.repo.local"),
        defaults: &["~/.m2/repository", "~/.m2"],
    },
    Tool {
        name: "gradle",
        commands: &["gradle", "gradlew"],
        variables: &["GRADLE_USER_HOME"],
        below: &[],
        option: Some("--gradle-user-home"),
        defaults: &["~/.gradle", "/home/gradle/.gradle"],
    },
];

impl Tool {
    /// The tool that a command is, if it uses its cache.
    pub(super) fn of(command: &SimpleCommand) -> Option<&'static Self> {
        let name = command.name();
        let is_pip_module = name.starts_with("python")
            && command.words.get(1).is_some_and(|word| word == "-m")
            && command.words.get(2).is_some_and(|word| word == "pip");
        let name = if is_pip_module { "pip" } else { name };
        TOOLS.iter().find(|tool| tool.commands.contains(&name))
    }

    /// The directories where the tool keeps what it downloads, in this RUN.
    ///
    /// Paths that begin with `~/` are below a home directory that is not known for sure.
    pub(super) fn cache_directories(
        &self,
        commands: &[SimpleCommand],
        scope: &Scope,
    ) -> Vec<String> {
        let workdir = scope.workdir.as_deref().unwrap_or("/");
        let mut found = Vec::new();
        if let Some(option) = self.option {
            let own =
                commands.iter().filter(|it| Self::of(it).is_some_and(|it| it.name == self.name));
            found.extend(
                own.filter_map(|it| it.option(option)).map(|path| clean_path(workdir, path)),
            );
        }
        for name in self.variables {
            let assigned = commands.iter().flat_map(|it| &it.assignments);
            let mut assigned =
                assigned.filter(|(known, _)| known == name).map(|(_, value)| value.clone());
            if let Some(path) = assigned.next_back().or_else(|| scope.value(name)) {
                let path = clean_path(workdir, &path);
                if self.below.is_empty() {
                    found.push(path.clone());
                }
                found.extend(self.below.iter().map(|below| format!("{path}/{below}")));
            }
        }
        // Go has two caches; a variable moves only one of them.
        if found.is_empty() || self.name == "go" {
            found.extend(self.defaults.iter().map(|path| Self::at_home(path, scope)));
        }
        if self.name == "cargo" {
            let target = scope.value("CARGO_TARGET_DIR").unwrap_or_else(|| "target".to_owned());
            found.push(clean_path(workdir, &target));
            // Of a project below the working directory.
            found.push("~/target".to_owned());
        }
        found
    }

    fn at_home(path: &str, scope: &Scope) -> String {
        let Some(rest) = path.strip_prefix("~/") else {
            return path.to_owned();
        };
        if let (Some(cache), Some(rest)) =
            (scope.value("XDG_CACHE_HOME"), path.strip_prefix("~/.cache/"))
        {
            return clean_path("/", &format!("{cache}/{rest}"));
        }
        if let Some(home) = scope.value("HOME") {
            return clean_path("/", &format!("{home}/{rest}"));
        }
        path.to_owned()
    }

    /// Whether a command installs the project's dependencies from its lists and locks.
    pub(super) fn installs_dependencies(command: &SimpleCommand) -> bool {
        let words = &command.words;
        let has = |wanted: &[&str]| words.iter().any(|word| wanted.contains(&word.as_str()));
        let by_requirements =
            words.iter().any(|word| word.starts_with("-r") || word.starts_with("--requirement"));
        match command.name() {
            "uv" => command.is("uv", &["sync"]) || (command.is("uv", &["pip"]) && by_requirements),
            "pip" | "pip3" => has(&["install", "download", "wheel"]) && by_requirements,
            name if name.starts_with("python") => has(&["pip"]) && by_requirements,
            "npm" => match command.operands().next() {
                Some("ci" | "clean-install") => true,
                Some("install" | "i") => {
                    command.operands().count() == 1 && !has(&["-g", "--global"])
                }
                _ => false,
            },
            "yarn" => command.operands().next().is_none_or(|word| word == "install"),
            "pnpm" => {
                command.is("pnpm", &["install", "i", "fetch"]) && command.operands().count() == 1
            }
            "poetry" | "pipenv" | "bundle" | "composer" => {
                command.operands().next().is_some_and(|word| matches!(word, "install" | "sync"))
            }
            "go" => command.is("go", &["mod"]) && has(&["download"]),
            "cargo" => command.is("cargo", &["fetch", "chef"]) && !has(&["prepare"]),
            _ => false,
        }
    }
}

/// Whether a mount at `target` holds `directory`, or a part of it.
///
/// Of a directory below an unknown home the parts after the home must be there.
pub(super) fn holds(target: &str, directory: &str, user: Option<&str>) -> bool {
    let Some(tail) = directory.strip_prefix("~/") else {
        return within(target, directory) || within(directory, target);
    };
    let other_user = user.is_some_and(|user| {
        let name = user.split(':').next().unwrap_or("");
        !matches!(name, "" | "root" | "0")
    });
    if other_user && within(target, "/root") {
        return false;
    }
    let target = format!("{target}/");
    if target.contains(&format!("/{tail}/")) {
        return true;
    }
    // A directory above it: `/root/.cache` holds `~/.cache/uv`.
    let mut above = tail;
    while let Some((parent, _)) = above.rsplit_once('/') {
        if target.ends_with(&format!("/{parent}/")) {
            return true;
        }
        above = parent;
    }
    false
}

fn within(path: &str, directory: &str) -> bool {
    let directory = directory.trim_end_matches('/');
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
