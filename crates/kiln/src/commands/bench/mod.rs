//! `kiln bench`: what builds of a project take, by kiln and beside others.

mod buildah;
mod builder;
mod buildkit;
mod docker;
mod kiln;
mod machine;
mod measure;
mod options;
mod project;
mod store;

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;
use kiln_core::benchmark::{Benchmark, Scenario, VERSION};
use kiln_core::report::Place;
use kiln_engine::BuildRequest;

use super::build::context::ContextPlace;
use crate::config::Config;
use crate::failure::Failure;
use crate::interrupt;
use crate::render;
use crate::render::bench::{Meter, markdown, text};
use crate::render::progress::Mode;
use crate::session::Session;
use builder::{Bases, Fault, Job};
use measure::{Measure, Measuring};
use options::BuildOptions;
use project::Project;
pub(crate) use store::BenchStore;

/// Measure builds of a project: clean, cached, after an edit; beside docker, BuildKit and buildah
///
/// Each builder builds a copy of the context once, which is not measured, and then round by round, the
/// builders in turn, each second round in the opposite order. A build is measured from the start of its
/// process to its end. Edits add a comment (or blanks) to a file of the copy; files of yours are never changed.
///
/// kiln has a store of its own for each clean build, with the base images in it. Shown are medians, the
/// least, the most, and how many times as long as kiln the others took. The store keeps the last 200 results:
/// `kiln report` shows the last ones of a project.
#[expect(clippy::doc_markdown, reason = "the docs are the help")]
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln bench                                       kiln alone, the last stage of ./Dockerfile
  kiln bench --against docker --target production .
  kiln bench --only cached,source-edit --runs 20 --edit src/api.py .
  kiln bench --against docker,buildah --format markdown . >> $GITHUB_STEP_SUMMARY")]
