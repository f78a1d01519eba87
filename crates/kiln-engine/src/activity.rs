//! Activities: numbers for lines of work, and their events.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use kiln_core::cause::Cause;
use kiln_core::digest::StepId;
use kiln_core::event::{
    Activity, ActivityId, Event, EventKind, EventSink, Outcome, Pace, Stream, Usage,
};
use kiln_core::report::Timeline;

use crate::solve::lock;

/// Hands out the numbers of one build, and keeps its timeline. Clones share both.
#[derive(Clone, Debug)]
pub(crate) struct Activities {
    sink: EventSink,
    timeline: Arc<Mutex<Timeline>>,
}

impl Activities {
    pub(crate) fn new(sink: EventSink) -> Self {
        Self { sink, timeline: Arc::default() }
    }

    /// Starts an activity that is no step of the plan.
    pub(crate) fn start(&self, name: impl Into<String>) -> Running<'_> {
        self.begin(name.into(), None, (None, Vec::new()), Pace::Lasting)
    }

    /// The same of one that is over soon unless steps have run.
    pub(crate) fn start_brief(&self, name: impl Into<String>) -> Running<'_> {
        self.begin(name.into(), None, (None, Vec::new()), Pace::Instant)
    }

    /// Starts a step: its line in the Dockerfile, and why it runs.
    pub(crate) fn start_step(
        &self,
        name: impl Into<String>,
        step: Option<StepId>,
        why: (Option<usize>, Vec<Cause>),
    ) -> Running<'_> {
        self.begin(name.into(), step, why, Pace::Lasting)
    }

    /// Starts a step that only looks: at the cache, or at files of a directory.
    pub(crate) fn start_look(
        &self,
        name: impl Into<String>,
        step: StepId,
        line: Option<usize>,
    ) -> Running<'_> {
        self.begin(name.into(), Some(step), (line, Vec::new()), Pace::Instant)
    }

    fn begin(
        &self,
        name: String,
        step: Option<StepId>,
        (line, causes): (Option<usize>, Vec<Cause>),
        pace: Pace,
    ) -> Running<'_> {
        let id = self.sink.number();
        self.emit(EventKind::Started(Activity { id, name, step, line, causes, pace }));
        Running { activities: self, id, completed: false }
    }

    /// Time since the start of the build.
    pub(crate) fn elapsed(&self) -> Duration {
        self.sink.elapsed()
    }

    /// What happened so far.
    pub(crate) fn timeline(&self) -> MutexGuard<'_, Timeline> {
        lock(&self.timeline)
    }

    /// Sends an event that the timeline tells of.
    fn emit(&self, kind: EventKind) {
        let event = Event { at: self.sink.elapsed(), kind };
        self.timeline().handle(event.at, &event.kind);
        self.sink.send(event);
    }

    /// Warns about the build as a whole.
    pub(crate) fn warn(&self, text: impl Into<String>) {
        self.sink.emit(EventKind::Warning(text.into()));
    }
}

/// An activity under way; dropped without an outcome, it was canceled.
#[derive(Debug)]
pub(crate) struct Running<'a> {
    activities: &'a Activities,
    id: ActivityId,
    completed: bool,
}

impl Running<'_> {
    pub(crate) fn log(&self, stream: Stream, bytes: &[u8]) {
        let bytes = bytes.to_vec();
        self.activities.emit(EventKind::Log { activity: self.id, stream, bytes });
    }

    pub(crate) fn progress(&self, item: &str, current_bytes: u64, total_bytes: Option<u64>) {
        let item = item.to_owned();
        let activity = self.id;
        self.activities.sink.emit(EventKind::Progress {
            activity,
            item,
            current_bytes,
            total_bytes,
        });
    }

    /// Notes what it used.
    pub(crate) fn used(&self, usage: Usage) {
        self.activities.emit(EventKind::Used { activity: self.id, usage });
    }

    pub(crate) fn complete(mut self, outcome: Outcome) {
        self.completed = true;
        self.activities.emit(EventKind::Completed { activity: self.id, outcome });
    }

    /// Completes by a result: done, or failed with its message.
    pub(crate) fn finish<T, E: std::fmt::Display>(self, result: &Result<T, E>) {
        match result {
            Ok(_) => self.complete(Outcome::Done),
            Err(error) => self.complete(Outcome::Failed(error.to_string())),
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.completed {
            let outcome = Outcome::Canceled;
            self.activities.emit(EventKind::Completed { activity: self.id, outcome });
        }
    }
}
