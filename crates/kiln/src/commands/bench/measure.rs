//! The measuring: builders in turn, round by round, each second round in the opposite order, so that what else
//! the machine does hits all of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kiln_core::benchmark::{BuilderReport, KILN, Measured, Scenario, ScenarioReport};
use kiln_core::performance::Rate;

use super::builder::{Bases, Builder, Fault, Freshness, Job, timed};
use super::machine;
use super::project::{Project, shown};
use crate::failure::Failure;
use crate::render::bench::Meter;

/// Rounds, when nothing is said.
const ROUNDS: usize = 3;
/// Builds of a scenario in which all builders are quick, when nothing is said.
const QUICK_ROUNDS: usize = 10;
/// Quick is less.
const QUICK: Duration = Duration::from_secs(1);

/// One run of measuring.
pub(super) struct Measuring<'a> {
    pub(super) job: &'a Job,
    pub(super) project: &'a Project,
    pub(super) scenarios: Vec<Scenario>,
    /// Rounds that were asked for.
    pub(super) runs: Option<usize>,
    pub(super) cancelled: &'a AtomicBool,
    pub(super) meter: Meter,
    /// Where processes write.
    pub(super) log: PathBuf,
    pub(super) builders: Vec<Measure>,
    /// The most that was seen, in hundredths.
    pub(super) busy_percent: f64,
    /// Of the last edit.
    pub(super) mark: u64,
}

/// A builder, and what it took.
pub(super) struct Measure {
    builder: Box<dyn Builder>,
    times_ms: BTreeMap<Scenario, Vec<f64>>,
    steps: BTreeMap<Scenario, Rate>,
    fault: Option<Fault>,
}

impl Measure {
    pub(super) fn of(builder: impl Builder + 'static) -> Self {
        let builder = Box::new(builder);
        let (times_ms, steps) = (BTreeMap::new(), BTreeMap::new());
        Self { builder, times_ms, steps, fault: None }
    }

    /// What is said of it in the end.
    pub(super) fn report(&self) -> BuilderReport {
        let text = |fault: &Fault| {
            let lines = std::iter::once(&fault.message).chain(&fault.said);
            lines.cloned().collect::<Vec<_>>().join("\n")
        };
        BuilderReport {
            name: self.builder.name().to_owned(),
            version: self.builder.version().to_owned(),
            notes: self.builder.notes(),
            error: self.fault.as_ref().map(text),
        }
    }

    fn is_quick(&self, scenario: Scenario) -> bool {
        let times = self.times_ms.get(&scenario);
        let limit = QUICK.as_secs_f64() * 1000.0;
        self.fault.is_some() || times.is_some_and(|times| times.iter().all(|time| *time < limit))
    }
}