pub(crate) struct Bench {
    /// The build context: a directory
    #[arg(value_name = "CONTEXT", default_value = ".")]
    context: String,
    /// Builds of each scenario and builder [default: 3, and 10 where all take less than a second]
    #[arg(long, value_name = "NUMBER", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000))]
    runs: Option<usize>,
    /// Measure these, too: docker (the engine that `docker build` speaks to), buildkit (BUILDKIT_HOST, else a
    /// buildkitd that is started), buildah
    #[arg(long, value_enum, value_name = "BUILDERS", value_delimiter = ',')]
    against: Vec<Peer>,
    /// Measure these alone
    #[arg(long, value_enum, value_name = "SCENARIOS", value_delimiter = ',')]
    only: Vec<ScenarioOption>,
    /// A source to edit, instead of one that is found; repeatable
    #[arg(long, value_name = "FILE")]
    edit: Vec<String>,
    /// A file that names dependencies to edit, instead of those that are found; repeatable
    #[arg(long, value_name = "FILE")]
    edit_dependencies: Vec<String>,
    /// Clean builds pull their base images, too: the network is measured
    #[arg(long)]
    cold: bool,
    /// How it is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    format: Format,
    /// Keep no record of it
    #[arg(long)]
    no_save: bool,
    #[command(flatten)]
    build: BuildOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Peer {
    Docker,
    Buildkit,
    Buildah,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ScenarioOption {
    /// From an empty cache
    Clean,
    /// The same again
    Cached,
    /// After an edit of a source
    SourceEdit,
    /// After an edit of a file that names dependencies
    DependencyEdit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For summaries of CI
    Markdown,
    /// One JSON document
    Json,
}

impl From<ScenarioOption> for Scenario {
    fn from(option: ScenarioOption) -> Self {
        match option {
            ScenarioOption::Clean => Self::Clean,
            ScenarioOption::Cached => Self::Cached,
            ScenarioOption::SourceEdit => Self::SourceEdit,
            ScenarioOption::DependencyEdit => Self::DependencyEdit,
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let said = fault.said.iter().map(|line| format!("\n{line}"));
        let failure = Self::environment(format!("{}{}", fault.message, said.collect::<String>()));
        match fault.help {
            Some(help) => failure.with_help(help),
            None => failure,
        }
    }
}

impl Bench {
    /// Runs the command.
    pub(crate) fn run(&self, config: &Config) -> Result<(), Failure> {
        self.check()?;
        let request = self.build.request(&self.context, config)?;
        let session = Session::open(config)?;
        let work = session.scratch_dir()?;
        let result = self.measured(&request, work.path(), config);
        drop(work);
        kiln::Kiln::new(Path::new(""), config)?.settle(&config.root());
        let benchmark = result?;
        if !self.no_save {
            session.record_benchmark(&benchmark)?;
        }
        render::print_lines(&match self.format {
            Format::Text => text(&benchmark, render::stdout_style(config)),
            Format::Markdown => markdown(&benchmark),
            Format::Json => {
                vec![serde_json::to_string_pretty(&benchmark).expect("texts and numbers are JSON")]
            }
        });
        Ok(())
    }

    /// Refuses what cannot be measured.
    fn check(&self) -> Result<(), Failure> {
        if !matches!(ContextPlace::parse(&self.context)?, ContextPlace::Directory(_)) {
            let message =
                "`kiln bench` measures builds of a directory: edits are made in a copy of it";
            return Err(Failure::usage(message));
        }
        let is_read_once = |file: &str| file == "-" || file.contains("://");
        if self.build.file().is_some_and(is_read_once) {
            return Err(Failure::usage(
                "`kiln bench` reads the Dockerfile again for each build: it is a file",
            ));
        }
        if self.cold && self.against.contains(&Peer::Docker) {
            return Err(Failure::usage("`--cold` is not for docker")
                .with_help("images of its engine are yours, and are not removed"));
        }
        if self.cold && !self.scenarios().contains(&Scenario::Clean) {
            return Err(Failure::usage("`--cold` is about clean builds, and none are measured"));
        }
        Ok(())
    }

    /// What is asked for, in the order of measuring.
    fn scenarios(&self) -> Vec<Scenario> {
        let asked: Vec<Scenario> = self.only.iter().map(|option| (*option).into()).collect();
        Scenario::ALL
            .into_iter()
            .filter(|scenario| asked.is_empty() || asked.contains(scenario))
            .collect()
    }

    fn measured(
        &self,
        request: &BuildRequest,
        work: &Path,
        config: &Config,
    ) -> Result<Benchmark, Failure> {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mark = started.as_millis() as u64;
        let mut project = Project::copy(request, config.root(), work.join("context"))?;
        let scenarios = self.chosen(&mut project, request)?;
        let job = Job {
            context: project.copy.clone(),
            dockerfile: PathBuf::from(request.dockerfile.name()),
            options: self.build.clone(),
            bases: if self.cold { Bases::Pulled } else { Bases::Kept },
        };
        let cancelled = interrupt::watch(Mode::Plain)?;
        let machine = machine::machine();
        let mut measuring = Measuring {
            job: &job,
            project: &project,
            scenarios,
            runs: self.runs,
            cancelled: &cancelled,
            meter: Meter::new(config),
            log: work.join("log"),
            builders: self.builders(work, mark, config)?,
            busy_percent: 0.0,
            mark,
        };
        measuring.run()?;
        let busy_percent = (measuring.busy_percent * 10.0).round() / 10.0;
        Ok(Benchmark {
            version: VERSION,
            started_unix_ms: mark,
            place: place(request),
            command: request.command.clone(),
            commit: kiln_engine::commit(&request.context),
            machine: kiln_core::benchmark::Machine { busy_percent, ..machine },
            builders: measuring.builders.iter().map(Measure::report).collect(),
            scenarios: measuring.reports(),
        })
    }

    /// The scenarios that there are: an edit needs something to edit.
    fn chosen(
        &self,
        project: &mut Project,
        request: &BuildRequest,
    ) -> Result<Vec<Scenario>, Failure> {
        let mut scenarios = self.scenarios();
        let edits = [
            (Scenario::SourceEdit, &self.edit, "--edit", "source"),
            (
                Scenario::DependencyEdit,
                &self.edit_dependencies,
                "--edit-dependencies",
                "file of dependencies",
            ),
        ];
        for (scenario, named, flag, what) in edits {
            if !scenarios.contains(&scenario) {
                if !named.is_empty() {
                    let name = scenario.name();
                    return Err(Failure::usage(format!("`{flag}`: `--only` leaves {name} out")));
                }
                continue;
            }
            project.choose(scenario, named, request)?;
            if project.edits(scenario).next().is_some() {
                continue;
            }
            let message = format!("no {what} was found that a step takes of the context");
            let help = format!("`{flag} FILE` names one");
            if !self.only.is_empty() {
                return Err(Failure::usage(message).with_help(help));
            }
            render::note_lines(&[format!("{} is left out: {message} ({help})", scenario.name())]);
            scenarios.retain(|one| *one != scenario);
        }
        Ok(scenarios)
    }

    /// kiln first, then the others in the order they were named.
    fn builders(&self, work: &Path, mark: u64, config: &Config) -> Result<Vec<Measure>, Failure> {
        let mut builders = vec![Measure::of(kiln::Kiln::new(work, config)?)];
        let bases = if self.cold { Bases::Pulled } else { Bases::Kept };
        let mut known = Vec::new();
        for peer in &self.against {
            if known.contains(peer) {
                continue;
            }
            known.push(*peer);
            builders.push(match peer {
                Peer::Docker => Measure::of(docker::Docker::find(work, mark)?),
                Peer::Buildkit => Measure::of(buildkit::Buildkit::find(work, mark, config)?),
                Peer::Buildah => Measure::of(buildah::Buildah::find(work, bases)?),
            });
        }
        if builders.len() > 1 && self.build.has_host_ca() {
            let line = "`--host-ca` is kiln's own: commands of the others do not see the host's certificates";
            render::note_lines(&[line.to_owned()]);
        }
        Ok(builders)
    }
}

/// What was built, as builds of it name it in the history.
fn place(request: &BuildRequest) -> Place {
    let absolute = |path: &Path| {
        std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
    };
    Place {
        context: absolute(&request.context),
        dockerfile: absolute(Path::new(request.dockerfile.name())),
        targets: request.plan.targets.clone(),
        platforms: request.plan.platforms.iter().map(ToString::to_string).collect(),
        ..Place::default()
    }
}
