//! Progress as a log, in BuildKit's format.
//!
//! ```text
//! #5 [app 2/5] RUN uv sync
//! #5 because: uv.lock changed
//! #5 0.123 Resolved 42 packages
//! #5 DONE 0.3s
//! ```
//!
//! One activity has the floor and writes as things happen; what others say waits until it ends,
//! so that their lines do not mix. When another has waited for [`PATIENCE`], the floor goes over
//! (`#5 ...`), and a blank line stands between. Everything follows from the events and their
//! times: the same stream gives the same text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use kiln_core::event::{ActivityId, Event, EventKind, Outcome, Stream};

use super::state::Transfer;
use super::tty::{one_line, transfer_text};
use crate::render::text::LineBuffer;

/// How long an activity waits for the floor.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a transfer that goes on is mentioned.
const TRANSFER_INTERVAL: Duration = Duration::from_secs(5);

/// The fold.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    lanes: BTreeMap<ActivityId, Lane>,
    floor: Option<ActivityId>,
    wrote: bool,
}

/// What one activity has to say.
#[derive(Debug)]
struct Lane {
    id: ActivityId,
    name: String,
    started: Duration,
    ended: bool,
    pending: Vec<String>,
    waits_since: Duration,
    stdout: LineBuffer,
    stderr: LineBuffer,
    transfers: Vec<Transfer>,
    mentioned: Vec<Duration>,
}

impl Plain {
    /// Takes the next event; gives what is to be written now.
    pub(crate) fn handle(&mut self, event: &Event) -> String {
        let mut output = String::new();
        match &event.kind {
            EventKind::Started(activity) => {
                let mut lane = Lane {
                    id: activity.id,
                    name: one_line(&activity.name),
                    started: event.at,
                    ended: false,
                    pending: Vec::new(),
                    waits_since: event.at,
                    stdout: LineBuffer::default(),
                    stderr: LineBuffer::default(),
                    transfers: Vec::new(),
                    mentioned: Vec::new(),
                };
                for cause in &activity.causes {
                    lane.say(event.at, &format!("because: {}", one_line(&cause.to_string())));
                }
                self.lanes.insert(activity.id, lane);
            }
            EventKind::Warning(text) => {
                // About the build as a whole: it interrupts whoever speaks.
                self.yield_floor(&mut output);
                self.blank(&mut output);
                let _ = writeln!(output, "WARNING: {}", one_line(text));
            }
            EventKind::Used { .. } => {}
            EventKind::Log { activity, .. }
            | EventKind::Progress { activity, .. }
            | EventKind::Completed { activity, .. } => {
                if let Some(lane) = self.lanes.get_mut(activity) {
                    lane.handle(event);
                }
            }
        }
        output + &self.tick(event.at)
    }

    /// Time has passed; gives what is to be written now.
    pub(crate) fn tick(&mut self, now: Duration) -> String {
        let mut output = String::new();
        loop {
            self.drain_floor(&mut output);
            let waiting = self.lanes.values();
            let next = waiting
                .filter(|lane| lane.waits_since != NOTHING && Some(lane.id) != self.floor)
                .min_by_key(|lane| (lane.waits_since, lane.id))
                .map(|lane| (lane.id, lane.waits_since));
            let Some((id, since)) = next else {
                return output;
            };
            if self.floor.is_some() && now.saturating_sub(since) < PATIENCE {
                return output;
            }
            self.yield_floor(&mut output);
            self.blank(&mut output);
            self.floor = Some(id);
            if let Some(lane) = self.lanes.get_mut(&id) {
                let _ = writeln!(output, "#{id} {}", lane.name);
                lane.waits_since = NOTHING;
            }
        }
    }

    /// The build is over; gives all that was not written yet.
    pub(crate) fn finish(&mut self, now: Duration) -> String {
        for lane in self.lanes.values_mut() {
            lane.drain_buffers(now);
        }
        self.tick(now + PATIENCE)
    }

