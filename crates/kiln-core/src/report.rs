//! What is known of a build when it is over: the fold of its events, and the steps that they were
//! about. History, `kiln explain` and reports are made of it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cause::Cause;
use crate::digest::{BlobDigest, CacheKey, ContentId, Recipe, StepId};
use crate::event::{ActivityId, EventKind, Outcome};

/// Number of a build in the history of a store, from 1; none is used twice.
pub type BuildId = u64;

/// A build that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildReport {
    /// Its number; 0 until it is kept.
    #[serde(skip)]
    pub id: BuildId,
    /// When it began, in milliseconds since 1970.
    pub started_unix_ms: u64,
    /// Until the last output was written.
    pub duration_ms: u64,
    /// What was built.
    pub place: Place,
    /// The words of the command, without what is secret; none if nobody said it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// The commit of the context's repository, if it is in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<Commit>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageReport>,
    /// How it ended: [`Outcome::Done`], failed or canceled.
    pub outcome: Outcome,
    /// All steps of its plan, in the order of the Dockerfile, sources first; none if it failed
    /// before there was a plan.
    #[serde(skip)]
    pub steps: Vec<StepReport>,
}

/// A commit of git.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Its name, in hexadecimal.
    pub id: String,
    /// The branch that was checked out, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
}

/// An image, or the files of one, that a build made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageReport {
    /// Name of the stage.
    pub target: String,
    /// What it runs on.
    pub platform: String,
    /// Digest of its config; `None` of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<BlobDigest>,
    /// Steps below it, sources apart.
    pub steps: usize,
    /// How many of them the cache had.
    pub cached: usize,
    /// Its layers.
    pub layers: usize,
    /// Bytes of the files in them.
    pub size_bytes: u64,
}

/// What a build builds: two builds of the same are compared with each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The context: an absolute directory, or the address it is fetched from.
    pub context: String,
    /// The Dockerfile, absolute when it is a file.
    pub dockerfile: String,
    /// Stages asked for; empty is the last one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// Platforms built for.
    pub platforms: Vec<String>,
}

/// A step of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// As progress shows it: `[app 2/5] RUN uv sync`.
    pub name: String,
    /// Line of the Dockerfile, from 1; `None` for what no instruction names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The last line of its instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_line: Option<usize>,
    /// Hash of the instruction as it is written, variables as they are: by it, it is found again in
    /// another build. 0 if it is not written there.
    pub written: u64,
    /// What it works on, as positions in [`BuildReport::steps`]; `None` is the empty file system.
    pub inputs: Vec<Option<u32>>,
    /// What image it is, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseReport>,
    /// Its operation.
    pub recipe: Recipe,
    /// Its key, once that was known: with it, the store knows its parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<CacheKey>,
    /// What it made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<ContentId>,
    /// How it ended; `None` if the build ended before it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// When it began, since the build did.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub started_ms: u64,
    /// How long it took.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub duration_ms: u64,
    /// Why it ran.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// The build that the causes compare it with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared_with: Option<BuildId>,
}

/// A base image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseReport {
    /// Its name.
    pub reference: String,
    /// Digest of its manifest.
    pub manifest: BlobDigest,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// `[stage 2/5] RUN x`: what stands in the brackets, and after them.
fn parts(name: &str) -> (&str, &str) {
    let named = name.strip_prefix('[').and_then(|name| name.split_once("] "));
    named.unwrap_or(("", name))
}

/// The stage (and platform) that a step of this name belongs to; empty if there is only one.
pub fn stage(name: &str) -> &str {
    let (place, _) = parts(name);
    let place = place.trim_end_matches(|character: char| character.is_ascii_digit());
    match place.strip_suffix('/') {
        // `2/5`, or ` 2/12`: numbers are as wide as the last one.
        Some(rest) => {
            rest.trim_end_matches(|character: char| character.is_ascii_digit()).trim_end()
        }
        // `[internal] load build context`
        None => "",
    }
}

impl StepReport {
    /// The stage (and platform) that it belongs to; empty if there is only one.
    pub fn stage(&self) -> &str {
        stage(&self.name)
    }

    /// The instruction: `RUN uv sync`.
    pub fn text(&self) -> &str {
        parts(&self.name).1
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
    /// Why it ran.
    pub causes: Vec<Cause>,
    /// The end of what it wrote.
    pub log: Vec<u8>,
}

impl Lane {
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

    fn named(name: &str) -> StepReport {
        StepReport {
            name: name.to_owned(),
            line: None,
            last_line: None,
            written: 0,
            inputs: Vec::new(),
            base: None,
            recipe: Recipe::from_bytes([0; 32]),
            key: None,
            content: None,
            outcome: None,
            started_ms: 0,
            duration_ms: 0,
            causes: Vec::new(),
            compared_with: None,
        }
    }

    #[test]
    fn the_last_lines_of_a_log_are_kept() {
        use crate::event::{Activity, Pace, Stream};

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
