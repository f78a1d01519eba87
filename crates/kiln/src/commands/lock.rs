//! `kiln lock`: writes down what references stand for, so that later builds use the same.

use std::path::PathBuf;

use clap::Parser;
use kiln_core::diagnostic::did_you_mean;
use kiln_core::lock_file::{Change, LockFile, Upgrade, changes, is_named};
use kiln_core::plan::ALL_STAGES;
use kiln_engine::BuildRequest;

use super::build::context::ContextPlace;
use super::build::{Build, lock_option};
use super::transfer::watched;
use super::whole_file::replace_file;
use crate::config::Config;
use crate::failure::Failure;
use crate::render;

/// How many combinations of build arguments are looked at.
const COMBINATIONS: usize = 64;

/// Write down what images, files and git references of Dockerfiles stand for
///
/// The file, kiln.lock in the context's directory, holds the digest of every image that FROM, COPY
/// --from, mounts and named contexts name (with all its platforms), of every file that ADD
/// downloads, and the commit of every git reference. `kiln build` uses it when it is there: nobody is
/// asked where a name points, and what differs is an error.
///
/// What is locked stays as it is until `--upgrade` moves it; what the Dockerfiles do not refer to any
/// more is dropped. References with variables are locked for the arguments and platforms given.
#[expect(
    clippy::doc_markdown,
    clippy::struct_field_names,
    reason = "the docs are the help; fields are called like their flags"
)]
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln lock                                   lock what is new, drop what is gone
  kiln lock --upgrade                         take what is there now, and show what moved
  kiln lock --upgrade=debian:13-slim          only that image
  kiln lock --check                           exit code 1 when it is out of date
  kiln lock -f Dockerfile -f web.Dockerfile --platform linux/amd64,linux/arm64
  kiln lock --build-arg PYTHON=3.12 --build-arg PYTHON=3.13")]
pub(crate) struct Lock {
    /// The build context, as of `kiln build`
    #[arg(value_name = "CONTEXT", default_value = ".")]
    context: String,
    /// A Dockerfile (default: CONTEXT/Dockerfile); repeatable
    #[arg(short, long = "file", value_name = "PATH")]
    files: Vec<String>,
    /// Stage, with those that it needs (default: all of them); repeatable
    #[arg(long = "target", value_name = "STAGE", value_delimiter = ',')]
    targets: Vec<String>,
    /// Value of an ARG; repeatable, and a name that is given several times stands for each of its
    /// values
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    build_args: Vec<String>,
    /// Another context, as of `kiln build`; repeatable
    #[arg(long = "build-context", value_name = "NAME=PLACE")]
    build_contexts: Vec<String>,
    /// Platform that is built for; repeatable
    #[arg(long = "platform", value_name = "OS/ARCH", value_delimiter = ',')]
    platforms: Vec<String>,
    /// Secret, such as id=GIT_AUTH_TOKEN for git repositories; repeatable
    #[arg(long = "secret", value_name = "SECRET")]
    secrets: Vec<String>,
    /// The lock file (default: CONTEXT/kiln.lock)
    #[arg(long, value_name = "FILE")]
    lock_file: Option<PathBuf>,
    /// Take what is there now, of everything or of what REF names: an image with or without its tag,
    /// a URL, or a git repository with or without #REF; repeatable
    #[arg(long, value_name = "REF", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    upgrade: Vec<String>,
    /// Keep what is locked and was not met
    #[arg(long)]
    keep: bool,
    /// Write nothing; the exit code is 1 if the file would change
    #[arg(long)]
    check: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

/// The options of a build, where there is no command line.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, args_override_self = true)]
struct BuildOptions {
    #[command(flatten)]
    build: Build,
}

impl Lock {
    /// Runs the command.
    pub(crate) fn run(&self, config: &Config) -> Result<(), Failure> {
        let path = self.place()?;
        let name = lock_option::shown(&path);
        let upgrade = self.upgrade();
        let text = lock_option::read(&path)?;
        let known = match &text {
            None => LockFile::default(),
            Some(bytes) => lock_option::parse(&name, bytes)?,
        };
        let requests = self.requests(config)?;
        let locked = watched(config, self.quiet, |session, watching| {
            let mut locked = LockFile::default();
            for request in &requests {
                session.lock(request, (&known, &upgrade), &mut locked, watching)?;
            }
            Ok(locked)
        });
        let mut locked = locked?;
        self.check_names(&locked)?;
        if self.keep {
            locked.extend(&known);
        }
        let changes = changes(&known, &locked);
        render::print_lines(&render::lock::lines(&changes));
        if changes.is_empty() && text.is_some() {
            self.note(&format!("{name} is up to date"));
            return Ok(());
        }
        if self.check {
            return Err(Failure::input("lock-file", format!("{name} is out of date"))
                .with_help("the same command without `--check` writes it"));
        }
        replace_file(&path, &locked.to_text())?;
        self.note(&summary(&name, &locked, &changes));
        Ok(())
    }

