//! The fold that a live display shows: every activity, what it is doing, how it ended.

use std::collections::VecDeque;
use std::time::Duration;

use kiln_core::event::{Activity, ActivityId, Event, EventKind, Outcome, Stream};

use crate::render::text::LineBuffer;

/// Lines of a running command that are kept to be shown.
pub(crate) const TAIL_LINES: usize = 6;

/// All activities in the order of their start, and the warnings.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// By start.
    pub(crate) activities: Vec<ActivityState>,
    /// In order.
    pub(crate) warnings: Vec<String>,
}

/// One activity.
#[derive(Debug)]
pub(crate) struct ActivityState {
    /// What began.
    pub(crate) activity: Activity,
    /// When it began.
    pub(crate) started: Duration,
    /// When and how it ended.
    pub(crate) ended: Option<(Duration, Outcome)>,
    /// Its transfers in the order in which they began.
    pub(crate) transfers: Vec<Transfer>,
    /// The last lines of its output.
    pub(crate) tail: VecDeque<String>,
    stdout: LineBuffer,
    stderr: LineBuffer,
}

/// How far a transfer is.
#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    /// What is transferred.
    pub(crate) item: String,
    /// Bytes so far.
    pub(crate) current_bytes: u64,
    /// Bytes in all, if known.
    pub(crate) total_bytes: Option<u64>,
    /// When the first word of it came.
    pub(crate) started: Duration,
    /// When the last word of it came.
    pub(crate) updated: Duration,
}

impl Transfer {
    /// Whether all bytes are there.
    pub(crate) fn is_complete(&self) -> bool {
        self.total_bytes == Some(self.current_bytes)
    }

    /// The transfer of `item` in `transfers`, made when it is new, with what came at `at`.
    pub(crate) fn update(
        transfers: &mut Vec<Self>,
        item: &str,
        bytes: (u64, Option<u64>),
        at: Duration,
    ) -> usize {
        let index = transfers.iter().position(|transfer| transfer.item == item);
        let index = index.unwrap_or_else(|| {
            transfers.push(Self {
                item: item.to_owned(),
                current_bytes: 0,
                total_bytes: None,
                started: at,
                updated: at,
            });
            transfers.len() - 1
        });
        let transfer = &mut transfers[index];
        (transfer.current_bytes, transfer.total_bytes) = bytes;
        transfer.updated = at;
        index
    }
}

impl State {
    /// Takes the next event.
    pub(crate) fn handle(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Started(activity) => self.activities.push(ActivityState {
                activity: activity.clone(),
                started: event.at,
                ended: None,
                transfers: Vec::new(),
                tail: VecDeque::new(),
                stdout: LineBuffer::default(),
                stderr: LineBuffer::default(),
            }),
            EventKind::Log { activity, stream, bytes } => {
                if let Some(state) = self.activity(*activity) {
                    state.log(*stream, bytes);
                }
            }
            EventKind::Progress { activity, item, current_bytes, total_bytes } => {
                if let Some(state) = self.activity(*activity) {
                    let bytes = (*current_bytes, *total_bytes);
                    Transfer::update(&mut state.transfers, item, bytes, event.at);
                }
            }
            EventKind::Completed { activity, outcome } => {
                if let Some(state) = self.activity(*activity) {
                    state.ended = Some((event.at, outcome.clone()));
                    state.tail.clear();
                }
            }
            EventKind::Warning(text) => self.warnings.push(text.clone()),
            EventKind::Used { .. } => {}
        }
    }

    /// How many activities have ended.
    pub(crate) fn ended(&self) -> usize {
        let ended = self.activities.iter().filter(|state| state.ended.is_some());
        ended.count()
    }

    fn activity(&mut self, id: ActivityId) -> Option<&mut ActivityState> {
        // The one that speaks is nearly always one of the last that began.
        let mut states = self.activities.iter_mut().rev();
        states.find(|state| state.activity.id == id)
    }
}

impl ActivityState {
    /// How long it took, or has been taking until `now`.
    pub(crate) fn elapsed(&self, now: Duration) -> Duration {
        let end = self.ended.as_ref().map_or(now, |(at, _)| *at);
        end.saturating_sub(self.started)
    }

    fn log(&mut self, stream: Stream, bytes: &[u8]) {
        let buffer = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        for line in buffer.push(bytes) {
            if line.trim().is_empty() {
                continue;
            }
            if self.tail.len() == TAIL_LINES {
                self.tail.pop_front();
            }
            self.tail.push_back(line);
        }
    }
}
