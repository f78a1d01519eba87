//! Live progress in a terminal, with BuildKit's feel.
//!
//! [`frame`] is pure: state, time and size of the terminal in, lines out. [`Painter`] turns one
//! frame after the other into what a terminal needs to show the last one in the place of the
//! one before.

use std::fmt::Write as _;
use std::time::Duration;

use kiln_core::event::Outcome;

use super::state::{ActivityState, State, TAIL_LINES, Transfer};
use crate::render::format::{seconds, size};
use crate::render::style::{Role, Style};
use crate::render::text::{expand_tabs, truncate, width};

/// Causes of a step that are shown.
const SHOWN_CAUSES: usize = 2;
/// Columns of the times at the right.
const TIME_COLUMNS: usize = 7;
/// Below this many columns lines are cut off rather than laid out.
const NARROWEST: usize = 20;

/// What a terminal offers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    /// Columns.
    pub(crate) columns: usize,
    /// Rows; `None` when everything is to be shown (the last frame).
    pub(crate) rows: Option<usize>,
    /// Colours.
    pub(crate) style: Style,
}

/// Whether a build goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It does.
    Running,
    /// It has ended, in whatever way.
    Ended,
}

/// The lines that show `state` at `now`; never wider than the screen, never more than its rows.
pub(crate) fn frame(state: &State, now: Duration, screen: Screen, phase: Phase) -> Vec<String> {
    let mut tail = TAIL_LINES;
    let blocks = |tail: usize| -> Vec<Vec<String>> {
        let blocks = state.activities.iter();
        blocks.map(|activity| block(activity, now, screen, tail)).collect()
    };
    let mut all = blocks(tail);
    let mut room = usize::MAX;
    if let Some(rows) = screen.rows {
        // One row for the header, one for the cursor below the frame.
        room = rows.saturating_sub(2);
        while tail > 0 && running_lines(state, &all) > room {
            tail -= 1;
            all = blocks(tail);
        }
    }
    let mut lines = vec![header(state, now, screen, phase)];
    lines.extend(fit(state, all, room));
    lines
}

/// Lines of the activities that run.
fn running_lines(state: &State, blocks: &[Vec<String>]) -> usize {
    let pairs = state.activities.iter().zip(blocks);
    pairs.filter(|(activity, _)| activity.ended.is_none()).map(|(_, block)| block.len()).sum()
}

/// Leaves out the oldest of those that ended until the rest fits, then cuts.
fn fit(state: &State, blocks: Vec<Vec<String>>, room: usize) -> Vec<String> {
    let mut excess = blocks.iter().map(Vec::len).sum::<usize>().saturating_sub(room);
    let mut lines = Vec::new();
    for (activity, block) in state.activities.iter().zip(blocks) {
        if excess > 0 && activity.ended.is_some() {
            excess = excess.saturating_sub(block.len());
        } else {
            lines.extend(block);
        }
    }
    lines.truncate(room);
    lines
}

fn header(state: &State, now: Duration, screen: Screen, phase: Phase) -> String {
    let outcomes = || state.activities.iter().filter_map(|a| a.ended.as_ref());
    let failed = outcomes().any(|(_, outcome)| matches!(outcome, Outcome::Failed(_)));
    let canceled = outcomes().any(|(_, outcome)| *outcome == Outcome::Canceled);
    let end = match phase {
        Phase::Running => "",
        Phase::Ended if failed => " FAILED",
        Phase::Ended if canceled => " CANCELED",
        Phase::Ended => " FINISHED",
    };
    let text = format!(
        "[+] Building {} ({}/{}){end}",
        seconds(now),
        state.ended(),
        state.activities.len()
    );
    let role = match end {
        " FAILED" => Role::Error,
        " CANCELED" => Role::Warning,
        _ => Role::Strong,
    };
    screen.style.paint(role, &truncate(&text, screen.columns))
}

