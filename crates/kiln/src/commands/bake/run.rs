//! Building what a definition says, or judging it (`--call`).

use std::collections::BTreeSet;

use kiln_core::bake::{Definition, Target};
use kiln_core::event::EventKind;
use kiln_engine::{BakeTarget, Destination, Output};

use super::{Bake, entitlements};
use crate::commands::build::{self, metadata};
use crate::config::Config;
use crate::failure::Failure;
use crate::interrupt;
use crate::render;
use crate::render::progress::{Display, Mode};
use crate::render::summary::summary;
use crate::session::{Session, build_failure};

impl Bake {
    /// Does what the definition asks for.
    pub(super) fn perform(
        &self,
        (definition, file): (&Definition, &str),
        config: &Config,
    ) -> Result<(), Failure> {
        entitlements::check(definition, &self.allow, config)?;
        let is_called = |target: &Target| {
            target.call.as_deref().is_some_and(|call| !["", "build"].contains(&call))
        };
        let (called, built): (Vec<_>, Vec<_>) =
            definition.targets.iter().partition(|(_, target)| is_called(target));
        if !called.is_empty() {
            self.judge(&called, config)?;
        }
        // What only stands below a target that is judged is not built for it.
        let built: Vec<_> =
            built.into_iter().filter(|(_, it)| called.is_empty() || !it.is_linked).collect();
        if built.is_empty() { Ok(()) } else { self.build((&built, file), config) }
    }

    /// Checks, outlines or lists stages of targets.
    fn judge(&self, called: &[(&String, &Target)], config: &Config) -> Result<(), Failure> {
        let asked: Vec<_> = called.iter().filter(|(_, target)| !target.is_linked).collect();
        let is_json = self.call.as_deref().is_some_and(|call| call.ends_with(",format=json"));
        if is_json && asked.len() > 1 {
            let failure = Failure::usage("`--call` writes JSON of one target at a time");
            return Err(failure.with_help("name one target"));
        }
        let mut outcome = Ok(());
        for (index, (name, target)) in asked.iter().enumerate() {
            if !is_json {
                let mut lines = vec![(*name).clone()];
                if index > 0 {
                    lines.insert(0, String::new());
                }
                if !target.description.is_empty() {
                    lines.push(target.description.clone());
                }
                lines.push(String::new());
                render::print_lines(&lines);
            }
            let build = self.build_of(name, target)?;
            let call = build.call().expect("it is called");
            match build.run_call(call, config) {
                Ok(()) => {}
                Err(Failure::Problems { problems }) => {
                    outcome = Err(Failure::Problems { problems });
                }
                Err(failure) => return Err(failure),
            }
        }
        outcome
    }

    /// Builds targets while progress is shown.
    fn build(
        &self,
        (built, file): (&[(&String, &Target)], &str),
        config: &Config,
    ) -> Result<(), Failure> {
        let mode = build::progress_mode(self.progress, config)?;
        let (mut targets, mut warnings) = (Vec::new(), Vec::new());
        for (name, target) in built {
            let (target, told) = self.bake_target((name, target), config)?;
            build::refuse_violations(&target.request, config)?;
            warnings.extend(told.into_iter().map(|text| format!("{name}: {text}")));
            targets.push(target);
        }
        let outputs: Vec<Output> =
            targets.iter().flat_map(|target| target.request.outputs.clone()).collect();
        let to_stdout =
            outputs.iter().filter(|output| output.destination() == Some(Destination::Stdout));
        if to_stdout.count() > 1 {
            return Err(Failure::usage("only one output can be written to standard output"));
        }
        let cancelled = interrupt::watch(mode)?;
        let session = Session::open(config)?;
        let display = Display::start(mode, render::stderr_style(config))
            .map_err(|error| Failure::environment(format!("no thread can be started: {error}")))?;
        for warning in warnings {
            display.sink().emit(EventKind::Warning(warning));
        }
        let result = session.bake((&targets, file), display.sink(), &cancelled);
        display.finish();
        if matches!(mode, Mode::Tty | Mode::Plain) {
            render::note_lines(&[String::new()]);
        }
        let result = result.map_err(|(index, error)| {
            let target = &targets[index];
            let failure = build_failure(error, &target.request.dockerfile);
            if targets.len() > 1 && !matches!(failure, Failure::Interrupted) {
                render::note_lines(&[format!("target `{}` failed:", target.name)]);
            }
            failure
        });
        let outcome = result.and_then(|result| {
            if let Some(path) = &self.metadata_file {
                let document = metadata::by_name(&result);
                build::write(path, &format!("{document:#}\n"))?;
            }
            if !matches!(mode, Mode::RawJson | Mode::Quiet) {
                render::note_lines(&summary(&result, &outputs));
                render::note_lines(&warnings_of(&targets, &session)?);
            }
            Ok(())
        });
        session.settle();
        outcome
    }
}

/// Warnings about the Dockerfiles, each told once.
fn warnings_of(targets: &[BakeTarget], session: &Session) -> Result<Vec<String>, Failure> {
    let mut known = BTreeSet::new();
    let mut lines = Vec::new();
    for target in targets {
        // Results of others are not there to be looked into.
        if !target.links.is_empty() {
            continue;
        }
        let own = build::warnings_of_build(&target.request, session)?;
        if known.insert(own.clone()) {
            lines.extend(own);
        }
    }
    Ok(lines)
}
