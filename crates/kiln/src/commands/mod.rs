//! The commands: one file each, with its options and what it does.

mod annotation;
mod bake;
mod bench;
pub(crate) mod build;
mod cache;
pub(crate) mod check;
mod completions;
mod config;
mod copy;
mod doctor;
pub(crate) mod explain;
mod fsck;
mod history;
mod images;
mod index;
mod init;
mod inspect;
mod lock;
mod login;
mod pull;
mod push;
mod report;
mod rmi;
pub(crate) mod run;
mod tag;
mod transfer;
mod unsupported;
mod version;
mod whole_file;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use kiln_sandbox::user_namespace::{self, Identity};

use crate::config::Config;
use crate::failure::Failure;
use crate::render;

/// Build container images from Dockerfiles, without a daemon and without root
#[expect(clippy::doc_markdown, reason = "the docs are the help")]
#[derive(Debug, Parser)]
#[command(
    name = "kiln",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Examples:
  kiln init                                   files for a Python project: Dockerfile, CI, make
  kiln build -t app:1 .                       build an image
  kiln run app:1                              run it
  kiln bake                                   build the targets of docker-bake.hcl
  kiln explain                                why the steps of the last build ran
  kiln report                                 how builds perform"
)]
pub(crate) struct CommandLine<C: Subcommand> {
    /// Directory of kiln's store [env: KILN_ROOT] [default: ~/.local/share/kiln, for root
    /// /var/lib/kiln]
    #[arg(long, global = true, value_name = "DIR", display_order = 900)]
    root: Option<PathBuf>,
    #[command(subcommand)]
    command: C,
}

/// All of kiln.
pub(crate) type Cli = CommandLine<Command>;

/// `kiln build` alone: to define all other commands takes longer than to read its options, and an
/// unchanged build has little else to do.
#[derive(Debug, Subcommand)]
enum BuildAlone {
    #[command(args_override_self = true)]
    Build(Box<build::Build>),
}

/// Reads a command line. What is wrong with one is said by the definition of all commands.
fn parse(arguments: &[OsString]) -> Result<Cli, clap::Error> {
    if arguments.get(1).is_some_and(|name| name == "build")
        && let Ok(line) = CommandLine::<BuildAlone>::try_parse_from(arguments)
    {
        let BuildAlone::Build(build) = line.command;
        return Ok(CommandLine { root: line.root, command: Command::Build(build) });
    }
    Cli::try_parse_from(arguments)
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(init::Init),
    #[command(args_override_self = true)]
    Build(Box<build::Build>),
    #[command(args_override_self = true)]
    Bake(Box<bake::Bake>),
    #[command(args_override_self = true)]
    Bench(Box<bench::Bench>),
    BenchStore(bench::BenchStore),
    Run(run::Run),
    Lock(lock::Lock),
    Check(check::Check),
    Explain(explain::Explain),
    History(history::History),
    Report(report::Report),
    Images(images::Images),
    Inspect(inspect::Inspect),
    Push(push::Push),
    Pull(pull::Pull),
    Tag(tag::Tag),
    Copy(copy::Copy),
    Index(index::Index),
    Login(login::Login),
    Logout(login::Logout),
    Rmi(rmi::Rmi),
    Cache(cache::Cache),
    Doctor(doctor::Doctor),
    Fsck(fsck::Fsck),
    Config(config::ShowConfig),
    Completions(completions::Completions),
    Man(completions::Man),
    Version(version::Version),
}

/// Runs the command line of this process; gives its exit code.
pub(crate) fn main(config: &Config) -> ExitCode {
    match run(&std::env::args_os().collect::<Vec<_>>(), config) {
        Ok(code) => code,
        Err(failure) => {
            render::show_failure(&failure, config);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(arguments: &[OsString], config: &Config) -> Result<ExitCode, Failure> {
    let cli = match parse(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let error = unsupported::explain(error, &Cli::command());
            render::show_clap(&error, config);
            return Ok(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)));
        }
    };
    let mut config = config.clone();
    config.named_root = cli.root.or(config.named_root);
    let config = &config;
    if cli.command.needs_root() {
        become_root()?;
    }
    match cli.command {
        Command::Build(build) => build.run(config)?,
        Command::Init(init) => init.run(config)?,
        Command::Bake(bake) => bake.run(config)?,
        Command::Bench(bench) => bench.run(config)?,
        Command::BenchStore(store) => store.run(config)?,
        Command::Run(run) => return run.run(config),
        Command::Lock(lock) => lock.run(config)?,
        Command::Check(check) => check.run(config)?,
        Command::Explain(explain) => explain.run(config)?,
        Command::History(history) => history.run(config)?,
        Command::Report(report) => report.run(config)?,
        Command::Images(images) => images.run(config)?,
        Command::Inspect(inspect) => inspect.run(config)?,
        Command::Push(push) => push.run(config)?,
        Command::Pull(pull) => pull.run(config)?,
        Command::Tag(tag) => tag.run(config)?,
        Command::Copy(copy) => copy.run(config)?,
        Command::Index(index) => index.run(config)?,
        Command::Login(login) => login.run(config)?,
        Command::Logout(logout) => logout.run(config)?,
        Command::Rmi(rmi) => rmi.run(config)?,
        Command::Cache(cache) => cache.run(config)?,
        Command::Doctor(doctor) => doctor.run(config)?,
        Command::Fsck(fsck) => fsck.run(config)?,
        Command::Config(show) => show.run(config)?,
        Command::Completions(completions) => completions.run(),
        Command::Man(man) => man.run()?,
        Command::Version(version) => version.run(),
    }
    Ok(ExitCode::SUCCESS)
}

impl Command {
    /// Whether it makes or deletes files of other owners.
    fn needs_root(&self) -> bool {
        match self {
            Self::Build(build) => build.call().is_none(),
            Self::Bake(bake) => bake.builds(),
            command => {
                matches!(
                    command,
                    Self::Run(_)
                        | Self::BenchStore(_)
                        | Self::Lock(_)
                        | Self::Push(_)
                        | Self::Rmi(_)
                        | Self::Cache(_)
                        | Self::Fsck(_)
                )
            }
        }
    }
}

/// An ordinary user becomes root of a user namespace. The first thread must do it while it is the
/// only one.
fn become_root() -> Result<(), Failure> {
    match user_namespace::enter() {
        Ok(Identity::SingleId { reason }) => {
            render::note_lines(&[format!(
                "warning: only one user id is available ({reason}): files of other owners cannot be made"
            )]);
            Ok(())
        }
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::environment(error.to_string())
            .with_help("`kiln doctor` tells what is missing")),
    }
}

#[cfg(test)]
mod documents_tests;
#[cfg(test)]
#[path = "tests.rs"]
mod tests;
