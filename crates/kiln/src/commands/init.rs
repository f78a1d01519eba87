//! `kiln init`: writes the files that build, run and measure a Python project.
//!
//! A file that is there and differs is the user's: it stays as it is unless `--force` says otherwise.
//! A Makefile that is not kiln's is never replaced: the targets go to `docker.mk`, which it may include.

use std::io;
use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;

use super::whole_file::replace_file;
use crate::config::Config;
use crate::failure::Failure;
use crate::generate::{self, File, Project, Sources};
use crate::render;
use crate::render::init::{Fate, Outcome};

/// Write a Dockerfile, compose and bake files, CI and make targets for a Python project
///
/// kiln looks at the project (uv, Poetry, requirements or pyproject.toml; FastAPI, Flask, Django,
/// Celery, commands, packages), says what it found and why, and writes what is missing. Nothing of the
/// project is run. Files that are there and differ stay as they are.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln init                       what is missing is written, what is there stays
  kiln init --diff                what would change; nothing is written
  kiln init --only Dockerfile --only .dockerignore
  kiln init --force               files that differ are replaced")]
pub(crate) struct Init {
    /// The project's directory
    #[arg(value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    /// Show what would change, as a unified diff; write nothing
    #[arg(long)]
    diff: bool,
    /// Replace files that differ (a Makefile of your own gets a line that includes docker.mk)
    #[arg(long, conflicts_with = "diff")]
    force: bool,
    /// Only this file; repeatable
    #[arg(long, value_name = "FILE", value_parser = PossibleValuesParser::new(generate::NAMES))]
    only: Vec<String>,
}

impl Init {
    /// Runs the command.
    pub(crate) fn run(&self, config: &Config) -> Result<(), Failure> {
        let directory = std::fs::canonicalize(&self.directory)
            .map_err(|error| Failure::file("open", &self.directory, error))?;
        let sources = Sources::read(&directory)
            .map_err(|error| Failure::file("read", &self.directory, error))?;
        let name = directory.file_name().map(|name| name.to_string_lossy().into_owned());
        let project = Project::detect(&sources, name.as_deref().unwrap_or("app"))
            .map_err(|(why, help)| Failure::input("init", why).with_help(help))?;
        let files: Vec<File> = generate::files(&project, &sources)
            .into_iter()
            .filter(|file| self.wants(file))
            .collect();
        let known = read(&directory, &files)?;
        if self.diff {
            let changed =
                files.iter().zip(&known).filter(|(file, old)| Some(&file.text) != old.as_ref());
            for (file, old) in changed {
                let lines = render::init::diff(file, old.as_deref(), render::stdout_style(config));
                render::print_lines(&lines);
            }
            return Ok(());
        }
        self.check_dockerfile(&project, &files, &known)?;
        let mut outcomes = Vec::new();
        for (file, old) in files.iter().zip(&known) {
            outcomes.push(Outcome {
                path: file.path,
                fate: self.keep_or_write(&directory, file, old.as_deref())?,
            });
        }
        let mut notes = project.notes.clone();
        notes.extend(self.make(&directory, &sources, &files)?);
        if ["compose.yaml", "compose.yml"].iter().any(|name| sources.has(name)) {
            notes.push("compose reads compose.yaml before docker-compose.yml: name the file with `-f`, as the make targets do".to_owned());
        }
        let lines = render::init::lines(&project, &outcomes, &notes, render::stdout_style(config));
        render::print_lines(&lines);
        Ok(())
    }

    fn wants(&self, file: &File) -> bool {
        let name = if file.path == generate::INCLUDED { "Makefile" } else { file.path };
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    /// Other files name the stages of the Dockerfile: one that lacks them makes all of them useless.
    fn check_dockerfile(
        &self,
        project: &Project,
        files: &[File],
        known: &[Option<String>],
    ) -> Result<(), Failure> {
        let old = files.iter().zip(known).find(|(file, _)| file.path == "Dockerfile");
        let Some((_, Some(old))) = old else { return Ok(()) };
        if self.force {
            return Ok(());
        }
        let Some(missing) = project.stages.iter().find(|stage| !has_stage(old, stage)) else {
            return Ok(());
        };
        let message = format!(
            "there is a Dockerfile already, and it has no stage `{missing}`, which the other files build"
        );
        Err(Failure::input("init", message).with_help(
            "`kiln init --diff` shows all that would change, `kiln init --force` replaces it, `--only FILE` writes single files",
        ))
    }

    fn keep_or_write(
        &self,
        directory: &Path,
        file: &File,
        old: Option<&str>,
    ) -> Result<Fate, Failure> {
        let fate = match old {
            None => Fate::Written,
            Some(old) if old == file.text => return Ok(Fate::Unchanged),
            Some(_) if self.force => Fate::Replaced,
            Some(_) => return Ok(Fate::Kept),
        };
        replace_file(&directory.join(file.path), &file.text)?;
        Ok(fate)
    }

    /// What is to be said, or done with `--force`, where a Makefile of the user's own has to include
    /// the targets.
    fn make(
        &self,
        directory: &Path,
        sources: &Sources,
        files: &[File],
    ) -> Result<Option<String>, Failure> {
        let is_included = files.iter().any(|file| file.path == generate::INCLUDED);
        let names = ["GNUmakefile", "makefile", "Makefile"];
        let Some(name) = names.into_iter().find(|name| is_included && sources.has(name)) else {
            return Ok(None);
        };
        let path = directory.join(name);
        let text =
            std::fs::read_to_string(&path).map_err(|error| Failure::file("read", &path, error))?;
        let includes = |line: &str| line.trim_start_matches('-').trim() == generate::INCLUDE;
        if text.lines().any(includes) {
            return Ok(None);
        }
        if !self.force {
            return Ok(Some(format!(
                "your {name} stays as it is: add the line `{}` to it (`--force` does), or call `make -f {}`",
                generate::INCLUDE,
                generate::INCLUDED,
            )));
        }
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        replace_file(&path, &format!("{text}{end}\n{}\n", generate::INCLUDE))?;
        Ok(Some(format!("the line `{}` was added to your {name}", generate::INCLUDE)))
    }
}

fn has_stage(dockerfile: &str, stage: &str) -> bool {
    dockerfile.lines().any(|line| {
        let words: Vec<String> = line.split_whitespace().map(str::to_ascii_lowercase).collect();
        words.first().is_some_and(|word| word == "from")
            && words.windows(2).any(|pair| pair[0] == "as" && pair[1] == stage)
    })
}

fn read(directory: &Path, files: &[File]) -> Result<Vec<Option<String>>, Failure> {
    let mut known = Vec::new();
    for file in files {
        let path = directory.join(file.path);
        known.push(match std::fs::read(&path) {
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Failure::file("read", &path, error)),
        });
    }
    Ok(known)
}
