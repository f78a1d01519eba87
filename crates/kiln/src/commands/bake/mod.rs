//! `kiln bake`

mod arguments;
mod entitlements;
mod files;
mod run;

use std::path::PathBuf;

use kiln_core::bake::{self, Definition, File, Listed, Problem, Variable, World};
use kiln_core::diagnostic::Diagnostic;
use kiln_core::source::SourceFile;

use super::build::ProgressOption;
use crate::config::Config;
use crate::failure::Failure;
use crate::render;
use crate::render::table::{Align, table};

/// Build the targets of a bake file: docker-bake.hcl, docker-bake.json or compose files
///
/// Files mean what they mean to `docker buildx bake`. Without `-f` the usual files of the directory are
/// read: compose.yaml, docker-compose.yml, docker-bake.json, docker-bake.hcl and their overrides.
#[expect(clippy::doc_markdown, reason = "the docs are the help")]
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln bake                                   the group or target `default`
  kiln bake app worker                        two targets, in one plan
  kiln bake --print all                       what would be built, as JSON
  kiln bake --set '*.platform=linux/arm64' --set app.args.VERSION=2 app
  kiln bake -f docker-bake.hcl -f compose.yaml --push release")]
pub(crate) struct Bake {
    /// Targets and groups, or patterns of their names (default: default)
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// A bake file; `-` is standard input; repeatable, later ones over earlier ones [env:
    /// BUILDX_BAKE_FILE]
    #[arg(short, long = "file", value_name = "FILE")]
    files: Vec<String>,
    /// Change a target: TARGET.KEY=VALUE, where TARGET may be a pattern; KEY+=VALUE adds to a list;
    /// repeatable
    #[arg(long = "set", value_name = "CHANGE")]
    sets: Vec<String>,
    /// Value of a variable of the bake file; repeatable. The environment sets them, too
    #[arg(long = "var", value_name = "NAME=VALUE")]
    variables: Vec<String>,
    /// Print what would be built as JSON, as buildx does, and build nothing
    #[arg(long)]
    print: bool,
    /// List targets or variables; `type=targets,format=json` lists them as JSON
    #[arg(long, value_name = "WHAT", conflicts_with = "print")]
    list: Option<ListOption>,
    #[arg(long, hide = true, conflicts_with = "list")]
    list_targets: bool,
    #[arg(long, hide = true, conflicts_with = "list")]
    list_variables: bool,
    /// Run every step, whatever was built before; --no-cache=false overrides the file
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    no_cache: Option<bool>,
    /// Ask registries where tags point now; --pull=false overrides the file
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pull: Option<bool>,
    /// Send images to the registries of their tags; short for --set=*.push=true
    #[arg(long)]
    push: bool,
    /// Load images into Docker's engine; short for --set=*.load=true
    #[arg(long)]
    load: bool,
    /// Let targets reach what they must not by default: network.host, security.insecure, ssh, and files
    /// outside of this directory: fs=PATH, fs.read=PATH, fs.write=PATH (`*` is all); repeatable
    #[arg(long, value_name = "ENTITLEMENT")]
    allow: Vec<String>,
    /// Refuse images, files and git references that are not in the lock files of the contexts
    #[arg(long)]
    locked: bool,
    /// Show RUN the host's CA certificates (or FILE) from outside the image [env: KILN_HOST_CA]
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    #[expect(clippy::option_option, reason = "a flag whose value is optional")]
    host_ca: Option<Option<PathBuf>>,
    /// Judge the Dockerfiles, build nothing; the same as --call=check
    #[arg(long, conflicts_with = "call")]
    check: bool,
    /// What to do: build, check, outline or targets
    #[arg(long, value_name = "METHOD")]
    call: Option<String>,
    /// How progress is shown [env: BUILDKIT_PROGRESS]
    #[arg(long, value_enum, value_name = "MODE")]
    progress: Option<ProgressOption>,
    /// Write what was built to a JSON file, by target
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
}

/// `--list`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ListOption {
    of: Listing,
    form: ListForm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    Targets,
    Variables,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ListForm {
    Table,
    Json,
}

impl std::str::FromStr for ListOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut kind, mut form) = (text, ListForm::Table);
        if text.starts_with("type=") || text.starts_with("format=") {
            kind = "";
            for field in text.split(',') {
                match field.split_once('=') {
                    Some(("type", value)) => kind = value,
                    Some(("format", "table")) => form = ListForm::Table,
                    Some(("format", "json")) => form = ListForm::Json,
                    Some(("format", value)) => {
                        return Err(format!("format `{value}` is neither table nor json"));
                    }
                    _ => return Err(format!("`{field}` is not type=… or format=…")),
                }
            }
        }
        match kind {
            "targets" => Ok(Self { of: Listing::Targets, form }),
            "variables" => Ok(Self { of: Listing::Variables, form }),
            other => Err(format!("`{other}` can't be listed, targets and variables can")),
        }
    }
}

impl Bake {
    /// Runs the command.
    pub(crate) fn run(&self, config: &Config) -> Result<(), Failure> {
        if config.variable("BUILDX_BAKE_FILE_RELATIVE_PATHS").is_some_and(|text| text != "0") {
            return Err(Failure::usage("BUILDX_BAKE_FILE_RELATIVE_PATHS is not possible yet")
                .with_help("start kiln in the directory of the file: paths begin there"));
        }
        let files = self.files(config)?;
        let world = files::world(&self.variables, config)?;
        let read = bake::read(&files, &world).map_err(|problems| failure(&files, problems))?;
        render::note_lines(&warnings(&files, &read.warnings));
        if let Some(option) = self.listing() {
            show_list(option, &read);
            return Ok(());
        }
        let definition = self.definition(&files, &read, (&world, config))?;
        if self.print {
            render::print_lines(&[definition.to_json()]);
            return Ok(());
        }
        // That of the last file counts; overrides are of the one before them.
        let own = files.iter().rev().find(|file| !file.name.contains(".override."));
        self.perform((&definition, own.map_or("-", |file| &file.name)), config)
    }

