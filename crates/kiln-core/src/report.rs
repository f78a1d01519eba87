//! What is known of a build when it is over: the fold of its events, and the steps that they were
//! about. History, `kiln explain` and reports are made of it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cause::Cause;
use crate::digest::{BlobDigest, CacheKey, ContentId, StepId};
use crate::event::{ActivityId, EventKind, Outcome};

/// Number of a build in the history of a store, from 1; none is used twice.
pub type BuildId = u64;

/// A build that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildReport {
    /// Its number; 0 until it is kept.
    pub id: BuildId,
    /// When it began, in milliseconds since 1970.
    pub started_unix_ms: u64,
    /// Until the last output was written.
    pub duration: Duration,
    /// What was built.
    pub place: Place,
    /// How it ended: [`Outcome::Done`], failed or canceled.
    pub outcome: Outcome,
    /// All steps of its plan, in the order of the Dockerfile, sources first; none if it failed
    /// before there was a plan.
    pub steps: Vec<StepReport>,
}

/// What a build builds: two builds of the same are compared with each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The context: an absolute directory, or the address it is fetched from.
    pub context: String,
    /// The Dockerfile, absolute when it is a file.
    pub dockerfile: String,
    /// Stages asked for; empty is the last one.
    pub targets: Vec<String>,
    /// Platforms built for.
    pub platforms: Vec<String>,
}

/// A step of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepReport {
    /// As progress shows it: `[app 2/5] RUN uv sync`.
    pub name: String,
    /// Line of the Dockerfile, from 1; `None` for what no instruction names.
    pub line: Option<usize>,
    /// Hash of the instruction as it is written, variables as they are: by it, it is found again in
    /// another build. 0 if it is not written there.
    pub written: u64,
    /// What it works on, as positions in [`BuildReport::steps`]; `None` is the empty file system.
    pub inputs: Vec<Option<u32>>,
    /// What image it is, if it is one.
    pub base: Option<BaseReport>,
    /// Its operation, as [`crate::cache_key::recipe`] has it.
    pub recipe: [u8; 32],
    /// Its key, once that was known: with it, the store knows its parts.
    pub key: Option<CacheKey>,
    /// What it made.
    pub content: Option<ContentId>,
    /// How it ended; `None` if the build ended before it began.
    pub outcome: Option<Outcome>,
    /// How long it took.
    pub duration: Duration,
    /// Why it ran.
    pub causes: Vec<Cause>,
    /// The build that the causes compare it with.
    pub compared_with: Option<BuildId>,
}

/// A base image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseReport {
    /// Its name.
    pub reference: String,
    /// Digest of its manifest.
    pub manifest: BlobDigest,
}

impl StepReport {
    /// `[stage 2/5] RUN x`: what stands in the brackets, and after them.
    fn parts(&self) -> (&str, &str) {
        let named = self.name.strip_prefix('[').and_then(|name| name.split_once("] "));
        named.unwrap_or(("", &self.name))
    }

    /// The stage (and platform) that it belongs to; empty if there is only one.
    pub fn stage(&self) -> &str {
        let (place, _) = self.parts();
        let place = place.trim_end_matches(|character: char| character.is_ascii_digit());
        match place.strip_suffix('/') {
            // `2/5`, or ` 2/12`: numbers are as wide as the last one.
            Some(rest) => {
                rest.trim_end_matches(|character: char| character.is_ascii_digit()).trim_end()
            }
            None => place,
        }
    }

    /// The instruction: `RUN uv sync`.
    pub fn text(&self) -> &str {
        self.parts().1
    }

    /// Its first word.
    pub fn keyword(&self) -> &str {
        self.text().split(' ').next().unwrap_or_default()
    }

    /// Whether it is the same instruction as one of another build, whatever its variables stand for.
    pub fn is_same_instruction(&self, other: &Self) -> bool {
        self.recipe == other.recipe
            || self.text() == other.text()
            || (self.written != 0 && self.written == other.written)
    }

    /// Whether it stands in the Dockerfile.
    pub fn is_instruction(&self) -> bool {
        self.line.is_some()
    }
}

/// The fold of a build's events: which steps began and ended, and when.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    steps: BTreeMap<StepId, Lane>,
    running: BTreeMap<ActivityId, StepId>,
}

/// What happened to one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// When it began, since the start of the build.
    pub started: Duration,
    /// How long it took.
    pub duration: Duration,
    /// How it ended; `None` while it runs.
    pub outcome: Option<Outcome>,
    /// Why it ran.
    pub causes: Vec<Cause>,
}

impl Timeline {
    /// Takes the next event, which happened at `at` since the start of the build.
    pub fn handle(&mut self, at: Duration, event: &EventKind) {
        match event {
            EventKind::Started(activity) => {
                if let Some(step) = activity.step {
                    let causes = activity.causes.clone();
                    let lane =
                        Lane { started: at, duration: Duration::ZERO, outcome: None, causes };
                    self.steps.insert(step, lane);
                    self.running.insert(activity.id, step);
                }
            }
            EventKind::Completed { activity, outcome } => {
                let step = self.running.remove(activity);
                if let Some(lane) = step.and_then(|step| self.steps.get_mut(&step)) {
                    lane.duration = at.saturating_sub(lane.started);
                    lane.outcome = Some(outcome.clone());
                }
            }
            EventKind::Log { .. } | EventKind::Progress { .. } | EventKind::Warning(_) => {}
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

    fn named(name: &str) -> StepReport {
        StepReport {
            name: name.to_owned(),
            line: None,
            written: 0,
            inputs: Vec::new(),
            base: None,
            recipe: [0; 32],
            key: None,
            content: None,
            outcome: None,
            duration: Duration::ZERO,
            causes: Vec::new(),
            compared_with: None,
        }
    }

    #[test]
    fn names_have_a_stage_and_an_instruction() {
        let parts = |name: &str| {
            let step = named(name);
            format!("{:?} {:?} {:?}", step.stage(), step.keyword(), step.text())
        };
        assert_eq!(parts("[app 2/5] RUN uv sync"), r#""app" "RUN" "RUN uv sync""#);
        assert_eq!(parts("[ 2/12] RUN x"), r#""" "RUN" "RUN x""#);
        assert_eq!(
            parts("[linux/arm64 stage-1  2/12] COPY a b"),
            r#""linux/arm64 stage-1" "COPY" "COPY a b""#
        );
        assert_eq!(parts("FROM a:1"), r#""" "FROM" "FROM a:1""#);
        assert_eq!(parts("[v1 1/2] ONBUILD RUN x"), r#""v1" "ONBUILD" "ONBUILD RUN x""#);
    }
}
