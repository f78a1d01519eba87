//! Why the steps of a build ran, for people.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use kiln_core::cache_key::{KeyPart, KeyParts};
use kiln_core::cause::part_text;
use kiln_core::event::Outcome;
use kiln_core::report::{BuildReport, StepReport};

use super::format::{age, count, duration, size};
use super::progress::one_line;
use super::style::{Role, Style};
use super::text::{truncate, width};
use crate::commands::explain::Keys;

/// Columns of a line's number.
const NUMBER_COLUMNS: usize = 5;
/// Columns before a cause.
const CAUSE_COLUMNS: usize = 9;
/// Digits of a content that are shown.
const CONTENT_DIGITS: usize = 12;

/// Values of settings that nobody has set.
const DEFAULTS: [&str; 3] = ["", "no", "drop"];

/// What is to be shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Explanation<'a> {
    /// The build.
    pub(crate) build: &'a BuildReport,
    /// Some of its steps.
    pub(crate) steps: &'a [usize],
    /// What their keys are made of, if that was asked for.
    pub(crate) keys: &'a [Keys],
    /// What else is told of them.
    pub(crate) detail: Detail,
    /// The time now.
    pub(crate) now: Timestamp,
    /// Columns to stay within.
    pub(crate) columns: usize,
}

/// What is told of each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Why it ran.
    Causes,
    /// What it used and waited for, too.
    Usage,
}

/// The lines that show it.
pub(crate) fn explanation(what: &Explanation<'_>, style: Style) -> Vec<String> {
    let mut lines = header(what, style);
    let mut is_first = true;
    for (position, number) in what.steps.iter().enumerate() {
        let step = &what.build.steps[*number];
        let is_told = !step.causes.is_empty() || matches!(step.outcome, Some(Outcome::Failed(_)));
        if !step.is_instruction() && !is_told && what.keys.is_empty() {
            continue;
        }
        if is_first || what.keys.len() > 1 {
            lines.push(String::new());
        }
        is_first = false;
        lines.push(step_line((step, &what.build.step_name(step)), what.columns, style));
        if let Some(Outcome::Failed(error)) = &step.outcome {
            lines.push(style.paint(Role::Error, &indented(&one_line(error))));
        }
        if what.detail == Detail::Usage {
            let used = usage_text(step).map(|text| style.paint(Role::Faint, &indented(&text)));
            lines.extend(used);
        }
        lines.extend(cause_lines(step, what, style));
        if let Some(keys) = what.keys.get(position) {
            lines.extend(key_lines(step, keys, style));
        }
    }
    lines
}

fn header(what: &Explanation<'_>, style: Style) -> Vec<String> {
    let BuildReport { id, started_unix_ms, duration_ms, place, outcome, steps, .. } = what.build;
    let seconds = what.now.as_second() - (started_unix_ms / 1000) as i64;
    let took = duration(Duration::from_millis(*duration_ms));
    let (end, role) = match outcome {
        Outcome::Failed(_) => ("failed after", Role::Error),
        Outcome::Canceled => ("canceled after", Role::Warning),
        _ => ("took", Role::Strong),
    };
    let first = style.paint(role, &format!("build b{id}"));
    let mut lines = vec![format!("{first}  {}, {end} {took}", age(seconds))];
    let mut built = vec![one_line(&place.dockerfile)];
    let in_context = place.dockerfile.strip_prefix(&place.context);
    if in_context.is_none_or(|rest| rest.trim_start_matches('/').contains('/')) {
        built.push(format!("context {}", one_line(&place.context)));
    }
    if !place.targets.is_empty() {
        built.push(format!("target {}", place.targets.join(", ")));
    }
    built.push(place.platforms.join(", "));
    lines.push(style.paint(Role::Faint, &built.join("  ")));
    let work: Vec<&StepReport> =
        steps.iter().filter(|step| step.is_instruction() && step.base.is_none()).collect();
    let of = |wanted: &dyn Fn(&Outcome) -> bool| {
        work.iter().filter(|step| step.outcome.as_ref().is_some_and(wanted)).count()
    };
    let cached = of(&|outcome| *outcome == Outcome::Cached);
    let ran = of(&|outcome| *outcome != Outcome::Cached);
    if !steps.is_empty() {
        lines.push(format!("{}: {cached} cached, {ran} ran", count(work.len(), "step")));
    }
    let is_told = |step: &StepReport| matches!(step.outcome, Some(Outcome::Failed(_)));
    if let Outcome::Failed(error) = outcome
        && !steps.iter().any(is_told)
    {
        lines.push(style.paint(Role::Error, &one_line(error)));
    }
    lines
}

/// `   12  [app 2/5] RUN make      ran 0.1s`
fn step_line((step, name): (&StepReport, &str), columns: usize, style: Style) -> String {
    let line = step.line.map_or_else(String::new, |line| line.to_string());
    let took = duration(Duration::from_millis(step.duration_ms));
    let (end, role) = match &step.outcome {
        None => ("not reached".to_owned(), Role::Faint),
        Some(Outcome::Cached) => ("cached".to_owned(), Role::Faint),
        Some(Outcome::Done) => (took, Role::Strong),
        Some(Outcome::Unchanged) => (format!("{took}, the same result as before"), Role::Strong),
        Some(Outcome::Failed(_)) => (format!("failed after {took}"), Role::Error),
        Some(Outcome::Canceled) => (format!("canceled after {took}"), Role::Warning),
    };
    let left = format!("{line:>NUMBER_COLUMNS$}  {}", one_line(name));
    let room = columns.saturating_sub(width(&end) + 2);
    let left = truncate(&left, room);
    style.paint(role, &format!("{left}  {end}"))
}

