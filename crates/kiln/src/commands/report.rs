//! `kiln report`: how the builds of a project perform.

use clap::ValueEnum;
use kiln_core::event::Outcome;
use kiln_core::performance::{Judgement, judge, performance};
use kiln_core::report::{BuildReport, Place};
use serde_json::json;

use super::explain::choice::BuildChoice;
use crate::config::Config;
use crate::failure::Failure;
use crate::render;
use crate::render::report::{
    Comparison, Reported, compared, judgement_lines, markdown, page, text,
};
use crate::session::Session;
use crate::settings;

/// All builds that are kept.
const ALL: usize = 1_000_000;
/// Builds that a budget is held against.
const JUDGED_BUILDS: usize = 100;
/// Runs of `kiln bench` that are shown.
const BENCHMARKS: usize = 3;

/// Show how builds perform: trends, hit rates, what invalidates most, slowest steps, budgets
///
/// Of the project in the directory that kiln is started in, else of that of the last build. A build is
/// clean if the cache had nothing, cached if it had all, and an edit else; times are medians of the last 5.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln report                                 in the terminal
  kiln report --format html > report.html
  kiln report --format markdown >> $GITHUB_STEP_SUMMARY
  kiln report --check                         exit code 1 if a budget of kiln.toml is not kept
  kiln report --compare @1 @                  two builds, step by step")]
pub(crate) struct Report {
    /// Of the last so many builds
    #[arg(short = 'n', long, value_name = "NUMBER", default_value = "100")]
    last: usize,
    /// Of this project: a part of the path of its Dockerfile or context
    #[arg(long, value_name = "TEXT")]
    project: Option<String>,
    /// Of builds of this target alone
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
    /// How it is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    format: Format,
    /// Fail if a budget of kiln.toml ([budget]) is not kept
    #[arg(long)]
    check: bool,
    /// Two builds, or the last ones of two commits, step by step
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with_all = ["check", "last", "target"])]
    compare: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For summaries of CI
    Markdown,
    /// One page, with nothing that is loaded from elsewhere
    Html,
    /// One JSON document
    Json,
}

impl Report {
    /// Runs the command.
    pub(crate) fn run(&self, config: &Config) -> Result<(), Failure> {
        let session = Session::open(config)?;
        if let Some([a, b]) = self.compare.as_deref() {
            return self.run_compare(&session, (a, b), config);
        }
        let builds = self.builds(&session, config)?;
        let performance = performance(&builds);
        let judgements = judge(&performance, &settings::budget(config, &targets(&builds[..1]))?);
        // Of the build whose images are shown.
        let shown = builds.iter().find(|build| build.outcome == Outcome::Done);
        let contents = shown.map(|build| session.contents(build)).unwrap_or_default();
        let benchmarks = session.last_benchmarks(Some(&builds[0].place), BENCHMARKS)?;
        let report = Reported {
            performance: &performance,
            judgements: &judgements,
            contents: &contents,
            benchmarks: &benchmarks,
            dockerfile: &builds[0].place.dockerfile,
        };
        render::print_lines(&match self.format {
            Format::Text => text(&report, render::stdout_style(config)),
            Format::Markdown => markdown(&report),
            Format::Html => vec![page(&report)],
            Format::Json => vec![document(&report)],
        });
        if self.check { refuse_broken(&judgements) } else { Ok(()) }
    }

    /// The builds that the report is about, with their steps.
    fn builds(&self, session: &Session, config: &Config) -> Result<Vec<BuildReport>, Failure> {
        let here = std::fs::canonicalize(&config.working_directory).unwrap_or_default();
        let here = here.display().to_string();
        let is_here = |build: &BuildReport| build.place.context.starts_with(&here);
        let is_named = |build: &BuildReport, text: &str| {
            build.place.dockerfile.contains(text) || build.place.context.contains(text)
        };
        let first = |all: &[BuildReport]| {
            let found = match &self.project {
                Some(text) => all.iter().find(|build| is_named(build, text)),
                None => all.iter().find(|build| is_here(build)).or(all.first()),
            };
            found.map(|build| build.place.clone())
        };
        let is_of_target = |build: &BuildReport| {
            self.target.as_ref().is_none_or(|target| {
                build.place.targets.contains(target)
                    || build.images.iter().any(|image| image.target == *target)
            })
        };
        same_project(session, first, (&is_of_target, self.last))
    }