    fn note(&self, line: &str) {
        if !self.quiet {
            render::note_lines(&[line.to_owned()]);
        }
    }

    /// Where the file is.
    fn place(&self) -> Result<PathBuf, Failure> {
        match (&self.lock_file, ContextPlace::parse(&self.context)?) {
            (_, ContextPlace::Stdin) => {
                Err(Failure::usage("`kiln lock` reads no context from standard input"))
            }
            (Some(path), _) => Ok(path.clone()),
            (None, ContextPlace::Directory(directory)) => Ok(lock_option::place(&directory)),
            (None, _) => Err(Failure::usage("a context that is fetched has no place for a file")
                .with_help("name it with `--lock-file FILE`")),
        }
    }

    fn upgrade(&self) -> Upgrade {
        if self.upgrade.is_empty() {
            return Upgrade::Nothing;
        }
        if self.upgrade.iter().any(String::is_empty) {
            return Upgrade::All;
        }
        Upgrade::Named(self.upgrade.clone())
    }

    /// What `--upgrade` names has to be there.
    fn check_names(&self, locked: &LockFile) -> Result<(), Failure> {
        for text in self.upgrade.iter().filter(|text| !text.is_empty()) {
            if locked.names().any(|name| is_named(name, text)) {
                continue;
            }
            let message = format!("`--upgrade={text}`: the Dockerfiles refer to no such thing");
            let failure = Failure::usage(message);
            return Err(match did_you_mean(text, locked.names()) {
                Some(near) => failure.with_help(format!("did you mean `--upgrade={near}`?")),
                None => failure.with_help("names are those of the lock file"),
            });
        }
        Ok(())
    }

    /// The builds whose references are locked: each file with each combination of arguments.
    fn requests(&self, config: &Config) -> Result<Vec<BuildRequest>, Failure> {
        let mut requests = Vec::new();
        let files: Vec<Option<&String>> = match self.files.as_slice() {
            [] => vec![None],
            files => files.iter().map(Some).collect(),
        };
        for arguments in self.combinations()? {
            for file in &files {
                let (mut request, _) = self.build(*file, &arguments)?.request(config)?;
                if self.targets.is_empty() {
                    request.plan.targets = vec![ALL_STAGES.to_owned()];
                }
                requests.push(request);
            }
        }
        Ok(requests)
    }

    /// A build as its own command line would say it.
    fn build(&self, file: Option<&String>, arguments: &[&String]) -> Result<Build, Failure> {
        let mut words: Vec<String> = vec!["--no-lock".to_owned()];
        let mut add = |flag: &str, value: &str| words.push(format!("{flag}={value}"));
        if let Some(file) = file {
            add("--file", file);
        }
        let lists: [(&str, Vec<&String>); 5] = [
            ("--build-arg", arguments.to_vec()),
            ("--target", self.targets.iter().collect()),
            ("--build-context", self.build_contexts.iter().collect()),
            ("--platform", self.platforms.iter().collect()),
            ("--secret", self.secrets.iter().collect()),
        ];
        for (flag, values) in lists {
            for value in values {
                add(flag, value);
            }
        }
        if self.quiet {
            words.push("--quiet".to_owned());
        }
        words.extend(["--".to_owned(), self.context.clone()]);
        let parsed = BuildOptions::try_parse_from(words);
        parsed.map(|options| options.build).map_err(|error| {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            Failure::usage(line.strip_prefix("error: ").unwrap_or(line))
        })
    }

    /// Each way to choose one value for each name.
    fn combinations(&self) -> Result<Vec<Vec<&String>>, Failure> {
        let mut names: Vec<(&str, Vec<&String>)> = Vec::new();
        for argument in &self.build_args {
            let name = argument.split('=').next().unwrap_or_default();
            match names.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) if values.contains(&argument) => {}
                Some((_, values)) => values.push(argument),
                None => names.push((name, vec![argument])),
            }
        }
        let mut combinations: Vec<Vec<&String>> = vec![Vec::new()];
        for (_, values) in &names {
            if combinations.len() * values.len() > COMBINATIONS {
                return Err(Failure::usage(format!(
                    "the build arguments have more than {COMBINATIONS} combinations"
                ))
                .with_help("lock some of them at a time, with `--keep`"));
            }
            let mut more = Vec::new();
            for value in values {
                for one in &combinations {
                    more.push([one.as_slice(), &[*value]].concat());
                }
            }
            combinations = more;
        }
        Ok(combinations)
    }
}

fn summary(name: &str, locked: &LockFile, changes: &[Change]) -> String {
    let count = |count: usize, one: &str, several: &str| {
        format!("{count} {}", if count == 1 { one } else { several })
    };
    format!(
        "{name}: {}, {}, {}; {}",
        count(locked.images.len(), "image", "images"),
        count(locked.files.len(), "file", "files"),
        count(locked.git.len(), "git reference", "git references"),
        count(changes.len(), "change", "changes"),
    )
}