impl Measuring<'_> {
    /// Measures everything.
    ///
    /// # Errors
    /// When kiln cannot build, or someone ended it. Another builder that fails is left out from then on.
    pub(super) fn run(&mut self) -> Result<(), Failure> {
        for position in 0..self.builders.len() {
            self.warm_up(position)?;
        }
        let rounds = self.runs.unwrap_or(ROUNDS);
        for round in 0..rounds {
            let text = format!("round {} of {rounds}", round + 1);
            self.round(round, &text, &self.scenarios.clone())?;
        }
        let quick: Vec<Scenario> = self
            .scenarios
            .iter()
            .copied()
            .filter(|scenario| *scenario != Scenario::Clean && self.runs.is_none())
            .filter(|scenario| self.builders.iter().all(|one| one.is_quick(*scenario)))
            .collect();
        for round in rounds..QUICK_ROUNDS {
            if !quick.is_empty() {
                let text = format!("round {} of {QUICK_ROUNDS}, what is quick", round + 1);
                self.round(round, &text, &quick)?;
            }
        }
        self.meter.clear();
        Ok(())
    }

    /// The scenarios with what was found.
    pub(super) fn reports(&self) -> Vec<ScenarioReport> {
        let report = |scenario: &Scenario| {
            let results = self.builders.iter().filter_map(|one| {
                let times = one.times_ms.get(scenario)?;
                let steps = one.steps.get(scenario).copied();
                Some(Measured { steps, ..Measured::new(one.builder.name(), times) })
            });
            let mut report = ScenarioReport {
                scenario: *scenario,
                what: self.what(*scenario),
                edited: self.project.edits(*scenario).map(|edit| edit.path.clone()).collect(),
                results: results.collect(),
            };
            report.compare();
            report
        };
        self.scenarios.iter().map(report).collect()
    }

    /// What a scenario is here.
    fn what(&self, scenario: Scenario) -> String {
        match (scenario, self.job.bases) {
            (Scenario::Clean, Bases::Kept) => {
                "nothing but base images was there; pulling them is not measured".to_owned()
            }
            (Scenario::Clean, Bases::Pulled) => {
                "nothing was there; pulling base images is measured, too".to_owned()
            }
            (Scenario::Cached, _) => "the same again".to_owned(),
            (scenario, _) => shown(self.project.edits(scenario)),
        }
    }

    /// The first build, which is not measured: it brings base images, and shows whether there is a result.
    fn warm_up(&mut self, position: usize) -> Result<(), Failure> {
        let one = &mut self.builders[position];
        self.meter.show(&format!("first build by {}, not measured", one.builder.name()));
        let mut result = one.builder.prepare(self.job);
        if result.is_ok() && self.job.bases == Bases::Kept {
            let commands = one.builder.commands(self.job, Freshness::Cached);
            result = timed(commands, &self.log, self.cancelled).map(drop);
            one.builder.after();
        }
        self.take(position, result).map(drop)
    }

    fn round(&mut self, round: usize, text: &str, scenarios: &[Scenario]) -> Result<(), Failure> {
        let mut order: Vec<usize> = (0..self.builders.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for scenario in scenarios {
            self.mark += 1;
            self.project.edit(*scenario, self.mark)?;
            for position in &order {
                if self.builders[*position].fault.is_none() {
                    self.meter.show(&format!(
                        "{text}: {}, {}",
                        scenario.name(),
                        self.builders[*position].builder.name()
                    ));
                    self.build(*position, *scenario)?;
                }
            }
        }
        Ok(())
    }

    fn build(&mut self, position: usize, scenario: Scenario) -> Result<(), Failure> {
        let one = &mut self.builders[position];
        let mut freshness = Freshness::Cached;
        if scenario == Scenario::Clean {
            freshness = Freshness::Clean;
            let ready = one.builder.forget(self.job);
            if !self.take(position, ready)? {
                return Ok(());
            }
        }
        self.busy_percent = self.busy_percent.max(machine::settle());
        let one = &mut self.builders[position];
        let result = timed(one.builder.commands(self.job, freshness), &self.log, self.cancelled);
        let took = result.as_ref().ok().copied();
        if !self.take(position, result.map(drop))? {
            return Ok(());
        }
        let one = &mut self.builders[position];
        one.builder.after();
        let took = took.unwrap_or_default();
        one.times_ms.entry(scenario).or_default().push(took.as_secs_f64() * 1000.0);
        if let Some(steps) = one.builder.steps() {
            one.steps.insert(scenario, steps);
        }
        self.meter.done((scenario.name(), one.builder.name()), took);
        Ok(())
    }

    /// Notes what went wrong; tells whether nothing did.
    fn take(&mut self, position: usize, result: Result<(), Fault>) -> Result<bool, Failure> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Failure::Interrupted);
        }
        let Err(fault) = result else { return Ok(true) };
        let one = &mut self.builders[position];
        let name = one.builder.name();
        self.meter.fault(name, &fault.message, &fault.said);
        if name == KILN {
            return Err(Failure::input(
                "bench",
                "there is nothing to measure: kiln does not build it",
            ));
        }
        one.fault = Some(fault);
        Ok(false)
    }
}