/// The lines of one activity: itself, why it runs, its transfers, its last output.
fn block(activity: &ActivityState, now: Duration, screen: Screen, tail: usize) -> Vec<String> {
    let (word, role) = match &activity.ended {
        None => ("", Role::Strong),
        Some((_, Outcome::Done)) => ("", Role::Good),
        Some((_, Outcome::Cached)) => ("CACHED ", Role::Good),
        Some((_, Outcome::Unchanged)) => ("UNCHANGED ", Role::Good),
        Some((_, Outcome::Failed(_))) => ("ERROR ", Role::Error),
        Some((_, Outcome::Canceled)) => ("CANCELED ", Role::Warning),
    };
    let row = |text: &str, time: Duration, role| timed(text, time, role, screen);
    let name = one_line(&activity.activity.name);
    let mut lines = vec![row(&format!(" => {word}{name}"), activity.elapsed(now), role)];

    // That something is new goes without saying; what changed does not.
    let causes = activity.activity.causes.iter().filter(|cause| !cause.is_new());
    let causes: Vec<String> = causes.map(|cause| one_line(&cause.to_string())).collect();
    for cause in causes.iter().take(SHOWN_CAUSES) {
        lines.push(faint(&format!(" => => because {cause}"), screen));
    }
    if causes.len() > SHOWN_CAUSES {
        let more = causes.len() - SHOWN_CAUSES;
        lines.push(faint(&format!(" => => and {more} more"), screen));
    }
    let running = activity.ended.is_none();
    let transfers = activity.transfers.iter();
    for transfer in transfers.filter(|transfer| running || transfer.item.contains(' ')) {
        let time = if transfer.is_complete() || !running {
            transfer.updated.saturating_sub(transfer.started)
        } else {
            now.saturating_sub(transfer.started)
        };
        let text = format!(" => => {}", transfer_text(transfer));
        lines.push(row(&text, time, Role::Faint));
    }
    let skipped = activity.tail.len().saturating_sub(tail);
    for line in activity.tail.iter().skip(skipped) {
        lines.push(faint(&format!(" => => # {}", expand_tabs(line)), screen));
    }
    if let Some((_, Outcome::Failed(message))) = &activity.ended {
        lines.push(faint(&format!(" => => {}", one_line(message)), screen));
    }
    lines
}

/// `sha256:3f2a… 5.24MB / 29.2MB`
pub(crate) fn transfer_text(transfer: &Transfer) -> String {
    let item = one_line(&transfer.item);
    let item = match item.strip_prefix("sha256:") {
        Some(hex) => format!("sha256:{}", hex.chars().take(12).collect::<String>()),
        None => format!("{item}:"),
    };
    let current = size(transfer.current_bytes);
    match transfer.total_bytes {
        Some(total) if total != transfer.current_bytes => {
            format!("{item} {current} / {}", size(total))
        }
        _ => format!("{item} {current}"),
    }
}

/// A text that may hold line ends or control characters, as one safe line with single blanks.
pub(crate) fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    expand_tabs(&words.join(" "))
}

fn faint(text: &str, screen: Screen) -> String {
    screen.style.paint(Role::Faint, &truncate(text, screen.columns))
}

/// A text at the left and a time at the right edge.
fn timed(text: &str, time: Duration, role: Role, screen: Screen) -> String {
    if screen.columns < NARROWEST {
        return screen.style.paint(role, &truncate(text, screen.columns));
    }
    let text = truncate(text, screen.columns - TIME_COLUMNS - 1);
    let time = format!("{:>TIME_COLUMNS$}", seconds(time));
    let gap = screen.columns - TIME_COLUMNS - width(&text);
    format!("{}{}{time}", screen.style.paint(role, &text), " ".repeat(gap))
}

/// Shows frames in the place of each other.
#[derive(Debug, Default)]
pub(crate) struct Painter {
    widths: Vec<usize>,
}

impl Painter {
    /// What to write so that `lines` replace the frame before, on a terminal of `columns`.
    pub(crate) fn paint(&mut self, lines: &[String], columns: usize) -> String {
        // A terminal that became narrower has wrapped the old lines.
        let rows: usize =
            self.widths.iter().map(|width| width.div_ceil(columns.max(1)).max(1)).sum();
        let mut output = String::from("\r");
        if rows > 0 {
            let _ = write!(output, "\x1b[{rows}A");
        }
        for line in lines {
            output.push_str(line);
            output.push_str("\x1b[K\n");
        }
        output.push_str("\x1b[J");
        self.widths =
            lines.iter().map(|line| width(&crate::render::text::sanitize(line))).collect();
        output
    }
}
