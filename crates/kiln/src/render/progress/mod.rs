//! Progress of a build: folds of its events, shown on standard error by one thread.

mod plain;
mod rawjson;
mod state;
mod tty;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kiln_core::event::{Event, EventKind, EventSink, Pace};

use super::style::Style;
use super::terminal;
use plain::Plain;
use rawjson::RawJson;
use state::State;
pub(crate) use tty::one_line;
use tty::{Painter, Phase, Screen, frame};

/// Time between two frames: 15 a second.
const FRAME: Duration = Duration::from_millis(66);

/// Events that come within this time are shown together: each one that is waited for costs the
/// build a change of threads.
const GATHER: Duration = Duration::from_millis(4);

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Live, in place.
    Tty,
    /// As a log.
    Plain,
    /// As JSON lines.
    RawJson,
    /// Not at all.
    Quiet,
}

/// One of the folds.
#[derive(Debug)]
enum Fold {
    Tty { state: State, painter: Painter, style: Style },
    Plain(Plain),
    RawJson(RawJson),
}

impl Fold {
    /// `None` if nothing is to be shown.
    fn new(mode: Mode, style: Style) -> Option<Self> {
        Some(match mode {
            Mode::Tty => Self::Tty { state: State::default(), painter: Painter::default(), style },
            Mode::Plain => Self::Plain(Plain::default()),
            Mode::RawJson => Self::RawJson(RawJson::new(Timestamp::now())),
            Mode::Quiet => return None,
        })
    }

    /// Takes an event; gives what is to be written now.
    fn handle(&mut self, event: &Event) -> String {
        match self {
            Self::Tty { state, .. } => {
                state.handle(event);
                String::new()
            }
            Self::Plain(plain) => plain.handle(event),
            Self::RawJson(json) => json.handle(event),
        }
    }

    /// Time has passed; gives what is to be written now.
    fn tick(&mut self, now: Duration) -> String {
        match self {
            Self::Tty { state, painter, style } if !state.activities.is_empty() => {
                let (columns, rows) = terminal::size();
                let screen = Screen { columns, rows: Some(rows), style: *style };
                painter.paint(&frame(state, now, screen, Phase::Running), columns)
            }
            Self::Plain(plain) => plain.tick(now),
            _ => String::new(),
        }
    }

    /// The build is over; gives the rest.
    fn finish(&mut self, now: Duration) -> String {
        match self {
            Self::Tty { state, painter, style } => {
                let (columns, _) = terminal::size();
                let screen = Screen { columns, rows: None, style: *style };
                let mut output = painter.paint(&frame(state, now, screen, Phase::Ended), columns);
                for warning in &state.warnings {
                    for line in super::diagnostic::warning_lines(warning, *style) {
                        output.push_str(&line);
                        output.push('\n');
                    }
                }
                output
            }
            Self::Plain(plain) => plain.finish(now),
            Self::RawJson(_) => String::new(),
        }
    }
}

/// A display that runs beside a build, on a thread of its own.
///
/// The thread begins with the first activity that may last: a build that the cache answers is over
/// before anyone has read a line, and does without.
#[derive(Debug)]
pub(crate) struct Display {
    sink: EventSink,
    shared: Arc<Shared>,
}

/// What the display and its sink share.
#[derive(Debug)]
struct Shared {
    start: Instant,
    ended: AtomicBool,
    stage: Mutex<Stage>,
}

/// How far a display is.
#[derive(Debug)]
enum Stage {
    /// Events wait.
    Waiting(Box<Fold>, Receiver<Event>),
    /// The thread shows them.
    Shown(JoinHandle<()>),
    /// Nobody will.
    Over,
}

impl Shared {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the thread, unless it runs.
    fn begin(self: &Arc<Self>) -> std::io::Result<()> {
        let mut stage = self.stage();
        let (mut fold, receiver) = match std::mem::replace(&mut *stage, Stage::Over) {
            Stage::Waiting(fold, receiver) => (fold, receiver),
            other => {
                *stage = other;
                return Ok(());
            }
        };
        let shared = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name("progress".to_owned())
            .spawn(move || show(&mut fold, &receiver, &shared))?;
        *stage = Stage::Shown(thread);
        Ok(())
    }
}

impl Display {
    /// Prepares to show what comes into [`Display::sink`].
    ///
    /// # Errors
    /// When a live display can have no thread.
    pub(crate) fn start(mode: Mode, style: Style) -> std::io::Result<Self> {
        let start = Instant::now();
        let (sender, receiver) = channel();
        let waiting = |fold| Stage::Waiting(Box::new(fold), receiver);
        let stage = Fold::new(mode, style).map_or(Stage::Over, waiting);
        let shared =
            Arc::new(Shared { start, ended: AtomicBool::new(false), stage: Mutex::new(stage) });
        if mode == Mode::Tty {
            shared.begin()?;
        }
        let watched = Arc::clone(&shared);
        let out = move |event: Event| {
            let lasts = matches!(&event.kind, EventKind::Started(activity) if activity.pace == Pace::Lasting);
            // A display that is gone, or has no thread, must not fail the build.
            let _ = sender.send(event);
            if lasts {
                let _ = watched.begin();
            }
        };
        Ok(Self { sink: EventSink::new(out, start), shared })
    }

    /// Where the build's events go.
    pub(crate) fn sink(&self) -> &EventSink {
        &self.sink
    }

    /// The build is over: shows the rest, and gives the terminal back.
    pub(crate) fn finish(self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // The thread ends at once when this was the last sink, else with its next tick.
        drop(self.sink);
        let stage = std::mem::replace(&mut *self.shared.stage(), Stage::Over);
        match stage {
            Stage::Waiting(mut fold, receiver) => show(&mut fold, &receiver, &self.shared),
            Stage::Shown(thread) => {
                thread.thread().unpark();
                // A panic there was reported by the hook.
                let _ = thread.join();
            }
            Stage::Over => {}
        }
    }
}

fn show(fold: &mut Fold, receiver: &Receiver<Event>, shared: &Shared) {
    let Shared { start, ended, .. } = shared;
    let live = matches!(fold, Fold::Tty { .. });
    let mut next_frame = FRAME;
    loop {
        let wait = next_frame.saturating_sub(start.elapsed());
        let received = receiver.recv_timeout(wait);
        let mut output = String::new();
        if let Ok(event) = &received {
            output = fold.handle(event);
            while let Ok(event) = receiver.try_recv() {
                output.push_str(&fold.handle(&event));
            }
        }
        let over = match received {
            Ok(_) => {
                terminal::stderr(&std::mem::take(&mut output));
                // Set before this thread is woken, so that the wake is not missed.
                if !ended.load(Ordering::SeqCst) {
                    std::thread::park_timeout(GATHER);
                }
                false
            }
            Err(RecvTimeoutError::Timeout) => ended.load(Ordering::SeqCst),
            Err(RecvTimeoutError::Disconnected) => true,
        };
        if over {
            break terminal::stderr(&output);
        }
        let now = start.elapsed();
        if now >= next_frame {
            if live {
                terminal::hide_cursor();
            }
            output.push_str(&fold.tick(now));
            next_frame = now + FRAME;
        }
        terminal::stderr(&output);
    }
    terminal::stderr(&fold.finish(start.elapsed()));
    terminal::restore();
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
