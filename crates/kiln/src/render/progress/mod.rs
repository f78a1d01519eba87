//! Progress of a build: folds of its events, shown on standard error by one thread.

mod plain;
mod rawjson;
mod state;
mod tty;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kiln_core::event::{Event, EventSink};

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
    Quiet,
}

impl Fold {
    fn new(mode: Mode, style: Style) -> Self {
        match mode {
            Mode::Tty => Self::Tty { state: State::default(), painter: Painter::default(), style },
            Mode::Plain => Self::Plain(Plain::default()),
            Mode::RawJson => Self::RawJson(RawJson::new(Timestamp::now())),
            Mode::Quiet => Self::Quiet,
        }
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
            Self::Quiet => String::new(),
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
            _ => String::new(),
        }
    }
}

/// A display that runs beside a build.
#[derive(Debug)]
pub(crate) struct Display {
    sink: EventSink,
    ended: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Display {
    /// Starts showing what comes into [`Display::sink`].
    pub(crate) fn start(mode: Mode, style: Style) -> std::io::Result<Self> {
        let start = Instant::now();
        let (sender, receiver) = channel();
        let ended = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ended);
        let mut fold = Fold::new(mode, style);
        let thread = std::thread::Builder::new()
            .name("progress".to_owned())
            .spawn(move || show(&mut fold, &receiver, start, &flag))?;
        Ok(Self { sink: EventSink::new(sender, start), ended, thread })
    }

    /// Where the build's events go.
    pub(crate) fn sink(&self) -> &EventSink {
        &self.sink
    }

    /// The build is over: shows the rest, and gives the terminal back.
    pub(crate) fn finish(self) {
        self.ended.store(true, Ordering::SeqCst);
        // The thread ends at once when this was the last sink, else with its next tick.
        drop(self.sink);
        self.thread.thread().unpark();
        // A panic there was reported by the hook.
        let _ = self.thread.join();
    }
}

fn show(fold: &mut Fold, receiver: &Receiver<Event>, start: Instant, ended: &AtomicBool) {
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
