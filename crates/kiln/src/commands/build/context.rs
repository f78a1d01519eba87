//! The build context: a directory, standard input, or something that is fetched; and the
//! Dockerfile that goes with it. What is told from what, and which combinations there are, is as
//! with buildx.

use std::io;
use std::path::{Path, PathBuf};

use kiln_core::dockerfile::parse_bool;
use kiln_core::git_source::{GitAddress, GitTimes};
use kiln_core::plan::{GitDir, GitSource, RemoteFiles};
use kiln_core::source::SourceFile;
use kiln_engine::{BuildRequest, ContextAddress, FetchedContext, StandardInput};

use super::dockerfile::{self, Loaded};
use super::{Build, request::directory};
use crate::config::Config;
use crate::failure::Failure;
use crate::interrupt;
use crate::render;
use crate::render::progress::Display;
use crate::session::Session;

/// Where a context is, as the command line says it.
#[derive(Clone, Debug)]
pub(crate) enum ContextPlace {
    /// A directory.
    Directory(PathBuf),
    /// `-`
    Stdin,
    /// A git repository.
    Git(GitAddress),
    /// A file of the web.
    Url(String),
}

/// A context and its Dockerfile.
struct Found {
    directory: PathBuf,
    files: Option<RemoteFiles>,
    loaded: Loaded,
    fetched: Option<FetchedContext>,
}

impl ContextPlace {
    /// Reads the argument CONTEXT.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        if text == "-" {
            return Ok(Self::Stdin);
        }
        let path = Path::new(text);
        if path.is_dir() {
            return Ok(Self::Directory(path.to_owned()));
        }
        match GitAddress::parse(text) {
            Ok(Some(address)) => Ok(Self::Git(address)),
            Ok(None) if is_url(text) => Ok(Self::Url(text.to_owned())),
            Ok(None) => directory("the context", path).map(Self::Directory),
            Err(error) => Err(Failure::usage(format!("the context {text}: {error}"))),
        }
    }
}

impl Build {
    /// Completes a request by its context and Dockerfile.
    pub(super) fn add_context(
        &self,
        mut request: BuildRequest,
        place: ContextPlace,
        config: &Config,
    ) -> Result<BuildRequest, Failure> {
        let found = match place {
            ContextPlace::Directory(directory) => self.in_directory(directory, &request, config)?,
            ContextPlace::Stdin => self.in_stdin(&request, config)?,
            ContextPlace::Git(address) => {
                let mut source = git_source(address, &request);
                // A build with an epoch dates the files by their commit.
                if request.plan.epoch.is_some() || self.epoch_of_context(config) {
                    source.times = GitTimes::Commit;
                }
                self.fetched(&ContextAddress::Git(source), &request, config)?
            }
            ContextPlace::Url(url) => self.fetched(&ContextAddress::Url(url), &request, config)?,
        };
        request.lock = self.lock(&found.directory, found.fetched.as_ref())?;
        request.dockerfile = found.loaded.source_file;
        request.ignore_file = found.loaded.ignore_file;
        request.context = found.directory;
        request.plan.context = found.files;
        if let Some(fetched) = found.fetched {
            request.git_references = fetched.git_references;
            if self.epoch_of_context(config)
                && let Some(modified) = fetched.modified_unix
            {
                let value = modified.to_string();
                request.plan.build_args.insert("SOURCE_DATE_EPOCH".to_owned(), value);
                request.plan.epoch = Some(modified);
            }
        }
        Ok(request)
    }

    fn in_directory(
        &self,
        directory: PathBuf,
        request: &BuildRequest,
        config: &Config,
    ) -> Result<Found, Failure> {
        let file = self.file.as_deref();
        let loaded = match file.filter(|file| is_url(file)) {
            _ if self.inline.is_some() => self.loaded_inline(),
            Some(url) => self.dockerfile_of_url(url, request, config)?,
            None => dockerfile::load(file, &directory)?,
        };
        Ok(Found { directory, files: None, loaded, fetched: None })
    }

    /// The Dockerfile that a bake file holds.
    fn loaded_inline(&self) -> Loaded {
        let source_file = self.inline.clone();
        let source_file = source_file.unwrap_or_else(|| SourceFile::new("Dockerfile", ""));
        Loaded { source_file, ignore_file: None }
    }

    fn dockerfile_of_url(
        &self,
        url: &str,
        request: &BuildRequest,
        config: &Config,
    ) -> Result<Loaded, Failure> {
        let fetched = self.fetch(&ContextAddress::Url(url.to_owned()), request, config)?;
        if !fetched.is_file() {
            return Err(Failure::input("no-dockerfile", format!("{url} is no Dockerfile")));
        }
        read_file(&fetched, kiln_core::plan::CONTEXT_FILE, "Dockerfile")
    }