    /// Whether it builds, and not only says what it would.
    pub(super) fn builds(&self) -> bool {
        let calls = self.call.as_deref().is_some_and(|call| call != "build");
        !self.print && !self.check && !calls && self.listing().is_none()
    }

    fn listing(&self) -> Option<ListOption> {
        let form = ListForm::Table;
        match (self.list, self.list_targets, self.list_variables) {
            (Some(option), _, _) => Some(option),
            (None, true, _) => Some(ListOption { of: Listing::Targets, form }),
            (None, false, true) => Some(ListOption { of: Listing::Variables, form }),
            (None, false, false) => None,
        }
    }

    /// What is built.
    fn definition(
        &self,
        files: &[File],
        read: &bake::Config,
        (world, config): (&World, &Config),
    ) -> Result<Definition, Failure> {
        let is_url = |text: &String| {
            ["http://", "https://", "git@", "git://", "ssh://"]
                .iter()
                .any(|start| text.starts_with(start))
        };
        if let Some(url) = self.targets.iter().find(|target| is_url(target)) {
            let message = format!("kiln reads no bake files from {url} yet");
            return Err(Failure::usage(message).with_help("clone it, and run `kiln bake` there"));
        }
        let mut sets = self.sets.clone();
        let flags = [
            ("push", self.push.then_some(true)),
            ("load", self.load.then_some(true)),
            ("no-cache", self.no_cache),
            ("pull", self.pull),
        ];
        let call = if self.check { Some("check") } else { self.call.as_deref() };
        sets.extend(call.map(|call| format!("*.call={call}")));
        sets.extend(flags.iter().filter_map(|(key, value)| Some(format!("*.{key}={}", (*value)?))));
        let default = ["default".to_owned()];
        let names = if self.targets.is_empty() { &default[..] } else { &self.targets };
        let resolved = read.resolve(names, &sets, world);
        let mut definition = resolved.map_err(|problem| failure(files, vec![problem]))?;
        if let Some(epoch) = config.variable("SOURCE_DATE_EPOCH") {
            for target in definition.targets.values_mut() {
                let args = target.args.entry("SOURCE_DATE_EPOCH".to_owned());
                args.or_insert_with(|| Some(epoch.to_owned()));
            }
        }
        Ok(definition)
    }
}

fn source(file: &File) -> SourceFile {
    let name = if file.name == "-" { "<stdin>" } else { &file.name };
    SourceFile::new(name, file.text.as_str())
}

/// The failure that problems are: those of the first file that has some.
fn failure(files: &[File], problems: Vec<Problem>) -> Failure {
    let place = problems.iter().find_map(|problem| problem.file);
    if let Some(index) = place {
        let own = problems.into_iter().filter(|problem| problem.file == Some(index));
        let diagnostics: Vec<Diagnostic> = own.map(|problem| problem.diagnostic).collect();
        return Failure::Invalid { source_file: source(&files[index]), diagnostics };
    }
    let first = problems.into_iter().next().expect("there is a problem").diagnostic;
    let failure = Failure::input(first.code, first.message);
    match first.help {
        Some(help) => failure.with_help(help),
        None => failure,
    }
}

/// One line for each thing that the user should know.
fn warnings(files: &[File], problems: &[Problem]) -> Vec<String> {
    let line = |problem: &Problem| {
        let Diagnostic { message, help, span, .. } = &problem.diagnostic;
        let place = match (problem.file, span) {
            (Some(index), Some(span)) => {
                let source = source(&files[index]);
                format!("{}:{}: ", source.name(), source.position(span.start).line)
            }
            (Some(index), None) => format!("{}: ", files[index].name),
            (None, _) => String::new(),
        };
        let help = help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
        format!("warning: {place}{message}{help}")
    };
    problems.iter().map(line).collect()
}

fn show_list(option: ListOption, read: &bake::Config) {
    let left = |title| (title, Align::Left);
    let json = |document: serde_json::Result<String>| vec![document.expect("lists are JSON")];
    render::print_lines(&match option {
        ListOption { of: Listing::Targets, form: ListForm::Table } => {
            let row = |listed: Listed| vec![listed.name, listed.description];
            let rows: Vec<Vec<String>> = read.list().into_iter().map(row).collect();
            table(&[left("TARGET"), left("DESCRIPTION")], &rows)
        }
        ListOption { of: Listing::Targets, form: ListForm::Json } => {
            json(serde_json::to_string_pretty(&read.list()))
        }
        ListOption { of: Listing::Variables, form: ListForm::Table } => {
            let row = |variable: &Variable| {
                let value = variable.value.clone().unwrap_or_else(|| "<null>".to_owned());
                let Variable { name, kind, description, .. } = variable.clone();
                vec![name, kind, value, description]
            };
            let header = [left("VARIABLE"), left("TYPE"), left("VALUE"), left("DESCRIPTION")];
            table(&header, &read.variables.iter().map(row).collect::<Vec<_>>())
        }
        ListOption { of: Listing::Variables, form: ListForm::Json } => {
            json(serde_json::to_string_pretty(&read.variables))
        }
    });
}
