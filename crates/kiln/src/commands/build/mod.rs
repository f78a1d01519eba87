//! `kiln build`

mod cache_option;
mod call;
pub(crate) mod context;
mod csv;
mod docker_host;
pub(crate) mod dockerfile;
pub(crate) mod lock_option;
pub(crate) mod metadata;
pub(crate) mod options;
mod output_option;
mod request;
mod run_options;
#[cfg(test)]
pub(crate) mod samples;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::ValueEnum;
use kiln_core::event::EventKind;
use kiln_core::oci::Platform;
use kiln_core::plan::{Entitlement, ExtraHost, Network, Ulimit};
use kiln_core::source::SourceFile;
use kiln_engine::{BuildRequest, BuildResult, Destination, Output};

use super::annotation::AnnotationOption;
use super::report;
use crate::config::Config;
use crate::failure::Failure;
use crate::interrupt;
use crate::render;
use crate::render::format::size;
use crate::render::progress::{Display, Mode};
use crate::render::summary::{image_id, summary};
use crate::session::{Session, build_failure};
use cache_option::{CacheFromOption, CacheToOption};
use call::{Call, CallOption};
pub(in crate::commands) use call::{refuse_violations, warnings_of_build};
use options::{Assignment, ContextOption, SecretOption, TagOption, entitlement, network};
use output_option::OutputOption;
pub(crate) use request::{context_kind, named_contexts};
use run_options::{SshOption, extra_host, shm_size, ulimit};

/// Build images from a Dockerfile
///
/// Without `--output` the image goes into kiln's own store under its tag, where `kiln run` and
/// later builds find it. Several targets in one call are built in one plan and share their steps.
#[expect(
    clippy::doc_markdown,
    clippy::struct_field_names,
    reason = "the docs are the help; fields are called like their flags"
)]
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln build -t app:1 .
  kiln build -f docker/web.Dockerfile --build-arg VERSION=1.2 -t web .
  kiln build --target production --target testing -t app .       app:production and app:testing
  kiln build --secret id=token,env=TOKEN --ssh default -t app .
  kiln build --platform linux/amd64,linux/arm64 -t ghcr.io/me/app:1 --push .
  kiln build -o type=local,dest=out --target docs .              files instead of an image
  kiln build -t app:1 --load . && docker run app:1")]
