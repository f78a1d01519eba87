//! `kiln check`, and how a Dockerfile is judged for it and for `kiln build`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::ValueEnum;
use kiln_core::diagnostic::Diagnostic;
use kiln_core::dockerfile::parse;
use kiln_core::lint::{BaseFacts, LintReport, LintRequest, lint};
use kiln_core::oci::{Platform, media_type};
use kiln_core::pattern::{IgnoreFile, Patterns};
use kiln_core::plan::normalize_context_name;
use kiln_core::source::SourceFile;
use kiln_engine::BuildRequest;

use super::build::context::ContextPlace;
use super::build::dockerfile;
use super::build::options::ContextOption;
use crate::config::Config;
use crate::failure::Failure;
use crate::render;
use crate::render::style::Style;
use crate::session::Session;

/// Judge a Dockerfile without building it
///
/// BuildKit's rules under their own names, and kiln's rules about what makes builds slow; each has
/// a page in docs/rules. `# check=skip=RULE;error=true;experimental=RULE` at the top of the file
/// chooses. The exit code is 1 when there are warnings.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// Directory of the build context
    #[arg(value_name = "CONTEXT", default_value = ".")]
    context: String,
    /// The Dockerfile (default: CONTEXT/Dockerfile; `-` reads standard input)
    #[arg(short, long, value_name = "PATH")]
    file: Option<String>,
    /// Judge only this stage and those that it needs; repeatable
    #[arg(long = "target", value_name = "STAGE", value_delimiter = ',')]
    targets: Vec<String>,
    /// Value of an ARG; repeatable
    #[arg(long = "build-arg", value_name = "NAME=VALUE")]
    build_args: Vec<String>,
    /// Another context that FROM, COPY --from and mounts can name, as for `kiln build`; repeatable
    #[arg(long = "build-context", value_name = "NAME=PLACE")]
    build_contexts: Vec<ContextOption>,
    /// How the result is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    format: ReportFormat,
}

/// `--format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// For people
    Text,
    /// As buildx writes it
    Json,
    /// SARIF 2.1.0, which code hosts show beside the lines
    Sarif,
}

impl Check {
    /// Runs the command.
    pub(crate) fn run(&self, config: &Config) -> Result<(), Failure> {
        let ContextPlace::Directory(context) = ContextPlace::parse(&self.context)? else {
            let message = format!("`kiln check` reads a directory, and no {}", self.context);
            return Err(Failure::usage(message)
                .with_help("`kiln build --check` takes every context that a build takes"));
        };
        let loaded = dockerfile::load(self.file.as_deref(), &context)?;
        let build_args = self.build_args.iter().filter_map(|text| match text.split_once('=') {
            Some((name, value)) => Some((name.to_owned(), value.to_owned())),
            None => Some((text.clone(), config.variables.get(text)?.clone())),
        });
        let judging = Judging {
            source_file: loaded.source_file,
            build_args: build_args.collect(),
            targets: self.targets.clone(),
            named_contexts: self
                .build_contexts
                .iter()
                .map(|option| normalize_context_name(&option.name))
                .collect(),
            platform: Platform::host(),
            ignored: ignored(loaded.ignore_file.as_deref(), &context),
        };
        let judged = judging.judge(config)?;
        render::print_lines(&judged.lines(self.format, render::stdout_style(config)));
        judged.outcome(|report| report.warnings.len())
    }
}

/// The patterns of the ignore file; none if they cannot be read, which the build will tell.
fn ignored(own: Option<&[u8]>, context: &Path) -> Option<Patterns> {
    let bytes = match own {
        Some(bytes) => bytes.to_owned(),
        None => std::fs::read(context.join(".dockerignore")).ok()?,
    };
    IgnoreFile::parse(&bytes).ok()
}

/// What a file is judged with.
pub(crate) struct Judging {
    source_file: SourceFile,
    build_args: BTreeMap<String, String>,
    targets: Vec<String>,
    named_contexts: BTreeSet<String>,
    platform: Platform,
    ignored: Option<Patterns>,
}