    /// Writes what the one with the floor has to say; it loses the floor when it has ended.
    fn drain_floor(&mut self, output: &mut String) {
        let Some(lane) = self.floor.and_then(|id| self.lanes.get_mut(&id)) else {
            return;
        };
        for line in lane.pending.drain(..) {
            let _ = writeln!(output, "{line}");
        }
        lane.waits_since = NOTHING;
        if lane.ended {
            self.floor.take().and_then(|id| self.lanes.remove(&id));
        }
    }

    fn yield_floor(&mut self, output: &mut String) {
        if let Some(id) = self.floor.take() {
            let _ = writeln!(output, "#{id} ...");
        }
    }

    fn blank(&mut self, output: &mut String) {
        if self.wrote {
            output.push('\n');
        }
        self.wrote = true;
    }
}

/// `waits_since` of a lane that has nothing to say.
const NOTHING: Duration = Duration::MAX;

impl Lane {
    fn say(&mut self, at: Duration, text: &str) {
        self.waits_since = self.waits_since.min(at);
        self.pending.push(format!("#{} {text}", self.id).trim_end().to_owned());
    }

    fn handle(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Log { stream, bytes, .. } => {
                let buffer = match stream {
                    Stream::Stdout => &mut self.stdout,
                    Stream::Stderr => &mut self.stderr,
                };
                let lines = buffer.push(bytes);
                self.say_logged(event.at, lines);
            }
            EventKind::Progress { item, current_bytes, total_bytes, .. } => {
                let bytes = (*current_bytes, *total_bytes);
                let index = Transfer::update(&mut self.transfers, item, bytes, event.at);
                if index == self.mentioned.len() {
                    self.mentioned.push(event.at);
                }
                let due = event.at.saturating_sub(self.mentioned[index]) >= TRANSFER_INTERVAL;
                if self.mentioned[index] != NOTHING && (due || self.transfers[index].is_complete())
                {
                    self.mention(index, event.at);
                }
            }
            EventKind::Completed { outcome, .. } => self.complete(event.at, outcome),
            EventKind::Started(_) | EventKind::Used { .. } | EventKind::Warning(_) => {}
        }
    }

    fn mention(&mut self, index: usize, at: Duration) {
        let transfer = &self.transfers[index];
        let time = transfer.updated.saturating_sub(transfer.started);
        let done = transfer.is_complete();
        let mut text = format!("{} {:.1}s", transfer_text(transfer), time.as_secs_f64());
        if done {
            text.push_str(" done");
        }
        self.mentioned[index] = if done { NOTHING } else { at };
        self.say(at, &text);
    }

    fn complete(&mut self, at: Duration, outcome: &Outcome) {
        self.drain_buffers(at);
        for index in 0..self.transfers.len() {
            if self.mentioned[index] != NOTHING {
                let current = self.transfers[index].current_bytes;
                if matches!(outcome, Outcome::Done) {
                    self.transfers[index].total_bytes = Some(current);
                }
                self.mention(index, at);
            }
        }
        let time = at.saturating_sub(self.started).as_secs_f64();
        let text = match outcome {
            Outcome::Cached => "CACHED".to_owned(),
            Outcome::Done => format!("DONE {time:.1}s"),
            Outcome::Unchanged => format!("DONE {time:.1}s, result unchanged"),
            Outcome::Failed(message) => format!("ERROR: {}", one_line(message)),
            Outcome::Canceled => "CANCELED".to_owned(),
        };
        self.say(at, &text);
        self.ended = true;
    }

    fn drain_buffers(&mut self, at: Duration) {
        let rest: Vec<String> =
            [self.stdout.finish(), self.stderr.finish()].into_iter().flatten().collect();
        self.say_logged(at, rest);
    }

    fn say_logged(&mut self, at: Duration, lines: Vec<String>) {
        let time = at.saturating_sub(self.started).as_secs_f64();
        for line in lines {
            self.say(at, &format!("{time:.3} {line}"));
        }
    }
}
