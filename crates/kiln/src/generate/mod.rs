//! `kiln init`: from what a project holds to the files that build, run and measure it.
//!
//! [`Sources`] reads a directory; [`Project::detect`] says what it is, by pure code; [`files`] fills
//! the templates. What happens to files that are there already is the command's
//! (`commands/init.rs`).

mod application;
mod install;
mod layout;
mod manifest;
mod poetry;
mod project;
mod python_version;
mod requirements;
mod serve;
mod services;
mod settings;
mod sources;
mod system;
mod templates;
mod testing;
mod workspace;

pub(crate) use project::Project;
pub(crate) use sources::Sources;
use templates::{Make, filled};

/// A file that is generated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    /// Where it goes, below the project's directory.
    pub(crate) path: &'static str,
    /// What it holds.
    pub(crate) text: String,
}

/// The file of make's targets where the project has a Makefile of its own.
pub(crate) const INCLUDED: &str = "docker.mk";
/// The line by which a Makefile reads it.
pub(crate) const INCLUDE: &str = "include docker.mk";
/// The first words of a Makefile that kiln made.
const MADE: &str = "# Made by `kiln init`";

/// What `--only` can name.
pub(crate) const NAMES: [&str; 9] = [
    "Dockerfile",
    ".dockerignore",
    "docker-compose.yml",
    "docker-compose.buildkit.yml",
    "docker-bake.hcl",
    "kiln.toml",
    "Makefile",
    ".github/workflows/docker-build-cache.yml",
    ".gitlab-ci.yml",
];

/// Whether the project has a Makefile that is not kiln's: its targets then go to [`INCLUDED`].
pub(crate) fn has_own_makefile(sources: &Sources) -> bool {
    let made = sources.text("Makefile").is_some_and(|text| text.starts_with(MADE));
    (sources.has("Makefile") && !made) || sources.has("GNUmakefile") || sources.has("makefile")
}

/// The files of a project.
pub(crate) fn files(project: &Project, sources: &Sources) -> Vec<File> {
    NAMES
        .iter()
        .map(|path| match *path {
            "Makefile" if has_own_makefile(sources) => {
                File { path: INCLUDED, text: filled("docker.mk", project, Make::Included) }
            }
            "Makefile" => File { path, text: filled("docker.mk", project, Make::Whole) },
            path => File { path, text: filled(path, project, Make::Whole) },
        })
        .collect()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
