//! `kiln check`: what is wrong and what is questionable in Dockerfiles, and rewriting it.

mod fixing;
mod judging;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
pub(crate) use judging::{Judged, Judging, Known};
use kiln_core::oci::Platform;
use kiln_core::plan::{PlanRequest, PlatformChoice, ResultLayout, RunOptions};

use super::build::context::ContextPlace;
use super::build::options::ContextOption;
use super::build::{context_kind, dockerfile, named_contexts};
use crate::config::Config;
use crate::failure::Failure;
use crate::render;

/// Judge Dockerfiles without building them
///
/// BuildKit's rules under their own names, and kiln's rules about what makes builds slow; each has
/// a page in docs/rules. `# check=skip=RULE;error=true;experimental=RULE` at the top of a file
/// chooses. The exit code is 1 when there are warnings.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln check                                  the Dockerfile of this directory
  kiln check services/api services/worker     several at once
  kiln check --diff                           what --fix would write
  kiln check --format sarif > check.sarif     for code hosts")]
pub(crate) struct Check {
    /// Directories of build contexts, or Dockerfiles
    #[arg(value_name = "PATH", default_value = ".")]
    paths: Vec<PathBuf>,
    /// The Dockerfile of the one context (default: PATH/Dockerfile; `-` reads standard input)
    #[arg(short, long, value_name = "PATH")]
    file: Option<String>,
    /// Judge only this stage and those that it needs; repeatable
    #[arg(long = "target", value_name = "STAGE", value_delimiter = ',')]
    targets: Vec<String>,
    /// Value of an ARG; repeatable
    #[arg(long = "build-arg", value_name = "NAME=VALUE")]
    build_args: Vec<String>,
    /// What FROM and --from of a name mean; repeatable
    #[arg(long = "build-context", value_name = "NAME=PLACE")]
    build_contexts: Vec<ContextOption>,
    /// The platform that is built for
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// How the result is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    format: ReportFormat,
    /// Rewrite what can be rewritten safely, and show it as a diff
    #[arg(long)]
    fix: bool,
    /// Only show what --fix would write; the exit code is 1 if it is anything
    #[arg(long)]
    diff: bool,
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
        if self.file.is_some() && self.paths.len() > 1 {
            let message = "--file names the Dockerfile of one context";
            return Err(Failure::usage(message.to_owned())
                .with_help("give the paths of several Dockerfiles without --file"));
        }
        let mut all = Vec::new();
        for path in &self.paths {
            all.push(self.judging(path, config)?);
        }
        if self.diff {
            return fixing::show(&all, config);
        }
        if self.fix {
            fixing::write(&mut all, self.format, config)?;
        }
        let judged: Result<Vec<Judged>, Failure> =
            all.iter().map(|judging| judging.judge_fully(config)).collect();
        let judged = judged?;
        let style = render::stdout_style(config);
        render::print_lines(&render::lint::report_lines(&judged, self.format, style));
        Judged::outcome(&judged, |report| report.warnings.len())
    }

    /// What the Dockerfile that a path means is judged with.
    fn judging(&self, path: &Path, config: &Config) -> Result<Judging, Failure> {
        if !path.exists()
            && let Some(text) = path.to_str()
            && !matches!(ContextPlace::parse(text)?, ContextPlace::Directory(_))
        {
            let message = format!("`kiln check` reads files and directories, and no {text}");
            return Err(Failure::usage(message)
                .with_help("`kiln build --check` takes every context that a build takes"));
        }
        let is_file = self.file.is_none() && path.is_file();
        let named = path.to_str().filter(|_| is_file);
        let context = match path.parent() {
            Some(parent) if is_file && parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) if is_file => parent,
            _ => path,
        };
        let loaded = dockerfile::load(named.or(self.file.as_deref()), context)?;
        let build_args = self.build_args.iter().filter_map(|text| match text.split_once('=') {
            Some((name, value)) => Some((name.to_owned(), value.to_owned())),
            None => Some((text.clone(), config.variables.get(text)?.clone())),
        });
        let named_contexts = named_contexts(&self.build_contexts)?;
        let kinds = named_contexts.iter();
        let kinds = kinds.map(|(name, place)| (name.clone(), context_kind(place)));
        Ok(Judging {
            source_file: loaded.source_file,
            plan: PlanRequest {
                targets: self.targets.clone(),
                platforms: vec![self.platform.clone().unwrap_or_else(Platform::host)],
                build_platform: Platform::host(),
                build_args: build_args.collect(),
                labels: BTreeMap::new(),
                context: None,
                named_contexts: kinds.collect(),
                entitlements: BTreeSet::new(),
                epoch: None,
                platform_choice: PlatformChoice::default(),
                layout: ResultLayout::default(),
                run: RunOptions::default(),
                no_cache_stages: BTreeSet::new(),
            },
            named_contexts,
            ignored: judging::ignored(loaded.ignore_file.as_deref(), context),
            targets: self.targets.clone(),
        })
    }
}
