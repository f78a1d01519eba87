//! The fold of a build's events: which steps began and ended, and when.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cause::Cause;
use crate::digest::StepId;
use crate::event::{ActivityId, EventKind, Outcome, Usage};

/// The fold of a build's events: which steps began and ended, and when.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    steps: BTreeMap<StepId, Lane>,
    running: BTreeMap<ActivityId, StepId>,
}

/// So much of what a step wrote is kept: the last of it.
pub const KEPT_LOG_BYTES: usize = 64 << 10;

/// What happened to one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// When it began, since the start of the build.
    pub started: Duration,
    /// How long it took.
    pub duration: Duration,
    /// How it ended; `None` while it runs.
    pub outcome: Option<Outcome>,
    /// What it used, once that is known.
    pub usage: Option<Usage>,
    /// Why it ran.
    pub causes: Vec<Cause>,
    /// The end of what it wrote.
    pub log: Vec<u8>,
}

impl Lane {
    /// When it ended, since the start of the build.
    pub fn ended(&self) -> Duration {
        self.started + self.duration
    }

    /// Takes more of what it writes.
    fn write(&mut self, bytes: &[u8]) {
        self.log.extend_from_slice(bytes);
        // Now and then, not for each line.
        if self.log.len() > 2 * KEPT_LOG_BYTES {
            self.cut_log();
        }
    }

    /// Leaves the last lines that fit.
    fn cut_log(&mut self) {
        let Some(surplus) = self.log.len().checked_sub(KEPT_LOG_BYTES + 1) else { return };
        let line_end = self.log[surplus..].iter().position(|byte| *byte == b'\n');
        self.log.drain(..surplus + line_end.map_or(1, |end| end + 1));
    }
}

impl Timeline {
    /// Takes the next event, which happened at `at` since the start of the build.
    pub fn handle(&mut self, at: Duration, event: &EventKind) {
        match event {
            EventKind::Started(activity) => {
                if let Some(step) = activity.step {
                    let causes = activity.causes.clone();
                    let lane = Lane {
                        started: at,
                        duration: Duration::ZERO,
                        outcome: None,
                        usage: None,
                        causes,
                        log: Vec::new(),
                    };
                    self.steps.insert(step, lane);
                    self.running.insert(activity.id, step);
                }
            }
            EventKind::Completed { activity, outcome } => {
                let step = self.running.remove(activity);
                if let Some(lane) = step.and_then(|step| self.steps.get_mut(&step)) {
                    lane.duration = at.saturating_sub(lane.started);
                    lane.outcome = Some(outcome.clone());
                    lane.cut_log();
                }
            }
            EventKind::Used { activity, usage } => {
                let step = self.running.get(activity);
                if let Some(lane) = step.and_then(|step| self.steps.get_mut(step)) {
                    lane.usage = Some(*usage);
                }
            }
            EventKind::Log { activity, bytes, .. } => {
                let step = self.running.get(activity);
                if let Some(lane) = step.and_then(|step| self.steps.get_mut(step)) {
                    lane.write(bytes);
                }
            }
            EventKind::Progress { .. } | EventKind::Warning(_) => {}
        }
    }

    /// What happened to a step, if it began.
    pub fn step(&self, id: &StepId) -> Option<&Lane> {
        self.steps.get(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Activity, Pace, Stream};

    #[test]
    fn the_last_lines_of_a_log_are_kept() {
        let mut timeline = Timeline::default();
        let step = StepId::from_bytes([1; 32]);
        let activity = Activity {
            id: 1,
            name: "x".into(),
            step: Some(step),
            line: None,
            causes: Vec::new(),
            pace: Pace::Lasting,
        };
        timeline.handle(Duration::ZERO, &EventKind::Started(activity));
        for number in 0..40_000 {
            let bytes = format!("line {number}\n").into_bytes();
            let stream = Stream::Stdout;
            timeline.handle(Duration::ZERO, &EventKind::Log { activity: 1, stream, bytes });
        }
        let done = EventKind::Completed { activity: 1, outcome: Outcome::Done };
        timeline.handle(Duration::from_secs(1), &done);
        let log = &timeline.step(&step).unwrap().log;
        assert!(log.len() <= KEPT_LOG_BYTES && log.len() > KEPT_LOG_BYTES - 20, "{}", log.len());
        assert!(log.starts_with(b"line ") && log.ends_with(b"line 39999\n"));
    }
}
