//! `kiln history show` and `kiln history logs`

use clap::ValueEnum;
use jiff::Timestamp;
use kiln_core::report::{BuildReport, Changes};

use super::super::explain::choice::steps_named;
use super::super::explain::document::document;
use super::named;
use crate::config::Config;
use crate::failure::Failure;
use crate::render;
use crate::render::explain::{Detail, Explanation, explanation};
use crate::render::format::{count, size};
use crate::render::progress::one_line;
use crate::render::style::{Role, Style};
use crate::render::summary::short;
use crate::render::text::LineBuffer;
use crate::session::Session;

/// Show a build: its command, commit, images, and what each step took and why it ran
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln history show                           the last build
  kiln history show b42 --format json")]
pub(super) struct Show {
    /// Which: b42, @, @1
    #[arg(value_name = "BUILD", default_value = "@")]
    build: String,
    /// How it is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    format: Format,
}

/// Show what the steps of a build wrote
///
/// Of each step that ran, the last 64 KiB are kept. Secrets are not among them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln history logs                           all steps of the last build
  kiln history logs @1 12                     the step at line 12, in the build before
  kiln history logs b42 pytest                steps with this text, in build b42")]
pub(super) struct Logs {
    /// Which: b42, @, @1
    #[arg(value_name = "BUILD", default_value = "@")]
    build: String,
    /// Of these steps alone: a line of the Dockerfile, a stage, or text of the instruction
    #[arg(value_name = "STEP")]
    step: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// One JSON document
    Json,
}

impl Show {
    /// Runs the command.
    pub(super) fn run(&self, config: &Config) -> Result<(), Failure> {
        let build = named(&Session::open(config)?, &self.build)?;
        let steps: Vec<usize> = (0..build.steps.len()).collect();
        let style = render::stdout_style(config);
        let lines = match self.format {
            Format::Json => vec![format!("{:#}", document(&build, &steps, &[]))],
            Format::Text => {
                let terminal = render::terminal::stdout_is_terminal();
                let what = Explanation {
                    build: &build,
                    steps: &steps,
                    keys: &[],
                    detail: Detail::Usage,
                    now: Timestamp::now(),
                    columns: if terminal { render::terminal::size().0 } else { usize::MAX },
                };
                explanation(&what, style).into_iter().chain(end_lines(&build, style)).collect()
            }
        };
        render::print_lines(&lines);
        Ok(())
    }
}

/// What is told of a build behind its steps.
fn end_lines(build: &BuildReport, style: Style) -> Vec<String> {
    let mut lines = Vec::new();
    for image in &build.images {
        let id = image.id.as_ref().map_or_else(|| "files".to_owned(), |id| short(&id.hex()));
        lines.push(format!(
            "{} {id}  {}, {}, {} of {} cached",
            one_line(&image.target),
            size(image.size_bytes),
            count(image.layers, "layer"),
            image.cached,
            count(image.steps, "step"),
        ));
    }
    if let Some(commit) = &build.commit {
        let branch = commit.branch.as_ref().map(|branch| format!(" on {}", one_line(branch)));
        let branch = branch.unwrap_or_default();
        let besides = commit.changes.map(besides).unwrap_or_default();
        lines.push(format!("commit {}{branch}{besides}", one_line(&commit.id)));
    }
    if !build.command.is_empty() {
        let line = format!("$ {}", one_line(&build.command.join(" ")));
        lines.push(style.paint(Role::Faint, &line));
    }
    if !lines.is_empty() {
        lines.insert(0, String::new());
    }
    lines
}

/// What a working tree had besides its commit.
fn besides(changes: Changes) -> String {
    let Changes { tracked, untracked } = changes;
    let changed = (tracked > 0).then(|| format!("{} changed", count(tracked, "file")));
    let unknown = (untracked > 0).then(|| format!("{untracked} untracked"));
    match (changed, unknown) {
        (None, None) => ", nothing changed".to_owned(),
        (changed, unknown) => {
            let parts: Vec<String> = changed.into_iter().chain(unknown).collect();
            format!(", {}", parts.join(", "))
        }
    }
}

impl Logs {
    /// Runs the command.
    pub(super) fn run(&self, config: &Config) -> Result<(), Failure> {
        let session = Session::open(config)?;
        let build = named(&session, &self.build)?;
        let wanted = match &self.step {
            Some(words) => Some(steps_named(&build, words)?),
            None => None,
        };
        let logs = session.build_logs(build.id)?;
        let mut lines = Vec::new();
        for (number, bytes) in &logs {
            let number = *number as usize;
            if wanted.as_ref().is_some_and(|wanted| !wanted.contains(&number)) {
                continue;
            }
            if let Some(step) = build.steps.get(number) {
                let style = render::stdout_style(config);
                lines.push(style.paint(Role::Strong, &one_line(&build.step_name(step))));
            }
            let mut splitter = LineBuffer::default();
            lines.extend(splitter.push(bytes));
            lines.extend(splitter.finish());
        }
        if lines.is_empty() {
            let none = format!("no log of build b{} is kept", build.id);
            let why = "steps that the cache had write nothing; the last 200 builds keep theirs";
            return Err(Failure::input("no-log", none).with_help(why));
        }
        render::print_lines(&lines);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::list::samples::build;
    use super::*;

    #[test]
    fn a_build_is_shown_with_its_command_and_images() {
        insta::assert_snapshot!(end_lines(&build(), Style::Plain).join("\n"), @r"
        production b79606fb3afe  182MB, 7 layers, 9 of 10 steps cached
        commit 0a1b2c3d0a1b2c3d0a1b2c3d0a1b2c3d0a1b2c3d on main, 2 files changed, 1 untracked
        $ kiln build --target production .
        ");
    }
}
