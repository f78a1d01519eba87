//! `kiln history export`

use std::path::PathBuf;

use kiln_core::report::BuildReport;
use kiln_core::trace::trace;
use serde_json::json;

use super::super::explain::document::document;
use super::super::whole_file::replace_file;
use super::named;
use crate::config::Config;
use crate::failure::Failure;
use crate::render;
use crate::session::Session;

/// Write builds as JSON, one line each, with all of their steps
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln history export > builds.jsonl          all builds, the oldest first
  kiln history export @ --trace -o t.json     the last one, for chrome://tracing or ui.perfetto.dev
  kiln history export --benchmarks            what `kiln bench` measured, of all projects")]
pub(super) struct Export {
    /// Which: b42, @, @1; all if none is named
    #[arg(value_name = "BUILD")]
    builds: Vec<String>,
    /// One build in the Trace Event Format, which Chrome, Perfetto and Speedscope show
    #[arg(long)]
    trace: bool,
    /// What `kiln bench` measured, instead of builds
    #[arg(long, conflicts_with_all = ["builds", "trace"])]
    benchmarks: bool,
    /// A file, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Export {
    /// Runs the command.
    pub(super) fn run(&self, config: &Config) -> Result<(), Failure> {
        let session = Session::open(config)?;
        let text = if self.trace {
            let build = match self.builds.as_slice() {
                [] => named(&session, "@")?,
                [one] => named(&session, one)?,
                _ => {
                    return Err(Failure::usage("a trace is of one build")
                        .with_help("name it: `kiln history export --trace b42`"));
                }
            };
            format!("{}\n", trace(&build))
        } else if self.benchmarks {
            let mut all = session.last_benchmarks(None, usize::MAX >> 1)?;
            all.reverse();
            let line = |benchmark| json!(benchmark).to_string() + "\n";
            all.iter().map(line).collect()
        } else {
            let mut text = String::new();
            for build in self.chosen(&session)? {
                let steps: Vec<usize> = (0..build.steps.len()).collect();
                text.push_str(&document(&build, &steps, &[]).to_string());
                text.push('\n');
            }
            text
        };
        match &self.output {
            None => render::print_document(text.as_bytes()),
            Some(path) => {
                replace_file(path, &text)?;
            }
        }
        Ok(())
    }

    fn chosen(&self, session: &Session) -> Result<Vec<BuildReport>, Failure> {
        if !self.builds.is_empty() {
            return self.builds.iter().map(|word| named(session, word)).collect();
        }
        let mut builds = session.last_builds(usize::MAX >> 1)?;
        builds.reverse();
        let ids = builds.into_iter().map(|build| session.build_report(build.id));
        ids.filter_map(Result::transpose).collect()
    }
}