    fn run_compare(
        &self,
        session: &Session,
        (a, b): (&str, &str),
        config: &Config,
    ) -> Result<(), Failure> {
        let builds = (named(session, a)?, named(session, b)?);
        let comparison = Comparison::of(&builds.0, &builds.1);
        render::print_lines(&match self.format {
            Format::Json => vec![format!("{:#}", comparison.document())],
            Format::Text | Format::Markdown | Format::Html => {
                compared(&comparison, render::stdout_style(config))
            }
        });
        Ok(())
    }
}

/// The last builds, with their steps, of the Dockerfile and context that `first` chooses of all builds, so
/// many of those that pass a filter.
fn same_project(
    session: &Session,
    first: impl Fn(&[BuildReport]) -> Option<Place>,
    (passes, last): (&dyn Fn(&BuildReport) -> bool, usize),
) -> Result<Vec<BuildReport>, Failure> {
    let all = session.last_builds(ALL)?;
    let none = || {
        let such = if all.is_empty() { "" } else { "such " };
        Failure::input("no-build", format!("the history of the store has no {such}build"))
            .with_help("every `kiln build` is kept there")
    };
    let place = first(&all).ok_or_else(none)?;
    let is_same = |build: &&BuildReport| {
        build.place.dockerfile == place.dockerfile && build.place.context == place.context
    };
    let chosen = all.iter().filter(is_same).filter(|build| passes(build)).take(last);
    let builds = chosen.filter_map(|build| session.build_report(build.id).transpose());
    let builds: Vec<BuildReport> = builds.collect::<Result<_, _>>()?;
    if builds.is_empty() { Err(none()) } else { Ok(builds) }
}

/// Holds the project of the build that has just ended against its budget, as `kiln build --budget` does.
///
/// # Errors
/// When one is not kept.
pub(super) fn check_budget(session: &Session, config: &Config) -> Result<(), Failure> {
    let newest = |all: &[BuildReport]| all.first().map(|build| build.place.clone());
    let builds = same_project(session, newest, (&|_| true, JUDGED_BUILDS))?;
    let targets = targets(&builds[..1]);
    let judgements = judge(&performance(&builds), &settings::budget(config, &targets)?);
    render::note_lines(&judgement_lines(&judgements, render::stderr_style(config)));
    refuse_broken(&judgements)
}

/// The names by which `kiln.toml` may speak of these builds.
fn targets(builds: &[BuildReport]) -> Vec<String> {
    let asked = builds.iter().flat_map(|build| build.place.targets.iter());
    let made = builds.iter().flat_map(|build| build.images.iter().map(|image| &image.target));
    asked.chain(made).cloned().collect()
}

/// A build by its name, or the last one of a commit.
fn named(session: &Session, word: &str) -> Result<BuildReport, Failure> {
    if let Some(choice) = BuildChoice::parse(word) {
        return choice.find(session);
    }
    let all = session.last_builds(ALL)?;
    let of_commit = |build: &&BuildReport| {
        let commit = build.commit.as_ref();
        commit.is_some_and(|commit| word.len() >= 4 && commit.id.starts_with(word))
    };
    let found = all.iter().find(of_commit);
    let id = found.map(|build| build.id).ok_or_else(|| {
        Failure::input("no-build", format!("`{word}` names no build, and no commit of one"))
            .with_help("`kiln history ls` lists them")
    })?;
    BuildChoice::Number(id).find(session)
}

fn refuse_broken(judgements: &[Judgement]) -> Result<(), Failure> {
    let number = judgements.iter().filter(|judgement| !judgement.is_kept()).count();
    let are = match number {
        0 => return Ok(()),
        1 => "budget is",
        _ => "budgets are",
    };
    Err(Failure::input("over-budget", format!("{number} {are} not kept"))
        .with_help("[budget] of kiln.toml says what builds may take; `kiln report` what they take"))
}

fn document(report: &Reported<'_>) -> String {
    let performance = report.performance;
    let budgets: Vec<_> = report
        .judgements
        .iter()
        .map(|judgement| {
            json!({
                "key": judgement.key,
                "found": judgement.found,
                "limit": judgement.limit,
                "builds": judgement.builds,
                "kept": judgement.is_kept(),
            })
        })
        .collect();
    let mut document = serde_json::to_value(performance).unwrap_or_default();
    document["hit_rate_percent"] = json!(performance.rate.percent());
    document["budgets"] = json!(budgets);
    document["benchmarks"] = json!(report.benchmarks);
    document["context"] = json!(report.contents.context);
    document["layers"] = json!(report.contents.layers);
    format!("{document:#}")
}