pub(crate) struct Build {
    /// The build context: a directory, a git repository (https://host/x.git#REF:DIR), the URL of an
    /// archive or of a Dockerfile, or `-` (either of them from standard input)
    #[arg(value_name = "CONTEXT")]
    context: String,
    /// The Dockerfile (default: CONTEXT/Dockerfile; `-` reads standard input). In a context that is
    /// fetched, a relative path is one of the context
    #[arg(short, long, value_name = "PATH")]
    file: Option<String>,
    /// Name of the image; repeatable. With several targets each image gets NAME:TARGET
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    tags: Vec<TagOption>,
    /// Stage to build (default: the last); repeatable
    #[arg(
        long = "target",
        value_name = "STAGE",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    targets: Vec<String>,
    /// Value of an ARG; repeatable. NAME alone takes it from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    build_args: Vec<Assignment>,
    /// Another context that FROM, COPY --from and mounts can name: a directory, a git repository,
    /// a URL, oci-layout://DIR[:TAG][@DIGEST] or docker-image://REFERENCE; repeatable
    #[arg(long = "build-context", value_name = "NAME=PLACE")]
    build_contexts: Vec<ContextOption>,
    /// Secret for RUN --mount=type=secret: id=ID[,src=FILE|,env=VARIABLE]; repeatable
    #[arg(long = "secret", value_name = "SECRET")]
    secrets: Vec<SecretOption>,
    /// SSH agent for RUN --mount=type=ssh: default, or ID[=SOCKET|KEY[,KEY]]; repeatable
    #[arg(long = "ssh", value_name = "AGENT")]
    ssh: Vec<SshOption>,
    /// Label of the image; repeatable
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<Assignment>,
    /// Annotation of the image's documents: [PART[,PART]:]KEY=VALUE, where PART is manifest,
    /// manifest-descriptor (each also of one platform: manifest[linux/arm64]), index or
    /// index-descriptor; repeatable
    #[arg(long = "annotation", value_name = "ANNOTATION")]
    annotations: Vec<AnnotationOption>,
    /// Platform to build for; repeatable [env: DOCKER_DEFAULT_PLATFORM]
    #[arg(long = "platform", value_name = "OS/ARCH", value_delimiter = ',')]
    platforms: Vec<Platform>,
    /// Run every step, whatever was built before
    #[arg(long)]
    no_cache: bool,
    /// Run every step of a stage, whatever was built before; repeatable
    #[arg(
        long = "no-cache-filter",
        value_name = "STAGE",
        value_delimiter = ',',
        conflicts_with = "no_cache"
    )]
    no_cache_filter: Vec<String>,
    /// Shared cache that answers for what this machine has not built: type=registry,ref=NAME,
    /// type=local,src=DIR, type=s3,bucket=NAME, type=gha, type=azblob,account_url=URL, or NAME;
    /// repeatable
    #[arg(long = "cache-from", value_name = "CACHE")]
    cache_from: Vec<CacheFromOption>,
    /// Shared cache to write: type=registry,ref=NAME, type=local,dest=DIR, type=inline,
    /// type=s3,bucket=NAME, type=gha or type=azblob,account_url=URL; with mode=max also steps that
    /// the image has no layer of; repeatable
    #[arg(long = "cache-to", value_name = "CACHE")]
    cache_to: Vec<CacheToOption>,
    /// Ask registries where tags point now; what is locked stays
    #[arg(long)]
    pull: bool,
    /// Refuse images, files and git references that are not in the lock file
    #[arg(long, conflicts_with = "no_lock")]
    locked: bool,
    /// Do as if there were no lock file
    #[arg(long, conflicts_with = "lock_file")]
    no_lock: bool,
    /// The lock file, which `kiln lock` writes (default: CONTEXT/kiln.lock, if it is there)
    #[arg(long, value_name = "FILE")]
    lock_file: Option<PathBuf>,
    /// Network of RUN: default (the host's), host or none
    #[arg(long, value_name = "MODE", default_value = "default", value_parser = network, hide_default_value = true)]
    network: Network,
    /// Line of /etc/hosts for RUN; ADDRESS may be host-gateway; repeatable
    #[arg(long = "add-host", value_name = "NAME:ADDRESS", value_parser = extra_host)]
    extra_hosts: Vec<ExtraHost>,
    /// Limit of RUN, as setrlimit names it; repeatable
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]", value_parser = ulimit)]
    ulimits: Vec<Ulimit>,
    /// Size of /dev/shm for RUN, e.g. 128m
    #[arg(long, value_name = "BYTES", value_parser = shm_size)]
    shm_size: Option<u64>,
    /// Let the Dockerfile use what it must not by default: network.host, security.insecure
    #[arg(long, value_name = "ENTITLEMENT", value_delimiter = ',', value_parser = entitlement)]
    allow: Vec<Entitlement>,
    /// Show RUN the host's CA certificates (or FILE) from outside the image [env: KILN_HOST_CA]
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    #[expect(clippy::option_option, reason = "a flag whose value is optional")]
    host_ca: Option<Option<PathBuf>>,
    /// Where the result goes: type=oci,dest=FILE, type=oci,tar=false,dest=DIR,
    /// type=docker,dest=FILE (for `docker load`), type=local,dest=DIR, type=tar,dest=FILE, or DIR;
    /// `-` is standard output; type=registry, type=image[,push=true], type=docker (Docker's engine),
    /// type=podman, type=containerd[,namespace=NAME]; repeatable
    #[arg(short, long = "output", value_name = "OUTPUT")]
    outputs: Vec<OutputOption>,
    /// Load the image into Docker's engine [env: DOCKER_HOST]; the same as --output=type=docker
    #[arg(long)]
    load: bool,
    /// Send the image to the registry of its tag; the same as --output=type=registry
    #[arg(long)]
    push: bool,
    /// Judge the Dockerfile, build nothing; the same as --call=check
    #[arg(long, conflicts_with = "call")]
    check: bool,
    /// What to do: build, check, outline or targets; `,format=json` after it writes JSON
    #[arg(long, value_name = "METHOD", default_value = "build", hide_default_value = true)]
    call: CallOption,
    /// How progress is shown [env: BUILDKIT_PROGRESS]
    #[arg(long, value_enum, value_name = "MODE")]
    progress: Option<ProgressOption>,
    /// Show no progress; print the image's id
    #[arg(short, long)]
    quiet: bool,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Fail when builds take more than [budget] of kiln.toml says: medians of the last ones
    #[arg(long)]
    budget: bool,
    /// Write what was built to a JSON file
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
    /// The Dockerfile's text, when it is in a bake file.
    #[arg(skip)]
    pub(in crate::commands) inline: Option<SourceFile>,
}

/// `--progress`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::commands) enum ProgressOption {
    /// Live on a terminal, else plain
    Auto,
    /// Live, in place
    Tty,
    /// A log that is stable and can be searched
    Plain,
    /// JSON lines, as buildx writes them
    Rawjson,
    /// Nothing
    Quiet,
}

