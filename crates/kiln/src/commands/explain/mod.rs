//! `kiln explain`

pub(super) mod choice;
pub(super) mod document;

use clap::ValueEnum;
use jiff::Timestamp;
use kiln_core::cache_key::KeyParts;
use kiln_core::cause::Comparison;
use kiln_core::report::{BuildReport, StepReport};

use crate::config::Config;
use crate::failure::Failure;
use crate::render;
use crate::render::explain::{Detail, Explanation, explanation};
use crate::session::Session;
use choice::{BuildChoice, steps_named};

/// Say why the steps of a build ran
///
/// The causes are what differs from the last build of the same Dockerfile and context: files,
/// build arguments, instructions, base images, earlier steps. The history keeps the last 1000
/// builds.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln explain                                why steps of the last build ran
  kiln explain 12                             the step at line 12, with all that its key is made of
  kiln explain @1 production                  the stage `production` in the build before
  kiln explain b42 --format json")]
pub(crate) struct Explain {
    /// Which build: `@` is the last one (the default), `@1` the one before it (`-1` and `^1` are the
    /// same), `b42` the one of this number. And which of its steps, explained with all that its
    /// key is made of: a line (`12`, `Dockerfile:12`), a stage, or text of the instruction
    #[arg(value_name = "BUILD|STEP", num_args = 0..=2, allow_negative_numbers = true)]
    what: Vec<String>,
    /// How it is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// One JSON document
    Json,
}

impl Explain {
    /// Runs the command.
    pub(crate) fn run(&self, config: &Config) -> Result<(), Failure> {
        let (choice, step) = self.chosen()?;
        let session = Session::open(config)?;
        let build = choice.find(&session)?;
        let (steps, keys) = match step {
            None => ((0..build.steps.len()).collect(), Vec::new()),
            Some(words) => {
                let steps = steps_named(&build, words)?;
                let keys = steps.iter().map(|step| keys(&session, &build, *step));
                let keys = keys.collect::<Result<Vec<_>, _>>()?;
                (steps, keys)
            }
        };
        let lines = match self.format {
            Format::Json => vec![format!("{:#}", document::document(&build, &steps, &keys))],
            Format::Text => {
                let terminal = render::terminal::stdout_is_terminal();
                let what = Explanation {
                    build: &build,
                    steps: &steps,
                    keys: &keys,
                    detail: Detail::Causes,
                    now: Timestamp::now(),
                    columns: if terminal { render::terminal::size().0 } else { usize::MAX },
                };
                explanation(&what, render::stdout_style(config))
            }
        };
        render::print_lines(&lines);
        Ok(())
    }

    /// The build, and the words for a step.
    fn chosen(&self) -> Result<(BuildChoice, Option<&str>), Failure> {
        let first = self.what.first().map(|word| (BuildChoice::parse(word), word));
        match (first, self.what.get(1)) {
            (None, _) => Ok((BuildChoice::LAST, None)),
            (Some((Some(build), _)), step) => Ok((build, step.map(String::as_str))),
            (Some((None, step)), None) => Ok((BuildChoice::LAST, Some(step))),
            (Some((None, word)), Some(_)) => {
                Err(Failure::usage(format!("`{word}` does not name a build"))
                    .with_help("`@` is the last one, `@1` the one before it, `b42` that number"))
            }
        }
    }
}

/// The parts of the key of a step, now and then.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    /// Of the step; `None` if the store has no record of it any more, or it has no key.
    pub(crate) now: Option<KeyParts>,
    /// Of the step that it is compared with.
    pub(crate) then: Option<KeyParts>,
}

fn keys(session: &Session, build: &BuildReport, step: usize) -> Result<Keys, Failure> {
    let parts = |step: &StepReport| match &step.key {
        Some(key) => session.key_parts(key),
        None => Ok(None),
    };
    let now = parts(&build.steps[step])?;
    let mut then = None;
    if let Some(id) = build.steps[step].compared_with
        && let Some(older) = session.build_report(id)?
    {
        let comparison = Comparison { then: &older.steps, now: &build.steps };
        if let Some(number) = comparison.counterpart(step) {
            then = parts(&older.steps[number])?;
        }
    }
    Ok(Keys { now, then })
}
