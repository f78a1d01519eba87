//! What leaves a build while it runs.
//!
//! Progress in a terminal, the plain log, JSON lines, history and reports are folds of one
//! stream of [`Event`]s. An activity is one line of work that a person may want to see: a step of
//! the plan, or work around it such as loading metadata or writing an output. Secrets never enter.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::cause::Cause;
use crate::digest::StepId;

/// Number of an activity within one build, from 1 in the order of their start.
pub type ActivityId = u32;

/// An event and when it happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// Time since the start of the build.
    pub at: Duration,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum EventKind {
    /// An activity began; its number was not used before.
    Started(Activity),
    /// Output of a command.
    Log {
        /// Whose.
        activity: ActivityId,
        /// Where it was written.
        stream: Stream,
        /// Bytes as they came: any encoding, lines may be cut anywhere.
        bytes: Vec<u8>,
    },
    /// How far a transfer is.
    Progress {
        /// Whose.
        activity: ActivityId,
        /// What is transferred, unique within the activity (`sha256:…`, `transferring context`).
        item: String,
        /// Bytes so far.
        current_bytes: u64,
        /// Bytes in all, if known.
        total_bytes: Option<u64>,
    },
    /// What the command of an activity used, or the thread that did it.
    Used {
        /// Whose.
        activity: ActivityId,
        /// So much.
        usage: Usage,
    },
    /// An activity ended.
    Completed {
        /// Which.
        activity: ActivityId,
        /// How.
        outcome: Outcome,
    },
    /// Something that the user should know, about the build as a whole.
    Warning(String),
}

/// One line of work.
#[derive(Clone, Debug)]
pub struct Activity {
    /// Its number.
    pub id: ActivityId,
    /// As progress shows it: `[app 2/5] RUN uv sync`, `[internal] load .dockerignore`.
    pub name: String,
    /// The step of the plan, if it is one.
    pub step: Option<StepId>,
    /// Line of the Dockerfile, from 1, if it is a step.
    pub line: Option<usize>,
    /// Why it was not answered by the cache, one cause each.
    pub causes: Vec<Cause>,
    /// How long it is likely to take.
    pub pace: Pace,
}

/// How long an activity is likely to take: whether somebody who watches wants to see it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Less than anyone would notice.
    Instant,
    /// Perhaps longer.
    Lasting,
}

/// What work used, as the kernel counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time in programs.
    pub user_ms: u64,
    /// Processor time in the kernel.
    pub system_ms: u64,
    /// The most memory that one of its processes had; `None` if that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    /// Read from disks: what was in memory already is not.
    pub read_bytes: u64,
    /// To be written to disks.
    pub written_bytes: u64,
}

/// Standard output or error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How an activity ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It did its work.
    Done,
    /// The cache had the result.
    Cached,
    /// It ran, and what it made is equal to what is there: nothing that follows has to run.
    Unchanged,
    /// It failed, with a message of one line.
    Failed(String),
    /// The build ended before it did.
    Canceled,
}

/// Where events go in; cheap to clone, one for each thread.
#[derive(Clone)]
pub struct EventSink {
    out: Arc<dyn Fn(Event) + Send + Sync>,
    start: Instant,
    /// The number of the next activity, the same for all who write here.
    next: Arc<AtomicU32>,
    /// The one of several targets that it is about.
    whose: Option<Arc<str>>,
}

impl fmt::Debug for EventSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSink").field("whose", &self.whose).finish_non_exhaustive()
    }
}

impl EventSink {
    /// A sink that hands events to `out`, on the thread where they happen. Times count from `start`.
    pub fn new(out: impl Fn(Event) + Send + Sync + 'static, start: Instant) -> Self {
        Self { out: Arc::new(out), start, next: Arc::new(AtomicU32::new(1)), whose: None }
    }

    /// The same place for the events of one of several targets: its name stands in those of
    /// activities.
    #[must_use]
    pub fn of(&self, target: Option<&str>) -> Self {
        Self { whose: target.map(Arc::from), ..self.clone() }
    }

    /// A number for an activity.
    pub fn number(&self) -> ActivityId {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Time since the start of the build.
    #[expect(
        clippy::disallowed_methods,
        reason = "an event is dated where it is sent, by the clock that the caller started; the \
                  time decides nothing"
    )]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Sends an event.
    pub fn emit(&self, kind: EventKind) {
        self.send(Event { at: self.elapsed(), kind });
    }

    /// The same with an event that is dated already.
    pub fn send(&self, mut event: Event) {
        if let Some(whose) = &self.whose {
            event.kind = event.kind.of(whose);
        }
        (self.out)(event);
    }
}

impl EventKind {
    /// The same with the name of a target: `[app 2/5] RUN …` of the target `web` is
    /// `[web app 2/5] RUN …`.
    fn of(self, target: &str) -> Self {
        match self {
            Self::Started(activity) => {
                let name = match activity.name.strip_prefix('[') {
                    Some(rest) => format!("[{target} {rest}"),
                    None => format!("[{target}] {}", activity.name),
                };
                Self::Started(Activity { name, ..activity })
            }
            Self::Warning(text) => Self::Warning(format!("{target}: {text}")),
            other => other,
        }
    }
}