/// `user 1.21s, system 0.30s, memory 120MB, read 4.1MB, wrote 33MB, waited 0.2s`: what is worth saying.
fn usage_text(step: &StepReport) -> Option<String> {
    let time = |name: &str, ms: u64| {
        (ms > 0).then(|| format!("{name} {}", duration(Duration::from_millis(ms))))
    };
    let bytes = |name: &str, bytes: u64| (bytes > 0).then(|| format!("{name} {}", size(bytes)));
    let used = step.usage.unwrap_or_default();
    let parts = [
        time("user", used.user_ms),
        time("system", used.system_ms),
        bytes("memory", used.peak_memory_bytes.unwrap_or(0)),
        bytes("read", used.read_bytes),
        bytes("wrote", used.written_bytes),
        time("waited", step.waited_ms),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn indented(text: &str) -> String {
    format!("{:CAUSE_COLUMNS$}{text}", "")
}

fn cause_lines(step: &StepReport, what: &Explanation<'_>, style: Style) -> Vec<String> {
    let mut lines = Vec::new();
    for cause in &step.causes {
        match cause.files() {
            Some(files) if files.count() > 1 => {
                lines.push(indented(&one_line(&format!("{}:", cause.heading()))));
                let all =
                    files.files.iter().map(|file| format!("  {}", one_line(&file.to_string())));
                lines.extend(all.map(|line| indented(&line)));
                if files.unlisted > 0 {
                    lines.push(indented(&format!("  and {} more", files.unlisted)));
                }
            }
            _ => lines.push(indented(&one_line(&cause.to_string()))),
        }
    }
    // Nearly always all of them are compared with one build, the one before.
    if let Some(id) = step.compared_with
        && (!what.keys.is_empty() || Some(id) != usual(what.build))
    {
        lines.push(style.paint(Role::Faint, &indented(&format!("compared with build b{id}"))));
    }
    lines
}

/// The build that most steps are compared with.
fn usual(build: &BuildReport) -> Option<u64> {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    for id in build.steps.iter().filter_map(|step| step.compared_with) {
        *counts.entry(id).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(id, count)| (*count, *id)).map(|(id, _)| id)
}

/// What differs between two keys as in a patch, then what they have in common.
fn key_lines(step: &StepReport, keys: &Keys, style: Style) -> Vec<String> {
    if step.key.is_none() {
        return Vec::new();
    }
    let Some(now) = &keys.now else {
        let text = "what its key is made of is no longer in the store";
        return vec![style.paint(Role::Faint, &indented(text))];
    };
    let mut lines = vec![indented("its key is made of")];
    let then = keys.then.as_ref().unwrap_or(now);
    let (old, new) = (by_name(then), by_name(now));
    let names: Vec<&String> = {
        let gone = old.iter().map(|(name, _)| *name).filter(|name| !has(&new, name));
        new.iter().map(|(name, _)| *name).chain(gone).collect()
    };
    for name in names {
        let values = |list: &[(&String, Vec<String>)]| -> Vec<String> {
            let found = list.iter().find(|(known, _)| *known == name);
            found.map(|(_, values)| values.clone()).unwrap_or_default()
        };
        let (before, after) = (values(&old), values(&new));
        if before == after {
            if after.iter().all(|value| DEFAULTS.contains(&value.as_str())) {
                continue;
            }
            let text = format!("  {name}  {}", after.join(", "));
            lines.push(style.paint(Role::Faint, &indented(text.trim_end())));
            continue;
        }
        lines.push(indented(&format!("  {name}")));
        let [before, after] = [before, after].map(|values| {
            values
                .into_iter()
                .map(|value| if value.is_empty() { "(none)".to_owned() } else { value })
        });
        for value in before {
            lines.push(style.paint(Role::Error, &indented(&format!("    - {value}"))));
        }
        for value in after {
            lines.push(style.paint(Role::Help, &indented(&format!("    + {value}"))));
        }
    }
    lines
}

fn has(list: &[(&String, Vec<String>)], name: &str) -> bool {
    list.iter().any(|(known, _)| *known == name)
}

/// The values of each name in order, as they are shown.
fn by_name(parts: &KeyParts) -> Vec<(&String, Vec<String>)> {
    let mut found: Vec<(&String, Vec<String>)> = Vec::new();
    for part in &parts.0 {
        let value = shown(part);
        match found.iter_mut().find(|(name, _)| **name == part.name) {
            Some((_, values)) => values.push(value),
            None => found.push((&part.name, vec![value])),
        }
    }
    found
}

fn shown(part: &KeyPart) -> String {
    let is_content = part.value.len() == 64 && part.value.bytes().all(|b| b.is_ascii_hexdigit());
    if is_content {
        return format!("content {}", &part.value[..CONTENT_DIGITS]);
    }
    match part_text(part) {
        Some(text) => one_line(&text),
        None => match part.value.strip_prefix("blake3:") {
            Some(hash) => format!("a long text, {}", &hash[..CONTENT_DIGITS.min(hash.len())]),
            None => "(not shown)".to_owned(),
        },
    }
}
