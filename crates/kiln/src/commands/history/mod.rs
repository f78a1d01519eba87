//! `kiln history`: the builds that are over.

mod export;
mod list;
mod show;

use clap::Subcommand;
use kiln_core::report::BuildReport;

use super::explain::choice::BuildChoice;
use crate::config::Config;
use crate::failure::Failure;
use crate::session::Session;

/// Show the builds that are over: what they took, made and wrote
///
/// The store keeps the last 1000 builds, and what the steps of the last 200 of them wrote. BUILD is `@` or
/// `latest` for the last one, `@1` for the one before it (`^1` is the same), `b42` for the one of this
/// number.
#[derive(Debug, clap::Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Examples:
  kiln history ls                             the last builds
  kiln history show @1                        the one before the last
  kiln history logs @ 12                      what its step at line 12 wrote
  kiln history export > builds.jsonl          all that is known, as JSON lines"
)]
pub(crate) struct History {
    #[command(subcommand)]
    command: HistoryCommand,
}

#[derive(Debug, Subcommand)]
enum HistoryCommand {
    Ls(list::List),
    Show(show::Show),
    Logs(show::Logs),
    Rm(list::Remove),
    Export(export::Export),
}

impl History {
    /// Runs the command.
    pub(crate) fn run(&self, config: &Config) -> Result<(), Failure> {
        match &self.command {
            HistoryCommand::Ls(list) => list.run(config),
            HistoryCommand::Show(show) => show.run(config),
            HistoryCommand::Logs(logs) => logs.run(config),
            HistoryCommand::Rm(remove) => remove.run(config),
            HistoryCommand::Export(export) => export.run(config),
        }
    }
}

/// The build that a word means.
fn named(session: &Session, word: &str) -> Result<BuildReport, Failure> {
    let choice = BuildChoice::parse(word).ok_or_else(|| {
        Failure::usage(format!("`{word}` does not name a build"))
            .with_help("`@` is the last one, `@1` the one before it, `b42` that number")
    })?;
    choice.find(session)
}