impl Judging {
    /// What a build is judged with.
    pub(crate) fn of_build(request: &BuildRequest) -> Self {
        let plan = &request.plan;
        Self {
            source_file: request.dockerfile.clone(),
            build_args: plan.build_args.clone(),
            targets: plan.targets.clone(),
            named_contexts: request.named_contexts.keys().cloned().collect(),
            platform: plan.platforms.first().cloned().unwrap_or_else(Platform::host),
            // A context that is fetched has no ignore file.
            ignored: match plan.context {
                None => ignored(request.ignore_file.as_deref(), &request.context),
                Some(_) => None,
            },
        }
    }

    /// Calls `ask` with what is known; base images are looked up in the store, if there is one.
    pub(crate) fn with_request<T>(
        &self,
        config: &Config,
        ask: impl FnOnce(&LintRequest<'_>) -> T,
    ) -> T {
        let session = std::cell::OnceCell::new();
        let base = |name: &str| {
            let open = || config.root().exists().then(|| Session::open(config).ok()).flatten();
            base_facts(session.get_or_init(open).as_ref()?, name)
        };
        ask(&LintRequest {
            build_args: &self.build_args,
            targets: &self.targets,
            named_contexts: &self.named_contexts,
            platform: &self.platform,
            ignored: self.ignored.as_ref(),
            base: &base,
        })
    }

    /// Judges the file.
    pub(crate) fn judge(&self, config: &Config) -> Result<Judged, Failure> {
        let (file, mut diagnostics) = parse(&self.source_file);
        let report = self
            .with_request(config, |request| lint(&self.source_file, &file, &diagnostics, request))
            .map_err(|diagnostic| Failure::Invalid {
                source_file: self.source_file.clone(),
                diagnostics: vec![diagnostic],
            })?;
        diagnostics.retain(Diagnostic::is_error);
        Ok(Judged { source_file: self.source_file.clone(), errors: diagnostics, report })
    }
}

/// What the store knows of a base image.
fn base_facts(session: &Session, name: &str) -> Option<BaseFacts> {
    let image = session.named_image(name)?;
    let config = &image.config;
    let only_one = !media_type::is_index(&image.descriptor.media_type);
    Some(BaseFacts {
        environment: config.config.env.clone().unwrap_or_default(),
        shell: config.config.shell.clone().unwrap_or_default(),
        platform: only_one.then(|| config.platform()),
    })
}

/// A file with what is wrong and what is questionable in it.
#[derive(Debug)]
pub(crate) struct Judged {
    /// The file.
    pub(crate) source_file: SourceFile,
    /// Why it cannot be built.
    pub(crate) errors: Vec<Diagnostic>,
    /// What the rules found.
    pub(crate) report: LintReport,
}

impl Judged {
    /// The result as lines.
    pub(crate) fn lines(&self, format: ReportFormat, style: Style) -> Vec<String> {
        match format {
            ReportFormat::Text => render::lint::text_lines(self, style),
            ReportFormat::Json => render::lint::json_lines(self),
            ReportFormat::Sarif => render::lint::sarif_lines(self),
        }
    }

    /// A failure if anything counts; it is shown already.
    pub(crate) fn outcome(&self, count: impl Fn(&LintReport) -> usize) -> Result<(), Failure> {
        let problems = self.errors.len() + count(&self.report);
        if problems == 0 { Ok(()) } else { Err(Failure::Problems { problems }) }
    }

    /// A failure if the parser found errors.
    pub(crate) fn check_errors(
        source_file: &SourceFile,
        mut diagnostics: Vec<Diagnostic>,
    ) -> Result<(), Failure> {
        diagnostics.retain(Diagnostic::is_error);
        if diagnostics.is_empty() {
            return Ok(());
        }
        Err(Failure::Invalid { source_file: source_file.clone(), diagnostics })
    }
}