    fn in_stdin(&self, request: &BuildRequest, config: &Config) -> Result<Found, Failure> {
        if self.file.as_deref() == Some("-") {
            let message = "can't use stdin for both build context and dockerfile";
            return Err(Failure::usage(message));
        }
        let session = Session::open(config)?;
        let bytes = match session.keep_input(&mut io::stdin().lock())? {
            StandardInput::Archive(files) => {
                return self.fetched(&ContextAddress::Kept(files), request, config);
            }
            StandardInput::Empty => {
                let message =
                    "standard input is empty: there is neither an archive nor a Dockerfile";
                return Err(Failure::input("context", message));
            }
            StandardInput::Text(bytes) => bytes,
        };
        if self.file.is_some() {
            let message =
                "ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles";
            return Err(Failure::usage(message)
                .with_help("standard input is no archive; `-f -` with a directory reads the Dockerfile from there"));
        }
        let source_file = SourceFile::from_bytes("<stdin>", &bytes);
        let loaded = Loaded { source_file, ignore_file: None };
        let files = Some(RemoteFiles::Nothing);
        Ok(Found { directory: PathBuf::new(), files, loaded, fetched: None })
    }

    /// A context that is fetched, with the Dockerfile in it, or with one of this machine.
    fn fetched(
        &self,
        address: &ContextAddress,
        request: &BuildRequest,
        config: &Config,
    ) -> Result<Found, Failure> {
        let fetched = self.fetch(address, request, config)?;
        let file = self.file.as_deref();
        let loaded = match file {
            _ if self.inline.is_some() => self.loaded_inline(),
            Some("-") => dockerfile::load(file, Path::new(""))?,
            Some(path) if path.starts_with('/') => dockerfile::load(file, Path::new(""))?,
            Some(url) if is_url(url) => self.dockerfile_of_url(url, request, config)?,
            _ if fetched.is_file() => {
                read_file(&fetched, kiln_core::plan::CONTEXT_FILE, "Dockerfile")?
            }
            Some(path) => read_file(&fetched, path, path)?,
            None => match read_file(&fetched, "Dockerfile", "Dockerfile") {
                Err(failure) => {
                    let lower = read_file(&fetched, "dockerfile", "dockerfile");
                    lower.map_err(|_| failure)?
                }
                loaded => loaded?,
            },
        };
        let files = Some(fetched.files.clone());
        Ok(Found { directory: PathBuf::new(), files, loaded, fetched: Some(fetched) })
    }

    /// Fetches while progress is shown.
    fn fetch(
        &self,
        address: &ContextAddress,
        request: &BuildRequest,
        config: &Config,
    ) -> Result<FetchedContext, Failure> {
        let mode = self.mode(config)?;
        let cancelled = interrupt::watch(mode)?;
        let session = Session::open(config)?;
        let display = Display::start(mode, render::stderr_style(config))
            .map_err(|error| Failure::environment(format!("no thread can be started: {error}")))?;
        let result = session.fetch_context((request, address), display.sink(), &cancelled);
        display.finish();
        result
    }

    /// Whether `SOURCE_DATE_EPOCH=context` asks for the time of the context.
    fn epoch_of_context(&self, config: &Config) -> bool {
        let value = self.build_args(config).remove("SOURCE_DATE_EPOCH");
        value.is_some_and(|value| value == "context")
    }
}

/// What is taken of a repository that is the context.
fn git_source(address: GitAddress, request: &BuildRequest) -> GitSource {
    let args = &request.plan.build_args;
    let mut source = GitSource::from(address);
    if args
        .get("BUILDKIT_CONTEXT_KEEP_GIT_DIR")
        .is_some_and(|value| parse_bool(value) == Some(true))
    {
        source.git_dir = GitDir::Keep;
    }
    source
}

/// Reads a Dockerfile of a fetched context.
fn read_file(context: &FetchedContext, path: &str, name: &str) -> Result<Loaded, Failure> {
    let name = name.strip_prefix("./").unwrap_or(name);
    let read = context.read(path).map_err(|error| Failure::environment(error.to_string()))?;
    let Some(bytes) = read else {
        let message = format!(
            "failed to read dockerfile: open {name}: no such file or directory in the context"
        );
        return Err(Failure::input("no-dockerfile", message)
            .with_help("`-f PATH` names a Dockerfile elsewhere in the context"));
    };
    let source_file = SourceFile::from_bytes(name, &bytes);
    Ok(Loaded { source_file, ignore_file: None })
}

/// Whether a text is the address of a file of the web.
pub(super) fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}