/// Cleans up behind a build. What goes wrong here is not the build's failure.
fn make_room(session: &Session, mode: Mode, config: &Config) {
    let lines = match session.settle_build(config) {
        Ok(None) => return,
        Ok(Some(pruned)) => {
            let freed = size(pruned.freed_bytes);
            vec![format!("{freed} of cache were removed (`kiln cache info` says what is kept)")]
        }
        Err(failure) => vec![format!("warning: no room was made in the cache: {failure}")],
    };
    if matches!(mode, Mode::Tty | Mode::Plain) {
        render::note_lines(&lines);
    }
}

impl Build {
    /// Runs the command.
    pub(crate) fn run(&self, config: &Config) -> Result<(), Failure> {
        if let Some(call) = self.call() {
            return self.run_call(call, config);
        }
        let mode = self.mode(config)?;
        let (request, warnings) = self.request(config)?;
        refuse_violations(&request, config)?;
        let cancelled = interrupt::watch(mode)?;
        let session = Session::open(config)?;
        let result = build((&session, &request), (&warnings, mode), config, &cancelled);
        let outcome = result.and_then(|result| self.tell(&result, (&session, &request), mode));
        make_room(&session, mode, config);
        outcome?;
        if self.budget { report::check_budget(&session, config) } else { Ok(()) }
    }

    /// Writes and says what came of the build.
    fn tell(
        &self,
        result: &BuildResult,
        (session, request): (&Session, &BuildRequest),
        mode: Mode,
    ) -> Result<(), Failure> {
        self.write_files(result)?;
        if self.quiet || mode == Mode::Quiet {
            let writes_stdout = request.outputs.iter().any(is_stdout);
            let ids = result.targets.iter().filter_map(image_id);
            if self.quiet && !writes_stdout {
                render::print_lines(&ids.collect::<Vec<_>>());
            }
        } else if mode != Mode::RawJson {
            render::note_lines(&summary(result, &request.outputs));
            render::note_lines(&warnings_of_build(request, session)?);
        }
        Ok(())
    }

    /// What is asked for instead of a build.
    pub(in crate::commands) fn call(&self) -> Option<Call> {
        if self.check { Some(Call::CHECK) } else { self.call.0 }
    }

    fn mode(&self, config: &Config) -> Result<Mode, Failure> {
        if self.quiet {
            return Ok(Mode::Quiet);
        }
        progress_mode(self.progress, config)
    }

    fn write_files(&self, result: &BuildResult) -> Result<(), Failure> {
        if let Some(path) = &self.metadata_file {
            let document = metadata::metadata(result);
            write(path, &format!("{document:#}\n"))?;
        }
        if let (Some(path), [target]) = (&self.iidfile, result.targets.as_slice()) {
            let id = image_id(target).ok_or_else(|| {
                Failure::usage("`--iidfile` needs an image, and only files were made")
            })?;
            write(path, &id)?;
        }
        Ok(())
    }
}

pub(in crate::commands) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| Failure::file("write", path, error))
}

fn is_stdout(output: &Output) -> bool {
    output.destination() == Some(Destination::Stdout)
}

/// Builds while progress is shown.
fn build(
    (session, request): (&Session, &BuildRequest),
    (warnings, mode): (&[String], Mode),
    config: &Config,
    cancelled: &Arc<AtomicBool>,
) -> Result<BuildResult, Failure> {
    let display = Display::start(mode, render::stderr_style(config))
        .map_err(|error| Failure::environment(format!("no thread can be started: {error}")))?;
    for warning in warnings {
        display.sink().emit(EventKind::Warning(warning.clone()));
    }
    let result = session.build(request, display.sink(), cancelled);
    display.finish();
    if matches!(mode, Mode::Tty | Mode::Plain) {
        // What comes next, a summary or an error, stands apart.
        render::note_lines(&[String::new()]);
    }
    result.map_err(|error| build_failure(error, &request.dockerfile))
}

/// How progress is shown, by the option or the environment.
pub(in crate::commands) fn progress_mode(
    option: Option<ProgressOption>,
    config: &Config,
) -> Result<Mode, Failure> {
    let named = match (option, config.variable("BUILDKIT_PROGRESS")) {
        (Some(option), _) => option,
        (None, None) => ProgressOption::Auto,
        (None, Some(text)) => ProgressOption::from_str(text, true).map_err(|_| {
            Failure::usage(format!("BUILDKIT_PROGRESS=`{text}` is not possible"))
                .with_help("it is auto, tty, plain, rawjson or quiet")
        })?,
    };
    let live = render::terminal::stderr_is_terminal() && !config.is_dumb_terminal();
    Ok(match named {
        ProgressOption::Auto if live => Mode::Tty,
        ProgressOption::Auto | ProgressOption::Plain => Mode::Plain,
        ProgressOption::Tty => Mode::Tty,
        ProgressOption::Rawjson => Mode::RawJson,
        ProgressOption::Quiet => Mode::Quiet,
    })
}
